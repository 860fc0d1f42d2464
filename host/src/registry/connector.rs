//! Which connector an entry of the registry becomes.
//!
//! Names of the registry are wider than ids of connectors, so the id follows from the name by a stated rule that never
//! makes one id of two names. Nothing here looks at other entries or at the service map.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use crate::model::{Auth, CommandLine, Connector, ConnectorId, Digest, Quotas, Reach, Source};

use super::entry::{RegistryEntry, Transport};

/// The connector id of a registry name.
///
/// A name that is an id stands as it is. Any other is written in lower case, each character outside `a-z`, `0-9` and
/// `-` as `-`, without `-` at its ends, cut to 54 characters, and `-` and 8 hexadecimal characters of the name's
/// SHA-256 are appended: so `Wiki.Data` and `wiki.data` stay apart.
pub fn connector_id(name: &str) -> ConnectorId {
    name.parse().unwrap_or_else(|_| derived(name))
}

/// The connector of an entry; none if its transport is not served.
pub fn connector(entry: &RegistryEntry) -> Option<Connector> {
    let (reach, headers) = match entry.transport.as_ref().ok()? {
        Transport::Http { endpoint, headers } => (Reach::Http(endpoint.clone()), exposed(headers)),
        Transport::Sse { endpoint, headers } => (Reach::Sse { sse: endpoint.clone() }, exposed(headers)),
        Transport::Stdio { command, arguments, environment } => {
            let (program, arguments) = (command.clone(), arguments.clone());
            let command = CommandLine { program, arguments, environment: exposed(environment) };
            (Reach::Stdio(command), BTreeMap::new())
        }
        Transport::WebSocket => return None,
    };
    Some(Connector {
        id: connector_id(&entry.name),
        name: entry.name.clone(),
        version: String::new(),
        enabled: true,
        reach: Some(reach),
        auth: Auth::default(),
        headers,
        scopes: Vec::new(),
        tags: Vec::new(),
        quotas: Quotas::default(),
        timeouts: entry.timeouts,
        expires: None,
        source: Source::Registry,
    })
}

fn exposed(secrets: &BTreeMap<String, SecretString>) -> BTreeMap<String, String> {
    secrets.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect()
}

/// How many hexadecimal characters tell altered names apart.
const HASH_LENGTH: usize = 8;

/// An id has at most 63 characters; the hash and its `-` come off that.
const STEM_LENGTH: usize = 63 - 1 - HASH_LENGTH;

/// What an id is made of if its name leaves nothing.
const EMPTY_STEM: &str = "server";

fn derived(name: &str) -> ConnectorId {
    let written: String = name
        .chars()
        .map(|character| character.to_ascii_lowercase())
        .map(|character| if character.is_ascii_lowercase() || character.is_ascii_digit() { character } else { '-' })
        .collect();
    // Only ASCII is left, so every cut is between characters.
    let trimmed = written.trim_matches('-');
    let stem = trimmed[..trimmed.len().min(STEM_LENGTH)].trim_end_matches('-');
    let stem = if stem.is_empty() { EMPTY_STEM } else { stem };
    let id = format!("{stem}-{}", Digest::of(name.as_bytes()).short(HASH_LENGTH));
    // The text is an id by construction; the property below shows it. An id in itself ends the recursion.
    id.parse().unwrap_or_else(|_| connector_id(EMPTY_STEM))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::registry::read;

    #[test]
    fn a_name_that_is_an_id_stands_as_it_is() {
        for name in ["demo", "s", "7", "db", "a1", "my-server-", &"x".repeat(63)] {
            assert_eq!(connector_id(name).as_str(), name);
        }
    }

    #[test]
    fn other_names_are_written_as_ids_with_a_hash_of_the_original() {
        for (name, stem) in [
            ("Wiki.Data", "wiki-data"),
            ("A__", "a"),
            ("x.", "x"),
            ("", "server"),
            ("éé", "server"),
            (&"Y".repeat(128), &"y".repeat(54)),
        ] {
            let hash = Digest::of(name.as_bytes()).short(8);
            assert_eq!(connector_id(name).as_str(), format!("{stem}-{hash}"), "{name}");
        }
        assert_ne!(connector_id("Wiki.Data"), connector_id("wiki.data"));
        assert_ne!(connector_id("wiki.data"), connector_id("wiki-data"));
    }

    #[test]
    fn entries_of_every_transport_of_the_protocol_become_connectors() {
        let document = read(
            br#"{"servers":[{"name":"files","transport":"stdio","command":"run","args":["x"],"env":{"K":"v"},
            "timeouts":{"startMs":7}},
            {"name":"Wiki","transport":"http","endpoint":"http://10.0.0.1/mcp","headers":{"X-Key":"k"}},
            {"name":"old","transport":"sse","endpoint":"http://10.0.0.1/sse"},
            {"name":"socket","transport":"ws","endpoint":"ws://10.0.0.1/"}]}"#,
        )
        .unwrap();
        let connectors: Vec<_> = document.servers.iter().filter_map(|server| connector(&server.entry)).collect();
        let [files, wiki, old] = &connectors[..] else { panic!("{connectors:?}") };
        assert_eq!((wiki.name.as_str(), wiki.source, wiki.enabled), ("Wiki", Source::Registry, true));
        assert_eq!((wiki.headers["X-Key"].as_str(), &wiki.auth), ("k", &Auth::default()));
        let url = |text: &str| text.parse().unwrap();
        assert_eq!(wiki.reach, Some(Reach::Http(url("http://10.0.0.1/mcp"))));
        assert_eq!(old.reach, Some(Reach::Sse { sse: url("http://10.0.0.1/sse") }));
        let Some(Reach::Stdio(command)) = &files.reach else { panic!("stdio") };
        assert_eq!((command.program.as_str(), &command.arguments[..]), ("run", &["x".to_owned()][..]));
        assert_eq!(command.environment["K"], "v");
        assert_eq!(files.timeouts.start, Some(std::time::Duration::from_millis(7)));
    }

    proptest! {
        #[test]
        fn every_name_has_an_id_of_its_own(left: String, right: String) {
            prop_assert_eq!(connector_id(&left), connector_id(&left));
            prop_assert_eq!(left == right, connector_id(&left) == connector_id(&right));
        }

        #[test]
        fn names_that_differ_in_case_or_punctuation_only_stay_apart(left in "[aA][._-][bB]", right in "[aA][._-][bB]") {
            prop_assert_eq!(left == right, connector_id(&left) == connector_id(&right));
        }
    }
}
