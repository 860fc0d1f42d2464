//! Fetching the service map: one conditional GET, bounded in time and size.
//!
//! One deadline covers headers *and* body, and one cap holds for the bytes on the wire and for the decoded ones (defect
//! L3). No retry here: when to ask again is the policy's. No error quotes a URL, a header or a body (defect L6).

use std::fmt;
use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::edge::http::{Http, Lane, Request, Response, within};
use crate::edge::redirect::send_within_origin;
use crate::model::{Failure, FailureClass};

use super::MAX_MAP_BYTES;
use crate::model::address::{self, AddressFault};

/// How long a fetch may take, from the first packet to the last byte of the body (design section 4).
pub const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// Where the service map is. Its debug form shows the origin only.
#[derive(Clone)]
pub struct MapEndpoint {
    /// The whole URL.
    pub url: Url,
    /// The bearer token, if one is asked for.
    pub token: Option<SecretString>,
}

impl MapEndpoint {
    /// Checks an address: https, or http on loopback, without user name, password or fragment.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn parse(url: &str, token: Option<SecretString>) -> Result<Self, EndpointError> {
        let url = address::read(url)?;
        if let Some(token) = &token {
            bearer(token).ok_or(EndpointError::Token)?;
        }
        Ok(Self { url, token })
    }
}

impl fmt::Debug for MapEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.url.origin().ascii_serialization();
        formatter.debug_struct("MapEndpoint").field("origin", &origin).field("token", &self.token).finish()
    }
}

/// Why a service map can not be fetched from where the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The URL is not acceptable.
    #[error("the service map's URL {0}")]
    Address(#[from] AddressFault),
    /// The token can not be sent.
    #[error("the service map's token is empty, or holds characters that no header may")]
    Token,
}

/// What a fetch brought. Its debug form leaves the bytes out.
#[derive(Clone, PartialEq, Eq)]
pub enum Fetched {
    /// A document, not yet verified.
    Document {
        /// Its bytes, decoded.
        raw: Bytes,
        /// Its entity tag, if it has one that can be sent back.
        etag: Option<String>,
    },
    /// The document whose tag was sent is still the one.
    NotModified,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document { raw, .. } => write!(formatter, "Document({} bytes)", raw.len()),
            Self::NotModified => formatter.write_str("NotModified"),
        }
    }
}

/// Fetches the service map; unless it still has the tag `etag`, if one is given.
///
/// # Errors
/// A [`Failure`] of any class up to `decode`: nothing is verified here.
pub async fn fetch(http: &dyn Http, endpoint: &MapEndpoint, etag: Option<&str>) -> Result<Fetched, Failure> {
    let headers = headers(endpoint, etag)?;
    let conditional = headers.contains_key(header::IF_NONE_MATCH);
    let request =
        Request { method: Method::GET, url: endpoint.url.clone(), headers, body: Bytes::new(), lane: Lane::Call };
    within(FETCH_DEADLINE, async {
        let response = send_within_origin(http, request).await?;
        match response.status {
            StatusCode::OK => document(response).await,
            StatusCode::NOT_MODIFIED if conditional => Ok(Fetched::NotModified),
            _ => Err(refusal(&response)),
        }
    })
    .await
}

/// The longest entity tag that is kept, in bytes.
const MAX_ETAG_BYTES: usize = 1024;

/// A tag that no header can hold is not sent: the answer is then a whole document.
fn headers(endpoint: &MapEndpoint, etag: Option<&str>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(token) = &endpoint.token {
        let value = bearer(token).ok_or_else(|| Failure::new(FailureClass::Auth, EndpointError::Token.to_string()))?;
        headers.insert(header::AUTHORIZATION, value);
    }
    if let Some(value) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(header::IF_NONE_MATCH, value);
    }
    Ok(headers)
}

fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let token = token.expose_secret();
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}

async fn document(response: Response) -> Result<Fetched, Failure> {
    if !is_json(&response.headers) {
        return Err(decode("the service map's content type is not JSON"));
    }
    let gzipped = is_gzipped(&response.headers)?;
    let declared = response.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > MAX_MAP_BYTES as u64) {
        return Err(oversize());
    }
    let etag = response.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
    let etag = etag.filter(|etag| !etag.is_empty() && etag.len() <= MAX_ETAG_BYTES).map(str::to_owned);
    let body = response.body.collect(MAX_MAP_BYTES).await?;
    let raw = if gzipped { inflate(&body)? } else { body };
    Ok(Fetched::Document { raw, etag })
}

/// `application/json`, anything that ends in `+json`, or no type at all.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn is_gzipped(headers: &HeaderMap) -> Result<bool, Failure> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let first = encodings.next().map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match (first.as_deref(), encodings.next()) {
        (None | Some("" | "identity"), None) => Ok(false),
        (Some("gzip" | "x-gzip"), None) => Ok(true),
        _ => Err(decode("the service map's content encoding is not gzip")),
    }
}

