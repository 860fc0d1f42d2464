//! Where a server is, and opening a session with it.
//!
//! What was learned about the server's era is the caller's to keep. Deadlines are too: drop the future, and whatever
//! was opened is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use url::Url;

use super::discovery::{Found, ModernQuestion, discover_era};
use super::handshake::{Declared, Initialized, initialize};
use super::link::Link;
use super::pipe::{Audience, Pipe, PipePlace};
use super::session::{RequestIds, Session};
use super::start::{KnownEra, Start, open_process};
use super::transport::Transport;
use super::upstream_headers::{FixedHeaders, UpstreamHeaders};
use crate::edge::http::{Http, HttpError};
use crate::edge::process::ChildSpawner;
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::inbound::Inbound;
use crate::mcp::limits::{CONFIRMATION_WAIT, SSE_PROBE_TIMEOUT};
use crate::mcp::protocol::{Era, INVALID_PARAMS, METHOD_NOT_FOUND, is_modern_error};
use crate::model::{ConnectorId, Failure, Reach};

/// A server: how it is reached, where it is, and the headers that every request to it carries. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream {
    road: Road,
}

#[derive(Clone, Debug)]
enum Road {
    /// Every session goes over one and the same transport.
    Http(Arc<HttpRoad>),
    /// Every session has a pipe of its own.
    Pipes(Arc<PipePlace>),
}

/// The way to a server that speaks HTTP: Streamable HTTP, or the transport that was there before it.
#[derive(Debug)]
struct HttpRoad {
    transport: Arc<Transport>,
    /// The same address, as a stream of 2024-11-05.
    old: PipePlace,
    /// Whether the server was last found to speak nothing newer. Nothing but a hint where to begin.
    is_old: AtomicBool,
}

impl Upstream {
    /// A server that speaks HTTP at `endpoint`. `headers` (credentials, mostly) never leave its origin; the protocol's
    /// own headers win over them.
    pub fn new(http: Arc<dyn Http>, endpoint: Url, headers: HeaderMap) -> Self {
        Self::over(Transport::new(http, endpoint, FixedHeaders::new(headers), Arc::default()))
    }

    fn over(transport: Transport) -> Self {
        let transport = Arc::new(transport);
        let old = PipePlace::sse(transport.clone());
        Self { road: Road::Http(Arc::new(HttpRoad { transport, old, is_old: AtomicBool::new(false) })) }
    }

    /// A server that is reached in any of the ways. `id` names it in logs, `inbound` applies to what it sends.
    pub fn reached(
        reach: &Reach,
        headers: Arc<dyn UpstreamHeaders>,
        http: Arc<dyn Http>,
        spawner: ChildSpawner,
        id: &ConnectorId,
        inbound: Arc<Inbound>,
    ) -> Self {
        let transport = |url: &Url, inbound| Transport::new(http, url.clone(), headers, inbound);
        let place = match reach {
            Reach::Http(url) => return Self::over(transport(url, inbound)),
            Reach::Sse { sse } => PipePlace::sse(Arc::new(transport(sse, inbound))),
            Reach::Stdio(command) => PipePlace::stdio(spawner, command.clone(), id.clone(), inbound),
        };
        Self { road: Road::Pipes(Arc::new(place)) }
    }

    /// Waits, for so long, for what runs on behind answered requests: ended sessions and processes, cancelled requests,
    /// the rest of streams. What is late is given up, and processes are killed. For the upstream's owner, after its
    /// sessions were closed.
    pub async fn close(&self, limit: Duration) {
        match &self.road {
            Road::Http(road) => road.old.tidied(limit).await,
            Road::Pipes(place) => place.tidied(limit).await,
        }
    }

    /// Opens a session. With a remembered era, nothing else is tried: a modern session needs no request at all, so its
    /// first one may turn out to be [`WireError::WrongEra`]; a legacy one needs the handshake. Without, both are asked.
    /// `declared` is what a legacy server is told about the client.
    ///
    /// # Errors
    /// [`WireError`]; [`WireError::WrongEra`] only with a remembered era.
    pub async fn open(&self, remembered: Option<Era>, declared: &Declared) -> Result<Session, WireError> {
        match &self.road {
            Road::Http(road) => road.open(remembered, declared).await,
            Road::Pipes(place) if place.is_legacy_by_definition() => {
                let link = pipe(place, declared).await?;
                open_legacy(link, RequestIds::default(), declared).await
            }
            Road::Pipes(place) => {
                let known = remembered.map_or(KnownEra::Unknown, KnownEra::Remembered);
                open_process(place, known, declared, &Start::default()).await
            }
        }
    }

    /// Whether the server is a process, which [`Self::start`] starts.
    pub fn is_process(&self) -> bool {
        matches!(&self.road, Road::Pipes(place) if !place.is_legacy_by_definition())
    }

