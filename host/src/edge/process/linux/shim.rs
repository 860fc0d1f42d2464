//! The shim of one child: starts it, and ends whatever it started.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process_group, set_child_subreaper, set_parent_process_death_signal,
};
use rustix::thread::set_name;

use super::signals::{Children, reap, unblock_signals, wait};
use super::tree::descendants;
use super::wire::{Order, Report, Request};
use crate::edge::process::launch::{Launch, prepare};
use crate::edge::process::{Exit, limits};

/// A shim at work.
struct Shim {
    control: OwnedFd,
    /// Readable when a child of this process has ended.
    signals: OwnedFd,
    /// The command's process, until its end was reported.
    command: Option<Pid>,
}

/// Starts what is asked for and stays until nothing of it is left. Returns how many processes could not be ended.
pub(super) fn run(request: Request, signals: OwnedFd) -> i32 {
    let Request { control, launch, streams } = request;
    let _ = set_name(c"cortex-shim");
    let started = set_child_subreaper(Some(getpid()))
        .map_err(io::Error::from)
        .and_then(|()| Launch::read(launch))
        .and_then(|launch| start(&launch, streams));
    match started {
        Ok(command) => {
            Report::Started(command.as_raw_nonzero().get()).send(&control);
            Shim { control, signals, command: Some(command) }.watch()
        }
        Err(error) => {
            Report::failed(&error).send(&control);
            0
        }
    }
}

/// Starts the command. Its streams are closed here afterwards.
#[allow(unsafe_code, reason = "what a child does before it runs its program can be set in no other way")]
fn start(launch: &Launch, streams: [OwnedFd; 3]) -> io::Result<Pid> {
    let [input, output, errors] = streams;
    let mut command = launch.command();
    command.stdin(input).stdout(output).stderr(errors);
    let (privileges, limit, shim) = (launch.privileges, launch.descriptor_limit, getpid());
    let before_exec = move || {
        unblock_signals()?;
        prepare(privileges, limit)?;
        // Last, because the kernel clears it when credentials change. The shim may have been killed before it was set.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() == Some(shim) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: this process has one thread; system calls only.
    unsafe { command.pre_exec(before_exec) };
    Ok(Pid::from_child(&command.spawn()?))
}

impl Shim {
    /// Follows orders and reports until the end.
    fn watch(mut self) -> i32 {
        loop {
            // It fails only where the kernel has no memory: then everything ends.
            let Ok([ordered, signalled]) = wait([self.control.as_fd(), self.signals.as_fd()], None) else {
                return self.kill();
            };
            if signalled {
                self.reap();
            }
            if ordered {
                match Order::receive(&self.control) {
                    Order::Terminate => {
                        descendants(getpid(), |_| false).iter().for_each(|process| process.signal(Signal::TERM));
                    }
                    Order::Kill => return self.kill(),
                }
            }
        }
    }

    /// Waits for what has ended, and reports the command's end.
    fn reap(&mut self) -> Children {
        let Self { control, signals, command } = self;
        reap(signals, |pid, status| {
            if *command == Some(pid) {
                *command = None;
                let exit = status.exit_status().map(Exit::Code);
                let exit = exit.or_else(|| status.terminating_signal().map(Exit::Signal));
                Report::Ended(exit.unwrap_or(Exit::Unknown)).send(&*control);
            }
        })
    }

    /// Kills everything below this process. Every process that dies leaves its children to this one, so that nothing is
    /// left once there are no children.
    fn kill(mut self) -> i32 {
        if let Some(command) = self.command {
            // Its number is its group's, and it was not waited for: no other group has it.
            let _ = kill_process_group(command, Signal::KILL);
        }
        let began = Instant::now();
        let mut left = 0;
        while self.reap() == Children::Left {
            // The group has this long to be gone: then there is mostly no need to read the process table.
            let _ = wait([self.signals.as_fd()], Some(limits::RESCAN_MS));
            if self.reap() == Children::None {
                left = 0;
                break;
            }
            let below = descendants(getpid(), |_| false);
            below.iter().for_each(|process| process.signal(Signal::KILL));
            if began.elapsed() >= limits::KILL_TIMEOUT {
                left = below.iter().filter(|process| process.is_alive()).count();
                break;
            }
        }
        let left = i32::try_from(left).unwrap_or(i32::MAX);
        Report::Gone(left).send(&self.control);
        left
    }
}