/// Never more than a byte beyond the cap is decoded, however much the body would become.
fn inflate(body: &[u8]) -> Result<Bytes, Failure> {
    let mut raw = Vec::new();
    let mut decoder = MultiGzDecoder::new(body).take(MAX_MAP_BYTES as u64 + 1);
    decoder.read_to_end(&mut raw).map_err(|_| decode("the service map's gzip encoding is damaged"))?;
    if raw.len() > MAX_MAP_BYTES { Err(oversize()) } else { Ok(raw.into()) }
}

fn decode(message: &str) -> Failure {
    Failure::new(FailureClass::Decode, message)
}

fn oversize() -> Failure {
    Failure::new(FailureClass::Oversize, format!("the service map is larger than {MAX_MAP_BYTES} bytes"))
}

/// What a status other than success means.
fn refusal(response: &Response) -> Failure {
    let class = match response.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureClass::Auth,
        StatusCode::NOT_FOUND => FailureClass::NotFound,
        StatusCode::GONE => FailureClass::Gone,
        StatusCode::TOO_MANY_REQUESTS => FailureClass::Throttled,
        _ => FailureClass::Server,
    };
    let message = format!("the service map's origin answered with status {}", response.status.as_u16());
    Failure { retry_after: response.retry_after(), ..Failure::new(class, message) }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request as Received;
    use flate2::Compression;
    use flate2::read::GzEncoder;
    use futures_util::StreamExt;

    use super::*;
    use crate::edge::virtual_network::{Host, VirtualNetwork};

    const URL: &str = "https://maps.invalid/v1/map?plan=s3cr3t";

    /// Fetches from an origin that answers everything with `answer`; returns the outcome and the headers received.
    async fn fetch_from(
        etag: Option<&str>,
        answer: impl Fn() -> http::Response<Body> + Clone + Send + Sync + 'static,
    ) -> (Result<Fetched, Failure>, HeaderMap) {
        let seen = Arc::new(Mutex::new(HeaderMap::new()));
        let record = seen.clone();
        let router = Router::new().fallback(move |received: Received| {
            *record.lock().unwrap() = received.headers().clone();
            std::future::ready(answer())
        });
        let network = VirtualNetwork::new();
        let endpoint = MapEndpoint::parse(URL, Some("t0ken".into())).unwrap();
        network.set(&endpoint.url, Host::Serve(router));
        let outcome = fetch(&network, &endpoint, etag).await;
        let headers = seen.lock().unwrap().clone();
        (outcome, headers)
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> http::Response<Body> {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(body.into()).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        GzEncoder::new(bytes, Compression::best()).read_to_end(&mut packed).unwrap();
        packed
    }

    #[tokio::test(start_paused = true)]
    async fn the_request_is_conditional_authenticated_and_asks_for_json() {
        let (outcome, headers) = fetch_from(Some("\"one\""), || answer(304, &[], "")).await;
        assert_eq!(outcome, Ok(Fetched::NotModified));
        for (name, value) in [
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("cache-control", "no-cache"),
            ("authorization", "Bearer t0ken"),
            ("if-none-match", "\"one\""),
        ] {
            assert_eq!(headers[name], value);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn not_modified_counts_only_if_a_tag_was_sent() {
        let (outcome, headers) = fetch_from(None, || answer(304, &[], "")).await;
        assert_eq!(outcome.unwrap_err().class, FailureClass::Server);
        assert!(!headers.contains_key("if-none-match"));
        let (outcome, _) = fetch_from(Some("broken\ntag"), || answer(304, &[], "")).await;
        assert!(outcome.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn documents_arrive_decoded_with_their_tag() {
        let document = |raw: &'static str, etag: Option<&str>| {
            Ok(Fetched::Document { raw: raw.into(), etag: etag.map(str::to_owned) })
        };
        let plain = || answer(200, &[("content-type", "application/json; charset=utf-8"), ("etag", "W/\"2\"")], "{}");
        assert_eq!(fetch_from(None, plain).await.0, document("{}", Some("W/\"2\"")));
        let packed = || {
            let headers = [("content-type", "application/vnd.map+json"), ("content-encoding", "gzip")];
            answer(200, &headers, gzip(b"{\"a\":1}"))
        };
        assert_eq!(fetch_from(None, packed).await.0, document("{\"a\":1}", None));
        assert_eq!(fetch_from(None, || answer(200, &[], "{}")).await.0, document("{}", None));
    }

    #[tokio::test(start_paused = true)]
    async fn each_status_has_its_class_and_no_body_is_quoted() {
        for (status, class) in [
            (401, FailureClass::Auth),
            (403, FailureClass::Auth),
            (404, FailureClass::NotFound),
            (410, FailureClass::Gone),
            (429, FailureClass::Throttled),
            (500, FailureClass::Server),
            (503, FailureClass::Server),
            (400, FailureClass::Server),
            (204, FailureClass::Server),
            (206, FailureClass::Server),
        ] {
            let (outcome, _) = fetch_from(None, move || answer(status, &[("retry-after", "7")], "s3cr3t")).await;
            let failure = outcome.unwrap_err();
            assert_eq!((failure.class, failure.retry_after), (class, Some(Duration::from_secs(7))), "{status}");
            assert!(!format!("{failure:?}").contains("s3cr3t"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gzip_bomb_is_cut_off_at_the_cap() {
        let bomb = gzip(&vec![b' '; MAX_MAP_BYTES + 1]);
        assert!(bomb.len() < MAX_MAP_BYTES / 100);
        let (outcome, _) = fetch_from(None, move || answer(200, &[("content-encoding", "gzip")], bomb.clone())).await;
        assert_eq!(outcome.unwrap_err().class, FailureClass::Oversize);
        let full = gzip(&vec![b' '; MAX_MAP_BYTES]);
        let (outcome, _) = fetch_from(None, move || answer(200, &[("content-encoding", "gzip")], full.clone())).await;
        assert!(outcome.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_cap_is_never_read_from_the_wire() {
        let endless = || {
            let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 1 << 16])));
            answer(200, &[], Body::from_stream(pieces))
        };
        assert_eq!(fetch_from(None, endless).await.0.unwrap_err().class, FailureClass::Oversize);
        let declared = || {
            let nothing = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
            answer(200, &[("content-length", "4194305")], Body::from_stream(nothing))
        };
        assert_eq!(fetch_from(None, declared).await.0.unwrap_err().class, FailureClass::Oversize);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_holds_for_the_body_too() {
        let trickle = || {
            let pieces = futures_util::stream::repeat_with(|| ()).then(|()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b" "))
            });
            answer(200, &[], Body::from_stream(pieces))
        };
        let began = tokio::time::Instant::now();
        assert_eq!(fetch_from(None, trickle).await.0.unwrap_err().class, FailureClass::Timeout);
        assert_eq!(began.elapsed(), FETCH_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_json_or_not_decodable_is_a_decode_failure() {
        for (name, value) in [
            ("content-type", "text/html"),
            ("content-encoding", "br"),
            ("content-encoding", "gzip, gzip"),
            ("content-encoding", "gzip"),
        ] {
            let (outcome, _) = fetch_from(None, move || answer(200, &[(name, value)], "{}")).await;
            assert_eq!(outcome.unwrap_err().class, FailureClass::Decode, "{value}");
        }
        let cut = gzip(b"{}")[..12].to_vec();
        let (outcome, _) = fetch_from(None, move || answer(200, &[("content-encoding", "gzip")], cut.clone())).await;
        assert_eq!(outcome.unwrap_err().class, FailureClass::Decode);
    }

    #[tokio::test(start_paused = true)]
    async fn a_redirect_to_another_origin_is_not_followed() {
        let (outcome, _) = fetch_from(None, || answer(307, &[("location", "https://elsewhere.invalid/map")], "")).await;
        assert_eq!(outcome.unwrap_err().class, FailureClass::Redirect);
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_never_answers_costs_the_deadline_and_no_more() {
        let network = VirtualNetwork::new();
        let endpoint = MapEndpoint::parse(URL, None).unwrap();
        assert_eq!(fetch(&network, &endpoint, None).await.unwrap_err().class, FailureClass::Dns);
        network.set(&endpoint.url, Host::Refuse);
        assert_eq!(fetch(&network, &endpoint, None).await.unwrap_err().class, FailureClass::Refused);
        network.set(&endpoint.url, Host::Hang);
        assert_eq!(fetch(&network, &endpoint, None).await.unwrap_err().class, FailureClass::Timeout);
    }

    #[test]
    fn only_https_or_loopback_endpoints_with_a_sendable_token_are_accepted() {
        assert_eq!(
            MapEndpoint::parse("http://maps.invalid/", None).unwrap_err(),
            EndpointError::Address(AddressFault::Plain)
        );
        assert!(MapEndpoint::parse("http://127.0.0.1:7439/v1/connectors/service-map", None).is_ok());
        for token in ["", "a\nb"] {
            assert_eq!(MapEndpoint::parse(URL, Some(token.into())).unwrap_err(), EndpointError::Token);
        }
        let shown = format!("{:?}", MapEndpoint::parse(URL, Some("t0ken".into())).unwrap());
        assert!(!shown.contains("t0ken") && !shown.contains("s3cr3t") && shown.contains("https://maps.invalid"));
    }
}
