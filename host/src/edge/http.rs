//! HTTP as one small trait: a request goes out, a status, headers and a stream of bytes come back.
//!
//! One [`ReqwestHttp`] (one pooled client for each [`Lane`]) serves a whole gateway. Redirects are never followed by the client itself:
//! [`send_within_origin`](super::redirect::send_within_origin) follows them within one origin only, so no header ever reaches
//! another origin. Error texts name the kind of failure and never quote a URL's query, a header or a body.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::certificates::check_variables;
use super::proxies::Proxies;
pub use super::proxies::ProxyName;
use super::redirect::RedirectFault;
use crate::model::link_local::{is_link_local, names_link_local};
use crate::model::{Failure, FailureClass};

/// The longest wait that is read out of `Retry-After`: whoever waits has a bound of its own, and no sum overflows.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// How long an idle connection is kept for the next call. Firewalls and balancers forget idle connections without a word, and a
/// call on such a one would wait for its whole deadline; servers close them, some after 5 s (Node.js, `server.keepAliveTimeout`),
/// and a call that crosses with that is lost. A connection to begin with costs less than either, and calls that come together
/// share connections all the same.
const CALL_POOL_IDLE: Duration = Duration::from_secs(2);

/// The same for streams, which are opened seldom.
const STREAM_POOL_IDLE: Duration = Duration::from_secs(90);

/// How long sent bytes may stay unacknowledged before a connection counts as broken (RFC 5482): one that was forgotten on its way
/// is noticed then, and not by the deadline of its call.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How often an HTTP/2 connection with open streams is asked whether it still stands: nothing else notices that the
/// other side of a silent stream has gone.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long the answer may take.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(15);

/// How much of one HTTP/2 answer is taken before somebody reads it, in bytes: an answer that nobody reads, since its reader
/// waits for a slow client, holds so much of its connection and no more.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;

/// How many answers on one HTTP/2 connection may be left unread like that before they hold up the others there: as many as
/// servers allow at once (RFC 9113, 6.5.2 recommends no fewer than 100). An origin has at most ten calls at once, and as
/// streams those of its connectors and of legacy clients' own sessions, at most 64 for each connector.
const HTTP2_STREAMS: u32 = 128;

/// The window of one HTTP/2 connection, in bytes.
const HTTP2_CONNECTION_WINDOW: u32 = HTTP2_STREAMS * HTTP2_STREAM_WINDOW;

/// Which connections a request shares. HTTP/2 has one connection to an origin, and servers bound what is open on one: what
/// stays open must not take the places of what is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// Those of requests that end with an answer.
    #[default]
    Call,
    /// Those of streams that stay open for as long as both sides like.
    Stream,
}

/// A request. Bodies are small and whole.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers; those that hold secrets are marked sensitive.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Which connections it shares; a network without connections has no use for it.
    pub lane: Lane,
}

/// An answer whose body is still to come.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// The proxy that it came through, which may have answered itself.
    pub proxy: Option<ProxyName>,
}

impl Response {
    /// How long `Retry-After` asks to wait, in either of its forms (RFC 9110, 10.2.3): at most [`RETRY_AFTER_MAX`]. A date
    /// is measured from the `Date` of the same answer, so that it means the same however the two clocks differ; without
    /// one it is not read.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.text_of(&header::RETRY_AFTER)?;
        let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // More seconds than a number can hold are many.
            text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
        } else {
            let until = httpdate::parse_http_date(text).ok()?;
            let now = httpdate::parse_http_date(self.text_of(&header::DATE)?).ok()?;
            // A date that has passed asks for no wait.
            until.duration_since(now).unwrap_or_default()
        };
        Some(wait.min(RETRY_AFTER_MAX))
    }

    fn text_of(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Whether the content type, without parameters, is `kind`.
    pub fn content_type_is(&self, kind: &str) -> bool {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        value.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(kind)
    }
}

/// A body as it arrives.
pub struct Body(Pin<Box<dyn Stream<Item = Result<Bytes, HttpError>> + Send>>);

impl Body {
    /// A body from a stream.
    pub fn new(stream: impl Stream<Item = Result<Bytes, HttpError>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// [`HttpError`] if the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.0.next().await.transpose()
    }

