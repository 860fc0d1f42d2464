//! One server's endpoint: POST and DELETE with the headers that every request has.
//!
//! Nothing of the protocol is understood here. Redirects are followed within the origin only, so that the connector's
//! headers never reach another one.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::edge::http::{Http, HttpError, Request, Response, send_within_origin};
use crate::mcp::limits::TIDYING_DEADLINE;
use crate::mcp::protocol::{ACCEPT_BOTH, JSON_TYPE};

/// Where a server is, and how it is reached.
#[derive(Clone)]
pub(super) struct Transport {
    http: Arc<dyn Http>,
    endpoint: Url,
    headers: HeaderMap,
    /// Work that no request waits for: whoever closes the upstream does.
    tidying: TaskTracker,
    given_up: CancellationToken,
}

impl Transport {
    pub(super) fn new(http: Arc<dyn Http>, endpoint: Url, headers: HeaderMap) -> Self {
        Self { http, endpoint, headers, tidying: TaskTracker::new(), given_up: CancellationToken::new() }
    }

    /// Lets work that nobody waits for now run for at most [`TIDYING_DEADLINE`]. Outside of a runtime it is not done.
    pub(super) fn in_background<T>(&self, work: impl Future<Output = T> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let given_up = self.given_up.clone();
            let bounded = async move {
                tokio::select! {
                    biased;
                    () = given_up.cancelled() => {}
                    _ = tokio::time::timeout(TIDYING_DEADLINE, work) => {}
                }
            };
            self.tidying.spawn_on(bounded, &runtime);
        }
    }

    /// Waits for what runs in the background, for so long; the rest is given up, and so is what would come later.
    pub(super) async fn tidied(&self, limit: Duration) {
        self.tidying.close();
        // What is late is given up below.
        let _ = tokio::time::timeout(limit, self.tidying.wait()).await;
        self.given_up.cancel();
        self.tidying.wait().await;
    }

    /// Posts one message. The protocol's headers win over the connector's.
    pub(super) async fn post(&self, more: &HeaderMap, body: Bytes) -> Result<Response, HttpError> {
        let mut headers = self.headers.clone();
        replace(&mut headers, more);
        headers.insert(header::ACCEPT, ACCEPT_BOTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
        self.send(Method::POST, headers, body).await
    }

    /// Deletes what `more` names.
    pub(super) async fn delete(&self, more: &HeaderMap) -> Result<Response, HttpError> {
        let mut headers = self.headers.clone();
        replace(&mut headers, more);
        self.send(Method::DELETE, headers, Bytes::new()).await
    }

    async fn send(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Response, HttpError> {
        let request = Request { method, url: self.endpoint.clone(), headers, body };
        send_within_origin(&*self.http, request).await
    }
}

impl fmt::Debug for Transport {
    /// Neither headers nor the URL's query.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Transport({})", self.endpoint.origin().ascii_serialization())
    }
}

fn replace(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.insert(name.clone(), value.clone());
    }
}
