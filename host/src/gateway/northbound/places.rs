//! Places for subscriptions: bounded, and shared among the tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gateway::limits;

/// Whose places: a token's name; none where there are no tokens.
type Holder = Option<Arc<str>>;

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<Holder, usize>>);

/// A place. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
    holder: Holder,
}

impl Places {
    /// Takes a place for somebody who may have so many; none if there are no more, or it has that many.
    pub(super) fn take(self: &Arc<Self>, holder: Holder, share: usize) -> Option<Place> {
        let mut taken = self.lock();
        let own = taken.get(&holder).copied().unwrap_or_default();
        if own >= share || taken.values().sum::<usize>() >= limits::LISTENS_MAX {
            return None;
        }
        taken.insert(holder.clone(), own + 1);
        Some(Place { of: self.clone(), holder })
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        if let Some(count) = taken.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_share_and_leaves_the_rest_to_others() {
        let places = Arc::new(Places::default());
        let take = |holder: &str| places.take(Some(holder.into()), limits::LISTENS_SHARE);
        let mut held: Vec<Place> = std::iter::from_fn(|| take("greedy")).collect();
        assert_eq!(held.len(), limits::LISTENS_SHARE);
        assert!(take("modest").is_some());
        held.pop();
        assert!(take("greedy").is_some());
        drop(held);
        assert_eq!((places.count(), places.lock().len()), (0, 0));
    }
}
