//! The real processes, on tokio.
//!
//! The end of a child is seen through a pidfd, before the child is waited for: as long as it was not, its number, which
//! is its group's too, belongs to nobody else, so that no signal ever reaches a stranger.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

use super::{Child, Exit, INHERITED, Life, Processes, SpawnFault};
use crate::model::{ChildRules, CommandLine};

/// The real processes. To be used on a runtime that drives input and output.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemProcesses;

impl Processes for SystemProcesses {
    fn start<'a>(
        &'a self,
        command: &'a CommandLine,
        _rules: &'a ChildRules,
    ) -> BoxFuture<'a, Result<Child, SpawnFault>> {
        futures_util::future::ready(spawn(command)).boxed()
    }
}

fn spawn(command: &CommandLine) -> Result<Child, SpawnFault> {
    let mut starting = Command::new(&command.program);
    starting
        .args(&command.arguments)
        .env_clear()
        .envs(INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(&command.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = starting.spawn()?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (Some(input), Some(output), Some(errors), Some(group)) = (streams.0, streams.1, streams.2, group) else {
        return Err(SpawnFault::Other(io::ErrorKind::Other));
    };
    let watched = pidfd_open(group, PidfdFlags::empty()).ok().and_then(watch);
    let life = SystemLife { child, group, watched, is_buried: false };
    let (input, output, errors) = (Box::new(input), Box::new(output), Box::new(errors));
    Ok(Child { pid: group.as_raw_nonzero().get().unsigned_abs(), input, output, errors, life: Box::new(life) })
}

#[allow(deprecated, reason = "what it is deprecated for is ruled out: an owned descriptor stays open and the same")]
fn watch(descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE).ok()
}

/// The life of a real child.
struct SystemLife {
    child: tokio::process::Child,
    group: Pid,
    /// Readable once the child has ended. None where the kernel has no such thing: then the child is waited for at
    /// once, and a signal to its group comes a moment after that.
    watched: Option<AsyncFd<OwnedFd>>,
    is_buried: bool,
}

impl SystemLife {
    fn signal(&self, signal: Signal) {
        // Nobody is left to signal: that is what was wanted.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Life for SystemLife {
    fn ended(&mut self) -> BoxFuture<'_, ()> {
        async {
            match &self.watched {
                // It stays readable; an error means that the runtime ends.
                Some(watched) => drop(watched.readable().await),
                None => drop(self.child.wait().await),
            }
        }
        .boxed()
    }

    fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    fn bury(mut self: Box<Self>) -> BoxFuture<'static, Exit> {
        async move {
            self.signal(Signal::KILL);
            let status = self.child.wait().await;
            self.is_buried = true;
            status.map_or(Exit::Unknown, exit_of)
        }
        .boxed()
    }
}

impl Drop for SystemLife {
    fn drop(&mut self) {
        if !self.is_buried {
            // The child itself is waited for by the runtime (`kill_on_drop`).
            self.signal(Signal::KILL);
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}
