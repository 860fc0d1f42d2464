//! An in-memory network: origins answered by axum routers, without a socket, under virtual time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use tower::ServiceExt;
use url::Url;

use super::http::{Body, Http, HttpError, Request, Response};

/// What stands at an origin.
#[derive(Clone, Debug)]
pub enum Host {
    /// A server.
    Serve(Router),
    /// Nothing: connections are refused.
    Refuse,
    /// Something that accepts and never answers.
    Hang,
}

/// The network. An origin that nobody set does not resolve.
#[derive(Debug, Default)]
pub struct VirtualNetwork {
    hosts: Mutex<HashMap<String, Host>>,
}

impl VirtualNetwork {
    /// A network with nobody on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what stands at the origin of `url`, from the next request on.
    pub fn set(&self, url: &Url, host: Host) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(url.origin().ascii_serialization(), host);
    }

    fn host(&self, url: &Url) -> Option<Host> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.get(&url.origin().ascii_serialization()).cloned()
    }
}

impl Http for VirtualNetwork {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        Box::pin(async move {
            let router = match self.host(&request.url) {
                None => return Err(HttpError::Dns),
                Some(Host::Refuse) => return Err(HttpError::Connect),
                Some(Host::Hang) => std::future::pending().await,
                Some(Host::Serve(router)) => router,
            };
            let mut inner = http::Request::new(axum::body::Body::from(request.body));
            *inner.method_mut() = request.method;
            *inner.headers_mut() = request.headers;
            let path = &request.url[url::Position::BeforePath..url::Position::AfterQuery];
            *inner.uri_mut() = path.parse().map_err(|_| HttpError::Connect)?;
            if let Some(host) = request.url.host_str() {
                let authority = request.url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
                if let Ok(value) = authority.parse() {
                    inner.headers_mut().insert(http::header::HOST, value);
                }
            }
            // A router's error type is Infallible.
            let response = router.oneshot(inner).await.map_err(|_| HttpError::Broken)?;
            let (parts, body) = response.into_parts();
            let body = body.into_data_stream().map(|piece| piece.map_err(|_| HttpError::Broken));
            Ok(Response { status: parts.status, headers: parts.headers, body: Body::new(body), proxy: None })
        })
    }
}

/// Reads a body that an axum handler produced, whole.
///
/// # Errors
/// [`HttpError::Broken`] if the handler's stream fails.
pub async fn read_whole(body: axum::body::Body) -> Result<bytes::Bytes, HttpError> {
    Ok(body.collect().await.map_err(|_| HttpError::Broken)?.to_bytes())
}
