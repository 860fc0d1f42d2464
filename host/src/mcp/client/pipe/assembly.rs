//! Messages over several lines: some servers write JSON with line breaks, where each line is one message (2025-11-25 and
//! 2026-07-28, `basic/transports`, stdio).
//!
//! Lines are put together from one that opens an object to the one that ends it, and count against the server's rate as one
//! message. Of a message that is too large only the outline is kept. A line that is a message by itself ends the attempt and is
//! taken as that, so that what was cut off never swallows what comes after it.

use super::desk::{Desk, Taken};
use crate::mcp::envelope::lenient::{self, Unreadable};
use crate::mcp::error::ProtocolFault;
use crate::mcp::inbound::{Inbound, Irregularity};
use crate::mcp::limits::DISCARDED_MESSAGES;
use crate::mcp::outline::{Extent, Outline};

/// The lines of one message so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Empty once the message is too large.
    text: Vec<u8>,
    outline: Outline,
    /// What the lines are in all, in bytes.
    length: usize,
    is_too_large: bool,
}

/// What became of a line.
#[derive(Debug)]
pub(super) struct TakenLine {
    pub(super) taken: Taken,
    /// The bytes that count against the server's rate.
    pub(super) counted: usize,
}

impl Assembly {
    /// Whether a message has begun that has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.length > 0
    }

    /// Takes a line.
    pub(super) fn take(&mut self, line: &[u8], desk: &Desk, inbound: &Inbound) -> TakenLine {
        match lenient::read(line) {
            Ok(reading) => {
                let held = self.text.len();
                self.give_up(desk);
                TakenLine { taken: desk.take_message(reading), counted: held + line.len() }
            }
            Err(unreadable) if unreadable.outline.extent() != Extent::Open && !self.is_open() => {
                TakenLine { taken: desk.take_unreadable(unreadable, line), counted: line.len() }
            }
            Err(_) => self.add(line, desk, inbound),
        }
    }

    /// Takes a line that was too long to be held: it makes the message that it belongs to as large.
    pub(super) fn take_too_long(&mut self, line: &Outline, desk: &Desk, inbound: &Inbound) -> TakenLine {
        // It was discarded as it came, under a bound of its own.
        let taken = if self.is_open() {
            self.text = Vec::new();
            self.is_too_large = true;
            self.length += inbound.max_message_bytes();
            Taken::OnTheWay
        } else {
            desk.take_oversize(line)
        };
        TakenLine { taken, counted: 0 }
    }

    /// What has begun does not go on: its request fails.
    pub(super) fn give_up(&mut self, desk: &Desk) -> Taken {
        let Self { text, outline, is_too_large, .. } = std::mem::take(self);
        if is_too_large {
            return desk.take_oversize(&outline);
        }
        desk.take_unreadable(Unreadable { fault: ProtocolFault::Unfinished, outline }, &text)
    }

    fn add(&mut self, line: &[u8], desk: &Desk, inbound: &Inbound) -> TakenLine {
        self.outline.push(line);
        self.outline.push(b"\n");
        self.length += line.len() + 1;
        self.is_too_large |= self.length > inbound.max_message_bytes();
        if self.is_too_large {
            self.text = Vec::new();
        } else {
            self.text.extend_from_slice(line);
            self.text.push(b'\n');
        }
        let counted = self.text.len();
        let has_ended = self.outline.has_ended();
        // What shows no sign of a message is a greeting or the like, of which each line is taken for itself.
        let is_greeting = self.outline.extent() == Extent::Malformed && !self.outline.is_about_a_request();
        let is_endless = self.length > inbound.max_message_bytes().saturating_mul(DISCARDED_MESSAGES);
        let taken = if has_ended && !self.is_too_large {
            let Self { text, outline, .. } = std::mem::take(self);
            if outline.extent() == Extent::Whole {
                inbound.irregularities.record(Irregularity::SeveralLines);
            }
            desk.take(&text)
        } else if has_ended || is_greeting || is_endless {
            self.give_up(desk)
        } else {
            return TakenLine { taken: Taken::OnTheWay, counted: 0 };
        };
        TakenLine { taken, counted }
    }
}
