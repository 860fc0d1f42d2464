//! The stream of a session that a legacy client has of its own: many servers ask their questions there and not on the stream
//! of the call that they belong to, and do not ask at all while nobody listens.
//!
//! One for each such session, opened before its first call and held as long as the session and its connector. It never
//! opens a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::limits;
use super::watch::means_no_stream;
use crate::edge::Edge;
use crate::mcp::{Interim, Notice, Outcome, ProtocolFault, Question, Session, WireError};

/// The stream of one session. Dropping it hangs up.
pub(super) struct OwnStream {
    session: Arc<Session>,
    stands: Arc<watch::Sender<Standing>>,
    task: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Opening,
    Open,
    /// A call has waited for it in vain; it may open yet, and nobody waits for that again.
    GaveUp,
    /// The server has no such stream, or is gone.
    Over,
}

impl OwnStream {
    /// Opens the stream of a session; what comes on it goes to `messages`, until the connector has `ended`. `asking` counts the
    /// questions that are open.
    pub(super) fn open(
        session: &Arc<Session>,
        messages: Arc<dyn Interim>,
        asking: Arc<watch::Sender<usize>>,
        edge: Edge,
        ended: CancellationToken,
    ) -> Self {
        let stands = Arc::new(watch::Sender::new(Standing::Opening));
        let listener = Listener { messages, asking, stands: stands.clone(), was_open: AtomicBool::new(false) };
        let holding = session.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                biased;
                // Who was taken out asks nobody anything any more.
                () = ended.cancelled() => {}
                () = hold(&holding, &listener, &edge) => {}
            }
            listener.stands.send_replace(Standing::Over);
        }));
        Self { session: session.clone(), stands, task }
    }

    /// Whether it is this session's.
    pub(super) fn is_of(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(&self.session, session)
    }

    /// Returns when it is open, or will not be. At most after [`limits::OWN_STREAM_PATIENCE`], and only once after that: a
    /// server, or what stands before it, that keeps its answer's head back until it has something to say costs one call that
    /// long, and not every call.
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let stands = self.stands.clone();
        async move {
            let mut watching = stands.subscribe();
            let settled = watching.wait_for(|stands| *stands != Standing::Opening);
            let late = tokio::time::timeout(limits::OWN_STREAM_PATIENCE, settled).await.is_err();
            if late {
                give_up(&stands);
            }
        }
    }

    /// Hangs up, and waits until that is done.
    pub(super) async fn end(self) {
        let task = self.task.detach();
        task.abort();
        // An aborted task ends at its next wait.
        drop(task.await);
    }
}

/// Takes what comes, and notes that the stream is open.
struct Listener {
    messages: Arc<dyn Interim>,
    asking: Arc<watch::Sender<usize>>,
    stands: Arc<watch::Sender<Standing>>,
    was_open: AtomicBool,
}

impl Listener {
    fn give_up(&self) {
        give_up(&self.stands);
    }
}

/// Nobody waits for a stream any more that is not open yet.
fn give_up(stands: &watch::Sender<Standing>) {
    stands.send_if_modified(|stands| {
        let gives_up = *stands == Standing::Opening;
        if gives_up {
            *stands = Standing::GaveUp;
        }
        gives_up
    });
}

impl Interim for Listener {
    fn opened(&self) {
        self.was_open.store(true, Ordering::Relaxed);
        self.stands.send_replace(Standing::Open);
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        self.messages.notify(notice)
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        let asked = Asked::begin(&self.asking);
        async move {
            let outcome = self.messages.ask(question).await;
            drop(asked);
            outcome
        }
        .boxed()
    }
}

/// A question that its client has not answered.
struct Asked<'a>(&'a watch::Sender<usize>);

impl<'a> Asked<'a> {
    fn begin(asking: &'a watch::Sender<usize>) -> Self {
        asking.send_modify(|count| *count += 1);
        Self(asking)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Holds the stream: a server may end it, and is asked for another one at a pace. One that was open and ended begins anew:
/// what stands between may cut idle streams. One that never opens is given up after [`limits::OWN_STREAM_ATTEMPTS`].
async fn hold(session: &Session, listener: &Listener, edge: &Edge) {
    // Streams in a row that did not open, and that did not last.
    let (mut unopened, mut failures) = (0, 0);
    while unopened < limits::OWN_STREAM_ATTEMPTS {
        let since = Instant::now();
        let result = session.listen(&[], &[], listener).await;
        let was_open = listener.was_open.swap(false, Ordering::Relaxed);
        if session.has_ended() || is_the_last(&result) {
            return;
        }
        if !was_open {
            // Nobody waits for what failed once.
            listener.give_up();
        }
        unopened = if was_open { 0 } else { unopened + 1 };
        // A server that ends its stream in good order may do so all the time, and wants to be asked again.
        let worked = was_open && (result.is_ok() || since.elapsed() >= limits::OWN_STREAM_PROVEN);
        failures = if worked { 1 } else { failures + 1 };
        let asked = result.err().and_then(|error| error.failure().retry_after).unwrap_or(Duration::ZERO);
        let pause = limits::OWN_STREAM_BACKOFF.wait(failures, &*edge.entropy).max(asked.min(limits::THROTTLE_MAX));
        edge.clock.sleep_until(edge.clock.boot().plus(pause)).await;
    }
}

/// Whether there will be no other stream in this session.
fn is_the_last(result: &Result<(), WireError>) -> bool {
    match result {
        Err(WireError::Status { status, .. }) => means_no_stream(*status),
        Err(WireError::SessionLost | WireError::Protocol(ProtocolFault::ContentType(_) | ProtocolFault::NoAnswer)) => {
            true
        }
        _ => false,
    }
}
