//! The door: who may speak to the gateway at all. Checked for every route but the health checks.
//!
//! `Host` and `Origin` are checked against allow-lists, which is what stops a web page from reaching a gateway on its
//! visitor's machine (DNS rebinding, RUSTSEC-2026-0189). Once tokens are configured, everybody needs one; they are
//! compared as hashes, in constant time, and never logged: their names are.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use crate::config::{Settings, Token};
use crate::model::Digest;
use crate::telemetry::Metrics;

/// Who may come in.
#[derive(Debug)]
pub(super) struct Door {
    hosts: Vec<String>,
    origins: Vec<String>,
    tokens: Vec<Token>,
    metrics: Arc<Metrics>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Host,
    Origin,
    Token,
}

impl Door {
    /// The door of a gateway that listens on `listen`.
    pub(super) fn new(settings: &Settings, listen: SocketAddr, metrics: Arc<Metrics>) -> Self {
        let mut hosts: Vec<String> = settings.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        hosts.push(listen.to_string());
        hosts.push(listen.ip().to_string());
        let origins = settings.allowed_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect();
        Self { hosts, origins, tokens: settings.tokens.clone(), metrics }
    }

    fn judge(&self, headers: &HeaderMap) -> Result<Option<&str>, Refused> {
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
        let known = self.tokens.iter().find(|token| token.sha256 == shown);
        known.map(|token| Some(token.name.as_str())).ok_or(Refused::Token)
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

/// The middleware.
pub(super) async fn guard(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.judge(request.headers()) {
        Ok(name) => {
            if let Some(name) = name {
                tracing::debug!(token = name, path = request.uri().path(), "request");
            }
            next.run(request).await
        }
        Err(refused) => {
            let (status, reason, message) = match refused {
                Refused::Host => {
                    (StatusCode::FORBIDDEN, "host", "this Host is not served; add it to allowed-hosts in gateway.toml")
                }
                Refused::Origin => (
                    StatusCode::FORBIDDEN,
                    "origin",
                    "this Origin may not use the gateway; add it to allowed-origins in gateway.toml",
                ),
                Refused::Token => {
                    (StatusCode::UNAUTHORIZED, "token", "a known bearer token is needed in the Authorization header")
                }
            };
            door.metrics.request_refused(reason);
            tracing::warn!(reason, path = request.uri().path(), "request refused at the door");
            let mut response = (status, message).into_response();
            if refused == Refused::Token {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
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
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn door(change: impl FnOnce(&mut Settings)) -> Door {
        let mut settings = Settings::from_environment(&Environment::default()).unwrap();
        change(&mut settings);
        Door::new(&settings, "192.0.2.7:8420".parse().unwrap(), Arc::new(Metrics::new()))
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
        let token = Token { name: "agent".into(), sha256: Digest::of(b"secret") };
        let door = door(|settings| settings.tokens = vec![token]);
        for (authorization, expected) in [
            ("Bearer secret", Ok(Some("agent"))),
            ("bearer secret", Ok(Some("agent"))),
            ("Bearer other", Err(Refused::Token)),
            ("Basic secret", Err(Refused::Token)),
            ("secret", Err(Refused::Token)),
        ] {
            let headers = headers(&[("host", "localhost"), ("authorization", authorization)]);
            assert_eq!(door.judge(&headers), expected, "{authorization}");
        }
        assert_eq!(door.judge(&headers(&[("host", "localhost")])), Err(Refused::Token));
    }
}
