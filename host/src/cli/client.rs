//! Speaking to a running gateway as its clients do: MCP for tools, plain HTTP for the admin routes.

use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use cortex_mcp::config::{Environment, Flags, Settings};
use cortex_mcp::edge::http::{Http, HttpOptions, Lane, Request, ReqwestHttp, within};
use cortex_mcp::mcp::{Declared, Era, Listed, Nobody, Outcome, Session, Upstream, WireError};
use cortex_mcp::model::raw::RawObject;
use cortex_mcp::model::redaction::mask_address;
use cortex_mcp::model::{Failure, ListKind};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use std::time::Duration;
use url::Url;

use super::error::CommandError;

/// Where the gateway is.
#[derive(Clone, Debug, Args)]
pub(crate) struct GatewayAddress {
    /// The gateway's endpoint; by default the one that the configuration names. A token is taken from
    /// CORTEX_GATEWAY_TOKEN.
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
}

/// A gateway that runs elsewhere.
pub(crate) struct RemoteGateway {
    http: Arc<dyn Http>,
    endpoint: Url,
    headers: HeaderMap,
}

/// How long a list of tools may take: a gateway answers it from memory, or waits a moment for its first connectors.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call of a tool may take; a gateway gives up on its own long before, unless it is told otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long an answer of the admin routes may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a sync may take.
const SYNC_TIMEOUT: Duration = Duration::from_secs(300);

/// How much of a refusal is told.
const ERROR_BYTES_MAX: usize = 1_000;

/// How long a swap may take: the gateway compiles the policy first.
const SWAP_TIMEOUT: Duration = Duration::from_secs(90);

/// Largest answer of the admin routes.
const ADMIN_BYTES_MAX: usize = 64 << 20;

impl GatewayAddress {
    /// Whether the user names a gateway.
    pub(crate) fn is_named(&self) -> bool {
        self.url.is_some()
    }

