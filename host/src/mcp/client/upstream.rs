//! Where a server is, and opening a session with it.
//!
//! What was learned about the server's era is the caller's to keep. Deadlines are too: drop the future, and whatever
//! was opened is closed.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use url::Url;

use super::discovery::{Found, discover_era};
use super::handshake::{Initialized, initialize};
use super::session::{RequestIds, Session};
use super::transport::Transport;
use crate::edge::http::Http;
use crate::mcp::error::WireError;
use crate::mcp::protocol::{Era, INVALID_PARAMS, METHOD_NOT_FOUND, is_modern_error};

/// A server: how it is reached, where it is, and the headers that every request to it carries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream {
    transport: Arc<Transport>,
}

impl Upstream {
    /// A server at `endpoint`. `headers` (credentials, mostly) never leave its origin; the protocol's own headers win
    /// over them.
    pub fn new(http: Arc<dyn Http>, endpoint: Url, headers: HeaderMap) -> Self {
        Self { transport: Arc::new(Transport::new(http, endpoint, headers)) }
    }

    /// Waits, for so long, for what runs on behind answered requests: ended sessions, cancelled requests, the rest of
    /// streams. What is late is given up. For the upstream's owner, after its sessions were closed.
    pub async fn close(&self, limit: Duration) {
        self.transport.tidied(limit).await;
    }

    /// Opens a session. With a remembered era, nothing else is tried: a modern session needs no request at all, so its
    /// first one may turn out to be [`WireError::WrongEra`]; a legacy one needs the handshake. Without, both are asked.
    ///
    /// # Errors
    /// [`WireError`]; [`WireError::WrongEra`] only with a remembered era.
    pub async fn open(&self, remembered: Option<Era>) -> Result<Session, WireError> {
        let ids = RequestIds::default();
        let initialized = match remembered {
            Some(Era::Modern) => return Ok(Session::modern(self.transport.clone(), ids, false, None)),
            Some(Era::Legacy) => {
                let initializing = initialize(self.transport.clone(), ids.next());
                initializing
                    .await
                    .map_err(|error| if refused_as_modern(&error) { WireError::WrongEra } else { error })?
            }
            None => match discover_era(&self.transport, ids.next(), ids.next()).await? {
                Found::Modern { server_info } => {
                    return Ok(Session::modern(self.transport.clone(), ids, true, server_info));
                }
                Found::Legacy(initialized) => initialized,
            },
        };
        let Initialized { session, server_info } = initialized;
        session.confirm().await?;
        Ok(Session::legacy(self.transport.clone(), ids, session, server_info))
    }
}

/// Whether a server that knows no `initialize` refuses it like this.
fn refused_as_modern(error: &WireError) -> bool {
    match error {
        WireError::Rpc(error) => is_modern_error(error.code) || matches!(error.code, METHOD_NOT_FOUND | INVALID_PARAMS),
        WireError::Status { status, .. } => matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED),
        _ => false,
    }
}
