//! Memos: what a policy keeps for itself in a state. The host keeps one for each family of policies, hands a policy only
//! its own family's, and lets the others pass through a swap, or a fault, untouched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The memos of one state, by the family that wrote them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memos(BTreeMap<String, Vec<u8>>);

impl Memos {
    /// What `family` wrote last; empty at first.
    pub fn of(&self, family: &str) -> Vec<u8> {
        self.0.get(family).cloned().unwrap_or_default()
    }

    /// Keeps what `family` wrote.
    pub fn keep(&mut self, family: &str, memo: Vec<u8>) {
        if memo.is_empty() {
            self.0.remove(family);
        } else {
            self.0.insert(family.to_owned(), memo);
        }
    }
}

/// A state as the host holds it between decisions: its own memo is empty, the memos stand beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held<S> {
    /// The state.
    pub state: S,
    /// The memos of the policies that decided on it.
    #[serde(default)]
    pub memos: Memos,
}

impl<S> Held<S> {
    /// Holds a state that no policy has seen.
    pub fn new(state: S) -> Self {
        Self { state, memos: Memos::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_handed_its_own_memo_and_no_other() {
        let mut memos = Memos::default();
        memos.keep("a", vec![1]);
        memos.keep("b", vec![2]);
        assert_eq!((memos.of("a"), memos.of("b"), memos.of("c")), (vec![1], vec![2], vec![]));
        memos.keep("a", vec![]);
        assert_eq!((memos.of("a"), memos.of("b")), (vec![], vec![2]));
    }
}
