//! The rate at which a server may say what nobody waits for: streams that may last for ever are bounded by this alone.

use tokio::time::Instant;

use crate::mcp::error::ProtocolFault;
use crate::mcp::limits::{LISTEN_WINDOW, MAX_LISTEN_EVENTS};

/// What came within the present [`LISTEN_WINDOW`], against what may.
#[derive(Debug)]
pub(super) struct Rate {
    /// The most bytes within one window.
    most: usize,
    since: Instant,
    bytes: usize,
    events: usize,
}

impl Rate {
    /// Nothing yet, of at most so many bytes within one window.
    pub(super) fn new(most: usize) -> Self {
        Self { most, since: Instant::now(), bytes: 0, events: 0 }
    }

    /// So many bytes came.
    ///
    /// # Errors
    /// [`ProtocolFault::EventFlood`] if that is more than may come.
    pub(super) fn read(&mut self, length: usize) -> Result<(), ProtocolFault> {
        if self.since.elapsed() >= LISTEN_WINDOW {
            *self = Self::new(self.most);
        }
        self.bytes += length;
        if self.bytes > self.most { Err(ProtocolFault::EventFlood) } else { Ok(()) }
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
