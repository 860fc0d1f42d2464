//! What a child writes to its standard error, line by line, as log records of the gateway.
//!
//! The child is never made to wait, and never fills the log: so many lines a second and so many bytes a line; what is
//! left out is counted. What a server says there is meant for whoever runs it: it is the one text of others that is
//! logged. Secrets in it are masked, and characters that do something instead of showing something are replaced. Nothing
//! of it ever reaches the gateway's standard output.

use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::lines::LineReader;
use super::report::ProcessReport;
use crate::mcp::limits::{MAX_COMPLAINT_BYTES, MAX_COMPLAINTS_PER_SECOND};
use crate::model::ConnectorId;
use crate::model::redaction::{KeyLines, MASK};

/// Logs what comes, to its end, and notes the last line in the process's report.
pub(super) async fn log(errors: impl AsyncRead + Unpin, connector: &ConnectorId, report: &ProcessReport) {
    let mut lines = LineReader::new(errors, MAX_COMPLAINT_BYTES);
    let mut pace = Pace::new();
    let mut keys = KeyLines::default();
    while let Some((line, missing)) = lines.next_cut().await {
        let line = if keys.is_key(&String::from_utf8_lossy(line)) { MASK.as_bytes() } else { line };
        report.note_line(line, missing > 0);
        let (may_log, left_out) = pace.another();
        say_left_out(connector, left_out);
        if may_log {
            let line = report.masked(line, missing > 0);
            tracing::info!(%connector, line = line.as_str(), missing_bytes = missing, "the server wrote to stderr");
        }
    }
    say_left_out(connector, pace.left_out);
}

fn say_left_out(connector: &ConnectorId, lines: u64) {
    if lines > 0 {
        tracing::info!(%connector, lines, "the server wrote more to stderr than is logged");
    }
}

/// So many lines a second.
struct Pace {
    since: Instant,
    logged: usize,
    left_out: u64,
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), logged: 0, left_out: 0 }
    }

    /// Whether another line may be logged, and how many were left out before this second, to be told once.
    fn another(&mut self) -> (bool, u64) {
        let mut told = 0;
        if self.since.elapsed() >= Duration::from_secs(1) {
            told = self.left_out;
            *self = Self::new();
        }
        let may_log = self.logged < MAX_COMPLAINTS_PER_SECOND;
        if may_log {
            self.logged += 1;
        } else {
            self.left_out += 1;
        }
        (may_log, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CommandLine;

    #[test]
    fn what_moves_the_cursor_is_replaced_and_what_is_no_text_and_secrets_too() {
        let mut command = CommandLine { program: "p".into(), arguments: Vec::new(), environment: Default::default() };
        command.environment.insert("KEY".into(), "canary-of-a-key".into());
        let report = ProcessReport::new(&command);
        let line = b"a\x1b[2Jb\tc\xff\x07 canary-of-a-key ghp_0123456789";
        assert_eq!(report.masked(line, false), "a\\u{1b}[2Jb\\u{9}c\u{fffd}\\u{7} *** ***");
    }

    #[tokio::test]
    async fn the_lines_of_a_private_key_are_neither_logged_nor_noted() {
        let command = CommandLine { program: "p".into(), arguments: Vec::new(), environment: Default::default() };
        let report = ProcessReport::new(&command);
        let lines: &[u8] = b"-----BEGIN EC PRIVATE KEY-----\nMIIcanary\ncanary\n";
        log(lines, &"server".parse().unwrap(), &report).await;
        let failure = report.ended();
        assert_eq!(failure.stderr.unwrap().as_str(), MASK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_to_so_many_lines_a_second_and_the_rest_is_counted_once() {
        let mut pace = Pace::new();
        let logged = (0..MAX_COMPLAINTS_PER_SECOND + 7).filter(|_| pace.another().0).count();
        assert_eq!(logged, MAX_COMPLAINTS_PER_SECOND);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pace.another(), (true, 7));
        assert_eq!(pace.another(), (true, 0));
    }
}
