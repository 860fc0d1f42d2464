//! Which era an unknown server speaks, found out without a round trip more than its own era needs.
//!
//! Both questions are asked at once, `server/discover` and `initialize`: asking one after the other would cost a round
//! trip, or a whole probe timeout where a server never answers what it does not know. The modern era wins if the server
//! has it (2026-07-28, `basic/versioning`, Backward Compatibility). A legacy session that was opened on the way is
//! closed in the background.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use super::exchange::ask;
use super::handshake::{Initialized, initialize, rpc_error};
use super::meta;
use super::transport::Transport;
use crate::mcp::envelope::{Outcome, RequestId, RpcError, request_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::limits::LEAST_DISCOVERY_GRACE;
use crate::mcp::protocol::{
    METHOD_HEADER, PROTOCOL_VERSION_HEADER, SERVER_DISCOVER, UNSUPPORTED_PROTOCOL_VERSION, VERSION_2026_07_28,
    is_modern_error,
};
use crate::model::raw::RawObject;

/// What an unknown server turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    /// It speaks the modern era.
    Modern {
        /// Who it says it is.
        server_info: Option<Box<RawValue>>,
    },
    /// It speaks the legacy era; the handshake is still to be confirmed.
    Legacy(Initialized),
}

/// Asks both questions and decides.
///
/// # Errors
/// If neither era works: what `initialize` failed with, unless the other failure says more.
pub(super) async fn discover_era(
    transport: &Arc<Transport>,
    discover_id: RequestId,
    initialize_id: RequestId,
) -> Result<Found, WireError> {
    let asked = Instant::now();
    let mut discovering = Box::pin(discover(transport.clone(), discover_id));
    let mut initializing = Box::pin(initialize(transport.clone(), initialize_id));
    tokio::select! {
        biased;
        modern = &mut discovering => match modern {
            Ok(server_info) => {
                // If this opens a session, dropping it closes it.
                transport.in_background(initializing);
                Ok(Found::Modern { server_info })
            }
            Err(modern) => match initializing.await {
                Ok(legacy) => Ok(Found::Legacy(legacy)),
                Err(legacy) => Err(more_telling(modern, legacy)),
            },
        },
        legacy = &mut initializing => match legacy {
            Ok(legacy) => match timeout(grace(asked.elapsed()), discovering).await {
                Ok(Ok(server_info)) => Ok(Found::Modern { server_info }),
                Ok(Err(_)) | Err(_) => Ok(Found::Legacy(legacy)),
            },
            Err(legacy) => match discovering.await {
                Ok(server_info) => Ok(Found::Modern { server_info }),
                Err(modern) => Err(more_telling(modern, legacy)),
            },
        },
    }
}

/// The headers that every modern request carries.
pub(super) fn modern_headers(method: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(PROTOCOL_VERSION_HEADER, HeaderValue::from_static(VERSION_2026_07_28));
    // A method that no header can hold is refused by the server; it can not be written in any other way.
    headers.insert(METHOD_HEADER, HeaderValue::from_str(method).unwrap_or(HeaderValue::from_static("")));
    headers
}

/// Whether an error says that the server is modern and just does not speak our version.
pub(super) fn speaks_other_versions(error: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        code: i64,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    serde_json::from_str::<Refusal>(error.get()).is_ok_and(|refusal| {
        refusal.code == UNSUPPORTED_PROTOCOL_VERSION
            && !refusal.data.supported.iter().any(|version| version == VERSION_2026_07_28)
    })
}

/// Succeeds if the server is modern.
async fn discover(transport: Arc<Transport>, id: RequestId) -> Result<Option<Box<RawValue>>, WireError> {
    let params = meta::modern(RawObject::new());
    let body = request_bytes(&id, SERVER_DISCOVER, Some(&params));
    let reply = ask(&transport, &modern_headers(SERVER_DISCOVER), None, &id, body).await?;
    match reply.outcome {
        Outcome::Result(result) => {
            let result = RawObject::parse(&result).map_err(|_| ProtocolFault::Handshake)?;
            if let Some(versions) = result.get("supportedVersions") {
                let versions: Vec<String> =
                    serde_json::from_str(versions.get()).map_err(|_| ProtocolFault::Handshake)?;
                if !versions.iter().any(|version| version == VERSION_2026_07_28) {
                    return Err(ProtocolFault::UnsupportedVersion.into());
                }
            }
            Ok(meta::server_info(&result))
        }
        Outcome::Error(error) if speaks_other_versions(&error) => Err(ProtocolFault::UnsupportedVersion.into()),
        Outcome::Error(error) => match RpcError::parse(&error) {
            Some(rpc) if is_modern_error(rpc.code) => Ok(None),
            _ => Err(rpc_error(&error)),
        },
    }
}

/// A server that is slow to answer one question is given as long again for the other.
fn grace(initialize_took: Duration) -> Duration {
    initialize_took.max(LEAST_DISCOVERY_GRACE)
}

fn more_telling(modern: WireError, legacy: WireError) -> WireError {
    if weight(&modern) > weight(&legacy) { modern } else { legacy }
}

/// How much a failure says about why neither era works: credentials, then throttling, then a server or a network that
/// fails, then everything that may just be the wrong era.
fn weight(error: &WireError) -> u8 {
    match error {
        WireError::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => 3,
        WireError::Status { status: StatusCode::TOO_MANY_REQUESTS, .. } => 2,
        WireError::Status { status, .. } if status.is_server_error() => 1,
        WireError::Http(_) => 1,
        _ => 0,
    }
}
