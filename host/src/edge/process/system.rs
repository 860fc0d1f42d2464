//! The real processes.

use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::launch::Launch;
#[cfg(target_os = "linux")]
use super::linux::Watcher;
use super::{Child, Processes, SpawnFault, direct};
use crate::model::{ChildRules, CommandLine};

/// The real processes. To be used on a runtime that drives input and output. Clones share their watcher process.
///
/// ```no_run
/// use cortex_mcp::edge::process::SystemProcesses;
///
/// // Children end with this program, even if it is killed.
/// let processes = SystemProcesses::new().watched_by("/usr/bin/cortex-mcp".into());
/// ```
#[derive(Clone, Debug, Default)]
pub struct SystemProcesses {
    descriptor_limit: Option<u64>,
    #[cfg(target_os = "linux")]
    watcher: Option<Arc<Watcher>>,
}

impl SystemProcesses {
    /// Processes that are children of this one. If this process is killed (`kill -9`), they see the end of their standard
    /// input, which is the protocol's way of asking a server to end, and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Processes that a watcher process starts, and ends with everything that they started as soon as this process is
    /// gone, whatever it ended by. `program` is a `cortex-mcp` binary of the same version. On other systems than Linux
    /// there is no watcher, and this changes nothing.
    #[must_use]
    pub fn watched_by(self, program: PathBuf) -> Self {
        #[cfg(target_os = "linux")]
        let processes = Self { watcher: Some(Arc::new(Watcher::new(program))), ..self };
        #[cfg(not(target_os = "linux"))]
        let (processes, _) = (self, program);
        processes
    }

    /// Gives every process another soft limit of open descriptors than this process has.
    #[must_use]
    pub fn descriptor_limit(self, limit: u64) -> Self {
        Self { descriptor_limit: Some(limit), ..self }
    }
}

impl Processes for SystemProcesses {
    fn start<'a>(
        &'a self,
        command: &'a CommandLine,
        rules: &'a ChildRules,
    ) -> BoxFuture<'a, Result<Child, SpawnFault>> {
        let launch = Launch::new(command, rules, self.descriptor_limit);
        #[cfg(target_os = "linux")]
        if let Some(watcher) = &self.watcher {
            return watcher.start(launch).boxed();
        }
        async move { direct::start(&launch) }.boxed()
    }
}
