//! Requests of legacy clients, which outlive their connection (2025-11-25, Streamable HTTP, "Sending Messages": a disconnection
//! is not a cancellation).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::northbound::Answer;

/// A request that is carried out to its deadline if its client disconnects. A task is made of it only then.
///
/// What is not yet sent upstream when the client disconnects is dropped: nothing reads its answer.
pub(super) struct DetachedRequest {
    calls: TaskTracker,
    /// None once it is answered.
    answering: Option<BoxFuture<'static, Answer>>,
    _disconnected: DropGuard,
    _tracked: TaskTrackerToken,
}

impl DetachedRequest {
    /// Tracks the request in `calls`; `disconnected` is cancelled when its client is gone.
    pub(super) fn new(
        calls: &TaskTracker,
        answering: BoxFuture<'static, Answer>,
        disconnected: CancellationToken,
    ) -> Self {
        let (calls, tracked) = (calls.clone(), calls.token());
        Self { calls, answering: Some(answering), _disconnected: disconnected.drop_guard(), _tracked: tracked }
    }
}

impl Future for DetachedRequest {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let Some(answering) = &mut self.answering else { return Poll::Pending };
        // A panic costs this request, and not its client's connection.
        let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)));
        let answer = ready!(polled.unwrap_or_else(|_| Poll::Ready(Answer::cut_off())));
        self.answering = None;
        Poll::Ready(answer)
    }
}

impl Drop for DetachedRequest {
    fn drop(&mut self) {
        // Without a runtime there is nothing that could go on.
        if let (Some(answering), Ok(runtime)) = (self.answering.take(), Handle::try_current()) {
            self.calls.spawn_on(answering.map(drop), &runtime);
        }
    }
}
