//! Which proxy a request goes through, by the variables that programs share: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and
//! `NO_PROXY`, in upper or lower case.
//!
//! Loopback goes through none: a proxy's own loopback is another machine, and a request for this one's would hand it the
//! credentials of a local server.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

/// A proxy as people know it: its host and port, and the variable that names it. Never its user or password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyName(&'static str);

impl ProxyName {
    /// Names of proxies come from the environment, so that a process has few of them: each is kept once, for good.
    fn new(text: String) -> Self {
        static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(text.as_str()) {
            return Self(name);
        }
        let name: &'static str = Box::leak(text.into_boxed_str());
        names.insert(name);
        Self(name)
    }
}

impl fmt::Display for ProxyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A proxy and how to reach it.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) url: Url,
    pub(super) name: ProxyName,
}

/// The proxies of this process.
#[derive(Clone)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// What goes through a proxy at all.
    matcher: std::sync::Arc<Matcher>,
}

impl Proxies {
    /// Reads the variables of this process.
    pub(super) fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    pub(super) fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)))
        };
        // A server that runs programs for requests (CGI) hands a header of its client on as HTTP_PROXY (httpoxy.org).
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let http = if is_cgi { None } else { first(&["HTTP_PROXY", "http_proxy"]) };
        let all = || first(&["ALL_PROXY", "all_proxy"]);
        let http = http.or_else(all).and_then(|(name, value)| proxy(name, &value));
        let https = first(&["HTTPS_PROXY", "https_proxy"]).or_else(all).and_then(|(name, value)| proxy(name, &value));
        let direct = first(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        // Which proxy it is, is looked up here: the matcher knows what goes directly.
        let matcher = Matcher::builder().all("http://proxy.invalid".to_owned()).no(direct).build();
        Self { http, https, matcher: std::sync::Arc::new(matcher) }
    }

    /// Returns the proxy that requests to a URL go through; none if they go directly.
    pub(super) fn find(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let uri: http::Uri = url.as_str().parse().ok()?;
        (!is_loopback(url) && self.matcher.intercept(&uri).is_some()).then_some(proxy)
    }
}

fn proxy(variable: &str, value: &str) -> Option<Proxy> {
    let url = if value.contains("://") { Url::parse(value) } else { Url::parse(&format!("http://{value}")) };
    let url = url.ok()?;
    let address = format!("{}:{}", url.host_str()?, url.port_or_known_default().unwrap_or(80));
    Some(Proxy { name: ProxyName::new(format!("{address} of {variable}")), url })
}

/// Whether a URL names this machine: `localhost` and names below it (RFC 6761, 6.3), 127.0.0.0/8 and ::1.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|mapped| mapped.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &'static [(&str, &str)]) -> Proxies {
        Proxies::new(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn name(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.find(&url.parse().unwrap()).map(|proxy| proxy.name.to_string())
    }

    #[test]
    fn loopback_goes_directly_whatever_the_variables_are() {
        let all = proxies(&[("HTTP_PROXY", "http://p:1"), ("https_proxy", "http://p:2"), ("ALL_PROXY", "http://p:3")]);
        for host in ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
        {
            for scheme in ["http", "https"] {
                assert_eq!(name(&all, &format!("{scheme}://{host}:8080/mcp")), None, "{scheme} {host}");
            }
        }
        for host in ["localhost.example", "notlocalhost", "128.0.0.1", "[::2]", "10.0.0.1"] {
            assert!(name(&all, &format!("http://{host}/")).is_some(), "{host}");
        }
    }

    #[test]
    fn a_proxy_is_named_by_its_variable_and_without_its_password() {
        for (variables, url, expected) in [
            (
                &[("HTTP_PROXY", "http://u:secret@proxy.corp:3128/")][..],
                "http://a.example/",
                Some("proxy.corp:3128 of HTTP_PROXY"),
            ),
            (&[("http_proxy", "proxy.corp:3128")], "http://a.example/", Some("proxy.corp:3128 of http_proxy")),
            (&[("HTTP_PROXY", "http://p:1")], "https://a.example/", None),
            (&[("HTTPS_PROXY", "https://p")], "https://a.example/", Some("p:443 of HTTPS_PROXY")),
            (&[("all_proxy", "http://p")], "https://a.example/", Some("p:80 of all_proxy")),
            (&[("HTTP_PROXY", ""), ("ALL_PROXY", "http://p")], "http://a.example/", Some("p:80 of ALL_PROXY")),
            (&[("HTTP_PROXY", "http://p"), ("REQUEST_METHOD", "GET")], "http://a.example/", None),
            (&[("ALL_PROXY", "http://p"), ("NO_PROXY", "a.example,10.0.0.0/8")], "http://x.a.example/", None),
            (&[("ALL_PROXY", "http://p"), ("NO_PROXY", "a.example,10.0.0.0/8")], "http://10.1.2.3/", None),
            (&[("ALL_PROXY", "http://p"), ("no_proxy", "*")], "https://b.example/", None),
            (&[("ALL_PROXY", "http://p"), ("NO_PROXY", "a.example")], "https://b.example/", Some("p:80 of ALL_PROXY")),
        ] {
            let found = Proxies::new(|key| {
                variables.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(name(&found, url).as_deref(), expected, "{variables:?} {url}");
        }
    }
}
