//! Server-Sent Events, parsed as the bytes arrive (WHATWG HTML, section 9.2.6).
//!
//! Bytes in, events out, and nothing else: no reconnection, no clock. However the bytes are cut into pieces, the events
//! are the same. What is held back is bounded by a cap per event. Data stays bytes, because replacing what is not UTF-8
//! would silently change a message; its reader judges it.

use std::time::Duration;

use super::limits::DISCARDED_MESSAGES;
use super::outline::Outline;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// The type; `message` if the server named none.
    pub event: String,
    /// The data: its lines joined by `\n`.
    pub data: Vec<u8>,
    /// The id of this event, or of the last one before it that had one.
    pub id: Option<String>,
    /// How long the server wants a client to wait before it reconnects, where it said so last.
    pub retry: Option<Duration>,
}

/// An event is larger than its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {cap} bytes")]
pub struct EventTooLarge {
    /// The cap.
    pub cap: usize,
}

/// The parser of one stream.
#[derive(Clone, Debug)]
pub struct SseParser {
    cap: usize,
    line: Vec<u8>,
    after_carriage_return: bool,
    past_first_line: bool,
    event: String,
    data: Vec<u8>,
    has_data: bool,
    id: Option<String>,
    last_id: Option<String>,
    retry: Option<Duration>,
    oversize: OnOversize,
    discarding: Option<Discarding>,
    discarded: Vec<Outline>,
}

/// What becomes of an event that is larger than its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnOversize {
    /// The stream ends with an error.
    Fail,
    /// The event is left out, and its outline made.
    Discard,
}

/// An event that is left out.
#[derive(Clone, Debug)]
struct Discarding {
    outline: Outline,
    bytes: usize,
    line: DiscardedLine,
}

/// The present line of such an event.
#[derive(Clone, Copy, Debug)]
enum DiscardedLine {
    /// Too little of it has come to know.
    Begins,
    Data,
    Other,
}

impl SseParser {
    /// A parser whose events and lines hold at most `cap` bytes.
    pub fn new(cap: usize) -> Self {
        Self {
            oversize: OnOversize::Fail,
            discarding: None,
            discarded: Vec::new(),
            cap,
            line: Vec::new(),
            after_carriage_return: false,
            past_first_line: false,
            event: String::new(),
            data: Vec::new(),
            has_data: false,
            id: None,
            last_id: None,
            retry: None,
        }
    }

    /// A parser that leaves out events of more than `cap` bytes; [`Self::discarded`] returns their outlines.
    pub(super) fn discarding(cap: usize) -> Self {
        Self { oversize: OnOversize::Discard, ..Self::new(cap) }
    }

    /// Returns the outlines of the events that were left out since the last time.
    pub(super) fn discarded(&mut self) -> Vec<Outline> {
        std::mem::take(&mut self.discarded)
    }

    /// Whether what comes belongs to an event that is left out.
    pub(super) fn is_discarding(&self) -> bool {
        self.discarding.is_some()
    }

    /// The id of the last whole event that named one, whether it had data or not: where a stream that breaks off now is
    /// resumed ("last event ID string"). An empty one takes back those before it.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long the server wants a client to wait before it reconnects, where it said so: said last counts.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes the next bytes and returns the events that they complete. An event that the end of the stream cuts off
    /// is never returned.
    ///
    /// # Errors
    /// [`EventTooLarge`]; the parser is of no use after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, EventTooLarge> {
        let mut events = Vec::new();
        let mut rest = bytes;
        loop {
            if self.after_carriage_return && !rest.is_empty() {
                self.after_carriage_return = false;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.hold(rest)?;
                return Ok(events);
            };
            let (head, tail) = rest.split_at(end);
            self.after_carriage_return = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            if self.discarding.is_some() {
                self.discard(head, true)?;
            } else if self.line.is_empty() {
                self.end_line(head, &mut events)?;
            } else {
                self.line.extend_from_slice(head);
                let mut line = std::mem::take(&mut self.line);
                self.end_line(&line, &mut events)?;
                // Keeps the allocation for the next line.
                line.clear();
                self.line = line;
            }
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), EventTooLarge> {
        if self.discarding.is_some() {
            return self.discard(bytes, false);
        }
        self.line.extend_from_slice(bytes);
        if self.data.len() + self.line.len() > self.cap {
            let line = std::mem::take(&mut self.line);
            self.begin_discarding()?;
            return self.discard(&line, false);
        }
        Ok(())
    }

    fn begin_discarding(&mut self) -> Result<(), EventTooLarge> {
        if self.oversize == OnOversize::Fail {
            return Err(EventTooLarge { cap: self.cap });
        }
        let outline = Outline::from_bytes(&std::mem::take(&mut self.data));
        self.discarding = Some(Discarding { outline, bytes: 0, line: DiscardedLine::Begins });
        Ok(())
    }

