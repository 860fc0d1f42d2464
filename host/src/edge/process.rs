//! Child processes as one small trait: a command is started, and three streams and its life come back.
//!
//! Each child leads a process group of its own. It gets the variables of a documented list ([`INHERITED`]) and those that
//! the configuration adds, and no privileges: a gateway's own secrets stay with the gateway. No shell reads the command.
//!
//! A child never outlives whoever holds its [`Life`]. Nor does what it started, where a watcher process starts it
//! ([`SystemProcesses::watched_by`]): not even if the gateway is killed. Without one, what a child starts ends with its
//! process group.
//!
//! Everything that is specific to Linux stands in the module `linux`.

mod direct;
mod environment;
mod launch;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod linux;
mod system;

use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::environment::{INHERITED, InheritedVariables, is_inherited};
#[cfg(target_os = "linux")]
use self::linux::drop_privileges;
#[cfg(target_os = "linux")]
pub use self::linux::{hide_process, run_watcher_if_asked};
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

/// The life of a child and of everything that it started. Dropping it kills them all at once.
pub trait Life: Send + 'static {
    /// Waits until the child itself has ended; what it started may go on. May be asked again, and may be dropped.
    fn ended(&mut self) -> BoxFuture<'_, ()>;

    /// Asks them all to end (SIGTERM).
    fn terminate(&mut self);

    /// Kills what is left of them (SIGKILL), waits for the child and returns how it ended.
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
    /// The watcher process, which starts all commands, cannot be started.
    #[error("the watcher process that starts servers cannot be started: {0}; check that /proc is mounted")]
    Watcher(io::ErrorKind),
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

/// Hides the memory, environment and descriptors of this process from other processes of its user, where the system can.
#[cfg(not(target_os = "linux"))]
pub fn hide_process() {}

/// Runs the watcher, if this process was started to be one: never, where there is none.
#[cfg(not(target_os = "linux"))]
pub fn run_watcher_if_asked() -> Option<std::process::ExitCode> {
    None
}

/// Drops what a process may do beyond what its user may: nothing, where the system has no such thing.
#[cfg(not(target_os = "linux"))]
fn drop_privileges() -> io::Result<()> {
    Ok(())
}
