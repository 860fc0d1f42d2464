//! How a command ends: its exit code, or an error that says what to do.

use std::net::SocketAddr;
use std::process::ExitCode;

use cortex_mcp::config::ConfigError;
use cortex_mcp::demo::StageError;
use cortex_mcp::edge::file_access::Exposure;
use cortex_mcp::edge::http::HttpSetupError;
use cortex_mcp::gateway::{StartError, SwapError};
use cortex_mcp::policy::PolicyError;
use cortex_mcp::registry::formats::ImportError;
use cortex_mcp::registry::{EntryRule, StoreError, TargetFault};
use cortex_mcp::service_map::{EndpointError, KeyRingError, MapError};
use cortex_mcp::trace::TraceError;
use cortex_mcp::trace::why::WhyError;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Good,
    Failed,
    Usage,
    Partly,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Partly => 3,
        })
    }
}

/// A command that can not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Swap(#[from] SwapError),
    #[cfg(feature = "compose")]
    #[error(transparent)]
    Stack(#[from] cortex_mcp::policy::stack::StackError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    #[error("the service map's address is not usable: {0}")]
    Endpoint(#[from] EndpointError),
    #[error("the signature key is not usable: {0}")]
    Keys(#[from] KeyRingError),
    #[error("{0}")]
    Map(#[from] MapError),
    #[error("no signature key: set CONNECTORS_SIGNATURE_KEY to the key that signs the map")]
    NoKey,
    #[error("{address} is already in use; stop what listens there, or choose another address with --listen")]
    Taken { address: SocketAddr },
    #[error("{address} can not be listened on: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("no gateway answers at {url}: {reason}; start one with `cortex-mcp serve`, or name another with --url")]
    NoGateway { url: String, reason: String },
    #[error("the gateway refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("no trace to read: {hint}")]
    NoTrace { hint: String },
    #[error("{0}")]
    Why(WhyError),
    #[error(transparent)]
    Registry(#[from] StoreError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(
        "there is no journal {file} in the registry's folder; `cortex-mcp registry journal dump` names those that are"
    )]
    NoJournal { file: String },
    #[error("{path} is there already; replace it with --force, or choose another name")]
    FileTaken { path: String },
    #[error("{path} is not used, because others can write it: {exposure}; or allow it with --allow-shared-files")]
    Shared { path: String, exposure: Exposure },
    #[error("{name} {fault}; use --force to add it all the same")]
    OwnTarget { name: String, fault: TargetFault },
    #[error("{name} {fault}")]
    Target { name: String, fault: TargetFault },
    #[error("{0}")]
    Usage(String),
    #[error("this machine gives no random bytes: {0}; try again once it has started up")]
    Random(std::io::Error),
    #[error("the runtime can not be started: {0}")]
    Runtime(std::io::Error),
}

impl CommandError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::NoKey | Self::Keys(_) | Self::Endpoint(_) => Exit::Usage,
            Self::Shared { .. } => Exit::Usage,
            Self::Start(StartError::Config(_) | StartError::Keys(_) | StartError::Endpoint(_)) => Exit::Usage,
            Self::Stage(StageError::Numbers { .. }) => Exit::Usage,
            Self::Registry(StoreError::Entry(_)) | Self::OwnTarget { .. } | Self::Target { .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// A word for machines.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::NoKey | Self::Keys(_) | Self::Endpoint(_) | Self::Shared { .. } => "config",
            Self::Start(StartError::Config(_) | StartError::Keys(_) | StartError::Endpoint(_)) => "config",
            Self::Start(StartError::Policy(_)) | Self::Policy(_) | Self::Swap(_) => "policy",
            #[cfg(feature = "compose")]
            Self::Stack(_) => "policy",
            Self::Map(error) => error.group().as_str(),
            Self::Taken { .. } | Self::Listen { .. } => "listen",
            Self::NoGateway { .. } => "no-gateway",
            Self::Refused(_) => "refused",
            Self::File { .. } => "file",
            Self::Trace(TraceError::Policy(_)) => "policy",
            Self::Trace(_) | Self::NoTrace { .. } => "trace",
            Self::Why(_) => "subject",
            Self::Registry(error) => registry_class(error),
            Self::Import(_) => "import",
            Self::NoJournal { .. } => "not-found",
            Self::FileTaken { .. } => "exists",
            Self::OwnTarget { fault, .. } | Self::Target { fault, .. } => fault.code(),
            Self::Usage(_) | Self::Stage(_) => "usage",
            Self::Start(_) | Self::Http(_) | Self::Random(_) | Self::Runtime(_) => "start",
        }
    }
}

/// A word for what the registry refuses.
fn registry_class(error: &StoreError) -> &'static str {
    match error {
        StoreError::Entry(EntryRule::Name) => "name",
        StoreError::Entry(_) => "entry",
        StoreError::Exists { .. } => "exists",
        StoreError::Missing { .. } => "not-found",
        StoreError::Full { .. } => "full",
        StoreError::ReadOnly(_) => "read-only",
        StoreError::Unacknowledged(_) | StoreError::Interrupted => "unacknowledged",
        StoreError::Lock(_) => "locked",
        StoreError::Disk(_) => "disk",
        StoreError::Contended | StoreError::Busy => "busy",
        StoreError::Policy(_) | StoreError::Overruled { .. } => "policy",
        _ => "registry",
    }
}
