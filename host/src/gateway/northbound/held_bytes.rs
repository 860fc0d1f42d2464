//! Bytes that are held for clients between their requests: what sessions know of their clients, and the URIs of
//! subscriptions. Bounded for all clients together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::gateway::limits;

/// The bytes of all clients. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBytes(Arc<AtomicUsize>);

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    of: HeldBytes,
    bytes: usize,
}

impl HeldBytes {
    /// Holds bytes more, whatever is held already.
    pub(super) fn hold(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held { of: self.clone(), bytes }
    }

    /// Holds bytes more; none if that would be too many.
    pub(super) fn try_hold(&self, bytes: usize) -> Option<Held> {
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= limits::HELD_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Held { of: self.clone(), bytes })
    }

    /// How many bytes more are held than [`limits::HELD_BYTES_MAX`].
    pub(super) fn excess(&self) -> usize {
        self.0.load(Ordering::Relaxed).saturating_sub(limits::HELD_BYTES_MAX)
    }
}

impl Held {
    /// How many bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_or_refused_is_given_back() {
        let bytes = HeldBytes::default();
        let most = bytes.try_hold(limits::HELD_BYTES_MAX).unwrap();
        assert!(bytes.try_hold(1).is_none() && bytes.excess() == 0);
        let more = bytes.hold(1);
        assert_eq!(bytes.excess(), 1);
        drop((most, more));
        assert!(bytes.try_hold(limits::HELD_BYTES_MAX).is_some());
    }
}
