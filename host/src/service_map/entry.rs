//! The schema of one connector of a service map, in both dialects.
//!
//! Whatever is accepted here can be connected to as it stands: ids, addresses and header fields are checked once, here.
//! Nothing is expanded: a header value `Bearer ${KEY}` is sent as these very characters.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::model::{Auth, AuthKind, Connector, ConnectorId, MAX_TIMEOUT, Quotas, Reach, Source, Timeouts, WallMs};

use super::dialect::{self, Dialect};
use super::error::{MapError, SchemaRule};
use super::fields::{Fields, flag};
use crate::model::address;
use crate::model::document::Value;
use crate::model::headers::{self, HeaderFault};

/// Reads a connector.
///
/// # Errors
/// [`MapError::Schema`], for the first rule that is broken.
pub(super) fn read(fields: &Fields<'_>, dialect: Dialect) -> Result<Connector, MapError> {
    let id: ConnectorId =
        fields.text("id")?.parse().map_err(|error| fields.fault("id", SchemaRule::ConnectorId(error)))?;
    // Names of one character are the registry's only.
    if id.as_str().len() < 2 {
        return Err(fields.fault("id", SchemaRule::ShortConnectorId));
    }
    let version = fields.text("version")?.to_owned();
    let (name, enabled, expires) = match dialect {
        Dialect::G1 => (name(fields, "name", "displayName")?, status(fields)?, Some(expiry(fields)?)),
        Dialect::G2 => {
            dialect::lifetime(fields, "ttlSeconds")?;
            let enabled = fields.required("enabled", SchemaRule::Flag, flag)?;
            (name(fields, "displayName", "name")?, enabled, None)
        }
    };
    if let Some(metadata) = fields.object("metadata")? {
        dialect::brand(&metadata)?;
    }
    let scopes = fields.texts("scopes")?.ok_or_else(|| fields.fault("scopes", SchemaRule::Required))?;
    if scopes.is_empty() {
        return Err(fields.fault("scopes", SchemaRule::NoScopes));
    }
    let endpoint = fields.optional_text("endpoint")?;
    let endpoint = endpoint.map(address::read).transpose().map_err(|fault| fields.fault("endpoint", fault))?;
    if enabled && endpoint.is_none() {
        return Err(fields.fault("endpoint", SchemaRule::EnabledWithoutEndpoint));
    }
    Ok(Connector {
        id,
        name,
        version,
        enabled,
        reach: endpoint.map(Reach::Http),
        auth: auth(fields, dialect)?,
        headers: header_fields(fields)?,
        scopes,
        tags: fields.texts("tags")?.unwrap_or_default(),
        quotas: quotas(fields)?,
        timeouts: timeouts(fields)?,
        expires,
        source: Source::ServiceMap,
    })
}

/// The last second of the year 9999. A greater `ttl` is a mistake of units, and would never expire.
const LAST_SECOND: u64 = 253_402_300_799;

/// The name, under the dialect's own field or else under the other's.
fn name(fields: &Fields<'_>, own: &str, other: &str) -> Result<String, MapError> {
    let field = if !fields.has(own) && fields.has(other) { other } else { own };
    fields.text(field).map(str::to_owned)
}

fn status(fields: &Fields<'_>) -> Result<bool, MapError> {
    fields.required("status", SchemaRule::Status, |value| match value.as_text() {
        Some("enabled") => Some(true),
        Some("disabled") => Some(false),
        _ => None,
    })
}

/// In the first dialect `ttl` is a time, not a lifetime (contracts, section 1.2).
fn expiry(fields: &Fields<'_>) -> Result<WallMs, MapError> {
    let seconds = fields.positive("ttl")?;
    if seconds > LAST_SECOND { Err(fields.fault("ttl", SchemaRule::EpochSeconds)) } else { Ok(WallMs(seconds * 1000)) }
}

/// The second dialect demands it; in the first its absence means no credential.
fn auth(fields: &Fields<'_>, dialect: Dialect) -> Result<Auth, MapError> {
    let Some(auth) = fields.object("auth")? else {
        return match dialect {
            Dialect::G1 => Ok(Auth::default()),
            Dialect::G2 => Err(fields.fault("auth", SchemaRule::Required)),
        };
    };
    let kind = auth.required("type", SchemaRule::AuthKind, |value| match value.as_text() {
        Some("apiKey") => Some(AuthKind::ApiKey),
        Some("bearer") => Some(AuthKind::Bearer),
        Some("none") => Some(AuthKind::None),
        _ => None,
    })?;
    let header_name = auth.optional_text("headerName")?;
    if let Some(name) = header_name {
        headers::check_name(name).map_err(|fault| auth.fault("headerName", fault))?;
    }
    Ok(Auth { kind, header_name: header_name.map(str::to_owned) })
}

