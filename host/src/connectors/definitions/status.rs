//! What `status` shows of a connector's definitions.

use serde::Serialize;

use super::kind::DefinitionKind;
use crate::config::OnChange;
use crate::model::{Digest, PathFault};

/// How a connector's definitions differ from what was approved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionsStatus {
    /// What becomes of changes.
    pub on_change: OnChange,
    /// When the baseline was taken: with the first definition; none if there was none yet.
    pub baseline_taken_at: Option<String>,
    /// How many items differ from what was approved.
    pub changes: usize,
    /// The digest by which all of them are approved.
    pub digest: Option<Digest>,
    /// The first of them.
    pub first: Vec<ChangedDefinition>,
    /// How many items are listed and not served until they are approved.
    pub hidden: usize,
    /// What is not served because of the gateways that it passed through.
    pub left_out: LeftOutDefinitions,
}

/// An item that differs from what was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedDefinition {
    /// What it is of.
    pub kind: DefinitionKind,
    /// Its server's own name, URI or URI template; the connector's ID for instructions.
    pub name: String,
    /// How it differs.
    pub change: ChangeKind,
    /// Whether it alternates.
    pub unstable: bool,
    /// The digest by which it is approved.
    pub digest: Digest,
}

/// How an item differs from what was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// Its definition is another one.
    Changed,
    /// It is not there any more.
    Removed,
    /// It is as it was approved, and alternates.
    Returned,
}

impl ChangeKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Returned => "returned",
        }
    }
}

/// How many definitions are not served because of the gateways that they passed through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutDefinitions {
    /// They passed through this gateway before.
    pub own_instance: usize,
    /// They passed through too many gateways.
    pub path_too_long: usize,
    /// Their paths cannot be read.
    pub path_malformed: usize,
}

impl LeftOutDefinitions {
    /// All of them.
    pub fn count(self) -> usize {
        self.own_instance + self.path_too_long + self.path_malformed
    }

    pub(super) fn add(&mut self, fault: PathFault) {
        match fault {
            PathFault::OwnInstance => self.own_instance += 1,
            PathFault::TooLong => self.path_too_long += 1,
            PathFault::Malformed => self.path_malformed += 1,
        }
    }
}
