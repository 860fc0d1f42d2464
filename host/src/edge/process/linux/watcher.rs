//! The watcher: a process that forks a shim for every child, and ends whatever a shim leaves behind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Instant;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Signal, getpid, set_child_subreaper};
use rustix::stdio::{dup2_stdin, stdin};
use rustix::thread::set_name;

use super::privileges::hide_process;
use super::shim;
use super::signals::{Children, child_signals, reap, wait};
use super::tree::descendants;
use super::wire::{Received, Report, Request};
use crate::edge::process::limits;

/// The argument that makes a watcher of the binary. The gateway passes it; people have no use for it.
pub(super) const WATCHER_ARGUMENT: &str = "--watch-child-processes";

/// Runs the watcher until the gateway is gone, if this process was started to be one. To be called before anything else:
/// a watcher has one thread and little memory.
pub fn run_watcher_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(WATCHER_ARGUMENT)) || arguments.next().is_some() {
        return None;
    }
    Some(if run().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The watcher at work.
struct Watching {
    signals: OwnedFd,
    shims: BTreeSet<i32>,
    /// How often the process table is still read for what a shim has left behind.
    rounds: u64,
}

fn run() -> io::Result<()> {
    hide_process();
    // Otherwise it would be called after the link that it was started by.
    let _ = set_name(c"cortex-watcher");
    close_inherited();
    let gateway = fcntl_dupfd_cloexec(stdin(), 3)?;
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    set_child_subreaper(Some(getpid()))?;
    let mut watching = Watching { signals: child_signals()?, shims: BTreeSet::new(), rounds: 0 };
    loop {
        let limit = (watching.rounds > 0).then_some(limits::RESCAN_MS);
        let [asked, signalled] = wait([gateway.as_fd(), watching.signals.as_fd()], limit)?;
        if signalled {
            watching.reap();
        }
        watching.end_strays();
        if asked {
            match Request::receive(&gateway) {
                Received::Request(request) => watching.fork_shim(request, &gateway),
                Received::Nothing => {}
                Received::End => break,
            }
        }
    }
    watching.end();
    Ok(())
}

/// Closes what the gateway may have inherited itself, but for the standard streams.
#[allow(unsafe_code, reason = "descriptors that have no owner here")]
fn close_inherited() {
    let from: libc::c_uint = 3;
    // SAFETY: nothing here has opened a descriptor yet. The kernels that lack the call (before 5.9) close nothing: then
    // what the gateway itself opened is closed by its close-on-exec flag, and what it inherited stays.
    unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0) };
}

impl Watching {
    #[allow(unsafe_code, reason = "fork")]
    fn fork_shim(&mut self, request: Request, gateway: &OwnedFd) {
        // Made here, so that it cannot fail in the shim.
        let signals = match self.signals.try_clone() {
            Ok(signals) => signals,
            Err(error) => return Report::failed(&error).send(request.control),
        };
        // SAFETY: this process has one thread of its own, so that the new one may do whatever this one may. An allocator's
        // thread, if the binary's has one, is prepared for a fork by that allocator (`pthread_atfork`).
        match unsafe { libc::fork() } {
            0 => {
                // Otherwise the gateway would not see the end of its watcher.
                // SAFETY: closed once, because this process never returns to its owner.
                unsafe { libc::close(gateway.as_raw_fd()) };
                std::process::exit(i32::from(shim::run(request, signals) > 0));
            }
            -1 => Report::failed(&io::Error::last_os_error()).send(request.control),
            shim => {
                self.shims.insert(shim);
            }
        }
    }

    /// Waits for what has ended.
    fn reap(&mut self) -> Children {
        let Self { signals, shims, rounds } = self;
        reap(signals, |pid, status| {
            if shims.remove(&pid.as_raw_nonzero().get()) && status.exit_status() != Some(0) {
                // As often as fits into the time that the shim itself would have had.
                *rounds = u64::try_from(limits::KILL_TIMEOUT.as_millis()).unwrap_or(u64::MAX) / limits::RESCAN_MS;
            }
        })
    }

    /// Kills what a shim has left behind: every child of this process that is no shim, and all below it.
    fn end_strays(&mut self) {
        if self.rounds > 0 {
            let strays = descendants(getpid(), |pid| self.shims.contains(&pid));
            strays.iter().for_each(|process| process.signal(Signal::KILL));
            self.rounds = if strays.is_empty() { 0 } else { self.rounds - 1 };
        }
    }

    /// The gateway is gone: waits for the shims, which see the same, and kills whatever is late.
    fn end(mut self) {
        let began = Instant::now();
        while self.reap() == Children::Left && began.elapsed() < 2 * limits::SHIM_END_TIMEOUT {
            self.end_strays();
            if began.elapsed() >= limits::SHIM_END_TIMEOUT {
                descendants(getpid(), |_| false).iter().for_each(|process| process.signal(Signal::KILL));
            }
            let _ = wait([self.signals.as_fd()], Some(limits::RESCAN_MS));
        }
    }
}
