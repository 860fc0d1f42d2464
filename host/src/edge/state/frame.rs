//! Frames: what the files of the store consist of.
//!
//! A frame is a line, a payload of the length that the line gives, and a line feed:
//!
//! ```text
//! cortex-state 2 <digest of the rest of the line> <kind> <length> <digest of the payload> <digest of the body or -> <name>
//! ```
//!
//! The line and the payload have digests of their own: a damaged payload leaves no doubt about whose it is and where the
//! next frame begins. Behind a damaged line the next line that begins with the magic words and verifies is looked for.
//! Payloads are JSON, and no JSON text has a line that begins so; a payload that has one is refused.

use std::ops::Range;

use super::limits::LINE_BYTES_MAX;
use crate::model::Digest;

/// What every frame begins with.
pub(super) const MAGIC: &[u8] = b"cortex-state 2 ";

/// What a frame holds of the record of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The payload is a body, which later headers refer to by its digest.
    Body,
    /// The payload is the header of the record; its body is the one of this digest, or empty.
    Header(Option<Digest>),
    /// The record was removed. There is no payload.
    Removal,
}

/// The first line of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Of the payload.
    pub(super) length: usize,
    /// Of the payload.
    pub(super) digest: Digest,
}

/// A frame of a file.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) line: Line,
    /// Where it begins.
    pub(super) start: usize,
    pub(super) payload: Range<usize>,
}

impl Frame {
    /// Where the next one begins.
    pub(super) fn end(&self) -> usize {
        self.payload.end + 1
    }
}

/// Why a frame cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The name has a line feed or is too long.
    #[error("the name of the record is too long or has more than one line")]
    Name,
    /// The payload could be taken for frames.
    #[error("the content of the record has a line that begins as a frame does")]
    Content,
}

/// Appends a frame to `into`. `digest` must be that of the payload.
pub(super) fn write(
    into: &mut Vec<u8>,
    name: &str,
    kind: Kind,
    payload: &[u8],
    digest: Digest,
) -> Result<(), FrameError> {
    let (kind, body) = match kind {
        Kind::Body => ("body", None),
        Kind::Header(body) => ("header", body),
        Kind::Removal => ("removal", None),
    };
    let body = body.map_or_else(|| "-".to_owned(), |digest| digest.to_string());
    let rest = format!("{kind} {} {digest} {body} {name}", payload.len());
    // With the magic words, the line's own digest, a space and the line feed.
    if name.contains('\n') || MAGIC.len() + 66 + rest.len() > LINE_BYTES_MAX {
        return Err(FrameError::Name);
    }
    if payload.starts_with(MAGIC) || next_line(payload, 0).is_some() {
        return Err(FrameError::Content);
    }
    into.extend_from_slice(MAGIC);
    into.extend_from_slice(format!("{} {rest}\n", Digest::of(rest.as_bytes())).as_bytes());
    into.extend_from_slice(payload);
    into.push(b'\n');
    Ok(())
}

/// What the bytes of a file are.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The frames whose lines verify, in their order. Their payloads are not verified.
    pub(super) frames: Vec<Frame>,
    /// What is neither a frame nor the rest of an append that was cut off.
    pub(super) damaged: Vec<Range<usize>>,
}

/// Finds the frames of a file.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    // Every frame ends in a line feed. Zeros at the end of a file are a length that became durable without its content.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let bytes = &bytes[..written];
    let mut scan = Scan::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some((line, length)) = parse(&bytes[at..]) {
            let start = at + length;
            let end = start.saturating_add(line.length);
            if end >= bytes.len() {
                // The file ends within this frame: an append was cut off.
                break;
            }
            at = end + 1;
            scan.frames.push(Frame { line, start: start - length, payload: start..end });
            continue;
        }
        let next = resynchronize(bytes, at);
        if next.is_none() && is_torn(&bytes[at..]) {
            break;
        }
        let end = next.unwrap_or(bytes.len());
        scan.damaged.push(at..end);
        at = end;
    }
    scan
}

/// Whether these bytes are one whole frame that verifies.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    parse(bytes).is_some_and(|(line, length)| {
        bytes.len() == length + line.length + 1 && Digest::of(&bytes[length..length + line.length]) == line.digest
    })
}

/// Reads the line at the beginning of `bytes`, and its length with its line feed.
fn parse(bytes: &[u8]) -> Option<(Line, usize)> {
    let head = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let end = head.iter().position(|byte| *byte == b'\n')?;
    let text = std::str::from_utf8(head[..end].strip_prefix(MAGIC)?).ok()?;
    let (own, rest) = text.split_once(' ')?;
    // Compared as text: a digest has one spelling.
    if Digest::of(rest.as_bytes()).to_string() != own {
        return None;
    }
    let mut fields = rest.splitn(5, ' ');
    let (kind, length, digest) = (fields.next()?, fields.next()?, fields.next()?);
    let (body, name) = (fields.next()?, fields.next()?);
    let kind = match kind {
        "body" => Kind::Body,
        "header" if body == "-" => Kind::Header(None),
        "header" => Kind::Header(Some(body.parse().ok()?)),
        "removal" => Kind::Removal,
        _ => return None,
    };
    let line = Line { kind, name: name.to_owned(), length: length.parse().ok()?, digest: digest.parse().ok()? };
    Some((line, end + 1))
}

/// The first place behind `at` where a line begins that verifies.
fn resynchronize(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(next) = next_line(bytes, at) {
        if parse(&bytes[next..]).is_some() {
            return Some(next);
        }
        at = next;
    }
    None
}

/// The first place behind `at` where a line begins with the magic words.
fn next_line(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == b'\n')? + 1;
        if bytes[at..].starts_with(MAGIC) {
            return Some(at);
        }
    }
}

/// Whether the end of a file is what an append leaves that was cut off: a part of a line.
fn is_torn(tail: &[u8]) -> bool {
    let compared = tail.len().min(MAGIC.len());
    tail.len() < LINE_BYTES_MAX && !tail.contains(&b'\n') && tail[..compared] == MAGIC[..compared]
}