    /// Starts one process and opens a session with it, however long that takes: until it answers, ends, or this is dropped,
    /// which ends it. Whoever waits sees in `start` since when it runs, and has it asked again there. Of a server that is no
    /// process this is [`Self::open`].
    ///
    /// # Errors
    /// [`WireError`]: the process can not be started, has ended, or speaks neither era. It is gone when this returns.
    pub async fn start(&self, known: KnownEra, declared: &Declared, start: &Start) -> Result<Session, WireError> {
        match &self.road {
            Road::Pipes(place) if !place.is_legacy_by_definition() => open_process(place, known, declared, start).await,
            _ => self.open(known.era(), declared).await,
        }
    }

    /// The failure that an error of this server stands for. Where the server is a process, it says how that ended and what it
    /// last wrote to its standard error.
    pub fn failure(&self, error: &WireError) -> Failure {
        match &self.road {
            Road::Http(_) => error.failure(),
            Road::Pipes(place) => place.failure(error),
        }
    }

    /// The failure of a server whose process runs and has not answered.
    pub fn not_answered(&self) -> Failure {
        match &self.road {
            Road::Http(_) => HttpError::Timeout.into(),
            Road::Pipes(place) => place.not_answered(),
        }
    }
}

impl HttpRoad {
    async fn open(&self, remembered: Option<Era>, declared: &Declared) -> Result<Session, WireError> {
        self.transport.resolve().await?;
        if remembered != Some(Era::Modern) && self.is_old.load(Ordering::Relaxed) {
            match self.open_old(declared).await {
                // It may be a newer one by now.
                Err(error) if speaks_of_another_transport(&error) => self.is_old.store(false, Ordering::Relaxed),
                other => return other,
            }
        }
        let (link, ids) = (Link::Http(self.transport.clone()), RequestIds::default());
        let opened = match remembered {
            Some(Era::Modern) => return Ok(Session::modern(link, ids, false, None)),
            Some(Era::Legacy) => open_legacy(link, ids, declared).await,
            None => match discover_era(&link, &ids, declared).await {
                Ok(Found::Modern(facts)) => return Ok(Session::modern(link, ids, true, facts)),
                Ok(Found::Legacy(initialized, ModernQuestion::Refused)) => confirm(link, ids, initialized).await,
                Ok(Found::Legacy(initialized, ModernQuestion::Unanswered)) => {
                    confirm(link, ids, initialized).await.map(Session::of_doubtful_era)
                }
                Err(error) => Err(error),
            },
        };
        let error = match opened {
            Err(error) => error,
            opened => return opened,
        };
        // 2025-11-25, `basic/transports`, Backwards Compatibility: these say that a server may be an older one.
        if speaks_of_another_transport(&error)
            && let Ok(session) = self.open_old(declared).await
        {
            self.is_old.store(true, Ordering::Relaxed);
            return Ok(session);
        }
        Err(if remembered.is_some() && refused_as_modern(&error) { WireError::WrongEra } else { error })
    }

    async fn open_old(&self, declared: &Declared) -> Result<Session, WireError> {
        // A newer server may have a stream here that never says anything.
        let opening = tokio::time::timeout(SSE_PROBE_TIMEOUT, pipe(&self.old, declared));
        let link = opening.await.unwrap_or(Err(ProtocolFault::NoPostEndpoint.into()))?;
        open_legacy(link, RequestIds::default(), declared).await
    }
}

pub(super) async fn open_legacy(link: Link, ids: RequestIds, declared: &Declared) -> Result<Session, WireError> {
    let initialized = initialize(link.clone(), ids.next(), declared).await?;
    confirm(link, ids, initialized).await
}

pub(super) async fn confirm(link: Link, ids: RequestIds, initialized: Initialized) -> Result<Session, WireError> {
    let Initialized { session, facts } = initialized;
    let confirmed = tokio::time::timeout(CONFIRMATION_WAIT, session.confirm()).await;
    match confirmed.unwrap_or_else(|_| Err(HttpError::Timeout.into())) {
        Ok(()) => Ok(Session::legacy(link, ids, session, facts)),
        Err(error) if error.was_not_sent() || link.has_ended() => Err(error),
        // Some servers answer a notification with an error or not at all, and serve all the same (outline#13775).
        Err(error) => Ok(Session::legacy(link, ids, session, facts).with_refused_confirmation(error)),
    }
}

pub(super) async fn pipe(place: &PipePlace, declared: &Declared) -> Result<Link, WireError> {
    let audience = if declared.is_nothing() { Audience::Shared } else { Audience::OneClient };
    Ok(Link::Pipe(Pipe::open(place, audience).await?))
}

/// Whether a server that speaks another transport at this address refuses like this.
fn speaks_of_another_transport(error: &WireError) -> bool {
    match error {
        WireError::Status { status, .. } => {
            matches!(*status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
        }
        WireError::Protocol(ProtocolFault::ContentType(_) | ProtocolFault::NoPostEndpoint) => true,
        _ => false,
    }
}

/// Whether a server that knows no `initialize` refuses it like this.
pub(super) fn refused_as_modern(error: &WireError) -> bool {
    match error {
        WireError::Rpc(error) => is_modern_error(error.code) || matches!(error.code, METHOD_NOT_FOUND | INVALID_PARAMS),
        WireError::Status { status, .. } => matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED),
        _ => false,
    }
}
