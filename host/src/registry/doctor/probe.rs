//! What the file system can do, tried out with temporary files that are removed again.

use std::io;

use super::{Examining, Finding};

/// The checks of a probe.
pub(super) const CHECKS: [&str; 4] = ["probe-exchange", "probe-link", "probe-folder-sync", "probe-lock"];

/// Numbers of temporary files from here on are drawn by no writer: theirs are below 2^53.
const FIRST_NUMBER: u64 = 1 << 60;

impl Examining<'_> {
    /// Tries out swapping, linking, locking, and making names durable.
    pub(super) fn probe(&mut self) {
        // Another one than that of a probe that was cut off.
        let first = FIRST_NUMBER + self.how.now.0.saturating_mul(4) % FIRST_NUMBER;
        let names = [0, 1, 2].map(|number| self.names.temporary(first + number));
        let prepared = names[..2].iter().try_for_each(|name| self.disk.create(name).map(drop));
        match prepared {
            Ok(()) => self.probe_with(&names),
            Err(error) => {
                let message = format!("no file can be made in the folder: {error}");
                let remedy = "make the folder writable for this user, or free some space";
                self.found(Finding::error("probe-write", message, remedy));
            }
        }
        for name in &names {
            // What is not there needs no removing.
            let _ = self.disk.remove(name);
        }
    }

    fn probe_with(&mut self, [one, other, link]: &[String; 3]) {
        let exchanged = self.disk.exchange(one, other);
        self.told(
            CHECKS[0],
            exchanged,
            "files can be swapped in one step",
            "files can not be swapped in one step, so that an edit of a program that takes no lock may be overwritten in a \
             moment between two steps",
        );
        let linked = self.disk.link(one, link);
        let without = "files can not have two names, so that each document is written twice";
        self.told(CHECKS[1], linked, "a file can have two names", without);
        let synced = self.disk.sync();
        let without = "the file system does not promise that files outlast a power failure";
        self.told(CHECKS[2], synced, "names of files can be made durable", without);
        let locked = match (self.disk.open(one), self.disk.open(one)) {
            (Ok(Some(first)), Ok(Some(second))) => match (first.try_lock(), second.try_lock()) {
                (Ok(true), Ok(false)) => Ok(()),
                (Ok(_), Ok(_)) => Err(io::ErrorKind::Unsupported.into()),
                (Err(error), _) | (_, Err(error)) => Err(error),
            },
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let without = "files can not be locked, so that two programs may write at once";
        self.told(CHECKS[3], locked, "files can be locked", without);
    }

    fn told(&mut self, check: &'static str, result: io::Result<()>, good: &str, without: &str) {
        let remedy = "move the registry to a local file system";
        self.found(match result {
            Ok(()) => Finding::ok(check, good),
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                Finding::warning(check, without, remedy)
            }
            Err(error) => Finding::error(check, format!("the disk does not take it: {error}"), "check the disk"),
        });
    }
}
