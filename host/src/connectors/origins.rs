//! Calls per origin: connectors of one server share its places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;
use url::Url;

use super::limits::CALLS_PER_ORIGIN;

/// The places of every origin in use.
#[derive(Debug, Default)]
pub(super) struct Origins {
    places: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Origins {
    /// The places of the origin of `url`. They live as long as somebody holds them.
    pub(super) fn places(&self, url: &Url) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, held| held.strong_count() > 0);
        let origin = url.origin().ascii_serialization();
        if let Some(held) = places.get(&origin).and_then(Weak::upgrade) {
            return held;
        }
        let fresh = Arc::new(Semaphore::new(CALLS_PER_ORIGIN));
        places.insert(origin, Arc::downgrade(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connectors_of_one_origin_share_its_places() {
        let origins = Origins::default();
        let url = |text: &str| Url::parse(text).unwrap();
        let one = origins.places(&url("https://a.example/x"));
        assert!(Arc::ptr_eq(&one, &origins.places(&url("https://a.example:443/y"))));
        assert!(!Arc::ptr_eq(&one, &origins.places(&url("https://b.example/x"))));
    }
}
