//! Children of this process itself, on tokio: where there is no watcher process.
//!
//! The end of a child is seen through a pidfd, before the child is waited for: as long as it was not, its number, which
//! is its group's too, belongs to no other process, so that no signal ever hits a stranger.
//!
//! A child is not tied to the life of this process by `PR_SET_PDEATHSIG`: the signal follows the thread that started the
//! child, and threads of a runtime end while the process goes on.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::process::Command;

use super::launch::{Launch, prepare};
use super::{Child, Exit, Life, SpawnFault};

/// Starts a child of this process.
#[allow(unsafe_code, reason = "what a child does before it runs its program can be set in no other way")]
pub(super) fn start(launch: &Launch) -> Result<Child, SpawnFault> {
    let mut command = Command::from(launch.command());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let (privileges, limit) = (launch.privileges, launch.descriptor_limit);
    // SAFETY: this process has several threads, so that after `fork` only async-signal-safe functions may be called.
    // `prepare` makes system calls only, and an `io::Error` of a system call is a number.
    unsafe { command.pre_exec(move || prepare(privileges, limit)) };
    let mut child = command.spawn()?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (Some(input), Some(output), Some(errors), Some(pid)) = (streams.0, streams.1, streams.2, pid) else {
        return Err(SpawnFault::Other(io::ErrorKind::Other));
    };
    let life = DirectLife {
        child,
        group: pid,
        #[cfg(target_os = "linux")]
        watched: rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok().and_then(watch),
        is_buried: false,
    };
    let (input, output, errors) = (Box::new(input), Box::new(output), Box::new(errors));
    Ok(Child { pid: pid.as_raw_nonzero().get().unsigned_abs(), input, output, errors, life: Box::new(life) })
}

#[cfg(target_os = "linux")]
#[allow(deprecated, reason = "what it is deprecated for is ruled out: an owned descriptor stays open and the same")]
fn watch(descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE).ok()
}

/// The life of a child of this process.
struct DirectLife {
    child: tokio::process::Child,
    group: Pid,
    /// Readable once the child has ended. Where there is no such thing, the child is waited for at once, and a signal to
    /// its group comes a moment after that.
    #[cfg(target_os = "linux")]
    watched: Option<AsyncFd<OwnedFd>>,
    is_buried: bool,
}

impl DirectLife {
    fn signal(&self, signal: Signal) {
        // No process is left to signal: that is what was wanted.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Life for DirectLife {
    fn ended(&mut self) -> BoxFuture<'_, ()> {
        async {
            #[cfg(target_os = "linux")]
            if let Some(watched) = &self.watched {
                // It stays readable; an error means that the runtime ends.
                return drop(watched.readable().await);
            }
            drop(self.child.wait().await);
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

impl Drop for DirectLife {
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
