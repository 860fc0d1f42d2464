//! The bodies of requests: read within a deadline and a budget of bytes that all clients share.
//!
//! Nothing of a body is read before its token may ask and its bytes are reserved. A body that finds no budget waits outside,
//! in its client's socket. What is reserved stays so until the request is answered, because its parameters are held until
//! then.
//!
//! The budget is shared by dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
//! switches", IEEE/ACM Transactions on Networking 6(2), 1998): an owner may hold as much as is still free. One owner alone
//! gets half of the budget, two get a third each, and there is always room for one that comes later.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

use super::embed::Gateway;
use super::metrics::RequestRefusal;
use super::visitor::Visitor;
use super::{limits, rate};
use crate::telemetry::Label as _;

/// Who holds bytes of the budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    /// Clients with a token.
    Token(Arc<str>),
    /// Clients at an address, where no tokens are configured.
    Peer(Option<IpAddr>),
}

impl Owner {
    fn of(request: &Request) -> Self {
        let token = request.extensions().get::<Visitor>().and_then(|visitor| visitor.token.clone());
        let peer = || request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
        token.map_or_else(|| Self::Peer(peer()), Self::Token)
    }
}

/// Which part of the budget a body is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Up to [`limits::SMALL_BODY_BYTES`].
    Small,
    /// Anything larger.
    Large,
}

/// The bytes of all bodies that are in flight.
#[derive(Debug)]
pub(super) struct BodyBudget {
    pools: Mutex<[Pool; 2]>,
    freed: Notify,
}

#[derive(Debug)]
struct Pool {
    bytes_max: usize,
    used: usize,
    by_owner: HashMap<Owner, usize>,
}

impl Default for BodyBudget {
    fn default() -> Self {
        let pool = |bytes_max| Pool { bytes_max, used: 0, by_owner: HashMap::new() };
        let pools = [pool(limits::SMALL_BODY_BYTES_MAX), pool(limits::BODY_BYTES_MAX)];
        Self { pools: Mutex::new(pools), freed: Notify::new() }
    }
}

impl Pool {
    fn take(&mut self, owner: &Owner, bytes: usize) -> bool {
        let held = self.by_owner.get(owner).copied().unwrap_or_default();
        let free = self.bytes_max.saturating_sub(self.used);
        let fits = bytes <= free && held + bytes <= free;
        if fits {
            self.used += bytes;
            *self.by_owner.entry(owner.clone()).or_default() += bytes;
        }
        fits
    }

    fn give_back(&mut self, owner: &Owner, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
        if let Some(held) = self.by_owner.get_mut(owner) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.by_owner.remove(owner);
            }
        }
    }
}

impl BodyBudget {
    /// Reserves bytes, and waits for them up to [`limits::BODY_BUDGET_WAIT`]; none if they are not free by then.
    async fn reserve(self: &Arc<Self>, owner: &Owner, size: Size, bytes: usize) -> Option<Reserved> {
        if !self.take(owner, size, bytes) {
            self.wait_for(owner, size, bytes).await?;
        }
        Some(Reserved { budget: self.clone(), owner: owner.clone(), size, bytes })
    }

    async fn wait_for(&self, owner: &Owner, size: Size, bytes: usize) -> Option<()> {
        let deadline = Instant::now() + limits::BODY_BUDGET_WAIT;
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Before the look: what is given back in between wakes this one.
            freed.as_mut().enable();
            if self.take(owner, size, bytes) {
                return Some(());
            }
            timeout_at(deadline, freed).await.ok()?;
        }
    }

    fn take(&self, owner: &Owner, size: Size, bytes: usize) -> bool {
        self.lock()[size as usize].take(owner, bytes)
    }

    fn give_back(&self, owner: &Owner, size: Size, bytes: usize) {
        self.lock()[size as usize].give_back(owner, bytes);
        self.freed.notify_waiters();
    }

    /// How many bytes of bodies are in flight.
    #[cfg(test)]
    fn used(&self) -> usize {
        self.lock().iter().map(|pool| pool.used).sum()
    }

    fn lock(&self) -> MutexGuard<'_, [Pool; 2]> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the budget; given back when dropped.
#[derive(Debug)]
struct Reserved {
    budget: Arc<BodyBudget>,
    owner: Owner,
    size: Size,
    bytes: usize,
}

impl Reserved {
    /// Gives back what is not needed.
    fn shrink_to(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.budget.give_back(&self.owner, self.size, spare);
            self.bytes -= spare;
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.give_back(&self.owner, self.size, self.bytes);
    }
}

/// The bytes that a request's body holds, and whether the request was counted against its token's rate. Every request with a
/// body bears it; the bytes are free once the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct BodyLease(Arc<Lease>);

#[derive(Debug)]
struct Lease {
    _reserved: Reserved,
    is_counted: AtomicBool,
}

impl BodyLease {
    /// Whether the request was counted when its head came; the first one to ask is told so.
    pub(super) fn take_count(&self) -> bool {
        self.0.is_counted.swap(false, Ordering::Relaxed)
    }
}

/// Why a body was not read.
#[derive(Debug)]
enum BodyFault {
    TooLong,
    Broken,
    Late,
    NoBudget,
    TooOften(Duration),
}

