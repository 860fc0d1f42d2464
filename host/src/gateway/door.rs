//! The door: who may speak to the gateway at all. Checked for every route but the health checks.
//!
//! `Host` and `Origin` are checked against allow-lists, which is what stops a web page from reaching a gateway on its
//! visitor's machine (DNS rebinding, RUSTSEC-2026-0189). Once tokens are configured, everybody needs one; they are
//! compared as hashes, all of them in constant time, and never logged: their names are. A token may show a part of the
//! gateway only ([`View`]); what tells of the whole (`/status`, `/metrics`, `/sync`) is then refused, except to an admin: how
//! the connectors that it sees stand is told with every list.
//!
//! Who changes the gateway must show more: a token with `admin = true`; where there are no tokens, a connection from this
//! very machine, which no proxy passed on and no web page made. A reverse proxy on this machine connects from it for
//! everybody: whoever runs one needs tokens, because not every proxy says that it is one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use url::Url;

use super::connections::CameInBy;
use super::embed::Gateway;
use super::grants::Grants;
use super::metrics::RequestRefusal;
use super::visitor::Visitor;
use crate::catalog::{View, ViewRules};
use crate::config::{Settings, Token};
use crate::model::Digest;
use crate::telemetry::Label as _;

/// The door of a gateway that listens somewhere. It follows the configuration.
pub(super) struct Door {
    gateway: Gateway,
    listen: SocketAddr,
    /// The rules of the configuration in force, and which one that was.
    rules: ArcSwap<(Arc<Settings>, Rules)>,
}

/// Who may come in.
#[derive(Debug)]
struct Rules {
    hosts: Vec<String>,
    origins: Vec<String>,
    tokens: Vec<Known>,
}

/// A token, and what it shows.
#[derive(Debug)]
struct Known {
    token: Token,
    name: Arc<str>,
    view: View,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    RepeatedHeader,
    Host,
    Origin,
    /// No token was sent.
    Token,
    /// A token was sent that is not known.
    UnknownToken,
    NoAdmin,
    Part,
    NotLocal,
    Proxied,
    Page,
}

impl Refused {
    /// What is answered: a status, the class of the reason, and what to do.
    fn told(self) -> (StatusCode, RequestRefusal, &'static str) {
        match self {
            Self::RepeatedHeader => (
                StatusCode::BAD_REQUEST,
                RequestRefusal::RepeatedHeader,
                "Host and Origin may be sent once only (RFC 9112, section 3.2)",
            ),
            Self::Host => (
                StatusCode::FORBIDDEN,
                RequestRefusal::Host,
                "this Host is not served; add it to allowed-hosts in gateway.toml",
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                RequestRefusal::Origin,
                "this Origin may not use the gateway; add it to allowed-origins in gateway.toml",
            ),
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                RequestRefusal::Token,
                "a known bearer token is needed in the Authorization header",
            ),
            Self::UnknownToken => (
                StatusCode::UNAUTHORIZED,
                RequestRefusal::Token,
                "the bearer token in the Authorization header is not known; use one that a [[token]] in gateway.toml allows",
            ),
            Self::NoAdmin => (
                StatusCode::FORBIDDEN,
                RequestRefusal::Admin,
                "this token may not change the gateway; give it admin = true in gateway.toml",
            ),
            Self::Part => (
                StatusCode::FORBIDDEN,
                RequestRefusal::Part,
                "this token sees a part of the gateway only, and this tells of all of it; how the connectors that it sees \
                 stand is told with every list. Use a token without connectors, tools and deny-tools, or one with \
                 admin = true",
            ),
            Self::NotLocal => (
                StatusCode::FORBIDDEN,
                RequestRefusal::NotLocal,
                "only this machine may change the gateway; from elsewhere, configure a [[token]] with admin = true",
            ),
            Self::Proxied => (
                StatusCode::FORBIDDEN,
                RequestRefusal::Proxied,
                "a proxy passed this request on, so that nobody knows where it comes from; to change the gateway \
                 through a proxy, configure a [[token]] with admin = true",
            ),
            Self::Page => (
                StatusCode::FORBIDDEN,
                RequestRefusal::Page,
                "a web page (Origin) may not change the gateway without a token; configure a [[token]] with \
                 admin = true",
            ),
        }
    }
}

/// Whether whoever made a request may change the gateway. Every request that passed the door bears it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayChange(Result<(), Refused>);

impl MayChange {
    /// Whoever started the process, and speaks to it on its pipes.
    pub(super) fn owner() -> Self {
        Self(Ok(()))
    }

    /// Why not, if so: the class of the reason, and what to do.
    pub(super) fn refusal(self) -> Option<(RequestRefusal, &'static str)> {
        let (_, reason, message) = self.0.err()?.told();
        Some((reason, message))
    }
}

