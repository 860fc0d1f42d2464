//! Servers that a registry should not name: the gateway itself, and addresses where clouds serve credentials.
//!
//! A gateway that is connected to itself serves its own tools again under longer names. The usual way there is to import the
//! configuration of a client that already knows the gateway. What passes here is caught when it is served: definitions carry
//! the gateways that they passed through, and link-local addresses are refused when a connection is made.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use url::{Host, Url};

use super::{RegistryEntry, Transport};
use crate::model::link_local::names_link_local;

/// Where a gateway can be reached.
#[derive(Clone, Debug)]
pub struct OwnAddresses {
    /// The addresses that it listens on, or is configured to.
    pub listen: Vec<SocketAddr>,
    /// Further hosts, with or without a port, that lead to it: `allowed-hosts`.
    pub hosts: Vec<String>,
    /// The name of this machine.
    pub machine: String,
    /// Whether an address is one of this machine.
    pub is_of_machine: fn(IpAddr) -> bool,
}

/// What an entry may not point at.
#[derive(Clone, Debug)]
pub struct TargetRules {
    /// The gateway itself.
    pub own: OwnAddresses,
    /// Whether link-local addresses are allowed: `allow-link-local`.
    pub allows_link_local: bool,
}

/// Why an entry should not be in a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    /// Its address, or one in its arguments.
    #[error("is this gateway itself ({address}), whose tools would be served again under longer names")]
    Own {
        /// Scheme, host and port.
        address: String,
    },
    /// Its command.
    #[error("starts this gateway itself, whose tools would be served again under longer names")]
    OwnCommand,
    /// Its address.
    #[error(
        "names a link-local address or a cloud's metadata service, which serves credentials; if it is meant, set \
         allow-link-local = true in gateway.toml"
    )]
    LinkLocal,
}

impl TargetFault {
    /// The field of the entry.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Own { .. } | Self::LinkLocal => "endpoint",
            Self::OwnCommand => "command",
        }
    }

    /// A word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Own { .. } | Self::OwnCommand => "own_address",
            Self::LinkLocal => "link_local",
        }
    }
}

impl TargetRules {
    /// Checks where an entry points.
    ///
    /// # Errors
    /// [`TargetFault`].
    pub fn check(&self, entry: &RegistryEntry) -> Result<(), TargetFault> {
        match &entry.transport {
            Ok(Transport::Http { endpoint, .. } | Transport::Sse { endpoint, .. }) => self.check_address(endpoint),
            Ok(Transport::Stdio { command, arguments, environment }) => {
                let starts_gateway = |text: &String| Path::new(text).file_name().is_some_and(|name| name == PROGRAM);
                let is_started = std::iter::once(command).chain(arguments).any(starts_gateway);
                // With a home of its own it is another gateway.
                let is_other = environment.contains_key("CORTEX_HOME") || environment.contains_key("XDG_CONFIG_HOME");
                if is_started && arguments.iter().any(|argument| argument == "serve") && !is_other {
                    return Err(TargetFault::OwnCommand);
                }
                // Programs that connect to an address for a client: `mcp-remote URL`.
                let urls = arguments.iter().filter_map(|argument| Url::parse(argument).ok());
                urls.filter(|url| matches!(url.scheme(), "http" | "https")).try_for_each(|url| self.check_address(&url))
            }
            Ok(Transport::WebSocket) | Err(_) => Ok(()),
        }
    }
}

impl TargetRules {
    fn check_address(&self, url: &Url) -> Result<(), TargetFault> {
        if !self.allows_link_local && names_link_local(url) {
            return Err(TargetFault::LinkLocal);
        }
        if self.own.contains(url) {
            return Err(TargetFault::Own { address: url.origin().ascii_serialization() });
        }
        Ok(())
    }
}

/// The name of the gateway's program.
const PROGRAM: &str = "cortex-mcp";

impl OwnAddresses {
    /// Whether a URL leads to the gateway.
    pub fn contains(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else { return false };
        let name = host.to_string().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let is_known = |known: &String| {
            let known = known.to_ascii_lowercase();
            known == name || known == format!("{name}:{port}")
        };
        let is_here = |listen: &&SocketAddr| listen.port() == port && self.reaches(&host, name, listen.ip());
        self.hosts.iter().any(is_known) || self.listen.iter().any(|listen| is_here(&listen))
    }

