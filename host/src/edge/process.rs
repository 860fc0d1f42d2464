//! Child processes as one small trait: a command is started, and three streams and its life come back.
//!
//! Each child leads a process group of its own, so that what it starts ends with it. It inherits a few harmless
//! variables and nothing else of the environment: a gateway's own secrets stay with the gateway. No shell reads the
//! command.
//!
//! A child never outlives whoever holds its [`Life`]. Should the gateway itself be killed (`kill -9`), nobody is left
//! to signal anything: its children then see the end of their standard input, which is the protocol's way of asking a
//! server to end.

mod system;

use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::system::SystemProcesses;
use crate::model::{ChildRules, CommandLine};

/// The operating system's processes.
pub trait Processes: Send + Sync + 'static {
    /// Starts a command under the given rules. If the future is dropped, no process stays behind.
    ///
    /// # Errors
    /// [`SpawnFault`], if the command cannot be started.
    fn start<'a>(&'a self, command: &'a CommandLine, rules: &'a ChildRules)
    -> BoxFuture<'a, Result<Child, SpawnFault>>;
}

/// Starts the processes of one connector, each under the rules that are in force at that moment.
#[derive(Clone)]
pub struct ChildSpawner {
    processes: Arc<dyn Processes>,
    rules: Arc<dyn Fn() -> ChildRules + Send + Sync>,
}

impl ChildSpawner {
    /// Starts processes under the default rules.
    pub fn new(processes: Arc<dyn Processes>) -> Self {
        Self::with_rules(processes, ChildRules::default)
    }

    /// Starts processes under rules that are asked for at each start.
    pub fn with_rules(processes: Arc<dyn Processes>, rules: impl Fn() -> ChildRules + Send + Sync + 'static) -> Self {
        Self { processes, rules: Arc::new(rules) }
    }

    /// Starts a command.
    ///
    /// # Errors
    /// [`SpawnFault`], if the command cannot be started.
    pub async fn start(&self, command: &CommandLine) -> Result<Child, SpawnFault> {
        let rules = (self.rules)();
        self.processes.start(command, &rules).await
    }
}

impl fmt::Debug for ChildSpawner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChildSpawner").field("rules", &(self.rules)()).finish_non_exhaustive()
    }
}

/// A child that was started. Whoever has it ends it, and waits for its end.
pub struct Child {
    /// Its process ID, for logs and status.
    pub pid: u32,
    /// Its standard input.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub errors: Box<dyn AsyncRead + Send + Unpin>,
    /// Its life.
    pub life: Box<dyn Life>,
}

/// The life of a child and of everything in its process group. Dropping it kills them all at once.
pub trait Life: Send + 'static {
    /// Waits until the child itself has ended; what it started may go on. May be asked again, and may be dropped.
    fn ended(&mut self) -> BoxFuture<'_, ()>;

    /// Asks the whole group to end (SIGTERM).
    fn terminate(&mut self);

    /// Kills what is left of the group (SIGKILL), waits for the child and tells how it ended. Nobody of the group does
    /// anything after that; the system itself waits for the child's own children.
    fn bury(self: Box<Self>) -> BoxFuture<'static, Exit>;
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With a status of its own.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody knows.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "status {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
            Self::Unknown => formatter.write_str("an unknown status"),
        }
    }
}

/// Why a command can not be started. The command itself is not quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnFault {
    /// There is no such program.
    #[error("there is no such program; check the command and PATH")]
    NotFound,
    /// The program may not be run.
    #[error("the program may not be run; check its permissions")]
    Forbidden,
    /// The operating system refuses.
    #[error("the operating system refuses: {0}")]
    Other(io::ErrorKind),
}

impl From<io::Error> for SpawnFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            other => Self::Other(other),
        }
    }
}

/// The variables that a child inherits, where they are set: what programs need to find themselves and speak to people.
pub const INHERITED: [&str; 10] =
    ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"];