    /// Takes a piece of an event that is left out; whether its line ends with it.
    fn discard(&mut self, bytes: &[u8], ends: bool) -> Result<(), EventTooLarge> {
        let Some(event) = &mut self.discarding else { return Ok(()) };
        event.bytes = event.bytes.saturating_add(bytes.len());
        if event.bytes > self.cap.saturating_mul(DISCARDED_MESSAGES) {
            return Err(EventTooLarge { cap: self.cap });
        }
        match event.line {
            DiscardedLine::Data => event.outline.push(bytes),
            DiscardedLine::Other => {}
            DiscardedLine::Begins => {
                self.line.extend_from_slice(bytes);
                if ends && self.line.is_empty() {
                    self.discarded.extend(self.discarding.take().map(|event| event.outline));
                    (self.has_data, self.event) = (false, String::new());
                    return Ok(());
                }
                if ends || self.line.len() > DATA.len() {
                    let line = std::mem::take(&mut self.line);
                    event.line = match line.strip_prefix(DATA) {
                        Some(value) => {
                            event.outline.push(b"\n");
                            event.outline.push(value);
                            DiscardedLine::Data
                        }
                        None => DiscardedLine::Other,
                    };
                }
            }
        }
        if ends {
            event.line = DiscardedLine::Begins;
        }
        Ok(())
    }

    fn end_line(&mut self, line: &[u8], events: &mut Vec<SseEvent>) -> Result<(), EventTooLarge> {
        let line = if self.past_first_line { line } else { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) };
        self.past_first_line = true;
        if line.is_empty() {
            events.extend(self.dispatch());
            return Ok(());
        }
        if self.data.len() + line.len() > self.cap {
            self.begin_discarding()?;
            return self.discard(line, true);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            b"retry" => {
                let digits =
                    std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                self.retry = digits.and_then(|digits| digits.parse().ok()).map(Duration::from_millis).or(self.retry);
            }
            // A comment begins with the colon; unknown fields are ignored too.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if self.last_id != self.id {
            self.last_id.clone_from(&self.id);
        }
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(SseEvent { event, data, id: self.id.clone(), retry: self.retry })
    }
}

/// The field that holds a message.
const DATA: &[u8] = b"data:";

