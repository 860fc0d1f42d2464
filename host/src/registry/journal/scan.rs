//! What a journal says, and whether it says all that was acknowledged.
//!
//! Pages reach the disk in any order, so a bad record before a good one proves nothing. The rule (reliability.md 3.3): if a
//! good record knows that the bad one was durable, an acknowledged change is damaged; otherwise the bad one belongs to a
//! batch that was never acknowledged, and is left out. Good records behind bad ones count: each stands for itself.

use super::format::{self, HEADER_BYTES, RECORD_HEAD_BYTES, Record};

/// What a segment says.
#[derive(Debug, Default)]
pub(in crate::registry) struct Scan<'a> {
    /// Its good records, in order.
    pub(in crate::registry) records: Vec<Record<'a>>,
    /// How many places are no record although something stands there.
    flaws: usize,
    /// Whether such a place stands before the first good record.
    flaw_before_all: bool,
    /// Where the good records end that nothing interrupts.
    pub(in crate::registry) end: usize,
}

/// Reads a segment.
pub(in crate::registry) fn scan(epoch: u64, segment: &[u8]) -> Scan<'_> {
    let mut scan = Scan { end: HEADER_BYTES.min(segment.len()), ..Scan::default() };
    let mut at = scan.end;
    loop {
        if let Some((record, length)) = format::record(epoch, &segment[at..]) {
            at += length;
            scan.records.push(record);
            if scan.flaws == 0 {
                scan.end = at;
            }
            continue;
        }
        // Even where the log seems to end: a length may be damaged.
        let Some(next) = next_good(epoch, segment, at) else {
            scan.flaws += usize::from(!segment[at..].iter().all(|byte| *byte == 0));
            return scan;
        };
        scan.flaws += 1;
        scan.flaw_before_all |= scan.records.is_empty();
        at = next;
    }
}

/// Where the next good record begins behind a bad place.
fn next_good(epoch: u64, segment: &[u8], bad: usize) -> Option<usize> {
    let last = segment.iter().rposition(|byte| *byte != 0)?.checked_sub(RECORD_HEAD_BYTES)?;
    (bad + 1..=last).find(|at| format::record(epoch, &segment[*at..]).is_some())
}

/// Whether a journal is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Verdict {
    /// It is.
    Whole,
    /// Its last batch is not: whether it was acknowledged can not be told, most likely it was not.
    Torn {
        /// The first sequence that is missing.
        sequence: u64,
    },
    /// A change that was acknowledged is damaged.
    Damaged {
        /// Its sequence.
        sequence: u64,
    },
}

