//! The headers that every request to one server carries, credentials mostly, and what becomes of a credential.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};

use super::challenge::Challenge;
use crate::edge::references::ReferenceFault;

/// What the answer to a request shows about the credential of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialEvidence {
    /// The server accepts or refuses the credential.
    Conclusive,
    /// Nothing: servers and gateways that accept the credential refuse optional streams and `DELETE` with 401 or 403
    /// (typescript-sdk#1635).
    Inconclusive,
}

/// A request that a server refused for its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRefusal {
    /// 401 or 403.
    pub status: StatusCode,
    /// What the server asks for, bounded.
    pub challenges: Vec<Challenge>,
    /// Whether the credential is refused, or the kind of request.
    pub evidence: CredentialEvidence,
}

/// Where the headers of a server's requests come from. They may change while sessions are open.
pub trait UpstreamHeaders: Send + Sync {
    /// Returns the headers as they were last read.
    fn current(&self) -> Arc<HeaderMap>;

    /// Whether they are to be read again before the next request.
    fn is_stale(&self) -> bool {
        false
    }

    /// Reads again what may have changed: files and variables. Called before a session is opened and when the server refuses a
    /// credential.
    ///
    /// # Errors
    /// [`ReferenceFault`]; what was read before stays.
    fn refresh(&self) -> BoxFuture<'_, Result<(), ReferenceFault>>;

    /// The server refused a request for its credential.
    fn refused(&self, refusal: CredentialRefusal);

    /// The server answered a request that needs the credential with success.
    fn accepted(&self);
}

/// Headers that never change, of a server whose refusals only the caller sees.
pub struct FixedHeaders(Arc<HeaderMap>);

impl FixedHeaders {
    /// Headers for [`Upstream::reached`](super::Upstream::reached).
    #[expect(clippy::new_ret_no_self, reason = "they are only used as the trait")]
    pub fn new(headers: HeaderMap) -> Arc<dyn UpstreamHeaders> {
        Arc::new(Self(Arc::new(headers)))
    }
}

impl UpstreamHeaders for FixedHeaders {
    fn current(&self) -> Arc<HeaderMap> {
        self.0.clone()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), ReferenceFault>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn refused(&self, _: CredentialRefusal) {}

    fn accepted(&self) {}
}