/// U+FEFF in UTF-8; ignored at the very start of a stream.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: usize = 64;

    fn whole(bytes: &[u8]) -> Vec<SseEvent> {
        SseParser::new(CAP).push(bytes).unwrap()
    }

    fn data(bytes: &[u8]) -> Vec<String> {
        whole(bytes).into_iter().map(|event| String::from_utf8(event.data).unwrap()).collect()
    }

    /// A generator that is the same on every run (splitmix64).
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn lines_may_end_in_any_of_three_ways() {
        assert_eq!(data(b"data: a\n\ndata: b\r\rdata: c\r\n\r\ndata: d\r\n\n"), ["a", "b", "c", "d"]);
    }

    #[test]
    fn several_data_lines_are_one_text() {
        assert_eq!(data(b"data: a\ndata:b\ndata\ndata:  c\n\n"), ["a\nb\n\n c"]);
    }

    #[test]
    fn comments_and_unknown_fields_are_ignored() {
        assert_eq!(data(b": keep alive\n\n:\nother: x\ndata: a\n\n:\r\n\r\n"), ["a"]);
    }

    #[test]
    fn an_event_without_data_is_none_and_an_event_with_empty_data_is_one() {
        assert_eq!(whole(b"event: x\nid: 1\n\n"), []);
        assert_eq!(data(b"id: 1\ndata:\n\n"), [""]);
    }

    #[test]
    fn the_byte_order_mark_is_ignored_only_at_the_start() {
        assert_eq!(data(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"), ["a"]);
    }

    #[test]
    fn type_id_and_retry_are_read_and_the_last_two_stay() {
        let events = whole(b"event: t\nid: 7\nretry: 1500\ndata: a\n\nretry: soon\nid: a\0b\ndata: b\n\n");
        assert_eq!(
            events,
            [
                SseEvent {
                    event: "t".into(),
                    data: b"a".into(),
                    id: Some("7".into()),
                    retry: Some(Duration::from_millis(1500))
                },
                SseEvent {
                    event: "message".into(),
                    data: b"b".into(),
                    id: Some("7".into()),
                    retry: Some(Duration::from_millis(1500))
                },
            ]
        );
    }

    #[test]
    fn a_stream_is_resumed_after_its_last_whole_event_even_one_without_data() {
        let mut parser = SseParser::new(CAP);
        for (bytes, last_id, retry) in [
            (b"data: a\n\n".as_slice(), None, None),
            (b"id: 1\nretry: 500\n\n", Some("1"), Some(500)),
            (b"id: 2\ndata: b\n", Some("1"), Some(500)),
            (b"\n", Some("2"), Some(500)),
            (b"data: c\n\n", Some("2"), Some(500)),
            (b"id\nretry: 7\n\n", Some(""), Some(7)),
        ] {
            parser.push(bytes).unwrap();
            assert_eq!((parser.last_id(), parser.retry()), (last_id, retry.map(Duration::from_millis)), "{bytes:?}");
        }
    }

    #[test]
    fn a_cut_off_event_is_never_returned() {
        assert_eq!(data(b"data: a\n\ndata: b\n"), ["a"]);
    }

    #[test]
    fn bytes_that_are_no_text_pass_through() {
        assert_eq!(whole(b"data: \xff\xfe\n\n")[0].data, b"\xff\xfe");
    }

    #[test]
    fn an_event_larger_than_the_cap_is_refused_however_it_is_spread() {
        let long = [b"data: ".as_slice(), &[b'x'; CAP]].concat();
        assert_eq!(SseParser::new(CAP).push(&long), Err(EventTooLarge { cap: CAP }));
        assert_eq!(SseParser::new(CAP).push(&b"data: 0123456789\n".repeat(7)), Err(EventTooLarge { cap: CAP }));
        let mut parser = SseParser::new(CAP);
        let refused = (0..100).find_map(|_| parser.push(b":endless comment").err());
        assert_eq!(refused, Some(EventTooLarge { cap: CAP }));
    }

    #[test]
    fn an_event_that_is_left_out_costs_no_other_however_it_is_cut() {
        let long = "x".repeat(CAP);
        for large in [
            format!("data: {{\"id\":7,\"result\":\"{long}\"}}\n\n"),
            format!("event: message\ndata: {{\"result\":\"{long}\",\r\ndata: \"id\":7}}\r\n\r\n"),
            format!(
                "{}data: \"id\":7}}\nid: 4\n\n",
                "data: {\ndata: \"a\": [1, 2, 3],\n".to_owned() + &"data: \"b\": 12345678,\n".repeat(9)
            ),
        ] {
            let stream = format!("data: a\n\n{large}data: b\n\n");
            for size in [1, 2, 5, 7, 64, 4_096] {
                let mut parser = SseParser::discarding(CAP);
                let mut events = Vec::new();
                let mut outlines = Vec::new();
                for piece in stream.as_bytes().chunks(size) {
                    events.extend(parser.push(piece).unwrap().into_iter().map(|event| event.data));
                    outlines.extend(parser.discarded());
                }
                assert_eq!(events, [b"a", b"b"], "{size} {large}");
                assert_eq!(outlines.len(), 1, "{size} {large}");
                assert_eq!(outlines[0].id().unwrap().as_json(), "7", "{size} {large}");
                assert!(!parser.is_discarding());
            }
        }
        let mut parser = SseParser::discarding(CAP);
        let endless = (0..=DISCARDED_MESSAGES).find_map(|_| parser.push(&[b'x'; CAP]).err());
        assert_eq!(endless, Some(EventTooLarge { cap: CAP }));
    }

    #[test]
    fn many_small_events_are_no_large_one() {
        assert_eq!(data(&b"data: 0123456789\n\n".repeat(1000)).len(), 1000);
    }

    #[test]
    fn however_a_stream_is_cut_the_events_are_the_same() {
        const PARTS: [&[u8]; 16] = [
            b"data: a",
            b"data",
            b"data:  b",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\r\r",
            b"\r\n\r\n",
            b": c",
            b"event: t",
            b"id: 1",
            b"retry: 5",
            b"\xef\xbb\xbf",
            b"\xe2\x82\xac",
            b":",
        ];
        let mut seed = 20_260_728;
        for _ in 0..2_000 {
            let stream: Vec<u8> = (0..next(&mut seed) % 24)
                .flat_map(|_| PARTS[next(&mut seed) as usize % PARTS.len()].to_vec())
                .collect();
            let expected = SseParser::new(1 << 20).push(&stream).unwrap();
            for longest in [1, 2, 7] {
                let mut parser = SseParser::new(1 << 20);
                let mut events = Vec::new();
                let mut rest = stream.as_slice();
                while !rest.is_empty() {
                    let length = (1 + next(&mut seed) as usize % longest).min(rest.len());
                    events.extend(parser.push(&rest[..length]).unwrap());
                    events.extend(parser.push(b"").unwrap());
                    rest = &rest[length..];
                }
                assert_eq!(events, expected, "{:?}", String::from_utf8_lossy(&stream));
            }
        }
    }
}
