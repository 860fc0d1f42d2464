//! The bytes of a segment: a header, then records until a length of zero. Integers are little-endian.
//!
//! | bytes of the header | what |
//! |---|---|
//! | 0..8 | `CMCPJRNL` |
//! | 8..12 | version of the format: 1 |
//! | 12..16 | CRC-32 of bytes 16..64 |
//! | 16..24 | epoch: a random number that salts every record of the segment |
//! | 24..32 | the generation of the document when the segment was made |
//! | 32..64 | zeros |
//!
//! | bytes of a record | what |
//! |---|---|
//! | 0..4 | length of the payload, at least 1 |
//! | 4..8 | CRC-32 of the epoch, the other fields and the payload |
//! | 8..16 | sequence: 1 for a writer's first record, then one more for each |
//! | 16..24 | durable up to: every record up to this sequence was durable before this one was written |
//! | 24.. | the payload, JSON |
//!
//! The epoch is part of the file's name too, so that a damaged header costs nothing. No bytes make the reader panic.

use std::fmt;

use crate::registry::limits::MAX_ENTRY_BYTES;

/// The length of a segment's header.
pub(in crate::registry) const HEADER_BYTES: usize = 64;

/// The length of a record before its payload.
pub(in crate::registry) const RECORD_HEAD_BYTES: usize = 24;

/// The longest payload: an entry, its name, its edit and its digest. A writer's name is bounded by whoever starts it.
pub(in crate::registry) const PAYLOAD_BYTES_MAX: usize = MAX_ENTRY_BYTES + 4096;

/// How every segment begins.
pub(in crate::registry) const MAGIC: [u8; 8] = *b"CMCPJRNL";

/// The version of the format that this program writes, and the only one that it reads.
pub(in crate::registry) const VERSION: u32 = 1;

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) struct Header {
    /// The salt of its records.
    pub(in crate::registry) epoch: u64,
    /// The generation of the document when it was made.
    pub(in crate::registry) generation: u64,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum HeaderFault {
    /// It is damaged.
    Damaged,
    /// A later version of this program wrote it.
    Version {
        /// The version of the format.
        version: u32,
    },
}

impl Header {
    /// Its bytes.
    pub(in crate::registry) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        let crc = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads it from the start of a segment.
    pub(in crate::registry) fn decode(segment: &[u8]) -> Result<Self, HeaderFault> {
        let bytes: &[u8; HEADER_BYTES] = segment.first_chunk().ok_or(HeaderFault::Damaged)?;
        let intact = bytes[0..8] == MAGIC && crc32fast::hash(&bytes[16..]) == word(&bytes[12..16]);
        match word(&bytes[8..12]) {
            _ if !intact => Err(HeaderFault::Damaged),
            VERSION => Ok(Self { epoch: long(&bytes[16..24]), generation: long(&bytes[24..32]) }),
            // One flipped bit makes an unknown version too; a header of another version is intact otherwise.
            version => Err(HeaderFault::Version { version }),
        }
    }
}

/// A record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) struct Record<'a> {
    /// Its number.
    pub(in crate::registry) sequence: u64,
    /// Up to where everything was durable when it was written.
    pub(in crate::registry) durable_upto: u64,
    /// What it says.
    pub(in crate::registry) payload: &'a [u8],
}

/// Without the payload, which may hold secrets.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Record")
            .field("sequence", &self.sequence)
            .field("durable_upto", &self.durable_upto)
            .finish_non_exhaustive()
    }
}

/// Appends a record's bytes.
pub(in crate::registry) fn frame(epoch: u64, record: &Record<'_>, out: &mut Vec<u8>) {
    // A payload is bounded far below 2^32.
    let length = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
    let start = out.len();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&record.sequence.to_le_bytes());
    out.extend_from_slice(&record.durable_upto.to_le_bytes());
    out.extend_from_slice(record.payload);
    let crc = crc(epoch, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The record that begins with these bytes, and its length; none if no whole one does.
pub(in crate::registry) fn record(epoch: u64, bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let head: &[u8; RECORD_HEAD_BYTES] = bytes.first_chunk()?;
    let length = usize::try_from(word(&head[0..4])).ok()?;
    if length == 0 || length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let whole = bytes.get(..RECORD_HEAD_BYTES + length)?;
    if crc(epoch, whole) != word(&head[4..8]) {
        return None;
    }
    let record = Record {
        sequence: long(&head[8..16]),
        durable_upto: long(&head[16..24]),
        payload: &whole[RECORD_HEAD_BYTES..],
    };
    Some((record, whole.len()))
}

/// Whether the log ends where these bytes begin: there is nothing, or a length of zero.
pub(in crate::registry) fn ends(bytes: &[u8]) -> bool {
    bytes.iter().take(4).all(|byte| *byte == 0)
}

fn crc(epoch: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch.to_le_bytes());
    hasher.update(&record[0..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn long(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(epoch: u64, sequence: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(epoch, &Record { sequence, durable_upto: sequence - 1, payload }, &mut bytes);
        bytes
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_only_under_its_epoch() {
        let bytes = framed(7, 3, b"{\"a\":1}");
        let expected = Record { sequence: 3, durable_upto: 2, payload: b"{\"a\":1}" };
        assert_eq!(record(7, &bytes), Some((expected, bytes.len())));
        assert_eq!(record(8, &bytes), None, "the bytes of a former life of the file are no records");
        assert_eq!(record(7, &bytes[..bytes.len() - 1]), None);
        assert!(ends(&[]) && ends(&[0; 64]) && !ends(&bytes));
    }

    #[test]
    fn any_flipped_bit_makes_a_record_invalid() {
        let bytes = framed(7, 3, b"{\"name\":\"x\"}");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(record(7, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_any_flipped_bit_is_noticed() {
        let header = Header { epoch: 0xfeed, generation: 9 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped).is_err(), "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes[..63]), Err(HeaderFault::Damaged));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), epoch: u64) {
            let _ = (Header::decode(&bytes), record(epoch, &bytes), ends(&bytes));
        }
    }
}
