//! Qualified URIs: `cortex+<connector>:<URI>`, by which a resource of a connector can always be asked for, whoever else
//! claims its URI.
//!
//! The scheme is one by RFC 3986 3.1, because an id is made of letters, digits and dashes; what follows is the server's own
//! URI or URI template, unchanged. A server whose own URIs look like that (another gateway) is only ever shown qualified, so
//! that no server can claim the qualified form of another one.

use crate::model::ConnectorId;

/// How every qualified URI begins.
const START: &str = "cortex+";

/// The qualified form of a connector's own URI or URI template.
pub(super) fn qualify(connector: &ConnectorId, own: &str) -> String {
    format!("{START}{connector}:{own}")
}

/// Which connector a qualified URI names, and what that calls it.
pub(super) fn split(uri: &str) -> Option<(ConnectorId, &str)> {
    let (id, own) = uri.strip_prefix(START)?.split_once(':')?;
    Some((id.parse().ok()?, own))
}

/// Under which URI or template a connector's own is exposed, as long as nobody else claims it.
pub(super) fn address(connector: &ConnectorId, own: &str) -> String {
    if looks_qualified(own) { qualify(connector, own) } else { own.to_owned() }
}

/// Whether a URI looks like a qualified one.
fn looks_qualified(uri: &str) -> bool {
    uri.starts_with(START)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_names_no_connector_is_not_qualified() {
        for uri in
            ["", "cortex+", "cortex+wiki", "cortex+W:x", "cortex+-a:x", "cortex:wiki:x", "file:///x", "Cortex+wiki:x"]
        {
            assert_eq!(split(uri), None, "{uri}");
        }
        assert_eq!(split("cortex+wiki:"), Some(("wiki".parse().unwrap(), "")));
    }

    proptest! {
        #[test]
        fn a_qualified_uri_is_taken_apart_into_what_it_was_made_of(id in "[a-z0-9][a-z0-9-]{1,62}", own in ".{0,60}") {
            let id: ConnectorId = id.parse().unwrap();
            let qualified = qualify(&id, &own);
            prop_assert!(looks_qualified(&qualified));
            prop_assert_eq!(split(&qualified), Some((id, own.as_str())));
        }

        #[test]
        fn a_qualified_uri_is_a_uri(id in "[a-z0-9][a-z0-9-]{1,62}", path in "[a-z/]{1,20}") {
            let qualified = qualify(&id.parse().unwrap(), &format!("file://{path}"));
            prop_assert!(url::Url::parse(&qualified).is_ok(), "{}", qualified);
        }
    }
}
