//! Children that end: the one signal that watcher and shims take notice of, read from a descriptor, and waiting.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::process::{Pid, WaitOptions, WaitStatus};

/// Blocks all signals, because neither Ctrl-C nor the end of a whole control group may end a watcher before its
/// children, and returns a descriptor that becomes readable when a child ends.
#[allow(unsafe_code, reason = "signal masks and signalfd")]
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: a signal set is plain memory that `sigfillset` and `sigemptyset` initialise; all pointers are to locals.
    unsafe {
        let (mut all, mut child) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigemptyset(&raw mut child);
        libc::sigaddset(&raw mut child, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            // The descriptor is new, and belongs to nothing else.
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Blocks no signal: a program inherits the mask. Makes a system call only.
#[allow(unsafe_code, reason = "signal masks")]
pub(super) fn unblock_signals() -> io::Result<()> {
    // SAFETY: as above.
    let changed = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    };
    if changed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process has children left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Children {
    /// Some that run.
    Left,
    /// None at all.
    None,
}

/// Waits for every child that has ended, also for those that their parents left to this process.
pub(super) fn reap(signals: &OwnedFd, mut ended: impl FnMut(Pid, WaitStatus)) -> Children {
    // First the descriptor: it becomes readable with the next signal only, and a child may end at any time.
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    while retry_on_intr(|| read(signals, &mut bytes)).is_ok_and(|count| count > 0) {}
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended(pid, status),
            Ok(None) => return Children::Left,
            Err(Errno::INTR) => {}
            Err(_) => return Children::None,
        }
    }
}

/// Waits until a descriptor is readable or closed, at most so many milliseconds, or without a bound. Returns which are.
pub(super) fn wait<const N: usize>(descriptors: [BorrowedFd<'_>; N], limit_ms: Option<u64>) -> io::Result<[bool; N]> {
    let mut polled = descriptors.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    let limit = limit_ms.map(|limit| Timespec {
        tv_sec: i64::try_from(limit / 1_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(limit % 1_000 * 1_000_000).unwrap_or(0),
    });
    match poll(&mut polled, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(polled.map(|one| !one.revents().is_empty())),
        Err(error) => Err(error.into()),
    }
}