    /// The whole body, if it is no longer than `cap` bytes.
    ///
    /// # Errors
    /// [`HttpError::Oversize`] as soon as more than `cap` bytes have arrived, or what the connection failed with.
    pub async fn collect(mut self, cap: usize) -> Result<Bytes, HttpError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > cap {
                return Err(HttpError::Oversize { cap });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The request was never sent: the connection could not be made.
    #[error("no connection could be made")]
    Connect,
    /// The name did not resolve; nothing was sent.
    #[error("the name does not resolve")]
    Dns,
    /// The proxy made no connection; nothing was sent.
    #[error("no connection could be made through the proxy {0}; check the proxy, or name the server in NO_PROXY")]
    Proxy(ProxyName),
    /// The server's certificate is not trusted; nothing was sent.
    #[error(
        "the server's certificate is not trusted: if it is of a private authority, name the file of that authority's \
         certificate in ca-file"
    )]
    Certificate,
    /// The connection broke after the request was sent.
    #[error("the connection broke before the answer was whole")]
    Broken,
    /// A deadline passed.
    #[error("no answer within the deadline")]
    Timeout,
    /// The body is too large.
    #[error("the answer is larger than {cap} bytes; max-message-bytes sets how much is read of a server")]
    Oversize {
        /// The cap.
        cap: usize,
    },
    /// The address is link-local, or a cloud's metadata service; nothing was sent.
    #[error(
        "the address is link-local or a cloud's metadata service, which serves credentials; if it is meant, set \
         allow-link-local = true in gateway.toml"
    )]
    LinkLocal,
    /// A redirect that is not followed.
    #[error(transparent)]
    Redirect(#[from] RedirectFault),
}

impl HttpError {
    /// Whether it is certain that the origin saw nothing of the request.
    pub fn was_not_sent(&self) -> bool {
        matches!(self, Self::Connect | Self::Dns | Self::Proxy(_) | Self::Certificate | Self::LinkLocal)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let class = match error {
            HttpError::Connect
            | HttpError::Proxy(_)
            | HttpError::Certificate
            | HttpError::Broken
            | HttpError::LinkLocal => FailureClass::Refused,
            HttpError::Dns => FailureClass::Dns,
            HttpError::Timeout => FailureClass::Timeout,
            HttpError::Oversize { .. } => FailureClass::Oversize,
            HttpError::Redirect(_) => FailureClass::Redirect,
        };
        Self::new(class, error.to_string())
    }
}

/// The network.
pub trait Http: Send + Sync + 'static {
    /// Sends a request and returns when the answer's headers are there. It has no deadline of its own.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>>;
}

/// Gives up on `work` after `limit`.
///
/// # Errors
/// [`HttpError::Timeout`], or what `work` fails with.
pub async fn within<T, E: From<HttpError>>(limit: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(HttpError::Timeout.into()))
}

/// How the real network is set up.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Certificates of private authorities, trusted besides the platform's: PEM, each with one or more of them.
    pub roots: Vec<Vec<u8>>,
    /// Whether link-local addresses and metadata services may be connected to.
    pub link_local: LinkLocal,
}

/// Whether link-local addresses and metadata services may be connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLocal {
    /// Never, whether an address or a name leads there.
    #[default]
    Refused,
    /// As any other address.
    Allowed,
}

/// The real network: a pooled client for each lane with rustls, the platform's roots and private ones, and the system's proxies. HTTP/2
/// is spoken where a server offers it (ALPN). It has no deadline of its own, not for connecting either: every caller has
/// one, and some are long.
#[derive(Clone)]
pub struct ReqwestHttp {
    calls: reqwest::Client,
    streams: reqwest::Client,
    link_local: LinkLocal,
    proxies: Arc<Proxies>,
}

