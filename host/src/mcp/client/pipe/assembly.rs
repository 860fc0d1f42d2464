//! Messages over several lines: some servers write JSON with line breaks, where each line is one message (2025-11-25 and
//! 2026-07-28, `basic/transports`, stdio).
//!
//! Lines are put together from one that opens an object to the one that ends it. A line that is a message by itself ends the
//! attempt and is taken as that, so that what was cut off never swallows what comes after it.

use super::desk::{Desk, Taken};
use crate::mcp::envelope::lenient::{self, Unreadable};
use crate::mcp::error::ProtocolFault;
use crate::mcp::inbound::{Inbound, Irregularity};
use crate::mcp::outline::{Extent, Outline};

/// The lines of one message so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: Vec<u8>,
    outline: Outline,
}

impl Assembly {
    /// Whether a message has begun that has not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.text.is_empty()
    }

    /// Takes a line.
    pub(super) fn take(&mut self, line: &[u8], desk: &Desk, inbound: &Inbound) -> Taken {
        match lenient::read(line) {
            Ok(reading) => {
                self.give_up(desk);
                desk.take_message(reading)
            }
            Err(unreadable) if unreadable.outline.extent() != Extent::Open && !self.is_open() => {
                desk.take_unreadable(unreadable, line)
            }
            Err(_) => self.add(line, desk, inbound),
        }
    }

    /// What has begun does not go on: its request fails.
    pub(super) fn give_up(&mut self, desk: &Desk) -> Taken {
        let Self { text, outline } = std::mem::take(self);
        desk.take_unreadable(Unreadable { fault: ProtocolFault::Unfinished, outline }, &text)
    }

    fn add(&mut self, line: &[u8], desk: &Desk, inbound: &Inbound) -> Taken {
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.outline.push(line);
        self.outline.push(b"\n");
        match self.outline.extent() {
            Extent::Whole => {
                let Self { text, .. } = std::mem::take(self);
                inbound.irregularities.record(Irregularity::SeveralLines);
                desk.take(&text)
            }
            Extent::Open if self.text.len() <= inbound.max_message_bytes() => Taken::OnTheWay,
            Extent::Open => {
                let Self { outline, .. } = std::mem::take(self);
                desk.take_oversize(&outline)
            }
            Extent::Blank | Extent::Malformed => self.give_up(desk),
        }
    }
}
