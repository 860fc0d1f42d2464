//! How messages reach one server: each request in an HTTP exchange of its own, or all of them through one pipe.
//!
//! Sessions are written against this and know of no transport. Nothing of the protocol's eras is understood here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::exchange::{self, Reply};
use super::pipe::Pipe;
use super::stream::{Purpose, Way};
use super::transport::Transport;
use crate::mcp::envelope::RequestId;
use crate::mcp::error::WireError;
use crate::mcp::inbound::Inbound;
use crate::mcp::interim::Interim;

/// A way to one server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// Streamable HTTP.
    Http(Arc<Transport>),
    /// A child process, or HTTP with server-sent events of 2024-11-05.
    Pipe(Arc<Pipe>),
}

impl Link {
    /// Sends a request and waits for its answer. Headers mean something to HTTP only.
    ///
    /// # Errors
    /// [`WireError`], if there is none.
    pub(super) async fn ask(
        &self,
        headers: &HeaderMap,
        way: Way<'_>,
        id: &RequestId,
        body: Bytes,
    ) -> Result<Reply, WireError> {
        match self {
            Self::Http(transport) => exchange::ask(transport, headers, way, id, body).await,
            Self::Pipe(pipe) => {
                let outcome = pipe.ask(id, body, way.interim).await?;
                Ok(Reply { status: StatusCode::OK, headers: HeaderMap::new(), outcome })
            }
        }
    }

    /// Sends a message that wants no answer.
    ///
    /// # Errors
    /// [`WireError`], if it can not be delivered.
    pub(super) async fn tell(&self, headers: &HeaderMap, body: Bytes) -> Result<(), WireError> {
        match self {
            Self::Http(transport) => exchange::tell(transport, headers, body).await,
            Self::Pipe(pipe) => pipe.tell(body).await,
        }
    }

    /// Passes on what a legacy server sends that belongs to no request, until there is no more.
    ///
    /// # Errors
    /// [`WireError`], if there is no such stream, or it breaks.
    pub(super) async fn listen(&self, headers: &HeaderMap, interim: &dyn Interim) -> Result<(), WireError> {
        match self {
            Self::Http(transport) => {
                let way = Way { interim, back: Some(headers), purpose: Purpose::Listening };
                exchange::listen(transport, headers, way).await
            }
            Self::Pipe(pipe) => pipe.listen(interim).await,
        }
    }

    /// Ends what a session holds: over HTTP the session that `headers` name, a pipe as a whole.
    pub(super) async fn end(&self, headers: &HeaderMap) {
        match self {
            Self::Http(transport) => drop(transport.delete(headers).await),
            Self::Pipe(pipe) => pipe.end().await,
        }
    }

    /// What applies to the messages that are read.
    pub(super) fn inbound(&self) -> &Inbound {
        match self {
            Self::Http(transport) => transport.inbound(),
            Self::Pipe(pipe) => pipe.inbound(),
        }
    }

    /// Whether requests and their messages share one stream, so that what tells them apart must be unique on it.
    pub(super) fn is_shared_stream(&self) -> bool {
        matches!(self, Self::Pipe(_))
    }

    /// Lets work that nobody waits for now run, under a bound.
    pub(super) fn in_background<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) {
        match self {
            Self::Http(transport) => transport.in_background(work),
            Self::Pipe(pipe) => pipe.in_background(work),
        }
    }

    /// Returns when the link has ended. One over HTTP never does: each request has a connection of its own.
    pub(super) async fn ended(&self) {
        match self {
            Self::Http(_) => std::future::pending().await,
            Self::Pipe(pipe) => pipe.ended().await,
        }
    }

    /// Returns when nothing is left of a link that has ended.
    pub(super) async fn gone(&self) {
        match self {
            Self::Http(_) => {}
            Self::Pipe(pipe) => pipe.gone().await,
        }
    }

    /// Whether it has.
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Http(_) => false,
            Self::Pipe(pipe) => pipe.has_ended(),
        }
    }
}
