//! Which era an unknown server speaks, found out without a round trip more than its own era needs.
//!
//! Both questions are asked, `server/discover` and, a moment later, `initialize`: waiting for the first answer would cost a
//! round trip, or a whole probe timeout where a server never answers what it does not know. The moment spares servers that
//! are near, and modern, a handshake that means nothing to them. The modern era wins if the server has it (2026-07-28,
//! `basic/versioning`, Backward Compatibility). A legacy session that was opened on the way is closed in the background.

use std::pin::pin;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use super::facts::ServerFacts;
use super::handshake::{Declared, Initialized, initialize, rpc_error};
use super::link::Link;
use super::meta;
use super::session::RequestIds;
use super::stream::{Purpose, Way};
use super::verdict::speaks_of_the_request;
use crate::mcp::envelope::{Outcome, RequestId, RpcError, request_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::interim::Nobody;
use crate::mcp::limits::{DISCOVERY_HEAD_START, LEAST_DISCOVERY_GRACE};
use crate::mcp::protocol::{
    INTERNAL_ERROR, METHOD_HEADER, PROTOCOL_VERSION_HEADER, SERVER_DISCOVER, UNSUPPORTED_PROTOCOL_VERSION,
    VERSION_2026_07_28, is_modern_error,
};
use crate::model::raw::RawObject;

/// What an unknown server turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    /// It speaks the modern era, and said this of itself, if it said anything.
    Modern(Option<ServerFacts>),
    /// It speaks the legacy era; the handshake is still to be confirmed.
    Legacy(Initialized, ModernQuestion),
}

/// What became of the modern question at a server that opened a legacy session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModernQuestion {
    /// It was refused: the server is of the legacy era, until it says otherwise.
    Refused,
    /// It had no answer, or one that speaks of a passing failure: the server may be of both eras, and is asked again with
    /// its next session.
    Unanswered,
}

impl ModernQuestion {
    fn of(failure: &WireError) -> Self {
        let refused = match failure {
            WireError::Rpc(error) => error.code != INTERNAL_ERROR,
            WireError::Status { status, .. } => speaks_of_the_request(*status),
            WireError::Http(_) | WireError::Reference(_) => false,
            WireError::Protocol(fault) => {
                !matches!(fault, ProtocolFault::StreamEnded | ProtocolFault::PipeEnded | ProtocolFault::NotWritten)
            }
            WireError::SessionLost | WireError::WrongEra => true,
        };
        if refused { Self::Refused } else { Self::Unanswered }
    }
}

/// Asks both questions, the modern one with a small head start, and decides.
///
/// # Errors
/// If neither era works: what `initialize` failed with, unless the other failure says more.
pub(super) async fn discover_era(link: &Link, ids: &RequestIds, declared: &Declared) -> Result<Found, WireError> {
    let mut discovering = pin!(discover(link, ids));
    match timeout(DISCOVERY_HEAD_START, &mut discovering).await {
        Ok(Ok(facts)) => return Ok(Found::Modern(facts)),
        // Nobody is there, or nobody may be asked now: that is no question of era.
        Ok(Err(modern)) if modern.was_not_sent() || is_throttled(&modern) => return Err(modern),
        Ok(Err(modern)) => {
            return match initialize(link.clone(), ids.next(), declared).await {
                Ok(legacy) => Ok(Found::Legacy(legacy, ModernQuestion::of(&modern))),
                Err(legacy) => Err(more_telling(modern, legacy)),
            };
        }
        Err(_) => {}
    }
    let asked = Instant::now();
    let mut initializing = Box::pin(initialize_owned(link.clone(), ids.next(), declared.clone()));
    tokio::select! {
        biased;
        modern = &mut discovering => match modern {
            Ok(facts) => {
                // If this opens a session, dropping it closes it.
                link.in_background(initializing);
                Ok(Found::Modern(facts))
            }
            Err(modern) => match initializing.await {
                Ok(legacy) => Ok(Found::Legacy(legacy, ModernQuestion::of(&modern))),
                Err(legacy) => Err(more_telling(modern, legacy)),
            },
        },
        legacy = &mut initializing => match legacy {
            Ok(legacy) => match timeout(grace(asked.elapsed()), discovering).await {
                Ok(Ok(facts)) => Ok(Found::Modern(facts)),
                Ok(Err(modern)) => Ok(Found::Legacy(legacy, ModernQuestion::of(&modern))),
                Err(_) => Ok(Found::Legacy(legacy, ModernQuestion::Unanswered)),
            },
            Err(legacy) => match discovering.await {
                Ok(facts) => Ok(Found::Modern(facts)),
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
    supported_versions(error).is_some_and(|supported| !supported.iter().any(|version| version == VERSION_2026_07_28))
}

/// Whether an error refuses our version and offers that very version: then the request is made again, since a client goes
/// on with a version that the server names (2026-07-28, `basic/versioning`). It was refused before it was carried out.
pub(super) fn offers_our_version(error: &RawValue) -> bool {
    supported_versions(error).is_some_and(|supported| supported.iter().any(|version| version == VERSION_2026_07_28))
}

/// What a server says it speaks when it refuses a version.
fn supported_versions(error: &RawValue) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Refusal {
        code: i64,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    let refusal: Refusal = serde_json::from_str(error.get()).ok()?;
    (refusal.code == UNSUPPORTED_PROTOCOL_VERSION).then_some(refusal.data.supported)
}

async fn initialize_owned(link: Link, id: RequestId, declared: Declared) -> Result<Initialized, WireError> {
    initialize(link, id, &declared).await
}

/// Succeeds if the server is modern; with nothing, if it shows that without a description of itself.
///
/// # Errors
/// [`WireError`], whatever it answered otherwise. A result without versions is none of this method: some servers answer
/// anything with an empty object.
pub(super) async fn discover(link: &Link, ids: &RequestIds) -> Result<Option<ServerFacts>, WireError> {
    let mut outcome = ask_to_discover(link, ids.next()).await?;
    if matches!(&outcome, Outcome::Error(error) if offers_our_version(error)) {
        outcome = ask_to_discover(link, ids.next()).await?;
    }
    match outcome {
        Outcome::Result(result) => {
            let result = RawObject::parse(&result).map_err(|_| ProtocolFault::Handshake)?;
            let versions = result.get("supportedVersions").ok_or(ProtocolFault::Handshake)?;
            let versions: Vec<String> = serde_json::from_str(versions.get()).map_err(|_| ProtocolFault::Handshake)?;
            if !versions.iter().any(|version| version == VERSION_2026_07_28) {
                return Err(ProtocolFault::UnsupportedVersion.into());
            }
            Ok(Some(ServerFacts::of_discover(&result)))
        }
        Outcome::Error(error) if speaks_other_versions(&error) => Err(ProtocolFault::UnsupportedVersion.into()),
        Outcome::Error(error) => match RpcError::parse(&error) {
            Some(rpc) if is_modern_error(rpc.code) => Ok(None),
            _ => Err(rpc_error(&error)),
        },
    }
}

async fn ask_to_discover(link: &Link, id: RequestId) -> Result<Outcome, WireError> {
    let params = meta::modern(RawObject::new());
    let body = request_bytes(&id, SERVER_DISCOVER, Some(&params));
    let way = Way { interim: &Nobody, back: None, purpose: Purpose::Answer };
    Ok(link.ask(&modern_headers(SERVER_DISCOVER), way, &id, body).await?.outcome)
}

fn is_throttled(error: &WireError) -> bool {
    matches!(error, WireError::Status { status: StatusCode::TOO_MANY_REQUESTS, .. })
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
