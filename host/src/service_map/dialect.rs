//! The schema of a service map, in both dialects: the map itself.
//!
//! The dialects share everything but three fields of a connector (see [`Dialect`]). Optional fields that only one of
//! them knows (`headers`, `tags`, `quotas.perDay`) are honoured in both, because they were signed and mean one thing;
//! fields that neither knows are ignored. The model is built only from values whose signature holds.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Connector, WallMs};

use super::entry;
use super::error::{MapError, SchemaRule};
use super::fields::{Fields, list};
use crate::model::document::Object;

/// The brand that every map and every connector's metadata bears.
pub const BRAND: &str = "brAInwav";

/// How many connectors a map may name.
pub const MAX_CONNECTORS: usize = 1_000;

/// The longest lifetime of a map: ten years. A longer one is a mistake of units.
pub const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a service map says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceMap {
    /// Its ULID.
    pub id: String,
    /// When it was made, which orders the maps of one signer.
    pub generated_at: WallMs,
    /// How long it holds.
    pub ttl: Duration,
    /// When it expires: `generated_at` and `ttl`.
    pub expires: WallMs,
    /// The connectors, by id.
    pub connectors: Vec<Connector>,
    /// The dialect that it is written in.
    pub dialect: Dialect,
}

/// The vocabulary of a map's connectors. The first connector decides which one it is, and all others must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// "Protocol": `name`, `status` (`enabled` or `disabled`), `ttl` (the expiry, in seconds since 1970).
    G1,
    /// "ASBR": `displayName`, `enabled`, `ttlSeconds` (a lifetime).
    G2,
}

impl Dialect {
    /// The dialect's short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::G1 => "G1",
            Self::G2 => "G2",
        }
    }
}

/// Reads a map from the payload of a verified document.
///
/// # Errors
/// [`MapError::Schema`], for the first rule that is broken.
pub(super) fn read(payload: &Object) -> Result<ServiceMap, MapError> {
    let fields = Fields::root(payload);
    let id = fields.required("id", SchemaRule::Ulid, |value| value.as_text().filter(|text| is_ulid(text)))?;
    brand(&fields)?;
    let generated_at = WallMs::parse(fields.text("generatedAt")?)
        .map_err(|error| fields.fault("generatedAt", SchemaRule::Time(error)))?;
    let ttl = lifetime(&fields, "ttlSeconds")?;
    let elements = fields.required("connectors", SchemaRule::List, list)?;
    if elements.is_empty() {
        return Err(fields.fault("connectors", SchemaRule::NoConnectors));
    }
    if elements.len() > MAX_CONNECTORS {
        return Err(fields.fault("connectors", SchemaRule::TooManyConnectors));
    }
    let mut dialect = None;
    let mut ids = BTreeSet::new();
    let mut connectors = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        let fields = Fields::element(element, format!("connectors[{index}]"))?;
        let own = if fields.has("status") { Dialect::G1 } else { Dialect::G2 };
        let both = fields.has("status") && fields.has("enabled");
        if both || *dialect.get_or_insert(own) != own {
            return Err(MapError::Schema { path: format!("connectors[{index}]"), rule: SchemaRule::MixedDialects });
        }
        let connector = entry::read(&fields, own)?;
        if !ids.insert(connector.id.clone()) {
            return Err(fields.fault("id", SchemaRule::RepeatedId));
        }
        connectors.push(connector);
    }
    connectors.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(ServiceMap {
        id: id.to_owned(),
        generated_at,
        ttl,
        expires: generated_at.plus(ttl.as_secs().saturating_mul(1000)),
        connectors,
        dialect: dialect.unwrap_or(Dialect::G1),
    })
}

/// Checks the brand of an object that must bear it.
pub(super) fn brand(fields: &Fields<'_>) -> Result<(), MapError> {
    fields.required("brand", SchemaRule::Brand, |value| (value.as_text() == Some(BRAND)).then_some(()))
}

/// A lifetime in seconds, above zero and no longer than [`MAX_TTL`].
pub(super) fn lifetime(fields: &Fields<'_>, name: &str) -> Result<Duration, MapError> {
    let lifetime = Duration::from_secs(fields.positive(name)?);
    if lifetime > MAX_TTL { Err(fields.fault(name, SchemaRule::Lifetime)) } else { Ok(lifetime) }
}

