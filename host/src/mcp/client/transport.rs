//! One server's endpoint: POST, GET and DELETE with the headers that every request has.
//!
//! Nothing of the protocol is understood here. Redirects are followed within the origin only, so that the connector's
//! headers never reach another one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::challenge::challenges_of;
use super::tidying::Tidying;
use super::upstream_headers::{CredentialEvidence, CredentialRefusal, UpstreamHeaders};
use crate::edge::http::{Http, HttpError, Lane, Request, Response};
use crate::edge::redirect::send_within_origin;
use crate::edge::references::ReferenceFault;
use crate::mcp::inbound::Inbound;
use crate::mcp::protocol::{ACCEPT_BOTH, EVENT_STREAM_TYPE, JSON_TYPE};

/// Without this header a server may pack its answers as it likes (RFC 9110, 12.5.3).
const AS_IT_IS: HeaderValue = HeaderValue::from_static("identity");

/// Where a server is, and how it is reached.
#[derive(Clone)]
pub(super) struct Transport {
    http: Arc<dyn Http>,
    endpoint: Url,
    headers: Arc<dyn UpstreamHeaders>,
    tidying: Tidying,
    inbound: Arc<Inbound>,
}

impl Transport {
    pub(super) fn new(
        http: Arc<dyn Http>,
        endpoint: Url,
        headers: Arc<dyn UpstreamHeaders>,
        inbound: Arc<Inbound>,
    ) -> Self {
        Self { http, endpoint, headers, tidying: Tidying::default(), inbound }
    }

    /// Reads credentials again that may have been replaced: before a session is opened.
    pub(super) async fn resolve(&self) -> Result<(), ReferenceFault> {
        self.headers.refresh().await
    }

    /// The headers of the next request. Where they cannot be read again, those of before are sent.
    async fn current_headers(&self) -> HeaderMap {
        if self.headers.is_stale() {
            let _ = self.headers.refresh().await;
        }
        HeaderMap::clone(&self.headers.current())
    }

    /// Lets work that nobody waits for now run, under a bound.
    pub(super) fn in_background<T>(&self, work: impl Future<Output = T> + Send + 'static) {
        self.tidying.in_background(work);
    }

    /// Waits for what runs in the background, for so long; the rest is given up, and so is what would come later.
    pub(super) async fn tidied(&self, limit: Duration) {
        self.tidying.tidied(limit).await;
    }

    /// What applies to the messages that are read.
    pub(super) fn inbound(&self) -> &Arc<Inbound> {
        &self.inbound
    }

    /// Where the server is.
    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Posts one message. The protocol's headers win over the connector's.
    pub(super) async fn post(&self, more: &HeaderMap, body: Bytes, lane: Lane) -> Result<Response, HttpError> {
        let mut headers = self.current_headers().await;
        replace(&mut headers, more);
        headers.insert(header::ACCEPT, ACCEPT_BOTH);
        headers.insert(header::ACCEPT_ENCODING, AS_IT_IS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
        let evidence = match lane {
            Lane::Call => CredentialEvidence::Conclusive,
            Lane::Stream => CredentialEvidence::Inconclusive,
        };
        self.send(Request { method: Method::POST, url: self.endpoint.clone(), headers, body, lane }, evidence).await
    }

    /// Posts one message to where the server's stream said (2024-11-05), which must be of the endpoint's origin.
    pub(super) async fn post_to(&self, target: &Url, body: Bytes) -> Result<Response, HttpError> {
        let mut headers = self.current_headers().await;
        headers.insert(header::ACCEPT_ENCODING, AS_IT_IS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
        let request = Request { method: Method::POST, url: target.clone(), headers, body, lane: Lane::Call };
        self.send(request, CredentialEvidence::Conclusive).await
    }

    /// Asks for a stream of events. `evidence` is conclusive where the session depends on the stream.
    pub(super) async fn get(&self, more: &HeaderMap, evidence: CredentialEvidence) -> Result<Response, HttpError> {
        let mut headers = self.current_headers().await;
        replace(&mut headers, more);
        headers.insert(header::ACCEPT, HeaderValue::from_static(EVENT_STREAM_TYPE));
        headers.insert(header::ACCEPT_ENCODING, AS_IT_IS);
        let (url, body) = (self.endpoint.clone(), Bytes::new());
        self.send(Request { method: Method::GET, url, headers, body, lane: Lane::Stream }, evidence).await
    }

    /// Deletes what `more` names.
    pub(super) async fn delete(&self, more: &HeaderMap) -> Result<Response, HttpError> {
        let mut headers = self.current_headers().await;
        replace(&mut headers, more);
        let (url, body) = (self.endpoint.clone(), Bytes::new());
        let request = Request { method: Method::DELETE, url, headers, body, lane: Lane::Call };
        self.send(request, CredentialEvidence::Inconclusive).await
    }

    async fn send(&self, mut request: Request, evidence: CredentialEvidence) -> Result<Response, HttpError> {
        let before = self.headers.current();
        let mut response = send_within_origin(&*self.http, request.clone()).await?;
        // Refused, so not carried out: perhaps a credential was replaced.
        if is_refused(response.status) && self.replace_credentials(&mut request.headers, &before).await {
            response = send_within_origin(&*self.http, request).await?;
        }
        if is_refused(response.status) {
            let challenges = challenges_of(&response.headers);
            self.headers.refused(CredentialRefusal { status: response.status, challenges, evidence });
        } else if response.status.is_success() && evidence == CredentialEvidence::Conclusive {
            self.headers.accepted();
        }
        Ok(response)
    }

    /// Reads the credentials again. Returns whether any header of a request that was sent with those of `before` is another one.
    async fn replace_credentials(&self, sent: &mut HeaderMap, before: &HeaderMap) -> bool {
        if self.headers.refresh().await.is_err() {
            return false;
        }
        let mut is_changed = false;
        for (name, value) in &*self.headers.current() {
            // The protocol's own headers win over the connector's.
            if before.get(name) != Some(value) && sent.get(name) == before.get(name) {
                sent.insert(name.clone(), value.clone());
                is_changed = true;
            }
        }
        is_changed
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
