//! HTTP as one small trait: a request goes out, a status, headers and a stream of bytes come back.
//!
//! One [`ReqwestHttp`] (one pooled client) serves a whole gateway. Redirects are never followed by the client itself:
//! [`send_within_origin`] follows them within one origin only, so no header ever reaches another origin. Error texts
//! name the kind of failure and never quote a URL's query, a header or a body.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use url::Url;

use crate::model::{Failure, FailureClass};

/// How many redirects within one origin are followed.
pub const MAX_REDIRECTS: usize = 3;

/// How long an idle connection is kept for the next request.
const POOL_IDLE: Duration = Duration::from_secs(90);

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
}

/// An answer whose body is still to come.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

impl Response {
    /// What `Retry-After` says in seconds; other forms are not read.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        text.trim().parse().ok().map(Duration::from_secs)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The request was never sent: the connection could not be made.
    #[error("no connection could be made")]
    Connect,
    /// The name did not resolve; nothing was sent.
    #[error("the name does not resolve")]
    Dns,
    /// The connection broke after the request was sent.
    #[error("the connection broke before the answer was whole")]
    Broken,
    /// A deadline passed.
    #[error("no answer within the deadline")]
    Timeout,
    /// The body is too large.
    #[error("the answer is larger than {cap} bytes")]
    Oversize {
        /// The cap.
        cap: usize,
    },
    /// A redirect that may not be followed.
    #[error("the answer is a redirect to another origin, or one redirect too many")]
    Redirect,
}

impl HttpError {
    /// Whether it is certain that the origin saw nothing of the request.
    pub fn was_not_sent(self) -> bool {
        matches!(self, Self::Connect | Self::Dns)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let class = match error {
            HttpError::Connect | HttpError::Broken => FailureClass::Refused,
            HttpError::Dns => FailureClass::Dns,
            HttpError::Timeout => FailureClass::Timeout,
            HttpError::Oversize { .. } => FailureClass::Oversize,
            HttpError::Redirect => FailureClass::Redirect,
        };
        Self::new(class, error.to_string())
    }
}

/// The network.
pub trait Http: Send + Sync + 'static {
    /// Sends a request and returns when the answer's headers are there. It has no deadline of its own.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>>;
}

/// Sends a request and follows redirects, as long as they stay within the origin of `request.url`.
///
/// Only redirects that keep the method are followed (307, 308), and for GET the others too.
///
/// # Errors
/// [`HttpError::Redirect`] for any other redirect, or what [`Http::send`] fails with.
pub async fn send_within_origin(http: &dyn Http, mut request: Request) -> Result<Response, HttpError> {
    let origin = request.url.origin();
    for _ in 0..=MAX_REDIRECTS {
        let response = http.send(request.clone()).await?;
        if !response.status.is_redirection() || response.status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let keeps_method = matches!(response.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let location = response.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| request.url.join(location).ok()).ok_or(HttpError::Redirect)?;
        if target.origin() != origin || !(keeps_method || request.method == Method::GET) {
            return Err(HttpError::Redirect);
        }
        request.url = target;
    }
    Err(HttpError::Redirect)
}

/// Gives up on `work` after `limit`.
///
/// # Errors
/// [`HttpError::Timeout`], or what `work` fails with.
pub async fn within<T, E: From<HttpError>>(limit: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(HttpError::Timeout.into()))
}

/// The real network: one pooled client with rustls, the platform's roots and the system's proxies. It has no deadline of
/// its own, not for connecting either: every caller has one, and some are long.
#[derive(Clone, Debug)]
pub struct ReqwestHttp {
    client: reqwest::Client,
}

impl ReqwestHttp {
    /// Builds the client.
    ///
    /// # Errors
    /// A sentence, if the platform's certificate verifier can not be set up.
    pub fn new() -> Result<Self, HttpSetupError> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            .user_agent(concat!("cortex-mcp/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| HttpSetupError(error.to_string()))?;
        Ok(Self { client })
    }
}

/// The HTTP client can not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client can not be set up: {0}; check the system's certificates and proxy settings")]
pub struct HttpSetupError(String);

impl Http for ReqwestHttp {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        Box::pin(async move {
            let sending =
                self.client.request(request.method, request.url).headers(request.headers).body(request.body).send();
            let response = sending.await.map_err(|error| classify(&error))?;
            Ok(Response {
                status: response.status(),
                headers: response.headers().clone(),
                body: Body::new(response.bytes_stream().map(|piece| piece.map_err(|error| classify(&error)))),
            })
        })
    }
}

fn classify(error: &reqwest::Error) -> HttpError {
    if error.is_timeout() {
        // The system's own patience with a connection may end too.
        return HttpError::Timeout;
    }
    if error.is_connect() {
        // A resolver failure is only recognisable by its source's text.
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if cause.to_string().contains("dns error") {
                return HttpError::Dns;
            }
            source = cause.source();
        }
        return HttpError::Connect;
    }
    HttpError::Broken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that accepts connections and never says a word, so that no TLS handshake ends.
    fn silent() -> (std::net::TcpListener, Url) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
        (listener, url)
    }

    // The clock is virtual and the socket is real: only timers can end this wait, so nothing races.
    #[tokio::test(start_paused = true)]
    async fn connecting_may_take_as_long_as_the_caller_allows() {
        let (_listener, url) = silent();
        let http = ReqwestHttp::new().unwrap();
        let request = Request { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() };
        let began = tokio::time::Instant::now();
        let limit = Duration::from_secs(60);
        assert_eq!(within(limit, http.send(request)).await.err(), Some(HttpError::Timeout));
        assert_eq!(began.elapsed(), limit);
    }

    #[tokio::test]
    async fn a_connection_that_takes_too_long_is_a_timeout_and_no_refusal() {
        let (_listener, url) = silent();
        let client = reqwest::Client::builder().connect_timeout(Duration::from_millis(20)).build().unwrap();
        let error = client.get(url).send().await.unwrap_err();
        assert!(error.is_connect());
        assert_eq!(classify(&error), HttpError::Timeout);
    }
}
