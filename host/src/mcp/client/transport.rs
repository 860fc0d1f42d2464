//! One server's endpoint: POST, GET and DELETE with the headers that every request has.
//!
//! Nothing of the protocol is understood here. Redirects are followed within the origin only, so that the connector's
//! headers never reach another one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::tidying::Tidying;
use crate::edge::http::{Http, HttpError, Lane, Request, Response};
use crate::edge::redirect::send_within_origin;
use crate::edge::references::{self, ReferenceFault};
use crate::mcp::protocol::{ACCEPT_BOTH, EVENT_STREAM_TYPE, JSON_TYPE};
use crate::model::reference::has_reference;

/// Without this header a server may pack its answers as it likes (RFC 9110, 12.5.3).
const AS_IT_IS: HeaderValue = HeaderValue::from_static("identity");

/// Where a server is, and how it is reached.
#[derive(Clone)]
pub(super) struct Transport {
    http: Arc<dyn Http>,
    endpoint: Url,
    headers: Arc<ArcSwap<HeaderMap>>,
    /// Headers that refer to files and variables.
    references: Arc<[(HeaderName, String)]>,
    tidying: Tidying,
}

impl Transport {
    pub(super) fn new(http: Arc<dyn Http>, endpoint: Url, headers: HeaderMap) -> Self {
        let headers = Arc::new(ArcSwap::from_pointee(headers));
        Self { http, endpoint, headers, references: Arc::new([]), tidying: Tidying::default() }
    }

    /// The same, in whose headers references are resolved.
    pub(super) fn with_references(mut self) -> Self {
        let headers = self.headers.load();
        let text = |value: &HeaderValue| std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned);
        let values = headers.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?)));
        self.references = values.filter(|(_, value)| has_reference(value)).collect();
        drop(headers);
        self
    }

    /// Resolves the references of the headers: before a session is opened, and when the server refuses a credential.
    pub(super) async fn resolve(&self) -> Result<(), ReferenceFault> {
        if self.references.is_empty() {
            return Ok(());
        }
        let mut headers = HeaderMap::clone(&self.headers.load());
        for (name, value) in references::resolve(self.references.to_vec()).await? {
            let value = HeaderValue::try_from(value);
            let mut value = value.map_err(|_| ReferenceFault::Header { header: name.to_string() })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        self.headers.store(Arc::new(headers));
        Ok(())
    }

    /// Lets work that nobody waits for now run, under a bound.
    pub(super) fn in_background<T>(&self, work: impl Future<Output = T> + Send + 'static) {
        self.tidying.in_background(work);
    }

    /// Waits for what runs in the background, for so long; the rest is given up, and so is what would come later.
    pub(super) async fn tidied(&self, limit: Duration) {
        self.tidying.tidied(limit).await;
    }

    /// Where the server is.
    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Posts one message. The protocol's headers win over the connector's.
    pub(super) async fn post(&self, more: &HeaderMap, body: Bytes, lane: Lane) -> Result<Response, HttpError> {
        let mut headers = HeaderMap::clone(&self.headers.load());
        replace(&mut headers, more);
        headers.insert(header::ACCEPT, ACCEPT_BOTH);
        headers.insert(header::ACCEPT_ENCODING, AS_IT_IS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
        self.send(Method::POST, self.endpoint.clone(), headers, body, lane).await
    }

    /// Posts one message to where the server's stream said (2024-11-05), which must be of the endpoint's origin.
    pub(super) async fn post_to(&self, target: &Url, body: Bytes) -> Result<Response, HttpError> {
        let mut headers = HeaderMap::clone(&self.headers.load());
        headers.insert(header::ACCEPT_ENCODING, AS_IT_IS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
        self.send(Method::POST, target.clone(), headers, body, Lane::Call).await
    }

    /// Asks for a stream of events.
    pub(super) async fn get(&self, more: &HeaderMap) -> Result<Response, HttpError> {
        let mut headers = HeaderMap::clone(&self.headers.load());
        replace(&mut headers, more);
        headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM_TYPE));
        headers.insert(header::ACCEPT_ENCODING, AS_IT_IS);
        self.send(Method::GET, self.endpoint.clone(), headers, Bytes::new(), Lane::Stream).await
    }

    /// Deletes what `more` names.
    pub(super) async fn delete(&self, more: &HeaderMap) -> Result<Response, HttpError> {
        let mut headers = HeaderMap::clone(&self.headers.load());
        replace(&mut headers, more);
        self.send(Method::DELETE, self.endpoint.clone(), headers, Bytes::new(), Lane::Call).await
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        lane: Lane,
    ) -> Result<Response, HttpError> {
        let mut request = Request { method, url, headers, body, lane };
        let response = send_within_origin(&*self.http, request.clone()).await?;
        // Refused, so not carried out: perhaps a secret was rotated.
        if self.references.is_empty() || !is_refused(response.status) {
            return Ok(response);
        }
        let before = self.headers.load_full();
        if self.resolve().await.is_err() || *before == **self.headers.load() {
            return Ok(response);
        }
        let now = self.headers.load_full();
        for (name, _) in &*self.references {
            if let Some(value) = now.get(name).filter(|_| request.headers.get(name) == before.get(name)) {
                request.headers.insert(name, value.clone());
            }
        }
        send_within_origin(&*self.http, request).await
    }
}

impl fmt::Debug for Transport {
    /// Neither headers nor the URL's query.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Transport({})", self.endpoint.origin().ascii_serialization())
    }
}

/// Whether a server refuses a credential like this.
fn is_refused(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn replace(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.insert(name.clone(), value.clone());
    }
}
