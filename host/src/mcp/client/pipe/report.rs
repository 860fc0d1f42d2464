//! What is known of a process for the failure that people see: since when it runs, how it ended, and what it last wrote to its
//! standard error.

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::time::Instant;

use crate::edge::process::Exit;
use crate::model::mask::{Secrets, StderrLine};
use crate::model::{CommandLine, Failure, FailureClass};

/// A report of one process. It holds one line of standard error, of at most
/// [`MAX_COMPLAINT_BYTES`](crate::mcp::limits::MAX_COMPLAINT_BYTES).
#[derive(Debug)]
pub(super) struct ProcessReport {
    started: Instant,
    /// What may not be shown of what the process writes.
    secrets: Secrets,
    exit: OnceLock<Exit>,
    last_line: Mutex<LastLine>,
}

#[derive(Debug, Default)]
struct LastLine {
    bytes: Vec<u8>,
    /// Whether its end is missing.
    is_cut: bool,
}

impl ProcessReport {
    /// Of a process that starts now.
    pub(super) fn new(command: &CommandLine) -> Self {
        let (started, secrets) = (Instant::now(), Secrets::of_command(command));
        Self { started, secrets, exit: OnceLock::new(), last_line: Mutex::default() }
    }

    /// A line of standard error as the log may have it.
    pub(super) fn masked(&self, line: &[u8], is_cut: bool) -> String {
        self.secrets.masked(line, is_cut)
    }

    /// Notes a line of standard error. Blank ones say nothing, so that the one before them stays.
    pub(super) fn note_line(&self, line: &[u8], is_cut: bool) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        last.bytes.clear();
        last.bytes.extend_from_slice(line);
        last.is_cut = is_cut;
    }

    /// Notes how the process ended.
    pub(super) fn note_exit(&self, exit: Exit) {
        // A process ends once.
        let _ = self.exit.set(exit);
    }

    /// The failure of a process that has ended.
    pub(super) fn ended(&self) -> Failure {
        let message = match self.exit.get() {
            Some(exit) => format!("the server's process has ended with {exit}"),
            None => "the server's process has ended".to_owned(),
        };
        self.explain(Failure::new(FailureClass::Refused, message))
    }

    /// The failure of a process that runs and has not answered.
    pub(super) fn not_answered(&self) -> Failure {
        let seconds = self.started.elapsed().as_secs();
        let message = format!(
            "the server's process was started {seconds} s ago and has not answered yet; it keeps running and is asked again"
        );
        self.explain(Failure::new(FailureClass::Timeout, message))
    }

    /// The failure, with the last line of standard error.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        let stderr = StderrLine::new(&last.bytes, last.is_cut, &self.secrets, &failure.message);
        Failure { stderr, ..failure }
    }
}
