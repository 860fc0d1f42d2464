//! How a registry stands: whether it can be written, and if not, why, and what to do about it.
//!
//! Reading goes on in every standing. Every sentence here names files of the registry's folder and nothing of what they
//! say.

use std::io;

use serde::Serialize;

use super::document::RegistryError;
use super::entry::EntryRule;
use super::lock::LockError;
use crate::model::WallMs;
use crate::policy::NoDecision;

/// Whether the registry can be written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Standing {
    /// It can.
    #[default]
    Writable,
    /// It can, and what was acknowledged is durable in the journal; the document can not be written.
    Behind {
        /// Why, and what to do.
        reason: String,
        /// Since when, in milliseconds since the Unix epoch.
        since: WallMs,
    },
    /// It can not; what was read before is served.
    ReadOnly {
        /// Why, and what to do.
        #[serde(flatten)]
        reason: ReadOnlyReason,
        /// Since when, in milliseconds since the Unix epoch.
        since: WallMs,
    },
}

impl Standing {
    /// Whether everything is as it should be.
    pub fn is_writable(&self) -> bool {
        matches!(self, Self::Writable)
    }

    /// Why it can not be written, if so.
    pub fn reason(&self) -> Option<&ReadOnlyReason> {
        match self {
            Self::Writable | Self::Behind { .. } => None,
            Self::ReadOnly { reason, .. } => Some(reason),
        }
    }
}

/// Why the registry is read-only. It ends by itself once the reason is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum ReadOnlyReason {
    /// The document can not be read.
    #[error("{error}; it is left as it is{}", copied(.copy.as_deref()))]
    Unreadable {
        /// What is wrong with it.
        #[serde(serialize_with = "as_text")]
        error: RegistryError,
        /// Where a copy of it was put.
        copy: Option<String>,
    },
    /// Acknowledged changes in a journal are damaged.
    #[error(
        "the journal {file} is damaged from change {sequence} on, which was acknowledged; everything else of it was \
         recovered. Look at it with `cortex-mcp registry journal dump`, then accept the loss with `cortex-mcp registry repair \
         --yes`"
    )]
    JournalDamaged {
        /// The damaged file.
        file: String,
        /// The first change that is lost.
        sequence: u64,
    },
    /// The disk fails.
    #[error("the disk does not take it: {error}; {}", advice(.kind))]
    Disk {
        /// What the system says.
        error: String,
        /// Its kind.
        #[serde(skip)]
        kind: io::ErrorKind,
    },
}

fn copied(copy: Option<&str>) -> String {
    copy.map(|copy| format!(", and copied to {copy}")).unwrap_or_default()
}

fn advice(kind: &io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make the registry's folder writable for this user"
        }
        _ => "check the disk",
    }
}

fn as_text<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl ReadOnlyReason {
    /// A failure of the disk.
    pub(super) fn disk(error: &io::Error) -> Self {
        Self::Disk { error: error.to_string(), kind: error.kind() }
    }
}

/// Why a change is not in the registry, or a registry can not be opened. What it was about was not acknowledged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The entry breaks a rule.
    #[error("the entry {0}")]
    Entry(#[from] EntryRule),
    /// An entry of that name is there.
    #[error(
        "there is a server {name:?} already; to put another in its place, say so (`--overwrite`, or \"overwrite\": true)"
    )]
    Exists {
        /// The name.
        name: String,
    },
    /// No entry of that name is there.
    #[error("there is no server {name:?} in the registry; `cortex-mcp registry list` names those that are")]
    Missing {
        /// The name.
        name: String,
    },
    /// The registry is full.
    #[error("the registry is full: it may hold {servers} servers in {bytes} bytes; remove some first")]
    Full {
        /// How many servers it may hold.
        servers: usize,
        /// How many bytes it may have.
        bytes: usize,
    },
    /// The registry can not be written.
    #[error("the registry is read-only: {0}")]
    ReadOnly(ReadOnlyReason),
    /// The change may or may not be kept.
    #[error("the change was not acknowledged, and may or may not be kept: {0}")]
    Unacknowledged(ReadOnlyReason),
    /// The lock is not to be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The folder can not be read.
    #[error(
        "the registry's folder can not be used: {0}; check that it is there, that it is yours, and that the disk has space"
    )]
    Disk(#[from] io::Error),
    /// Other writers changed the file each time that it was to be written.
    #[error(
        "another program changes the registry all the time without taking its lock, so that the change may or may not be kept; end that program and try again"
    )]
    Contended,
    /// Too many changes wait.
    #[error("too many changes wait for the disk; try again later")]
    Busy,
    /// The store was closed.
    #[error("the registry is closed: this process ends")]
    Closed,
    /// The commit panicked.
    #[error(
        "the registry's commit was cut off by a fault of this program, so that the change may or may not be kept; look at the \
         log, then at the registry, and repeat the change if it is not there"
    )]
    Interrupted,
    /// The policy gave no decision.
    #[error(transparent)]
    Policy(#[from] NoDecision),
    /// The policy decided for what was there.
    #[error("the policy keeps what is there for {name:?}")]
    Overruled {
        /// The name.
        name: String,
    },
}

impl StoreError {
    /// The same error once more, for someone else who waits for the same write.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Entry(rule) => Self::Entry(*rule),
            Self::Exists { name } => Self::Exists { name: name.clone() },
            Self::Missing { name } => Self::Missing { name: name.clone() },
            Self::Full { servers, bytes } => Self::Full { servers: *servers, bytes: *bytes },
            Self::ReadOnly(reason) => Self::ReadOnly(reason.clone()),
            Self::Unacknowledged(reason) => Self::Unacknowledged(reason.clone()),
            Self::Lock(LockError::Held { file }) => Self::Lock(LockError::Held { file: file.clone() }),
            Self::Lock(LockError::LegacyHeld { file }) => Self::Lock(LockError::LegacyHeld { file: file.clone() }),
            Self::Lock(LockError::Disk(error)) => Self::Lock(LockError::Disk(copy(error))),
            Self::Disk(error) => Self::Disk(copy(error)),
            Self::Contended => Self::Contended,
            Self::Busy => Self::Busy,
            Self::Closed => Self::Closed,
            Self::Interrupted => Self::Interrupted,
            Self::Policy(error) => Self::Policy(error.clone()),
            Self::Overruled { name } => Self::Overruled { name: name.clone() },
        }
    }
}

/// The same kind of error and the same words.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