/// What proxies add to a request: RFC 7239, RFC 9110 (7.6.3), RFC 8586, and what nginx, Envoy, HAProxy and their like add.
const PROXY_HEADERS: [&str; 11] = [
    "forwarded",
    "via",
    "cdn-loop",
    "true-client-ip",
    "incap-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
    "x-sucuri-clientip",
    "x-cloud-trace-context",
    "x-scheme",
];

/// How the names of further ones begin: several proxies, Envoy, AWS, Google, Azure, Cloudflare, Fly, Fastly, Akamai, Vercel,
/// Netlify, Tailscale, ngrok.
const PROXY_PREFIXES: [&str; 18] = [
    "x-forwarded",
    "x-original-",
    "x-envoy-",
    "x-amzn-",
    "x-amz-cf-",
    "x-appengine-",
    "x-goog-",
    "x-azure-",
    "x-arr-",
    "cf-",
    "fly-",
    "fastly-",
    "akamai-",
    "x-akamai-",
    "x-vercel-",
    "x-nf-",
    "tailscale-",
    "ngrok-",
];

impl Door {
    /// The door of a gateway that listens on `listen`.
    pub(super) fn new(gateway: Gateway, listen: SocketAddr) -> Self {
        let settings = gateway.settings();
        let rules = ArcSwap::from_pointee((settings.clone(), Rules::new(&settings, listen)));
        Self { gateway, listen, rules }
    }

    /// Whether a page may use the gateway, as far as that depends on where it is from; if not, what it is answered.
    pub(super) fn admits_page(&self, request: &Request) -> Result<(), Box<Response>> {
        let judged = self.rules().1.judge_page(request.headers());
        judged.map_err(|refused| Box::new(self.refuse(refused, None, request)))
    }

    /// Whether what a page is answered may be shown to it.
    pub(super) fn knows_page(&self, headers: &HeaderMap) -> bool {
        self.rules().1.judge_page(headers).is_ok()
    }

    /// Turns somebody away.
    fn refuse(&self, refused: Refused, token: Option<&str>, request: &Request) -> Response {
        let (status, reason, message) = refused.told();
        if let Some(line) = self.gateway.inner.parts.metrics.request_refused(reason) {
            let (reason, path, left_out) = (reason.value(), request.uri().path(), line.left_out);
            tracing::warn!(reason, token, path, left_out, "request refused at the door");
        }
        let mut response = (status, message).into_response();
        // RFC 6750, section 3: the challenge of a request without a token names no error.
        let challenge = match refused {
            Refused::Token => "Bearer",
            Refused::UnknownToken => "Bearer error=\"invalid_token\"",
            _ => return response,
        };
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        response
    }

    /// The rules of the configuration in force.
    fn rules(&self) -> Arc<(Arc<Settings>, Rules)> {
        let settings = self.gateway.settings();
        let known = self.rules.load_full();
        if Arc::ptr_eq(&known.0, &settings) {
            return known;
        }
        let rules = Arc::new((settings.clone(), Rules::new(&settings, self.listen)));
        self.rules.store(rules.clone());
        rules
    }
}

impl Rules {
    fn new(settings: &Settings, listen: SocketAddr) -> Self {
        let mut hosts: Vec<String> = settings.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.push(listen.to_string());
        hosts.push(match listen.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            // As it stands in a URL, and hence in `Host`.
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        let origins = settings.allowed_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect();
        Self { hosts, origins, tokens: known(&settings.tokens) }
    }

    /// Whether a request may be listened to at all, whoever makes it: what a page may know before it shows a token.
    fn judge_way(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if [HOST, ORIGIN].iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
            return Err(Refused::RepeatedHeader);
        }
        if !self.knows_host(text(headers.get(HOST)).unwrap_or_default()) {
            return Err(Refused::Host);
        }
        if let Some(origin) = headers.get(ORIGIN)
            && !text(Some(origin)).is_some_and(|origin| self.knows_origin(origin))
        {
            return Err(Refused::Origin);
        }
        Ok(())
    }

    /// Whether a page may be shown what it is answered. Where there are no tokens, a page of this machine is not enough: what
    /// merely appears on loopback (a tunnel, a container's port, a script in somebody's application) would have every tool.
    fn judge_page(&self, headers: &HeaderMap) -> Result<(), Refused> {
        self.judge_way(headers)?;
        let listed =
            text(headers.get(ORIGIN)).is_some_and(|origin| self.origins.contains(&origin.to_ascii_lowercase()));
        if listed || !self.tokens.is_empty() { Ok(()) } else { Err(Refused::Origin) }
    }

    fn judge(&self, headers: &HeaderMap) -> Result<Option<&Known>, Refused> {
        self.judge_way(headers)?;
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let shown = text(headers.get(AUTHORIZATION)).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let shown = Digest::of(shown.ok_or(Refused::Token)?.as_bytes());
        self.token_of(&shown).map(Some).ok_or(Refused::UnknownToken)
    }