/// `^[0-9A-HJKMNP-TV-Z]{26}$`, as the schema has it.
fn is_ulid(text: &str) -> bool {
    text.len() == 26
        && text.bytes().all(|byte| {
            byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !matches!(byte, b'I' | b'L' | b'O' | b'U'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::{Value, parse};
    use crate::model::{Auth, AuthKind, Source};

    const G1: &str = r#"{"id":"demo","version":"1","name":"Demo","scopes":["a"],"status":"enabled","ttl":1760270520,
        "endpoint":"https://a.invalid/mcp"}"#;
    const G2: &str = r#"{"id":"wiki","version":"2","displayName":"Wiki","endpoint":"https://b.invalid/",
        "auth":{"type":"none"},"scopes":["b"],"ttlSeconds":120,"enabled":true}"#;

    fn map(connectors: &str) -> String {
        format!(
            r#"{{"id":"01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB","brand":"brAInwav","generatedAt":"2025-10-12T12:00:00Z",
            "ttlSeconds":120,"connectors":[{connectors}]}}"#
        )
    }

    fn reading(text: &str) -> Result<ServiceMap, MapError> {
        match parse(text.as_bytes()) {
            Ok(Value::Object(object)) => read(&object),
            _ => panic!("an object"),
        }
    }

    fn fault(text: &str) -> (String, SchemaRule) {
        match reading(text) {
            Err(MapError::Schema { path, rule }) => (path, rule),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_dialects_become_one_model() {
        let first = reading(&map(G1)).unwrap();
        assert_eq!((first.dialect, first.ttl), (Dialect::G1, Duration::from_secs(120)));
        assert_eq!(first.expires, WallMs(1_760_270_520_000));
        let connector = &first.connectors[0];
        assert_eq!((connector.name.as_str(), connector.enabled), ("Demo", true));
        assert_eq!(connector.expires, Some(WallMs(1_760_270_520_000)));
        assert_eq!((connector.auth.kind, connector.source), (AuthKind::None, Source::ServiceMap));

        let second = reading(&map(G2)).unwrap();
        let connector = &second.connectors[0];
        assert_eq!((second.dialect, connector.name.as_str(), connector.enabled), (Dialect::G2, "Wiki", true));
        assert_eq!((connector.expires, connector.auth.clone()), (None, Auth::default()));
    }

    #[test]
    fn connectors_are_ordered_by_id() {
        let other = G1.replace("demo", "a-first");
        let ids: Vec<_> =
            reading(&map(&format!("{G1},{other}"))).unwrap().connectors.into_iter().map(|one| one.id).collect();
        assert_eq!(ids.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["a-first", "demo"]);
    }

    #[test]
    fn duplicate_ids_are_refused() {
        assert_eq!(fault(&map(&format!("{G1},{G1}"))), ("connectors[1].id".to_owned(), SchemaRule::RepeatedId));
    }

    #[test]
    fn one_map_is_written_in_one_dialect() {
        assert_eq!(fault(&map(&format!("{G1},{G2}"))), ("connectors[1]".to_owned(), SchemaRule::MixedDialects));
        let both = G1.replace(r#""ttl""#, r#""enabled":false,"ttl""#);
        assert_eq!(fault(&map(&both)), ("connectors[0]".to_owned(), SchemaRule::MixedDialects));
    }

    #[test]
    fn the_number_of_connectors_is_bounded() {
        assert_eq!(fault(&map("")).1, SchemaRule::NoConnectors);
        let many = |count: usize| {
            map(&(0..count).map(|index| G1.replace("demo", &format!("c{index}"))).collect::<Vec<_>>().join(","))
        };
        assert_eq!(reading(&many(MAX_CONNECTORS)).unwrap().connectors.len(), MAX_CONNECTORS);
        assert_eq!(fault(&many(MAX_CONNECTORS + 1)).1, SchemaRule::TooManyConnectors);
    }

    #[test]
    fn the_fields_of_a_map_keep_their_rules() {
        for (from, to, path, rule) in [
            ("01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB", "01hz7zwj5xj8w4t7n6mz2v1pqb", "id", SchemaRule::Ulid),
            ("01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB", "01HZ7ZWJ5XJ8W4T7N6MZ2V1PQU", "id", SchemaRule::Ulid),
            ("\"brand\"", "\"grand\"", "brand", SchemaRule::Required),
            ("brAInwav", "brainwav", "brand", SchemaRule::Brand),
            ("\"ttlSeconds\":120", "\"ttlSeconds\":0", "ttlSeconds", SchemaRule::Positive),
            ("\"ttlSeconds\":120", "\"ttlSeconds\":1.5", "ttlSeconds", SchemaRule::Positive),
            ("\"ttlSeconds\":120", "\"ttlSeconds\":\"120\"", "ttlSeconds", SchemaRule::Positive),
            ("\"ttlSeconds\":120", "\"ttlSeconds\":1e300", "ttlSeconds", SchemaRule::Positive),
            ("\"ttlSeconds\":120", "\"ttlSeconds\":315360001", "ttlSeconds", SchemaRule::Lifetime),
            ("\"connectors\":[", "\"connectors\":{}, \"x\":[", "connectors", SchemaRule::List),
            ("\"connectors\":[", "\"connectors\":[[],", "connectors[0]", SchemaRule::Object),
        ] {
            assert_eq!(fault(&map(G1).replace(from, to)), (path.to_owned(), rule), "{to}");
        }
        let offset = map(G1).replace("12:00:00Z", "12:00:00+00:00");
        assert!(matches!(fault(&offset), (path, SchemaRule::Time(_)) if path == "generatedAt"));
        assert!(reading(&map(G1).replace("\"ttlSeconds\":120", "\"ttlSeconds\":315360000.0")).is_ok());
    }
}
