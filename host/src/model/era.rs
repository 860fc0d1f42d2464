//! The two ways of speaking MCP.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which of the two ways of speaking MCP a server understands (2026-07-28, `basic/versioning`, Terminology).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Era {
    /// 2026-07-28 and later: stateless, everything about the caller in every request.
    Modern,
    /// 2025-11-25 and earlier: an `initialize` handshake, mostly with a session.
    Legacy,
}

impl Era {
    /// The era as people and machines read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
        }
    }
}

impl fmt::Display for Era {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
