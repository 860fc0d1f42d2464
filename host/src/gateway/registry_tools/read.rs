//! What is read: a list, one entry, and numbers. Pure functions of a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::Failure;
use super::arguments::Arguments;
use super::show;
use crate::connectors::{ConnectorStatus, LastFailure};
use crate::model::glob::matches_in_any_case;
use crate::model::{Source, WallMs};
use crate::registry::{RegistryEntry, RegistrySnapshot, RegistryStatus};

/// How many entries one list tells, at most and if it is not said.
pub(super) const LIMIT_MAX: u64 = 100;
/// See [`LIMIT_MAX`].
pub(super) const LIMIT_DEFAULT: u64 = 50;

/// The transports that a list can be asked for.
pub(super) const TRANSPORTS: [&str; 5] = ["http", "streamableHttp", "sse", "ws", "stdio"];

/// What a list is asked for.
#[derive(Debug, Default)]
pub(super) struct ListQuery {
    pattern: Option<String>,
    transport: Option<String>,
    tags: Vec<String>,
    limit: usize,
}

impl ListQuery {
    /// Reads the arguments.
    pub(super) fn parse(arguments: &Arguments) -> Result<Self, Failure> {
        arguments.only(&["namePattern", "transport", "tags", "limit"])?;
        let pattern = arguments.text("namePattern")?;
        if pattern.as_ref().is_some_and(|pattern| pattern.len() > PATTERN_LENGTH_MAX) {
            return Err(Failure::argument("namePattern", format!("must have at most {PATTERN_LENGTH_MAX} characters")));
        }
        let transport = match arguments.text("transport")?.as_deref() {
            Some("http" | "streamableHttp") => Some("http".to_owned()),
            Some(known) if TRANSPORTS.contains(&known) => Some(known.to_owned()),
            Some(_) => return Err(Failure::argument("transport", format!("must be one of {}", TRANSPORTS.join(", ")))),
            None => None,
        };
        let limit = arguments.number("limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT);
        let tags = arguments.texts("tags")?.unwrap_or_default();
        Ok(Self { pattern, transport, tags, limit: usize::try_from(limit).unwrap_or(usize::MAX) })
    }

    fn wants(&self, entry: &RegistryEntry) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| matches_in_any_case(pattern, &entry.name))
            && self.transport.as_ref().is_none_or(|wanted| show::transport(entry) == Some(wanted))
            && (self.tags.is_empty() || {
                let tags = show::tags(entry);
                self.tags.iter().all(|tag| tags.contains(tag))
            })
    }
}

/// The longest pattern: as long as names are.
const PATTERN_LENGTH_MAX: usize = 128;

/// The entries that are asked for, ordered by name.
pub(super) fn list<'a>(entries: impl Iterator<Item = &'a Arc<RegistryEntry>>, query: &ListQuery) -> Value {
    let found: Vec<_> = entries.filter(|entry| query.wants(entry)).collect();
    let servers: Vec<Value> = found.iter().take(query.limit).map(|entry| show::entry(entry)).collect();
    json!({
        "servers": servers,
        "count": servers.len(),
        "total": found.len(),
        "truncated": found.len() > servers.len(),
    })
}

/// Which entry is asked for.
#[derive(Debug)]
pub(super) struct GetQuery {
    /// Its name.
    pub(super) name: String,
    /// Whether what is observed of it is to be told as well.
    pub(super) include_status: bool,
}

impl GetQuery {
    /// Reads the arguments.
    pub(super) fn parse(arguments: &Arguments) -> Result<Self, Failure> {
        arguments.only(&["name", "includeStatus"])?;
        Ok(Self { name: arguments.name()?, include_status: arguments.flag("includeStatus")? })
    }
}

/// One entry, and the facts about it if they are wanted.
pub(super) fn get(snapshot: &RegistrySnapshot, query: &GetQuery, facts: Option<Value>) -> Result<Value, Failure> {
    let entry = snapshot.get(&query.name).ok_or_else(|| Failure::NotFound { name: query.name.clone() })?;
    let (served, note) = show::standing(entry);
    let mut told = json!({ "server": show::entry(entry), "served": served });
    if let Some(note) = note {
        told["note"] = note.into();
    }
    if let Some(facts) = facts {
        told["status"] = facts;
    }
    Ok(told)
}

