//! What passes between a server and whoever asked it, before the answer: notifications and questions.
//!
//! A request is asked together with an [`Interim`]: it takes what the server sends before the answer (progress, log messages) and
//! answers what the server asks (elicitation, sampling, roots; legacy only). Both may wait, and what waits holds up the
//! stream that it came on and nothing else: that is how a slow client bounds what a fast server sends.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::envelope::{Outcome, error_object};
use super::protocol::METHOD_NOT_FOUND;

/// A message of a server that wants no answer.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The method.
    pub method: String,
    /// The parameters, as they came.
    pub params: Option<Box<RawValue>>,
}

/// A request of a server.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: String,
    /// The parameters, as they came.
    pub params: Option<Box<RawValue>>,
}

/// Takes what a server says before it answers.
pub trait Interim: Send + Sync {
    /// A stream that carries nothing but such messages is open: what is sent from now on arrives.
    fn opened(&self) {}

    /// The server closed its stream before it answered, and is asked for the rest after so long (2025-11-25, Streamable
    /// HTTP, "Resumability and Redelivery").
    fn paused(&self, _wait: Duration) {}

    /// The request made progress, whether its client asked for it or not.
    fn progressed(&self) {}

    /// Whether notifications of progress go no further, since no client asked for them.
    fn drops_progress(&self) -> bool {
        false
    }

    /// Takes a notification. The stream that it came on waits.
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()>;

    /// Answers a question; its stream goes on meanwhile.
    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome>;
}

/// Nobody: notifications are dropped, and questions refused as unknown methods.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Interim for Nobody {
    fn notify(&self, _: Notice) -> BoxFuture<'_, ()> {
        futures_util::future::ready(()).boxed()
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
        futures_util::future::ready(refusal()).boxed()
    }
}

/// How a question is answered that nobody answers.
pub fn refusal() -> Outcome {
    Outcome::Error(error_object(METHOD_NOT_FOUND, "this client serves no such request", None))
}