/// Faults name the field `headers` as a whole: names within it are the document's own words.
fn header_fields(fields: &Fields<'_>) -> Result<BTreeMap<String, String>, MapError> {
    let Some(object) = fields.object("headers")? else { return Ok(BTreeMap::new()) };
    let mut names = HashSet::new();
    let read = object.members().iter().map(|(name, value)| {
        if !names.insert(headers::check_name(name)?) {
            return Err(HeaderFault::Repeated);
        }
        let value = value.as_text().ok_or(HeaderFault::Value)?;
        headers::check_value(value)?;
        Ok((name.clone(), value.to_owned()))
    });
    read.collect::<Result<_, HeaderFault>>().map_err(|fault| fields.fault("headers", fault))
}

/// Zero is read in both dialects, though only the second one has it. What exceeds 32 bits does not limit anyone.
fn quotas(fields: &Fields<'_>) -> Result<Quotas, MapError> {
    let Some(quotas) = fields.object("quotas")? else { return Ok(Quotas::default()) };
    let limit = |name| -> Result<Option<u32>, MapError> {
        Ok(quotas.natural(name)?.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX)))
    };
    Ok(Quotas {
        per_minute: limit("perMinute")?,
        per_hour: limit("perHour")?,
        per_day: limit("perDay")?,
        concurrent: limit("concurrent")?,
    })
}

