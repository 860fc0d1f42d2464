//! Claims of the names, URIs or URI templates of one kind: of several claims of one key, the oldest is served. A connector that
//! lists what another one has had for longer takes nothing from it.

use std::collections::HashMap;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeSetSync};
use serde::{Deserialize, Serialize};

use crate::model::ConnectorId;

/// When a key was first claimed by a connector that has listed it ever since: the number of the publication, counted across
/// restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct ClaimTime(pub(super) u64);

/// When a connector claimed each of its keys of one kind.
pub(super) type ClaimTimes = HashMap<Arc<str>, ClaimTime>;

/// One item of one connector. The order is that in which claims of one key are served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) since: ClaimTime,
    pub(super) connector: ConnectorId,
    /// Its position in what the connector exposes.
    pub(super) position: usize,
}

/// The claims of all keys of one kind. Cheap to clone; a change costs the logarithm of the number of keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    keys: HashTrieMapSync<Arc<str>, Claimants>,
    /// The keys that more than one item claims.
    contested: RedBlackTreeSetSync<Arc<str>>,
}

#[derive(Clone, Debug)]
enum Claimants {
    One(Claim),
    /// At least two.
    Many(RedBlackTreeSetSync<Claim>),
}

impl Claimants {
    fn first(&self) -> Option<&Claim> {
        match self {
            Self::One(claim) => Some(claim),
            Self::Many(claims) => claims.first(),
        }
    }
}

impl Claims {
    /// The claim that is served.
    pub(super) fn first(&self, key: &str) -> Option<&Claim> {
        self.keys.get(key)?.first()
    }

    /// Whether this item is the one that is served under its key.
    pub(super) fn is_first(&self, key: &str, connector: &ConnectorId, position: usize) -> bool {
        self.first(key).is_some_and(|first| first.position == position && first.connector == *connector)
    }

    /// Adds a claim. Returns the connector whose item is not served any more for that.
    pub(super) fn add(&mut self, key: &Arc<str>, claim: Claim) -> Option<ConnectorId> {
        let Some(claimants) = self.keys.get(key) else {
            self.keys.insert_mut(key.clone(), Claimants::One(claim));
            return None;
        };
        let displaced = claimants.first().filter(|first| claim < **first).map(|first| first.connector.clone());
        let mut claims = match claimants {
            Claimants::One(only) => RedBlackTreeSetSync::new_sync().insert(only.clone()),
            Claimants::Many(claims) => claims.clone(),
        };
        claims.insert_mut(claim);
        self.keys.insert_mut(key.clone(), Claimants::Many(claims));
        self.contested.insert_mut(key.clone());
        displaced
    }

    /// Removes a claim. Returns the connector whose item is served instead.
    pub(super) fn remove(&mut self, key: &Arc<str>, claim: &Claim) -> Option<ConnectorId> {
        let claims = match self.keys.get(key)? {
            Claimants::One(only) => {
                if only == claim {
                    self.keys.remove_mut(key);
                }
                return None;
            }
            Claimants::Many(claims) => claims,
        };
        let was_first = claims.first() == Some(claim);
        let left = claims.remove(claim);
        let next = left.first().filter(|_| was_first).map(|next| next.connector.clone());
        let left = match (left.size(), left.first()) {
            (1, Some(only)) => {
                self.contested.remove_mut(key);
                Claimants::One(only.clone())
            }
            _ => Claimants::Many(left),
        };
        self.keys.insert_mut(key.clone(), left);
        next
    }

    /// The claim of a key that only one item claims.
    pub(super) fn only(&self, key: &str) -> Option<&Claim> {
        match self.keys.get(key)? {
            Claimants::One(claim) => Some(claim),
            Claimants::Many(_) => None,
        }
    }

    /// The keys that more than one item claims, with their claims in order.
    pub(super) fn contested(&self) -> impl Iterator<Item = (&Arc<str>, &RedBlackTreeSetSync<Claim>)> {
        self.contested.iter().filter_map(|key| match self.keys.get(key)? {
            Claimants::Many(claims) => Some((key, claims)),
            Claimants::One(_) => None,
        })
    }
}