    /// Whether a host leads to what listens on an address of this machine.
    fn reaches(&self, host: &Host<&str>, name: &str, listen: IpAddr) -> bool {
        let address = match host {
            Host::Domain(_) => {
                let is_loopback = name == "localhost" || name.ends_with(".localhost");
                return is_loopback || name == self.machine.to_ascii_lowercase();
            }
            Host::Ipv4(address) => IpAddr::V4(*address),
            Host::Ipv6(address) => IpAddr::V6(*address).to_canonical(),
        };
        let listen = listen.to_canonical();
        match address {
            // A connection to the unspecified address is made to loopback.
            _ if address.is_unspecified() => listen.is_unspecified() || listen.is_loopback(),
            _ if listen.is_unspecified() => address.is_loopback() || (self.is_of_machine)(address),
            _ => address == listen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(listen: &[&str]) -> OwnAddresses {
        OwnAddresses {
            listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
            hosts: vec!["Gateway.example".to_owned(), "inner.example:8443".to_owned()],
            machine: "Box".to_owned(),
            is_of_machine: |address| address == IpAddr::from([192, 0, 2, 7]),
        }
    }

    fn check(own: OwnAddresses, entry: &str) -> Result<(), TargetFault> {
        let rules = TargetRules { own, allows_link_local: false };
        rules.check(&RegistryEntry::parse(entry).unwrap())
    }

    fn http(url: &str) -> String {
        format!(r#"{{"name":"a","transport":"http","endpoint":"{url}"}}"#)
    }

    #[test]
    fn every_spelling_of_the_own_address_is_known() {
        for (listen, url) in [
            ("127.0.0.1:8420", "http://127.0.0.1:8420/mcp"),
            ("127.0.0.1:8420", "http://localhost:8420"),
            ("127.0.0.1:8420", "http://LOCALHOST.:8420/x?y"),
            ("127.0.0.1:8420", "http://mcp.localhost:8420/"),
            ("127.0.0.1:8420", "http://127.1:8420/"),
            ("127.0.0.1:8420", "http://2130706433:8420/"),
            ("127.0.0.1:8420", "http://[::ffff:127.0.0.1]:8420/"),
            ("127.0.0.1:8420", "http://0.0.0.0:8420/mcp"),
            ("127.0.0.1:80", "http://127.0.0.1/mcp"),
            ("[::1]:8420", "http://[::1]:8420/mcp"),
            ("[::1]:8420", "http://[::]:8420/mcp"),
            ("0.0.0.0:8420", "http://127.0.0.1:8420/mcp"),
            ("0.0.0.0:8420", "http://192.0.2.7:8420/mcp"),
            ("0.0.0.0:8420", "http://box:8420/mcp"),
            ("192.0.2.7:8420", "http://192.0.2.7:8420/mcp"),
            ("127.0.0.1:8420", "https://gateway.example/mcp"),
            ("127.0.0.1:8420", "https://inner.example:8443/mcp"),
        ] {
            assert!(matches!(check(own(&[listen]), &http(url)), Err(TargetFault::Own { .. })), "{listen}: {url}");
        }
        for (listen, url) in [
            ("127.0.0.1:8420", "http://127.0.0.1:8421/mcp"),
            ("127.0.0.1:8420", "http://192.0.2.7:8420/mcp"),
            ("192.0.2.7:8420", "http://127.0.0.1:8420/mcp"),
            ("192.0.2.7:8420", "http://0.0.0.0:8420/mcp"),
            ("0.0.0.0:8420", "http://192.0.2.8:8420/mcp"),
            ("127.0.0.1:8420", "https://other.example/mcp"),
            ("127.0.0.1:8420", "https://inner.example/mcp"),
            ("127.0.0.1:8420", "https://example.com/http://127.0.0.1:8420/mcp"),
        ] {
            assert_eq!(check(own(&[listen]), &http(url)), Ok(()), "{listen}: {url}");
        }
    }

    #[test]
    fn a_command_that_leads_back_is_known() {
        let stdio = |rest: &str| format!(r#"{{"name":"a","transport":"stdio",{rest}}}"#);
        for rest in [
            r#""command":"cortex-mcp","args":["serve","--stdio"]"#,
            r#""command":"/usr/bin/cortex-mcp","args":["--json","serve"]"#,
            r#""command":"env","args":["A=b","/opt/cortex-mcp","serve"]"#,
        ] {
            assert_eq!(check(own(&[]), &stdio(rest)), Err(TargetFault::OwnCommand), "{rest}");
        }
        let remote = r#""command":"npx","args":["-y","mcp-remote","http://localhost:8420/mcp","--debug"]"#;
        let fault = TargetFault::Own { address: "http://localhost:8420".to_owned() };
        assert_eq!(check(own(&["127.0.0.1:8420"]), &stdio(remote)), Err(fault));
        for rest in [
            r#""command":"cortex-mcp","args":["serve","--stdio"],"env":{"CORTEX_HOME":"/srv/other"}"#,
            r#""command":"cortex-mcp-tools","args":["serve"]"#,
            r#""command":"npx","args":["-y","mcp-remote","https://example.com/mcp"]"#,
        ] {
            assert_eq!(check(own(&["127.0.0.1:8420"]), &stdio(rest)), Ok(()), "{rest}");
        }
    }

    #[test]
    fn link_local_addresses_need_a_setting() {
        let entry = RegistryEntry::parse(&http("http://169.254.169.254/latest")).unwrap();
        let rules = |allows_link_local| TargetRules { own: own(&[]), allows_link_local };
        assert_eq!(rules(false).check(&entry), Err(TargetFault::LinkLocal));
        assert_eq!(rules(true).check(&entry), Ok(()));
        let through =
            r#"{"name":"a","transport":"stdio","command":"npx","args":["mcp-remote","http://169.254.169.254/"]}"#;
        let through = RegistryEntry::parse(through).unwrap();
        assert_eq!(rules(false).check(&through), Err(TargetFault::LinkLocal));
    }
}
