//! What a definition is of.

use serde::{Deserialize, Serialize};

use crate::model::ListKind;

/// What a model reads of a server before it calls it: the items of its lists, and its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefinitionKind {
    /// An item of [`ListKind::Tools`].
    Tools,
    /// An item of [`ListKind::Prompts`].
    Prompts,
    /// An item of [`ListKind::Resources`].
    Resources,
    /// An item of [`ListKind::Templates`].
    Templates,
    /// `instructions` in the result of `initialize` or `server/discover`. One item, under the connector's ID.
    Instructions,
}

impl DefinitionKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates, Self::Instructions];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "templates",
            Self::Instructions => "instructions",
        }
    }

    /// What one item is called.
    pub fn singular(self) -> &'static str {
        self.list().map_or("instructions", ListKind::singular)
    }

    /// The list that the items are of; none for instructions.
    pub const fn list(self) -> Option<ListKind> {
        match self {
            Self::Tools => Some(ListKind::Tools),
            Self::Prompts => Some(ListKind::Prompts),
            Self::Resources => Some(ListKind::Resources),
            Self::Templates => Some(ListKind::Templates),
            Self::Instructions => None,
        }
    }
}

impl From<ListKind> for DefinitionKind {
    fn from(kind: ListKind) -> Self {
        match kind {
            ListKind::Tools => Self::Tools,
            ListKind::Prompts => Self::Prompts,
            ListKind::Resources => Self::Resources,
            ListKind::Templates => Self::Templates,
        }
    }
}
