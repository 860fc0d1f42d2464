//! Why a fetch failed: the class that the policy reasons with, and the words that people see.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mask::StderrLine;

/// The class of a failure; the same cases as `failure-class` of the policy contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The name did not resolve.
    Dns,
    /// No connection, or one that broke before the answer was whole.
    Refused,
    /// A deadline passed.
    Timeout,
    /// The origin refuses our credentials.
    Auth,
    /// The origin does not know the resource.
    NotFound,
    /// The resource is gone for good.
    Gone,
    /// The origin asks for fewer requests.
    Throttled,
    /// The origin failed.
    Server,
    /// The answer is larger than its cap.
    Oversize,
    /// The answer is a redirect that may not be followed.
    Redirect,
    /// The answer is not what the protocol demands.
    Decode,
    /// The signature is missing or does not match.
    Signature,
    /// The document breaks a rule of its format.
    Schema,
    /// The document was past its signed expiry.
    Expiry,
    /// The document is older than what was accepted before, or contradicts it.
    Rollback,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 15] = [
        Self::Dns,
        Self::Refused,
        Self::Timeout,
        Self::Auth,
        Self::NotFound,
        Self::Gone,
        Self::Throttled,
        Self::Server,
        Self::Oversize,
        Self::Redirect,
        Self::Decode,
        Self::Signature,
        Self::Schema,
        Self::Expiry,
        Self::Rollback,
    ];

    /// The class as people and machines read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::NotFound => "not-found",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::Server => "server",
            Self::Oversize => "oversize",
            Self::Redirect => "redirect",
            Self::Decode => "decode",
            Self::Signature => "signature",
            Self::Schema => "schema",
            Self::Expiry => "expiry",
            Self::Rollback => "rollback",
        }
    }

    /// The group under which the class is reported for the service map.
    pub fn group(self) -> FailureGroup {
        match self {
            Self::Dns | Self::Refused | Self::Timeout | Self::Redirect => FailureGroup::Transport,
            Self::Auth | Self::NotFound | Self::Gone | Self::Throttled | Self::Server => FailureGroup::Http,
            Self::Oversize | Self::Decode => FailureGroup::Decode,
            Self::Signature => FailureGroup::Signature,
            Self::Schema => FailureGroup::Schema,
            Self::Expiry => FailureGroup::Expiry,
            Self::Rollback => FailureGroup::Rollback,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The public error classes of the service map (design section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureGroup {
    /// The gateway's own configuration.
    Config,
    /// The origin could not be reached.
    Transport,
    /// The origin answered with an error.
    Http,
    /// The answer could not be read.
    Decode,
    /// The signature does not hold.
    Signature,
    /// The document breaks its schema.
    Schema,
    /// The document was expired.
    Expiry,
    /// The document is older than one accepted before.
    Rollback,
}

impl FailureGroup {
    /// The group's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Transport => "transport",
            Self::Http => "http",
            Self::Decode => "decode",
            Self::Signature => "signature",
            Self::Schema => "schema",
            Self::Expiry => "expiry",
            Self::Rollback => "rollback",
        }
    }
}

/// A failure: its class, a sentence that never quotes a body, a header or a key, and what the origin asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The class.
    pub class: FailureClass,
    /// What happened, for people.
    pub message: String,
    /// When the origin wants to be asked again.
    pub retry_after: Option<Duration>,
    /// What the server's process last wrote to its standard error: for those who may see everything, and never for the
    /// trace, a client or a restricted token.
    pub stderr: Option<StderrLine>,
}

impl Failure {
    /// A failure without a wish of the origin.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None, stderr: None }
    }
}
