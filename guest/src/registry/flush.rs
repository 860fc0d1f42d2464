//! When pending changes are written to disk.
//!
//! A batch waits for the operator's time, counted from its oldest change, so that a steady trickle cannot postpone the
//! write for ever. Closing, write-through and a large batch are written at once. Durability is not decided here: the
//! journal acknowledges changes, this paces the snapshot.

use crate::limits::{FLUSH_BYTES_GREATEST, FLUSH_CHANGES_GREATEST};
use crate::types::Pending;

/// Decides how long the host may wait before it writes what is pending, in milliseconds; 0: now.
#[must_use]
pub fn flush_after(pending: &Pending) -> u64 {
    let large = pending.changes >= FLUSH_CHANGES_GREATEST || pending.bytes >= FLUSH_BYTES_GREATEST;
    if pending.closing || pending.write_through || large {
        return 0;
    }
    pending.batch_ms.saturating_sub(pending.oldest_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Pending {
        Pending { changes: 1, bytes: 100, oldest_ms: 1_200, batch_ms: 5_000, closing: false, write_through: false }
    }

    #[test]
    fn a_batch_waits_for_the_rest_of_its_time() {
        assert_eq!(flush_after(&pending()), 3_800);
        assert_eq!(flush_after(&Pending { oldest_ms: 5_000, ..pending() }), 0);
        assert_eq!(flush_after(&Pending { oldest_ms: u64::MAX, ..pending() }), 0);
    }

    #[test]
    fn closing_and_write_through_write_at_once() {
        assert_eq!(flush_after(&Pending { closing: true, ..pending() }), 0);
        assert_eq!(flush_after(&Pending { write_through: true, ..pending() }), 0);
    }

    #[test]
    fn a_large_batch_is_written_at_once() {
        assert_eq!(flush_after(&Pending { changes: FLUSH_CHANGES_GREATEST, ..pending() }), 0);
        assert_eq!(flush_after(&Pending { bytes: FLUSH_BYTES_GREATEST, ..pending() }), 0);
        assert_eq!(flush_after(&Pending { bytes: FLUSH_BYTES_GREATEST - 1, ..pending() }), 3_800);
    }
}
