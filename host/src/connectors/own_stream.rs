//! The stream of a session that a legacy client has of its own: many servers ask their questions there and not on the stream
//! of the call that they belong to, and do not ask at all while nobody listens.
//!
//! One for each such session, opened before its first call and held as long as the session. It never opens a session.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::limits;
use crate::mcp::{Interim, Notice, Outcome, Question, Session, WireError};

/// The stream of one session. Dropping it hangs up.
pub(super) struct OwnStream {
    session: Arc<Session>,
    stands: watch::Receiver<Standing>,
    task: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Opening,
    Open,
    /// The server has no such stream, or is gone.
    Over,
}

impl OwnStream {
    /// Opens the stream of a session; what comes on it goes to `messages`.
    pub(super) fn open(session: &Arc<Session>, messages: Arc<dyn Interim>) -> Self {
        let (sender, stands) = watch::channel(Standing::Opening);
        let task = AbortOnDropHandle::new(tokio::spawn(hold(session.clone(), Listener { messages, stands: sender })));
        Self { session: session.clone(), stands, task }
    }

    /// Whether it is this session's.
    pub(super) fn is_of(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(&self.session, session)
    }

    /// Returns when it is open, or will not be. At most after [`limits::OWN_STREAM_PATIENCE`].
    pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stands = self.stands.clone();
        async move {
            let settled = stands.wait_for(|stands| *stands != Standing::Opening);
            // Whoever keeps its answer's head back is not waited for.
            drop(tokio::time::timeout(limits::OWN_STREAM_PATIENCE, settled).await);
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
    stands: watch::Sender<Standing>,
}

impl Interim for Listener {
    fn opened(&self) {
        self.stands.send_replace(Standing::Open);
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        self.messages.notify(notice)
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        self.messages.ask(question)
    }
}

/// Holds the stream: a server may end it, and is asked for another one; one that breaks is given up after a few times.
async fn hold(session: Arc<Session>, listener: Listener) {
    for _ in 0..limits::OWN_STREAM_ATTEMPTS {
        let ended = session.listen(&[], &[], &listener).await;
        if session.has_ended() || matches!(ended, Err(WireError::Status { .. } | WireError::SessionLost)) {
            break;
        }
        tokio::time::sleep(limits::OWN_STREAM_PAUSE).await;
    }
    listener.stands.send_replace(Standing::Over);
}
