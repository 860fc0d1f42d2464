//! One message a line, in both directions (2025-11-25 and 2026-07-28, `basic/transports`, stdio).

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::edge::http::HttpError;
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::limits::{DISCARDED_MESSAGES, PIPE_BUFFER_BYTES};
use crate::mcp::outline::Outline;

/// A message as one line, without its end. Within JSON, line breaks stand between tokens only: strings write them
/// escaped.
pub(super) fn one_line(message: Bytes) -> Bytes {
    if !message.iter().any(is_break) {
        return message;
    }
    message.iter().map(|byte| if is_break(byte) { b' ' } else { *byte }).collect::<Vec<u8>>().into()
}

fn is_break(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// A line of a stream.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// The whole line, without its end.
    Whole(&'a [u8]),
    /// A line that was too long to be held.
    TooLong(Outline),
}

/// Reads lines, and holds no more than one of them.
pub(super) struct LineReader<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    cap: usize,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Lines of at most `cap` bytes.
    pub(super) fn new(input: R, cap: usize) -> Self {
        Self { input: BufReader::with_capacity(PIPE_BUFFER_BYTES, input), line: Vec::new(), cap }
    }

    /// Sets how long the lines that come are at most, in bytes.
    pub(super) fn set_cap(&mut self, cap: usize) {
        self.cap = cap;
    }

    /// The next line without its end; the last one may have none. None at the end of the stream, and where it breaks. Of a line
    /// that is too long the outline is made as it is discarded, so that the next one is read again.
    ///
    /// # Errors
    /// [`HttpError::Oversize`]: it is [`DISCARDED_MESSAGES`] times longer than allowed. The reader is of no use after that.
    pub(super) async fn next(&mut self) -> Result<Option<Line<'_>>, WireError> {
        self.line.clear();
        self.line.shrink_to(PIPE_BUFFER_BYTES);
        let mut discarded: Option<Outline> = None;
        let mut length = 0;
        loop {
            let held = self.input.fill_buf().await.unwrap_or_default();
            if held.is_empty() {
                return Ok(match discarded {
                    Some(outline) => Some(Line::TooLong(outline)),
                    None => (!self.line.is_empty()).then_some(Line::Whole(&self.line)),
                });
            }
            let end = held.iter().position(|byte| *byte == b'\n');
            let part = &held[..end.unwrap_or(held.len())];
            length += part.len();
            if length > self.cap.saturating_mul(DISCARDED_MESSAGES) {
                return Err(HttpError::Oversize { cap: self.cap }.into());
            }
            match &mut discarded {
                Some(outline) => outline.push(part),
                None if length > self.cap => {
                    let mut outline = Outline::from_bytes(&self.line);
                    outline.push(part);
                    self.line = Vec::new();
                    discarded = Some(outline);
                }
                None => self.line.extend_from_slice(part),
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Ok(Some(match discarded {
                    Some(outline) => Line::TooLong(outline),
                    None => Line::Whole(self.line.strip_suffix(b"\r").unwrap_or(&self.line)),
                }));
            }
        }
    }

    /// The next line, of which what does not fit is left out: its beginning, and how many bytes are missing.
    pub(super) async fn next_cut(&mut self) -> Option<(&[u8], usize)> {
        self.line.clear();
        let mut missing = 0;
        loop {
            let held = self.input.fill_buf().await.unwrap_or_default();
            if held.is_empty() {
                return (!self.line.is_empty() || missing > 0).then_some((&self.line, missing));
            }
            let end = held.iter().position(|byte| *byte == b'\n');
            let part = &held[..end.unwrap_or(held.len())];
            let kept = part.len().min(self.cap - self.line.len());
            missing += part.len() - kept;
            self.line.extend_from_slice(&part[..kept]);
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                return Some((self.line.strip_suffix(b"\r").unwrap_or(&self.line), missing));
            }
        }
    }
}

/// What a stream that has come to its end means.
pub(super) fn ended() -> WireError {
    ProtocolFault::PipeEnded.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_one_line_and_keeps_every_other_byte() {
        let message = Bytes::from_static(b"{\r\n \"a\" :\t[ 1.0,\n\"\\n\xe2\x80\xa8\" ]\n}");
        assert_eq!(one_line(message), Bytes::from_static(b"{   \"a\" :\t[ 1.0, \"\\n\xe2\x80\xa8\" ] }"));
    }

    #[tokio::test]
    async fn lines_up_to_the_cap_are_read_and_a_longer_one_costs_no_other() {
        let text = b"one\r\n\ntwo\nexactly-10\n{\"result\":\"long\",\"id\":7}\nlast";
        let mut lines = LineReader::new(&text[..], 10);
        for expected in [&b"one"[..], b"", b"two", b"exactly-10"] {
            assert!(matches!(lines.next().await, Ok(Some(Line::Whole(line))) if line == expected));
        }
        let Ok(Some(Line::TooLong(outline))) = lines.next().await else { panic!() };
        assert_eq!(outline.id().unwrap().as_json(), "7");
        assert!(matches!(lines.next().await, Ok(Some(Line::Whole(b"last")))));
        assert!(matches!(lines.next().await, Ok(None)));
    }

    #[tokio::test]
    async fn a_line_without_end_is_a_fault_and_nothing_of_it_is_held() {
        let text = [b'x'; 10 * DISCARDED_MESSAGES + 1];
        let mut lines = LineReader::new(&text[..10 * DISCARDED_MESSAGES], 10);
        assert!(matches!(lines.next().await, Ok(Some(Line::TooLong(_)))));
        let mut lines = LineReader::new(&text[..], 10);
        assert!(matches!(lines.next().await, Err(WireError::Http(HttpError::Oversize { cap: 10 }))));
        assert!(lines.line.capacity() <= PIPE_BUFFER_BYTES);
    }

    #[tokio::test]
    async fn a_line_that_is_cut_says_how_much_is_missing_and_the_next_one_is_whole() {
        let mut lines = LineReader::new(&b"twelve-bytes\nok\nno-end-here-"[..], 6);
        assert_eq!(lines.next_cut().await, Some((&b"twelve"[..], 6)));
        assert_eq!(lines.next_cut().await, Some((&b"ok"[..], 0)));
        assert_eq!(lines.next_cut().await, Some((&b"no-end"[..], 6)));
        assert_eq!(lines.next_cut().await, None);
    }
}
