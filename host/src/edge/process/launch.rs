//! A command with everything that its process is given: what both ways of starting one share.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::environment::child_environment;
use crate::model::{ChildRules, CommandLine, Privileges};

/// A command that is ready to be started.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    /// The whole environment.
    pub(super) environment: BTreeMap<OsString, OsString>,
    pub(super) privileges: Privileges,
    /// The soft limit of open descriptors; none leaves the one in force.
    pub(super) descriptor_limit: Option<u64>,
}

impl Launch {
    /// A command, with what its process is given of this process's environment.
    pub(super) fn new(command: &CommandLine, rules: &ChildRules, descriptor_limit: Option<u64>) -> Self {
        Self {
            program: command.program.as_str().into(),
            arguments: command.arguments.iter().map(OsString::from).collect(),
            environment: child_environment(|name| std::env::var_os(name), command, rules),
            privileges: rules.privileges,
            descriptor_limit,
        }
    }

    /// The command: in a process group of its own, and with its streams still to be set.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(&self.environment).process_group(0);
        command
    }
}

/// Prepares the new process before it runs its program. Makes system calls only, allocates nothing and takes no lock, so
/// that it may run between `fork` and `exec`.
///
/// # Errors
/// The system's, if privileges cannot be dropped.
pub(super) fn prepare(privileges: Privileges, descriptor_limit: Option<u64>) -> std::io::Result<()> {
    if let Some(limit) = descriptor_limit {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // A limit that cannot be set is no reason to start nothing.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum });
    }
    match privileges {
        Privileges::Drop => super::drop_privileges(),
        Privileges::Keep => Ok(()),
    }
}
