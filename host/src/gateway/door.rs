//! The door: who may speak to the gateway at all. Checked for every route but the health checks.
//!
//! `Host` and `Origin` are checked against allow-lists, which is what stops a web page from reaching a gateway on its
//! visitor's machine (DNS rebinding, RUSTSEC-2026-0189). Once tokens are configured, everybody needs one; they are
//! compared as hashes, in constant time, and never logged: their names are.
//!
//! Who changes the gateway must show more: a token with `admin = true`; where there are no tokens, a connection from this
//! very machine, which no proxy passed on and no web page made. A reverse proxy on this machine connects from it for
//! everybody: whoever runs one needs tokens, because not every proxy says that it is one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::embed::Gateway;
use crate::config::{Settings, Token};
use crate::model::Digest;

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
    tokens: Vec<Token>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Host,
    Origin,
    Token,
    NoAdmin,
    NotLocal,
    Proxied,
    Page,
}

impl Refused {
    /// What is answered: a status, the class of the reason, and what to do.
    fn told(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Host => {
                (StatusCode::FORBIDDEN, "host", "this Host is not served; add it to allowed-hosts in gateway.toml")
            }
            Self::Origin => (
                StatusCode::FORBIDDEN,
                "origin",
                "this Origin may not use the gateway; add it to allowed-origins in gateway.toml",
            ),
            Self::Token => {
                (StatusCode::UNAUTHORIZED, "token", "a known bearer token is needed in the Authorization header")
            }
            Self::NoAdmin => (
                StatusCode::FORBIDDEN,
                "admin",
                "this token may not change the gateway; give it admin = true in gateway.toml",
            ),
            Self::NotLocal => (
                StatusCode::FORBIDDEN,
                "not-local",
                "only this machine may change the gateway; from elsewhere, configure a [[token]] with admin = true",
            ),
            Self::Proxied => (
                StatusCode::FORBIDDEN,
                "proxied",
                "a proxy passed this request on, so that nobody knows where it comes from; to change the gateway \
                 through a proxy, configure a [[token]] with admin = true",
            ),
            Self::Page => (
                StatusCode::FORBIDDEN,
                "page",
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
    /// Why not, if so: the class of the reason, and what to do.
    pub(super) fn refusal(self) -> Option<(&'static str, &'static str)> {
        let (_, reason, message) = self.0.err()?.told();
        Some((reason, message))
    }
}

/// What proxies add to a request, besides everything that begins with [`FORWARDED`].
const PROXY_HEADERS: [&str; 7] =
    ["forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip"];

/// How the names of further such headers begin.
const FORWARDED: &str = "x-forwarded";

impl Door {
    /// The door of a gateway that listens on `listen`.
    pub(super) fn new(gateway: Gateway, listen: SocketAddr) -> Self {
        let settings = gateway.settings();
        let rules = ArcSwap::from_pointee((settings.clone(), Rules::new(&settings, listen)));
        Self { gateway, listen, rules }
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
        Self { hosts, origins, tokens: settings.tokens.clone() }
    }

    fn judge(&self, headers: &HeaderMap) -> Result<Option<&Token>, Refused> {
        if !self.knows_host(text(headers.get(HOST)).unwrap_or_default()) {
            return Err(Refused::Host);
        }
        if let Some(origin) = headers.get(ORIGIN)
            && !text(Some(origin)).is_some_and(|origin| self.knows_origin(origin))
        {
            return Err(Refused::Origin);
        }
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let shown = text(headers.get(AUTHORIZATION)).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let shown = Digest::of(shown.ok_or(Refused::Token)?.as_bytes());
        // Comparing digests of what was shown tells nothing about the tokens, however long it takes.
        self.tokens.iter().find(|token| token.sha256 == shown).map(Some).ok_or(Refused::Token)
    }

    /// Whether somebody may change the gateway.
    fn judge_admin(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Option<&Token>, Refused> {
        let token = self.judge(headers)?;
        may_change(token, headers, peer)?;
        Ok(token)
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

/// The middleware of routes that serve. What they do may depend on [`MayChange`].
pub(super) async fn guard(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let rules = door.rules();
    let judged = rules.1.judge(request.headers());
    if let Ok(token) = judged {
        let right = MayChange(may_change(token, request.headers(), peer(&request)));
        request.extensions_mut().insert(right);
    }
    enter(&door, judged, request, next).await
}

/// The middleware of routes that change the gateway.
pub(super) async fn guard_admin(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let rules = door.rules();
    let judged = rules.1.judge_admin(request.headers(), peer(&request));
    enter(&door, judged, request, next).await
}

async fn enter(door: &Door, judged: Result<Option<&Token>, Refused>, request: Request, next: Next) -> Response {
    match judged {
        Ok(token) => {
            if let Some(token) = token {
                tracing::debug!(token = token.name, path = request.uri().path(), "request");
            }
            next.run(request).await
        }
        Err(refused) => {
            let (status, reason, message) = refused.told();
            door.gateway.inner.parts.metrics.request_refused(reason);
            tracing::warn!(reason, path = request.uri().path(), "request refused at the door");
            let mut response = (status, message).into_response();
            if refused == Refused::Token {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

fn is_proxied(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| PROXY_HEADERS.contains(&name.as_str()) || name.as_str().starts_with(FORWARDED))
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn door(change: impl FnOnce(&mut Settings)) -> Rules {
        let mut settings = Settings::from_environment(&Environment::default()).unwrap();
        change(&mut settings);
        Rules::new(&settings, "192.0.2.7:8420".parse().unwrap())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_known_hosts_are_served() {
        let door = door(|settings| settings.allowed_hosts = vec!["Gateway.example".into()]);
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:8420",
            "127.9.9.9",
            "[::1]:80",
            "192.0.2.7:8420",
            "192.0.2.7",
            "gateway.example",
            "gateway.example:443",
        ] {
            assert_eq!(door.judge(&headers(&[("host", host)])), Ok(None), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::2]"] {
            assert_eq!(door.judge(&headers(&[("host", host)])), Err(Refused::Host), "{host}");
        }
        assert_eq!(door.judge(&HeaderMap::new()), Err(Refused::Host));
    }

    #[test]
    fn a_listen_address_is_known_with_every_port_in_both_families() {
        let settings = Settings::from_environment(&Environment::default()).unwrap();
        for (listen, hosts) in [
            ("192.0.2.7:8420", ["192.0.2.7", "192.0.2.7:8420", "192.0.2.7:9000"]),
            ("[fd00::1]:8420", ["[fd00::1]", "[fd00::1]:8420", "[fd00::1]:9000"]),
        ] {
            let rules = Rules::new(&settings, listen.parse().unwrap());
            for host in hosts {
                assert_eq!(rules.judge(&headers(&[("host", host)])), Ok(None), "{host} on {listen}");
            }
        }
    }

    #[test]
    fn only_known_origins_are_served() {
        let door = door(|settings| settings.allowed_origins = vec!["https://app.example".into()]);
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:1", "https://APP.example"] {
            assert_eq!(door.judge(&headers(&[("host", "localhost"), ("origin", origin)])), Ok(None), "{origin}");
        }
        for origin in ["https://evil.example", "null", "https://app.example.evil", "file://localhost"] {
            let judged = door.judge(&headers(&[("host", "localhost"), ("origin", origin)]));
            assert_eq!(judged, Err(Refused::Origin), "{origin}");
        }
    }

    #[test]
    fn once_tokens_are_configured_everybody_needs_one() {
        let token = Token { name: "agent".into(), sha256: Digest::of(b"secret"), admin: false };
        let door = door(|settings| settings.tokens = vec![token.clone()]);
        for (authorization, expected) in [
            ("Bearer secret", Ok(Some(&token))),
            ("bearer secret", Ok(Some(&token))),
            ("Bearer other", Err(Refused::Token)),
            ("Basic secret", Err(Refused::Token)),
            ("secret", Err(Refused::Token)),
        ] {
            let headers = headers(&[("host", "localhost"), ("authorization", authorization)]);
            assert_eq!(door.judge(&headers), expected, "{authorization}");
        }
        assert_eq!(door.judge(&headers(&[("host", "localhost")])), Err(Refused::Token));
    }

    #[test]
    fn who_changes_the_gateway_is_an_admin_or_on_this_machine() {
        let token = |name: &str, admin| Token { name: name.into(), sha256: Digest::of(name.as_bytes()), admin };
        let (agent, admin) = (token("agent", false), token("admin", true));
        let with_tokens = door(|settings| settings.tokens = vec![agent, admin.clone()]);
        let peer = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        let shown = |token: &str| headers(&[("host", "localhost"), ("authorization", &format!("Bearer {token}"))]);
        for peer in [None, peer("127.0.0.1:1"), peer("192.0.2.9:1")] {
            assert_eq!(with_tokens.judge_admin(&shown("admin"), peer), Ok(Some(&admin)));
            assert_eq!(with_tokens.judge_admin(&shown("agent"), peer), Err(Refused::NoAdmin));
            assert_eq!(with_tokens.judge_admin(&shown("other"), peer), Err(Refused::Token));
        }
        let without = door(|_| {});
        let nobody = headers(&[("host", "localhost")]);
        for local in ["127.0.0.1:1", "[::1]:1"] {
            assert_eq!(without.judge_admin(&nobody, peer(local)), Ok(None));
        }
        for elsewhere in [None, peer("192.0.2.9:1")] {
            assert_eq!(without.judge_admin(&nobody, elsewhere), Err(Refused::NotLocal));
        }
        assert_eq!(without.judge_admin(&headers(&[("host", "evil.example")]), peer("127.0.0.1:1")), Err(Refused::Host));
    }

    #[test]
    fn without_tokens_neither_a_proxy_nor_a_page_of_this_machine_changes_the_gateway() {
        let admin = Token { name: "admin".into(), sha256: Digest::of(b"admin"), admin: true };
        let (without, with) = (door(|_| {}), door(|settings| settings.tokens = vec![admin.clone()]));
        let local = Some("127.0.0.1:1".parse::<SocketAddr>().unwrap());
        for (name, value, refused) in [
            ("forwarded", "for=192.0.2.60", Refused::Proxied),
            ("x-forwarded-for", "192.0.2.60", Refused::Proxied),
            ("x-forwarded-proto", "https", Refused::Proxied),
            ("x-real-ip", "127.0.0.1", Refused::Proxied),
            ("via", "1.1 proxy", Refused::Proxied),
            ("cf-connecting-ip", "192.0.2.60", Refused::Proxied),
            ("origin", "http://localhost:3000", Refused::Page),
            ("origin", "http://127.0.0.1:8420", Refused::Page),
        ] {
            let plain = headers(&[("host", "localhost"), (name, value)]);
            assert_eq!(without.judge_admin(&plain, local), Err(refused), "{name}: {value}");
            assert_eq!(without.judge(&plain), Ok(None), "what does not change it is not concerned: {name}");
            let shown = headers(&[("host", "localhost"), (name, value), ("authorization", "Bearer admin")]);
            assert_eq!(with.judge_admin(&shown, local), Ok(Some(&admin)), "a token is worth more: {name}");
        }
    }
}