impl BodyFault {
    /// The status, the reason as metrics and logs have it, and what the client is told.
    fn answer(&self, bytes_max: usize) -> (StatusCode, RequestRefusal, String) {
        match self {
            Self::TooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                RequestRefusal::BodySize,
                format!("the body is larger than {bytes_max} bytes; send a smaller one"),
            ),
            Self::Broken => (
                StatusCode::BAD_REQUEST,
                RequestRefusal::BodyBroken,
                "the body ended early; send the request again".into(),
            ),
            Self::Late => {
                let seconds = limits::BODY_TIMEOUT.as_secs();
                let message = format!("the body did not arrive within {seconds} s; send the request again");
                (StatusCode::REQUEST_TIMEOUT, RequestRefusal::BodyTimeout, message)
            }
            Self::NoBudget => (
                StatusCode::SERVICE_UNAVAILABLE,
                RequestRefusal::BodyBudget,
                "too many bytes of other requests are in flight; send the request again later".into(),
            ),
            Self::TooOften(_) => (StatusCode::TOO_MANY_REQUESTS, RequestRefusal::Rate, rate::TOLD.into()),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoBudget => Some(limits::BODY_BUDGET_RETRY),
            Self::TooOften(wait) => Some(*wait),
            Self::TooLong | Self::Broken | Self::Late => None,
        }
    }
}

/// The answer to a request whose body is not wanted. It is sent at once, and the body is read and thrown away meanwhile: a
/// connection that is closed with unread bytes is reset, and its client may never see the answer (RFC 9112, section 9.6).
struct Refusal {
    /// None once it is sent.
    message: Option<Bytes>,
    unread: Body,
    /// How many bytes more are thrown away.
    left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Refusal {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        while self.deadline.as_mut().poll(context).is_pending() {
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.unread).poll_frame(context)) else { break };
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = self.left.checked_sub(bytes) else { break };
            self.left = left;
        }
        Poll::Ready(None)
    }
}

/// What a route takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyRule {
    /// The largest body, in bytes.
    pub(super) bytes_max: usize,
    /// Whether each request counts against its token's rate when its head comes, if its body is not small.
    pub(super) is_rated: bool,
}

/// The middleware that reads a request's body, up to its greatest size, within its deadline and within the budget.
pub(super) async fn read(State((gateway, rule)): State<(Gateway, BodyRule)>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let uri = request.uri().clone();
    match whole(&gateway, rule, request).await {
        Ok((request, _lease)) => next.run(request).await,
        Err((fault, unread)) => {
            let (status, reason, message) = fault.answer(rule.bytes_max);
            // What its token may not ask was counted where that was decided.
            let counted = !matches!(fault, BodyFault::TooOften(_));
            if let Some(line) = counted.then(|| gateway.inner.parts.metrics.request_refused(reason)).flatten() {
                let (reason, path) = (reason.value(), uri.path());
                tracing::warn!(reason, path, left_out = line.left_out, "the body of a request was not read");
            }
            let refusal = Refusal {
                message: Some(message.into()),
                unread,
                left: limits::REFUSED_BODY_BYTES_MAX,
                deadline: Box::pin(sleep(limits::REFUSED_BODY_TIMEOUT)),
            };
            let mut response = (status, Body::new(refusal)).into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            if let Some(wait) = fault.retry_after() {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(rate::seconds(wait)));
            }
            response
        }
    }
}

/// A request with its whole body, which bears its lease; or what is wrong, and the body as far as it was not read.
async fn whole(gateway: &Gateway, rule: BodyRule, request: Request) -> Result<(Request, BodyLease), (BodyFault, Body)> {
    let owner = Owner::of(&request);
    let (mut parts, mut body) = request.into_parts();
    let declared = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if declared.is_some_and(|bytes| bytes > rule.bytes_max) {
        return Err((BodyFault::TooLong, body));
    }
    let is_small = declared.is_some_and(|bytes| bytes <= limits::SMALL_BODY_BYTES);
    let visitor = parts.extensions.get::<Visitor>().filter(|_| rule.is_rated && !is_small);
    let mut is_counted = false;
    if let Some(visitor) = visitor {
        if let Some(wait) = rate::take(gateway, visitor) {
            return Err((BodyFault::TooOften(wait), body));
        }
        is_counted = true;
    }
    let budget = &gateway.inner.bodies;
    // Of a body that does not say how long it is, room for the longest is kept: a body that had to wait half read would hold
    // what others wait for.
    let (size, bytes) = match declared {
        Some(bytes) if is_small => (Size::Small, bytes),
        declared => (Size::Large, declared.unwrap_or(rule.bytes_max)),
    };
    let Some(mut reserved) = budget.reserve(&owner, size, bytes).await else {
        return Err((BodyFault::NoBudget, body));
    };
    let read = timeout(limits::BODY_TIMEOUT, collect(&mut body, declared, rule.bytes_max)).await;
    let bytes = match read.unwrap_or(Err(BodyFault::Late)) {
        Ok(bytes) => bytes,
        Err(fault @ BodyFault::TooLong) => return Err((fault, body)),
        // Nothing more is waited for.
        Err(fault) => return Err((fault, Body::empty())),
    };
    reserved.shrink_to(bytes.len());
    let lease = BodyLease(Arc::new(Lease { _reserved: reserved, is_counted: AtomicBool::new(is_counted) }));
    parts.extensions.insert(lease.clone());
    Ok((Request::from_parts(parts, Body::from(bytes)), lease))
}

/// Reads a body into one buffer.
async fn collect(body: &mut Body, declared: Option<usize>, bytes_max: usize) -> Result<Bytes, BodyFault> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else { continue };
        if data.len() > bytes_max - buffer.len() {
            return Err(BodyFault::TooLong);
        }
        if declared == Some(data.len()) {
            // The usual case: it came in one piece, which is not copied.
            return Ok(data);
        }
        if buffer.is_empty() {
            buffer.reserve(declared.unwrap_or(data.len()));
        }
        buffer.extend_from_slice(&data);
    }
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests;
