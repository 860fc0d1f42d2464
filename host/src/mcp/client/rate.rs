//! The rate at which a server may say what nobody waits for: streams that may last for ever are bounded by this alone.

use tokio::time::Instant;

use crate::mcp::error::ProtocolFault;
use crate::mcp::limits::{LISTEN_WINDOW, MAX_LISTEN_EVENTS, MAX_STREAM_BYTES};

/// What came within the present [`LISTEN_WINDOW`], against what may.
#[derive(Debug)]
pub(super) struct Rate {
    since: Instant,
    bytes: usize,
    events: usize,
}

impl Rate {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), bytes: 0, events: 0 }
    }

    /// So many bytes came.
    ///
    /// # Errors
    /// [`ProtocolFault::EventFlood`] if that is more than may come.
    pub(super) fn read(&mut self, length: usize) -> Result<(), ProtocolFault> {
        if self.since.elapsed() >= LISTEN_WINDOW {
            *self = Self::new();
        }
        self.bytes += length;
        if self.bytes > MAX_STREAM_BYTES { Err(ProtocolFault::EventFlood) } else { Ok(()) }
    }

    /// One event was among them.
    ///
    /// # Errors
    /// See [`Self::read`].
    pub(super) fn event(&mut self) -> Result<(), ProtocolFault> {
        self.events += 1;
        if self.events > MAX_LISTEN_EVENTS { Err(ProtocolFault::EventFlood) } else { Ok(()) }
    }

    /// So many of the bytes were an answer that somebody waited for: who asks much is told much.
    pub(super) fn forgive(&mut self, length: usize) {
        self.bytes = self.bytes.saturating_sub(length);
    }
}
