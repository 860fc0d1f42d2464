//! The processes below one, as `/proc` shows them, and signals that hit none but them.

use std::collections::BTreeMap;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pid: Pid,
    parent: i32,
    /// When it was started, in ticks since the system's start: a number that is used again has another one.
    started: u64,
    /// Whether it has ended and is waited for.
    is_dead: bool,
}

impl Process {
    /// Whether it still runs, as far as was seen.
    pub(super) fn is_alive(&self) -> bool {
        !self.is_dead
    }

    /// Its number.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Signals it, and no other process that has its number by now.
    pub(super) fn signal(&self, signal: Signal) {
        // It may be gone, or be of another user: then nothing can be done.
        if let Ok(handle) = pidfd_open(self.pid, PidfdFlags::empty())
            // The handle is of the process that had this number after it was opened and before: of the one that was seen.
            && seen(self.pid).is_some_and(|now| now.started == self.started)
        {
            let _ = pidfd_send_signal(&handle, signal);
        }
    }
}

/// Every process below one, but for those in `left_alone` and below these. Empty where `/proc` cannot be read.
pub(super) fn descendants(of: Pid, left_alone: impl Fn(i32) -> bool) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(process) = pid.and_then(seen) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let (mut found, mut parents) = (Vec::new(), vec![of.as_raw_nonzero().get()]);
    while let Some(parent) = parents.pop() {
        // Taken out, so that a table that changed while it was read leads to no circle.
        let below = children.remove(&parent).unwrap_or_default();
        for child in below.into_iter().filter(|child| !left_alone(child.pid())) {
            parents.push(child.pid());
            found.push(child);
        }
    }
    found
}

fn seen(pid: Pid) -> Option<Process> {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    parse(pid, &stat)
}

/// Reads `/proc/PID/stat` (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
fn parse(pid: Pid, stat: &[u8]) -> Option<Process> {
    // The name in parentheses may hold anything, also a parenthesis.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(end + 2..)?).ok()?.split(' ');
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    // The third field is the state, the twenty-second the start.
    let started = fields.nth(22 - 5)?.parse().ok()?;
    Some(Process { pid, parent, started, is_dead: matches!(state, "Z" | "X") })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_is() {
        for name in ["sh", "a b", ") R 7 (", "\u{fffd}"] {
            let stat = format!("12 ({name}) S 34 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 56789 1 2 3\n");
            let process = parse(getpid(), stat.as_bytes()).unwrap();
            assert_eq!((process.parent, process.started, process.is_alive()), (34, 56_789, true), "{name}");
        }
        assert!(parse(getpid(), b"12 (sh) S 34").is_none());
    }

    #[test]
    fn a_tree_is_found_but_for_what_is_left_alone() {
        // The shell waits for its own child.
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 300; true"]).spawn().unwrap();
        let pid = Pid::from_child(&shell);
        let wait = std::time::Duration::from_millis(1);
        let mut looks = std::iter::repeat_with(|| {
            std::thread::sleep(wait);
            descendants(pid, |_| false)
        });
        let below = looks.by_ref().take(10_000).find(|below| !below.is_empty()).unwrap();
        let number = pid.as_raw_nonzero().get();
        assert_eq!(below.len(), 1);
        assert!(descendants(getpid(), |_| false).iter().any(|process| process.pid() == below[0].pid()));
        assert!(!descendants(getpid(), |pid| pid == number).iter().any(|process| process.pid() == below[0].pid()));
        let stranger = Process { started: below[0].started + 1, ..below[0] };
        stranger.signal(Signal::KILL);
        assert!(seen(below[0].pid).unwrap().is_alive(), "another process that had this number is not signalled");
        below[0].signal(Signal::KILL);
        assert!(shell.wait().unwrap().success(), "the shell goes on after its child");
    }
}