    /// The token of that hash. All of them are compared, each in the same time, whichever it is.
    fn token_of(&self, shown: &Digest) -> Option<&Known> {
        let mut found = 0u64;
        for (number, known) in (1..).zip(&self.tokens) {
            found.conditional_assign(&number, known.token.sha256.bytes().ct_eq(shown.bytes()));
        }
        usize::try_from(found).ok()?.checked_sub(1).and_then(|position| self.tokens.get(position))
    }

    /// Who makes a request, if that may come in.
    fn visitor(&self, request: &Request, grants: &Grants) -> Result<Visitor, Refused> {
        let known = self.judge(request.headers())?;
        let right = may_change(known.map(|known| &known.token), request.headers(), peer(request));
        Ok(Visitor {
            token: known.map(|known| known.name.clone()),
            calls_per_minute: known.and_then(|known| known.token.calls_per_minute),
            right: MayChange(right),
            view: known.map_or_else(View::everything, |known| known.view.clone()),
            grant: grants.end_of(known.map(|known| &known.token)),
        })
    }

    fn knows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        is_loopback(without_port(&host))
            || self.hosts.iter().any(|known| *known == host || known == without_port(&host))
    }

    fn knows_origin(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let loopback = Url::parse(&origin)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(is_loopback));
        loopback || self.origins.contains(&origin)
    }
}

/// The tokens with what they show, which is nobody else's.
fn known(tokens: &[Token]) -> Vec<Known> {
    let known = tokens.iter().map(|token| Known {
        token: token.clone(),
        name: token.name.as_str().into(),
        view: View::of(view_rules(token)).of_a_token(),
    });
    known.collect()
}

/// What a token is limited to.
pub(super) fn view_rules(token: &Token) -> ViewRules {
    ViewRules { connectors: token.connectors.clone(), tools: token.tools.clone(), deny_tools: token.deny_tools.clone() }
}

/// Whether who came in may also change the gateway.
fn may_change(token: Option<&Token>, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<(), Refused> {
    match token {
        Some(token) if token.admin => Ok(()),
        Some(_) => Err(Refused::NoAdmin),
        None if peer.is_none_or(|peer| !peer.ip().to_canonical().is_loopback()) => Err(Refused::NotLocal),
        None if is_proxied(headers) => Err(Refused::Proxied),
        // Also one of this machine: any program on it may serve pages.
        None if headers.contains_key(ORIGIN) => Err(Refused::Page),
        None => Ok(()),
    }
}

fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0)
}

/// The middleware of routes that serve. What they do may depend on the [`Visitor`].
pub(super) async fn guard(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let rules = door.rules();
    match rules.1.visitor(&request, &door.gateway.inner.grants) {
        Ok(visitor) => enter(visitor, request, next).await,
        Err(refused) => door.refuse(refused, None, &request),
    }
}

/// The middleware of routes that tell of everything.
pub(super) async fn guard_whole(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let rules = door.rules();
    match rules.1.visitor(&request, &door.gateway.inner.grants) {
        // A simple POST reaches a server without asking first (Fetch standard, "CORS-safelisted method"), so that a page
        // that could not read the answer could force a refresh.
        Ok(visitor)
            if visitor.token.is_none()
                && !request.method().is_safe()
                && request.headers().contains_key(ORIGIN)
                && rules.1.judge_page(request.headers()).is_err() =>
        {
            door.refuse(Refused::Page, None, &request)
        }
        Ok(visitor) if visitor.sees_the_whole() => enter(visitor, request, next).await,
        Ok(visitor) => door.refuse(Refused::Part, visitor.token.as_deref(), &request),
        Err(refused) => door.refuse(refused, None, &request),
    }
}

/// The middleware of a route that shows less without a token: what is then passed on bears no [`Visitor`].
pub(super) async fn guard_origin(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let rules = door.rules();
    match rules.1.visitor(&request, &door.gateway.inner.grants) {
        Ok(visitor) => enter(visitor, request, next).await,
        Err(Refused::Token | Refused::UnknownToken) => next.run(request).await,
        Err(refused) => door.refuse(refused, None, &request),
    }
}

/// The middleware of routes that change the gateway.
pub(super) async fn guard_admin(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let rules = door.rules();
    match rules.1.visitor(&request, &door.gateway.inner.grants) {
        Ok(visitor) => match visitor.right.0 {
            Ok(()) => enter(visitor, request, next).await,
            Err(refused) => door.refuse(refused, visitor.token.as_deref(), &request),
        },
        Err(refused) => door.refuse(refused, None, &request),
    }
}

async fn enter(visitor: Visitor, mut request: Request, next: Next) -> Response {
    if let Some(token) = &visitor.token {
        tracing::debug!(token = &**token, path = request.uri().path(), "request");
    }
    if let Some(connection) = request.extensions().get::<CameInBy>() {
        connection.admit();
    }
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

fn is_proxied(headers: &HeaderMap) -> bool {
    let is_proxys =
        |name: &str| PROXY_HEADERS.contains(&name) || PROXY_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    headers.keys().any(|name| is_proxys(name.as_str()))
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok() => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    host == "localhost"
        || literal.is_some_and(|literal| literal.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()))
        || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
