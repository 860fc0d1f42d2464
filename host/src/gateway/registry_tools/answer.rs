//! What these tools answer: one text of JSON, the same as structured content, and failures by their kind.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::edge::Edge;
use crate::model::raw;
use crate::registry::{EntryRule, StoreError};

/// Why a tool does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// What was asked breaks a rule.
    #[error("{message}")]
    Validation {
        /// Which argument, or none if it is about all of them.
        argument: Option<String>,
        /// What to do.
        message: String,
    },
    /// No entry of that name is there.
    #[error("there is no server {name:?} in the registry; {} names those that are", super::LIST)]
    NotFound {
        /// The name.
        name: String,
    },
    /// An entry of that name is there.
    #[error("there is a server {name:?} already; to put another in its place, say \"overwrite\": true")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The registry can not be written.
    #[error("{0}")]
    ReadOnly(StoreError),
    /// Who asks may not.
    #[error("{message}")]
    Refused {
        /// The class of the reason.
        reason: &'static str,
        /// Why, and what to do.
        message: &'static str,
    },
    /// Anything else.
    #[error("{message}")]
    Internal {
        /// What happened.
        message: String,
    },
}

impl Failure {
    /// A rule about one argument.
    pub(super) fn argument(name: &str, message: impl Into<String>) -> Self {
        Self::Validation { argument: Some(name.to_owned()), message: format!("{name} {}", message.into()) }
    }

    /// Anything that is no fault of who asks.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// Its kind.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Validation { .. } => "validation_error",
            Self::NotFound { .. } => "not_found",
            Self::Duplicate { .. } => "duplicate_server",
            Self::ReadOnly(_) => "read_only",
            Self::Refused { .. } => "security_error",
            Self::Internal { .. } => "internal_error",
        }
    }

    fn told(&self) -> Value {
        let details = match self {
            Self::Validation { argument, .. } => json!({ "argument": argument }),
            Self::NotFound { name } | Self::Duplicate { name } => json!({ "name": name }),
            Self::ReadOnly(_) => json!({ "retry": "it ends by itself once the reason is gone" }),
            Self::Refused { reason, .. } => json!({ "reason": reason }),
            Self::Internal { .. } => json!({}),
        };
        json!({ "error": self.code(), "message": self.to_string(), "details": details })
    }
}

impl From<EntryRule> for Failure {
    fn from(rule: EntryRule) -> Self {
        Self::Validation { argument: None, message: format!("the entry {rule}") }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Entry(rule) => rule.into(),
            StoreError::Missing { name } => Self::NotFound { name },
            StoreError::Exists { name } => Self::Duplicate { name },
            StoreError::ReadOnly(_) => Self::ReadOnly(error),
            other => Self::internal(other.to_string()),
        }
    }
}

/// What stands beside each answer.
pub(super) struct Meta<'a> {
    correlation_id: String,
    timestamp: String,
    tool: &'a str,
}

impl<'a> Meta<'a> {
    /// An answer of this tool, now.
    pub(super) fn new(edge: &Edge, tool: &'a str) -> Self {
        let seeds = [edge.entropy.seed(), edge.entropy.seed(), edge.entropy.seed()];
        Self { correlation_id: uuid(seeds), timestamp: edge.clock.wall().to_string(), tool }
    }
}

/// A random UUID (RFC 9562, version 4) of three seeds of 53 bits.
fn uuid(seeds: [u64; 3]) -> String {
    let [high, middle, low] = seeds.map(u128::from);
    let bits = (high << 75) ^ (middle << 37) ^ low;
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let text = format!("{bits:032x}");
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// The result of a call.
pub(super) fn envelope(answered: Result<Value, Failure>, meta: &Meta<'_>) -> Box<RawValue> {
    let (told, failed) = match answered {
        Ok(told) => (told, false),
        Err(failure) => (failure.told(), true),
    };
    // A tree with text keys always serialises.
    let text = serde_json::to_string_pretty(&told).unwrap_or_default();
    let mut result = json!({ "content": [{ "type": "text", "text": text }], "structuredContent": told });
    if failed {
        result["isError"] = true.into();
    }
    result["_meta"] = json!({ "correlationId": meta.correlation_id, "timestamp": meta.timestamp, "tool": meta.tool });
    raw::trusted(result.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ReadOnlyReason;

    fn meta() -> Meta<'static> {
        Meta { correlation_id: uuid([1, 2, 3]), timestamp: "2026-01-01T00:00:00Z".to_owned(), tool: "registry_get" }
    }

    fn parsed(answered: Result<Value, Failure>) -> Value {
        serde_json::from_str(envelope(answered, &meta()).get()).unwrap()
    }

    #[test]
    fn an_answer_is_one_text_of_indented_json_and_the_same_as_structured_content() {
        let answer = parsed(Ok(json!({ "name": "a" })));
        assert_eq!(answer["content"], json!([{ "type": "text", "text": "{\n  \"name\": \"a\"\n}" }]));
        assert_eq!((&answer["structuredContent"], answer.get("isError")), (&json!({ "name": "a" }), None));
        let meta = &answer["_meta"];
        assert_eq!((&meta["tool"], &meta["timestamp"]), (&"registry_get".into(), &"2026-01-01T00:00:00Z".into()));
        assert_eq!(meta["correlationId"].as_str().map(str::len), Some(36));
    }

    #[test]
    fn failures_have_a_kind_a_message_and_details() {
        let read_only = ReadOnlyReason::JournalDamaged { file: "f".to_owned(), sequence: 1 };
        for (failure, code) in [
            (Failure::argument("limit", "must be a number"), "validation_error"),
            (EntryRule::NoEndpoint.into(), "validation_error"),
            (StoreError::Missing { name: "a".to_owned() }.into(), "not_found"),
            (StoreError::Exists { name: "a".to_owned() }.into(), "duplicate_server"),
            (StoreError::ReadOnly(read_only).into(), "read_only"),
            (StoreError::Busy.into(), "internal_error"),
            (Failure::Refused { reason: "admin", message: "no" }, "security_error"),
        ] {
            let answer = parsed(Err(failure));
            let told = &answer["structuredContent"];
            assert_eq!((&answer["isError"], &told["error"]), (&true.into(), &code.into()));
            assert!(!told["message"].as_str().unwrap().is_empty() && told["details"].is_object(), "{told}");
        }
    }

    #[test]
    fn a_correlation_id_is_a_random_uuid() {
        let id = uuid([(1 << 53) - 1, 12_345, (1 << 53) - 7]);
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!(["8", "9", "a", "b"].contains(&&id[19..20]), "{id}");
        assert_ne!(id, uuid([(1 << 53) - 1, 12_345, (1 << 53) - 8]));
    }
}