    pub(crate) fn open(&self) -> Result<RemoteGateway, CommandError> {
        let environment = Environment::of_process();
        let (endpoint, options) = match &self.url {
            Some(url) if url.scheme() != "https" => (url.clone(), HttpOptions::default()),
            Some(url) => {
                // Whoever terminates TLS before a gateway may have its certificate from a private authority.
                let settings = Settings::resolve(&Flags::default(), &environment)?;
                (url.clone(), HttpOptions { roots: settings.private_roots()?, ..HttpOptions::default() })
            }
            None => {
                let settings = Settings::resolve(&Flags::default(), &environment)?;
                let text = format!("http://{}/mcp", settings.listen);
                let endpoint = Url::parse(&text).map_err(|error| CommandError::Usage(error.to_string()))?;
                (endpoint, HttpOptions::default())
            }
        };
        let mut headers = HeaderMap::new();
        if let Some(token) = environment.secret("CORTEX_GATEWAY_TOKEN")? {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut value = value.map_err(|_| CommandError::Usage("CORTEX_GATEWAY_TOKEN is no header value".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(RemoteGateway { http: Arc::new(ReqwestHttp::new(&options)?), endpoint, headers })
    }
}

impl RemoteGateway {
    /// The one at this endpoint, which asks for no token.
    pub(crate) fn at(endpoint: Url) -> Result<Self, CommandError> {
        Ok(Self { http: Arc::new(ReqwestHttp::new(&HttpOptions::default())?), endpoint, headers: HeaderMap::new() })
    }

    /// A session with it.
    pub(crate) async fn session(&self) -> Result<Session, CommandError> {
        let upstream = Upstream::new(self.http.clone(), self.endpoint.clone(), self.headers.clone());
        self.answer(LIST_TIMEOUT, upstream.open(Some(Era::Modern), &Declared::default())).await
    }

    /// One of its lists.
    pub(crate) async fn list(&self, session: &Session, kind: ListKind) -> Result<Listed, CommandError> {
        self.answer(LIST_TIMEOUT, session.list(kind)).await
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, session: &Session, params: RawObject) -> Result<Outcome, CommandError> {
        self.answer(CALL_TIMEOUT, session.request("tools/call", params, &Nobody)).await
    }

    async fn answer<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, CommandError> {
        within(limit, asked).await.map_err(|error| self.wire_error(&error))
    }

    /// The body of one of its admin routes.
    pub(crate) async fn admin(&self, method: Method, path: &str) -> Result<Bytes, CommandError> {
        let limit = if method == Method::POST { SYNC_TIMEOUT } else { ADMIN_TIMEOUT };
        self.ask(method, path, &[], None, limit).await
    }

    /// Deploys a policy.
    pub(crate) async fn swap(&self, query: &[(&str, &str)], component: Bytes) -> Result<Bytes, CommandError> {
        self.ask(Method::POST, "/policy", query, Some(("application/wasm", component)), SWAP_TIMEOUT).await
    }

    /// Deploys a policy that decided before. There is nothing to send; its type shows that no web page sends it.
    pub(crate) async fn swap_back(&self, query: &[(&str, &str)]) -> Result<Bytes, CommandError> {
        self.ask(Method::POST, "/policy/back", query, Some(("application/json", Bytes::new())), SWAP_TIMEOUT).await
    }

    /// Approves changed definitions.
    pub(crate) async fn approve(&self, approval: Bytes) -> Result<Bytes, CommandError> {
        let sent = Some(("application/json", approval));
        self.ask(Method::POST, "/definitions/approve", &[], sent, ADMIN_TIMEOUT).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        sent: Option<(&'static str, Bytes)>,
        limit: Duration,
    ) -> Result<Bytes, CommandError> {
        let mut url = self.endpoint.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut headers = self.headers.clone();
        let mut body = Bytes::new();
        if let Some((kind, content)) = sent {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            body = content;
        }
        let request = Request { method, url, headers, body, lane: Lane::Call };
        let answer = within(limit, async {
            let response = self.http.send(request).await?;
            let status = response.status;
            Ok::<_, Failure>((status, response.body.collect(ADMIN_BYTES_MAX).await?))
        });
        match answer.await {
            Ok((StatusCode::OK, body)) => Ok(body),
            Ok((status, body)) => {
                let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_BYTES_MAX)]).into_owned();
                Err(CommandError::Refused(format!("{status} {text}")))
            }
            Err(failure) => Err(self.no_gateway(&failure)),
        }
    }

    /// What a failed exchange means to a person.
    fn wire_error(&self, error: &WireError) -> CommandError {
        match error {
            WireError::Http(_) => self.no_gateway(&error.failure()),
            WireError::Rpc(rpc) => CommandError::Refused(rpc.message.clone()),
            other => CommandError::Refused(other.failure().message),
        }
    }

    fn no_gateway(&self, failure: &Failure) -> CommandError {
        let mut url = self.endpoint.clone();
        url.set_query(None);
        CommandError::NoGateway { url: mask_address(url.as_str()), reason: failure.message.clone() }
    }
}

#[cfg(test)]
mod tests {
    use cortex_mcp::edge::virtual_network::{Host, VirtualNetwork};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_never_answers_is_no_gateway_after_a_while() {
        let endpoint: Url = "http://127.0.0.1:8420/mcp".parse().unwrap();
        let network = VirtualNetwork::new();
        network.set(&endpoint, Host::Hang);
        let gateway = RemoteGateway { http: Arc::new(network), endpoint, headers: HeaderMap::new() };
        let began = Instant::now();
        let session = gateway.session().await.unwrap();
        let listed = gateway.list(&session, ListKind::Tools).await.map(drop);
        assert!(matches!(listed, Err(CommandError::NoGateway { .. })), "{listed:?}");
        assert_eq!(began.elapsed(), LIST_TIMEOUT);
        let called = gateway.call(&session, RawObject::new()).await.map(drop);
        assert!(matches!(called, Err(CommandError::NoGateway { .. })), "{called:?}");
        assert_eq!(began.elapsed(), LIST_TIMEOUT + CALL_TIMEOUT);
    }
}