/// A timeout of zero counts as absent, and one above [`MAX_TIMEOUT`] as that. Other members must be integers all the
/// same.
fn timeouts(fields: &Fields<'_>) -> Result<Timeouts, MapError> {
    let Some(timeouts) = fields.object("timeouts")? else { return Ok(Timeouts::default()) };
    if timeouts.members().iter().map(|(_, value)| value).any(|value| Value::as_natural(value).is_none()) {
        return Err(fields.fault("timeouts", SchemaRule::Timeouts));
    }
    let timeout = |name| -> Result<Option<Duration>, MapError> {
        let milliseconds = timeouts.natural(name)?.filter(|milliseconds| *milliseconds > 0);
        Ok(milliseconds.map(|milliseconds| Duration::from_millis(milliseconds).min(MAX_TIMEOUT)))
    };
    // A map describes no processes, so that there is no start to wait for.
    Ok(Timeouts { connect: timeout("connectMs")?, list: timeout("listMs")?, call: timeout("callMs")?, start: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::AddressFault;
    use crate::model::document::parse;

    const G2: &str = r#"{"id":"wiki","version":"2","displayName":"Wiki","endpoint":"https://b.invalid/",
        "auth":{"type":"apiKey","headerName":"X-Key"},"scopes":["b"],"ttlSeconds":120,"enabled":true,
        "metadata":{"brand":"brAInwav"},"tags":["facts"],"headers":{"Authorization":"Bearer ${WIKI_TOKEN}"},
        "quotas":{"perMinute":1,"perHour":2,"perDay":0,"concurrent":9007199254740991},
        "timeouts":{"connectMs":2000,"listMs":0,"callMs":7200000,"otherMs":1},"remoteTools":[]}"#;

    fn reading(text: &str, dialect: Dialect) -> Result<Connector, MapError> {
        read(&Fields::element(&parse(text.as_bytes()).unwrap(), "c".to_owned())?, dialect)
    }

    fn changed(from: &str, to: &str) -> Result<Connector, (String, SchemaRule)> {
        assert!(G2.contains(from), "{from}");
        reading(&G2.replace(from, to), Dialect::G2).map_err(|error| match error {
            MapError::Schema { path, rule } => (path, rule),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn every_known_field_is_read() {
        let connector = reading(G2, Dialect::G2).unwrap();
        assert_eq!(connector.auth, Auth { kind: AuthKind::ApiKey, header_name: Some("X-Key".to_owned()) });
        assert_eq!((connector.scopes, connector.tags), (vec!["b".to_owned()], vec!["facts".to_owned()]));
        let quotas = Quotas { per_minute: Some(1), per_hour: Some(2), per_day: Some(0), concurrent: Some(u32::MAX) };
        assert_eq!(connector.quotas, quotas);
        let connect = Some(Duration::from_secs(2));
        assert_eq!(connector.timeouts, Timeouts { connect, list: None, call: Some(MAX_TIMEOUT), start: None });
    }

    #[test]
    fn nothing_in_a_header_is_expanded_from_the_environment() {
        assert_eq!(reading(G2, Dialect::G2).unwrap().headers["Authorization"], "Bearer ${WIKI_TOKEN}");
    }

    #[test]
    fn the_fields_of_a_connector_keep_their_rules() {
        for (from, to, path, rule) in [
            ("\"version\":\"2\"", "\"version\":\"\"", "c.version", SchemaRule::Text),
            ("\"displayName\"", "\"title\"", "c.displayName", SchemaRule::Required),
            ("\"enabled\":true", "\"enabled\":\"true\"", "c.enabled", SchemaRule::Flag),
            ("\"enabled\":true", "\"x\":1", "c.enabled", SchemaRule::Required),
            ("\"ttlSeconds\":120", "\"ttlSeconds\":0", "c.ttlSeconds", SchemaRule::Positive),
            ("{\"brand\":\"brAInwav\"}", "{}", "c.metadata.brand", SchemaRule::Required),
            ("{\"brand\":\"brAInwav\"}", "[]", "c.metadata", SchemaRule::Object),
            ("[\"b\"]", "[]", "c.scopes", SchemaRule::NoScopes),
            ("[\"b\"]", "[\"b\",\"\"]", "c.scopes[1]", SchemaRule::Text),
            ("\"scopes\"", "\"scope\"", "c.scopes", SchemaRule::Required),
            ("[\"facts\"]", "[1]", "c.tags[0]", SchemaRule::Text),
            ("https://b.invalid/", "http://b.invalid/", "c.endpoint", AddressFault::Plain.into()),
            ("\"wiki\"", "\"w\"", "c.id", SchemaRule::ShortConnectorId),
            ("\"endpoint\"", "\"end\"", "c.endpoint", SchemaRule::EnabledWithoutEndpoint),
            ("\"apiKey\"", "\"basic\"", "c.auth.type", SchemaRule::AuthKind),
            ("\"auth\"", "\"author\"", "c.auth", SchemaRule::Required),
            ("\"X-Key\"", "\"X Key\"", "c.auth.headerName", HeaderFault::Name.into()),
            ("\"X-Key\"", "\"Host\"", "c.auth.headerName", HeaderFault::Reserved.into()),
            ("{\"Authorization\":", "{\"Transfer-Encoding\":", "c.headers", HeaderFault::Reserved.into()),
            ("{\"Authorization\":", "{\"x\":\"\",\"X\":", "c.headers", HeaderFault::Repeated.into()),
            ("\"Bearer ${WIKI_TOKEN}\"", "\"a\\nb\"", "c.headers", HeaderFault::Value.into()),
            ("\"Bearer ${WIKI_TOKEN}\"", "null", "c.headers", HeaderFault::Value.into()),
            ("\"perMinute\":1", "\"perMinute\":-1", "c.quotas.perMinute", SchemaRule::Natural),
            ("\"otherMs\":1", "\"otherMs\":\"1\"", "c.timeouts", SchemaRule::Timeouts),
        ] {
            assert_eq!(changed(from, to), Err((path.to_owned(), rule)), "{to}");
        }
        assert!(matches!(changed("\"wiki\"", "\"Wi.ki\""), Err((path, SchemaRule::ConnectorId(_))) if path == "c.id"));
    }

    #[test]
    fn a_disabled_connector_needs_no_address_but_none_may_be_wrong() {
        let disabled = G2.replace("\"enabled\":true", "\"enabled\":false");
        assert_eq!(reading(&disabled.replace("\"endpoint\"", "\"x\""), Dialect::G2).unwrap().reach, None);
        assert!(reading(&disabled.replace("https:", "ftp:"), Dialect::G2).is_err());
    }

    #[test]
    fn the_first_dialects_ttl_is_a_time_in_seconds() {
        let first = r#"{"id":"demo","version":"1","name":"D","scopes":["a"],"status":"disabled","ttl":1760270520}"#;
        let connector = reading(first, Dialect::G1).unwrap();
        assert_eq!((connector.enabled, connector.expires), (false, Some(WallMs(1_760_270_520_000))));
        let fault = |from: &str, to: &str| match reading(&first.replace(from, to), Dialect::G1) {
            Err(MapError::Schema { path, rule }) => (path, rule),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault("1760270520", "1760270520000"), ("c.ttl".to_owned(), SchemaRule::EpochSeconds));
        assert_eq!(fault("\"disabled\"", "\"preview\""), ("c.status".to_owned(), SchemaRule::Status));
    }
}