/// Judges the journal of one writer by its segments, each with its number, in order.
pub(in crate::registry) fn judge(segments: &[(u64, Scan<'_>)]) -> Verdict {
    let durable = segments.iter().flat_map(|(_, scan)| &scan.records).map(|record| record.durable_upto).max();
    let durable = durable.unwrap_or(0);
    let mut missing = Missing { durable, torn: None, damaged: None };
    let mut last: Option<(u64, u64)> = None;
    for (number, scan) in segments {
        // Segments that are gone from between were removed, as their changes stand in the document.
        let before = last.filter(|(segment, _)| *segment + 1 == *number).map(|(_, sequence)| sequence);
        if let Some(first) = scan.records.first() {
            match before {
                Some(before) => missing.between(before, first.sequence),
                None if scan.flaw_before_all => missing.at(first.sequence.saturating_sub(1)),
                None => {}
            }
        }
        for pair in scan.records.windows(2) {
            missing.between(pair[0].sequence, pair[1].sequence);
        }
        let end = scan.records.last().map(|record| record.sequence);
        if scan.flaws > 0 {
            missing.torn_at(end.or(before).unwrap_or(0) + 1);
        }
        last = end.or(before).map(|sequence| (*number, sequence)).or(last);
    }
    match (missing.damaged, missing.torn) {
        (Some(sequence), _) => Verdict::Damaged { sequence },
        (None, Some(sequence)) => Verdict::Torn { sequence },
        (None, None) => Verdict::Whole,
    }
}

struct Missing {
    durable: u64,
    torn: Option<u64>,
    damaged: Option<u64>,
}

impl Missing {
    fn between(&mut self, before: u64, after: u64) {
        if before.saturating_add(1) < after {
            self.at(before + 1);
        }
    }

    fn at(&mut self, sequence: u64) {
        if sequence <= self.durable {
            self.damaged = self.damaged.or(Some(sequence));
        } else {
            self.torn_at(sequence);
        }
    }

    fn torn_at(&mut self, sequence: u64) {
        self.torn = self.torn.or(Some(sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Header, frame};
    use super::*;

    const EPOCH: u64 = 0xabc;

    /// A segment of records (sequence, durable up to), followed by zeros.
    fn segment(records: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Header { epoch: EPOCH, generation: 0 }.encode().to_vec();
        for (sequence, durable_upto) in records {
            let payload = format!("{{\"n\":{sequence}}}");
            let record = Record { sequence: *sequence, durable_upto: *durable_upto, payload: payload.as_bytes() };
            frame(EPOCH, &record, &mut bytes);
        }
        bytes.resize(bytes.len() + 256, 0);
        bytes
    }

    /// Where the record of that index begins.
    fn place(index: usize) -> usize {
        HEADER_BYTES + index * (RECORD_HEAD_BYTES + "{\"n\":1}".len())
    }

    fn sequences(bytes: &[u8]) -> Vec<u64> {
        scan(EPOCH, bytes).records.iter().map(|record| record.sequence).collect()
    }

    fn verdict(bytes: &[u8]) -> Verdict {
        judge(&[(1, scan(EPOCH, bytes))])
    }

    #[test]
    fn a_whole_segment_is_read_to_its_end() {
        let bytes = segment(&[(1, 0), (2, 1), (3, 2)]);
        assert_eq!(sequences(&bytes), [1, 2, 3]);
        assert_eq!(verdict(&bytes), Verdict::Whole);
        assert_eq!(verdict(&segment(&[])), Verdict::Whole);
    }

    #[test]
    fn a_damaged_record_that_a_later_one_knows_to_be_durable_is_damage() {
        for (index, byte) in [(0, 0), (0, 30), (1, 4), (1, 9), (1, 20), (1, 26)] {
            let mut bytes = segment(&[(1, 0), (2, 1), (3, 2)]);
            bytes[place(index) + byte] ^= 1;
            let sequence = index as u64 + 1;
            assert_eq!(verdict(&bytes), Verdict::Damaged { sequence }, "byte {byte} of record {sequence}");
            assert_eq!(sequences(&bytes).len(), 2, "the others count");
        }
    }

    #[test]
    fn a_length_that_became_zero_hides_nothing() {
        let mut bytes = segment(&[(1, 0), (2, 1), (3, 2)]);
        bytes[place(1)..place(1) + 4].fill(0);
        assert_eq!(verdict(&bytes), Verdict::Damaged { sequence: 2 });
        assert_eq!(sequences(&bytes), [1, 3]);
    }

    #[test]
    fn a_bad_record_of_the_last_batch_is_a_torn_tail_reported_by_its_sequence() {
        let mut bytes = segment(&[(1, 0), (2, 1), (3, 1), (4, 1)]);
        bytes[place(2) + 26] ^= 1;
        assert_eq!(verdict(&bytes), Verdict::Torn { sequence: 3 });
        assert_eq!(sequences(&bytes), [1, 2, 4]);
        let mut last = segment(&[(1, 0), (2, 1)]);
        last[place(1) + 26] ^= 1;
        assert_eq!(verdict(&last), Verdict::Torn { sequence: 2 });
        let mut only = segment(&[(1, 0)]);
        only[place(0) + 26] ^= 1;
        assert_eq!(verdict(&only), Verdict::Torn { sequence: 1 });
    }

    #[test]
    fn segments_are_judged_together() {
        let whole = (segment(&[(1, 0), (2, 1)]), segment(&[(3, 2), (4, 3)]));
        let judged = |one: &[u8], other: &[u8], number| judge(&[(1, scan(EPOCH, one)), (number, scan(EPOCH, other))]);
        assert_eq!(judged(&whole.0, &whole.1, 2), Verdict::Whole);
        let mut damaged = whole.0.clone();
        damaged[place(1) + 26] ^= 1;
        assert_eq!(judged(&damaged, &whole.1, 2), Verdict::Damaged { sequence: 2 });
        let later = segment(&[(9, 8)]);
        assert_eq!(judged(&whole.0, &later, 3), Verdict::Whole, "what was between stands in the document");
    }
}