impl ReqwestHttp {
    /// Builds the clients.
    ///
    /// # Errors
    /// [`HttpSetupError`], if the platform's certificate verifier can not be set up, or private roots are none.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpSetupError> {
        let mut roots = Vec::new();
        for bundle in &options.roots {
            let found = reqwest::Certificate::from_pem_bundle(bundle).map_err(|_| HttpSetupError::Roots)?;
            if found.is_empty() {
                return Err(HttpSetupError::Roots);
            }
            roots.extend(found);
        }
        check_variables(|name| std::env::var(name).ok())?;
        Self::with_proxies(&roots, options.link_local, Proxies::of_process())
    }

    fn with_proxies(
        roots: &[reqwest::Certificate],
        link_local: LinkLocal,
        proxies: Proxies,
    ) -> Result<Self, HttpSetupError> {
        let proxies = Arc::new(proxies);
        let client = |idle| Self::client(roots, link_local, &proxies, idle);
        let (calls, streams) = (client(CALL_POOL_IDLE)?, client(STREAM_POOL_IDLE)?);
        Ok(Self { calls, streams, link_local, proxies })
    }

    fn client(
        roots: &[reqwest::Certificate],
        link_local: LinkLocal,
        proxies: &Arc<Proxies>,
        idle: Duration,
    ) -> Result<reqwest::Client, HttpSetupError> {
        let proxies = proxies.clone();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .proxy(reqwest::Proxy::custom(move |url| proxies.find(url).map(|proxy| proxy.url.clone())))
            .pool_idle_timeout(idle)
            .tcp_nodelay(true)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .user_agent(concat!("cortex-mcp/", env!("CARGO_PKG_VERSION")));
        #[cfg(target_os = "linux")]
        {
            builder = builder.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        if link_local == LinkLocal::Refused {
            builder = builder.dns_resolver(GuardedResolver);
        }
        if !roots.is_empty() {
            builder = builder.tls_certs_merge(roots.iter().cloned());
        }
        builder.build().map_err(|error| HttpSetupError::Client(error.to_string()))
    }
}

/// The HTTP client can not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpSetupError {
    /// The client.
    #[error("the HTTP client can not be set up: {0}; check the system's certificates and proxy settings")]
    Client(String),
    /// A variable of the environment names certificates that cannot be read.
    #[error("{variable} names {path}, which cannot be read: {reason}; correct the variable, or unset it")]
    CertificateVariable {
        /// The variable.
        variable: &'static str,
        /// What it names.
        path: String,
        /// Why that cannot be read.
        reason: String,
    },
    /// The private authorities.
    #[error("no certificate can be read in the file of private authorities (ca-file); write certificates in PEM form")]
    Roots,
}

impl std::fmt::Debug for ReqwestHttp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ReqwestHttp").field("link_local", &self.link_local).finish_non_exhaustive()
    }
}

impl Http for ReqwestHttp {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        Box::pin(async move {
            if self.link_local == LinkLocal::Refused && names_link_local(&request.url) {
                return Err(HttpError::LinkLocal);
            }
            let client = match request.lane {
                Lane::Call => &self.calls,
                Lane::Stream => &self.streams,
            };
            let proxy = self.proxies.find(&request.url).map(|proxy| proxy.name);
            let sending =
                client.request(request.method, request.url).headers(request.headers).body(request.body).send();
            let response = sending.await.map_err(|error| match (classify(&error), proxy) {
                (HttpError::Connect | HttpError::Dns, Some(proxy)) => HttpError::Proxy(proxy),
                (error, _) => error,
            })?;
            Ok(Response {
                proxy,
                status: response.status(),
                headers: response.headers().clone(),
                body: Body::new(response.bytes_stream().map(|piece| piece.map_err(|error| classify(&error)))),
            })
        })
    }
}

/// The system's resolver, without what it resolves to link-local addresses: a name server must not choose them.
struct GuardedResolver;

/// A name resolves to link-local addresses only.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to link-local addresses only")]
struct OnlyLinkLocal;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is that of the URL.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (refused, allowed): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| is_link_local(address.ip()));
            if allowed.is_empty() && !refused.is_empty() {
                return Err(OnlyLinkLocal.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn classify(error: &reqwest::Error) -> HttpError {
    if error.is_timeout() {
        // The system's own patience with a connection may end too.
        return HttpError::Timeout;
    }
    if error.is_connect() {
        // What failed is only recognisable by the text of a source.
        let (mut source, mut found) = (std::error::Error::source(error), HttpError::Connect);
        while let Some(cause) = source {
            if cause.is::<OnlyLinkLocal>() {
                return HttpError::LinkLocal;
            }
            let text = cause.to_string();
            if text.contains("dns error") {
                found = HttpError::Dns;
            }
            if text.contains("invalid peer certificate") {
                return HttpError::Certificate;
            }
            source = cause.source();
        }
        return found;
    }
    HttpError::Broken
}

#[cfg(test)]
mod tests;
