//! `[[token]]`: who may come in, what they may see and how often they may ask.
//!
//! Only the hash of a token is ever configured. Its name stands in logs and errors.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{ConfigError, limits};
use crate::model::{Digest, Glob};

/// Who may come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Token {
    /// A name for logs.
    pub name: String,
    /// SHA-256 of the token, in hexadecimal.
    pub sha256: Digest,
    /// Whether it may change the gateway: swap its policy, change its registry.
    #[serde(default)]
    pub admin: bool,
    /// Only connectors whose ids match one of these are seen; unset: all.
    pub connectors: Option<Vec<Glob>>,
    /// Only tools whose exposed names match one of these are seen; unset: all.
    pub tools: Option<Vec<Glob>>,
    /// None of the tools whose exposed names match one of these.
    #[serde(default)]
    pub deny_tools: Vec<Glob>,
    /// How many JSON-RPC requests are answered in a minute; unset: all.
    pub calls_per_minute: Option<u32>,
}

impl Token {
    /// A token that sees everything and changes nothing.
    pub fn new(name: &str, sha256: Digest) -> Self {
        Self {
            name: name.to_owned(),
            sha256,
            admin: false,
            connectors: None,
            tools: None,
            deny_tools: Vec::new(),
            calls_per_minute: None,
        }
    }

    /// As it is shown: without the hash.
    pub(super) fn shown(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "admin": self.admin,
            "connectors": self.connectors,
            "tools": self.tools,
            "denyTools": self.deny_tools,
            "callsPerMinute": self.calls_per_minute,
        })
    }
}

/// Whether tokens go together: each has a name and a hash of its own.
pub(super) fn check(tokens: &[Token]) -> Result<(), ConfigError> {
    let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
    for token in tokens {
        let bad = |expected: &str| ConfigError::Token { name: token.name.clone(), expected: expected.to_owned() };
        if token.name.is_empty() || token.name.chars().count() > limits::TOKEN_NAME_MAX {
            return Err(bad(&format!("give each token a name of 1 to {} characters", limits::TOKEN_NAME_MAX)));
        }
        if !names.insert(&token.name) {
            return Err(bad("two tokens have this name: logs could not tell them apart; rename one"));
        }
        if !hashes.insert(token.sha256) {
            return Err(bad("another token has the same sha256: nobody could tell which one is shown; remove one"));
        }
        if token.calls_per_minute.is_some_and(|calls| !limits::TOKEN_CALLS_RANGE.contains(&calls)) {
            let (least, most) = (limits::TOKEN_CALLS_RANGE.start(), limits::TOKEN_CALLS_RANGE.end());
            return Err(bad(&format!("calls-per-minute: write a number from {least} to {most}")));
        }
    }
    Ok(())
}