/// What is observed: the last edit as the registry has it, and how the connector stands. What is not known is left out.
pub(super) fn facts(edit: Option<(u64, &str)>, now: WallMs, connector: Option<&ConnectorStatus>) -> Value {
    let mut told = json!({});
    if let Some((wall_ms, writer)) = edit {
        told["lastModified"] = WallMs(wall_ms).to_string().into();
        told["lastModifiedBy"] = writer.into();
        told["ageMs"] = now.0.saturating_sub(wall_ms).into();
    }
    match connector {
        Some(status) if status.source == Source::ServiceMap => {
            told["hiddenByServiceMap"] = status.id.as_str().into();
        }
        Some(status) => {
            // What a process wrote to its standard error is for those who may see everything.
            let failure = status.last_failure.clone().map(|failure| LastFailure { stderr: None, ..failure });
            told["connector"] = json!({
                "id": status.id, "contact": status.contact, "list": status.state, "reason": status.reason,
                "tools": status.tools, "fetchedAt": status.fetched_at, "lastFailure": failure,
            });
        }
        None => {}
    }
    told
}

/// How many entries there are of which kind, and how the registry stands.
pub(super) fn stats(snapshot: &RegistrySnapshot, status: &RegistryStatus) -> Value {
    let mut transports: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in snapshot.entries() {
        *transports.entry(show::transport(entry).unwrap_or("unusable")).or_default() += 1;
    }
    json!({
        "total": snapshot.count(),
        "byTransport": transports,
        "removed": snapshot.tombstones(),
        "generation": snapshot.generation,
        "standing": snapshot.standing,
        "problems": &*snapshot.problems,
        "counts": status.counts,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn entries(names: &[(&str, &str)]) -> Vec<Arc<RegistryEntry>> {
        let entry = |(name, rest): &(&str, &str)| {
            Arc::new(RegistryEntry::parse(&format!(r#"{{"name":"{name}",{rest}}}"#)).unwrap())
        };
        names.iter().map(entry).collect()
    }

    const HTTP: &str = r#""transport":"http","endpoint":"https://a/mcp""#;

    fn query(text: &str) -> Result<ListQuery, Failure> {
        ListQuery::parse(&Arguments::parse(Some(&RawValue::from_string(text.to_owned()).unwrap())).unwrap())
    }

    #[test]
    fn a_list_is_filtered_by_glob_transport_and_tags_and_says_what_it_leaves_out() {
        let alias = r#""transport":"streamableHttp","endpoint":"https://a/mcp","tags":["x","y"]"#;
        let entries = entries(&[
            ("alpha", HTTP),
            ("beta", alias),
            ("gamma", r#""transport":"stdio","command":"x","tags":["x"]"#),
            ("x", r#""transport":"ws","endpoint":"wss://a/""#),
        ]);
        for (text, names, total) in [
            ("{}", &["alpha", "beta", "gamma", "x"][..], 4),
            (r#"{"limit":2}"#, &["alpha", "beta"], 4),
            (r#"{"namePattern":"*A"}"#, &["alpha", "beta", "gamma"], 3),
            (r#"{"namePattern":"al"}"#, &[], 0),
            (r#"{"namePattern":"a.*"}"#, &[], 0),
            (r#"{"transport":"http"}"#, &["alpha", "beta"], 2),
            (r#"{"transport":"streamableHttp"}"#, &["alpha", "beta"], 2),
            (r#"{"transport":"ws"}"#, &["x"], 1),
            (r#"{"tags":["x"]}"#, &["beta", "gamma"], 2),
            (r#"{"tags":["x","y"]}"#, &["beta"], 1),
        ] {
            let told = list(entries.iter(), &query(text).unwrap());
            let found: Vec<_> = told["servers"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
            assert_eq!(
                (found, &told["total"]),
                (names.iter().map(|name| json!(name)).collect(), &json!(total)),
                "{text}"
            );
            assert_eq!(told["truncated"], names.len() < total, "{text}");
        }
    }

    #[test]
    fn what_a_list_can_not_be_asked_for_is_refused() {
        let long = format!(r#"{{"namePattern":"{}"}}"#, "x".repeat(129));
        for text in
            [r#"{"limit":0}"#, r#"{"limit":101}"#, r#"{"transport":"https"}"#, r#"{"includeInactive":true}"#, &long]
        {
            assert_eq!(query(text).unwrap_err().code(), "validation_error", "{text}");
        }
    }

    #[test]
    fn facts_that_are_not_known_are_left_out() {
        assert_eq!(facts(None, WallMs(5), None), json!({}));
        let told = facts(Some((1_000, "gateway-1")), WallMs(3_500), None);
        let expected = json!({ "lastModified": "1970-01-01T00:00:01Z", "lastModifiedBy": "gateway-1", "ageMs": 2_500 });
        assert_eq!(told, expected);
    }
}
