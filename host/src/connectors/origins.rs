//! Calls per origin: connectors of one server share its places, and none of them can take the last place of another.
//!
//! A connector that holds a place leaves one free for each connector that holds none, up to half of the places. So
//! connectors whose calls hang do not keep their neighbours from calling, one call at a time if need be. Within that,
//! whoever asked first is served first. Where more than half as many connectors as there are places hang, those behind them
//! queue like everybody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::oneshot;
use url::Url;

use super::limits::{CALLS_PER_ORIGIN, KEPT_FREE_MAX};

/// Every origin in use.
#[derive(Debug, Default)]
pub(super) struct Origins {
    known: Mutex<HashMap<String, Weak<Origin>>>,
}

impl Origins {
    /// A connector's share of the origin of `url`. It is given back when nobody holds it, nor any place of it.
    pub(super) fn share(&self, url: &Url) -> Arc<OriginShare> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, held| held.strong_count() > 0);
        let name = url.origin().ascii_serialization();
        let origin = known.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let fresh = Arc::<Origin>::default();
            known.insert(name, Arc::downgrade(&fresh));
            fresh
        });
        OriginShare::of(origin)
    }
}

#[derive(Debug, Default)]
struct Origin {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// How many places each share holds.
    held: HashMap<u64, usize>,
    waiting: VecDeque<Waiting>,
    last_share: u64,
}

#[derive(Debug)]
struct Waiting {
    share: Arc<OriginShare>,
    place: oneshot::Sender<OriginPlace>,
}

impl State {
    /// Whether a share may take one more place.
    fn has_room_for(&self, share: u64) -> bool {
        let holds_none = self.held.get(&share).copied().unwrap_or(0) == 0;
        let without = self.held.values().filter(|held| **held == 0).count();
        let kept_free = if holds_none { 0 } else { without.min(KEPT_FREE_MAX) };
        self.taken + kept_free < CALLS_PER_ORIGIN
    }

    fn take(&mut self, share: u64) {
        self.taken += 1;
        *self.held.entry(share).or_default() += 1;
    }
}

/// One connector's share of an origin's places.
#[derive(Debug)]
pub(super) struct OriginShare {
    origin: Arc<Origin>,
    number: u64,
}

impl OriginShare {
    fn of(origin: Arc<Origin>) -> Arc<Self> {
        let number = {
            let mut state = origin.lock();
            state.last_share += 1;
            let number = state.last_share;
            state.held.insert(number, 0);
            number
        };
        Arc::new(Self { origin, number })
    }

    /// A place, if one is free and nobody waits who could have it.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<OriginPlace> {
        let mut state = self.origin.lock();
        let could_go = |one: &Waiting| !one.place.is_closed() && state.has_room_for(one.share.number);
        let is_first = !state.waiting.iter().any(could_go);
        if is_first && state.has_room_for(self.number) {
            state.take(self.number);
            return Some(OriginPlace { share: self.clone() });
        }
        None
    }

    /// Waits for a place. Dropping the future gives the turn up.
    pub(super) async fn acquire(self: &Arc<Self>) -> OriginPlace {
        loop {
            if let Some(place) = self.try_acquire() {
                return place;
            }
            let (place, given) = oneshot::channel();
            self.origin.lock().waiting.push_back(Waiting { share: self.clone(), place });
            // A place that was given back between the two is handed on here.
            self.origin.hand_on();
            if let Ok(place) = given.await {
                return place;
            }
        }
    }
}

impl Drop for OriginShare {
    fn drop(&mut self) {
        // Every place holds its share: there are none left.
        self.origin.lock().held.remove(&self.number);
        self.origin.hand_on();
    }
}

impl Origin {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives free places to those who wait, in their order, and forgets those who went away.
    fn hand_on(&self) {
        loop {
            let (next, granted) = {
                let mut state = self.lock();
                let may_go = |one: &Waiting| one.place.is_closed() || state.has_room_for(one.share.number);
                let Some(next) = state.waiting.iter().position(may_go).and_then(|first| state.waiting.remove(first))
                else {
                    return;
                };
                let granted = !next.place.is_closed();
                if granted {
                    state.take(next.share.number);
                }
                (next, granted)
            };
            // Dropped outside of the lock: both shares and places come back here when they go.
            let Waiting { share, place } = next;
            if granted {
                drop(place.send(OriginPlace { share }));
            }
        }
    }
}

/// A place at an origin; dropping it gives it back.
#[derive(Debug)]
pub(super) struct OriginPlace {
    share: Arc<OriginShare>,
}

impl Drop for OriginPlace {
    fn drop(&mut self) {
        {
            let mut state = self.share.origin.lock();
            state.taken = state.taken.saturating_sub(1);
            if let Some(held) = state.held.get_mut(&self.share.number) {
                *held = held.saturating_sub(1);
            }
        }
        self.share.origin.hand_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn connectors_of_one_origin_share_its_places_and_leave_each_other_one() {
        let origins = Origins::default();
        let (slow, fast) = (origins.share(&url("https://a.example/x")), origins.share(&url("https://a.example:443/y")));
        let other = origins.share(&url("https://b.example/x"));
        let taken: Vec<_> = std::iter::from_fn(|| slow.try_acquire()).collect();
        assert_eq!(taken.len(), CALLS_PER_ORIGIN - 1);
        let one = fast.try_acquire();
        assert!(one.is_some() && fast.try_acquire().is_none(), "the origin has so many places and no more");
        assert_eq!(std::iter::from_fn(|| other.try_acquire()).collect::<Vec<_>>().len(), CALLS_PER_ORIGIN);
        drop(one);
        assert!(fast.try_acquire().is_some());
    }

    #[test]
    fn several_that_hang_leave_one_to_each_of_the_others_and_one_that_is_busy_has_half() {
        let origins = Origins::default();
        let few: Vec<_> = (0..4).map(|_| origins.share(&url("https://few.example"))).collect();
        let hung: Vec<Vec<_>> =
            few.iter().take(2).map(|share| std::iter::from_fn(|| share.try_acquire()).collect()).collect();
        assert_eq!(hung.iter().map(Vec::len).collect::<Vec<_>>(), [7, 1]);
        let others: Vec<_> = few.iter().skip(2).map(|share| share.try_acquire()).collect();
        assert!(others.iter().all(Option::is_some));
        let many: Vec<_> = (0..40).map(|_| origins.share(&url("https://many.example"))).collect();
        let busy: Vec<_> = std::iter::from_fn(|| many[0].try_acquire()).collect();
        assert_eq!(busy.len(), CALLS_PER_ORIGIN - KEPT_FREE_MAX);
    }

    #[test]
    fn a_connector_alone_at_its_origin_has_every_place() {
        let origins = Origins::default();
        let share = origins.share(&url("https://a.example"));
        let gone = origins.share(&url("https://a.example"));
        drop(gone);
        let taken: Vec<_> = std::iter::from_fn(|| share.try_acquire()).collect();
        assert_eq!(taken.len(), CALLS_PER_ORIGIN);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_first_is_served_first_and_whoever_went_is_forgotten() {
        let origins = Origins::default();
        let share = origins.share(&url("https://a.example"));
        let mut taken: Vec<_> = std::iter::from_fn(|| share.try_acquire()).collect();
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let (share, order) = (share.clone(), order.clone());
                tokio::spawn(async move {
                    let _place = share.acquire().await;
                    order.lock().unwrap().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        tasks[1].abort();
        tokio::task::yield_now().await;
        assert!(share.try_acquire().is_none());
        taken.pop();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.is_ok(), number != 1);
        }
        assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
        assert!(share.try_acquire().is_some());
    }
}
