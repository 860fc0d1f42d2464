//! What tokens allow, and when that ends: whatever is open for a token ends when a reload takes the token away or lets it
//! do or see something else. Whoever comes back is judged anew.
//!
//! What was let in under the former settings while they were replaced has ended from the beginning.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::config::Token;

/// What somebody may: a token, or, where there are none, whatever everybody may.
type Granted<'a> = Option<&'a Token>;

/// The grants in force.
#[derive(Debug)]
pub(super) struct Grants(Mutex<Vec<(Option<Token>, CancellationToken)>>);

impl Grants {
    /// Those of these tokens.
    pub(super) fn of(tokens: &[Token]) -> Self {
        Self(Mutex::new(granted(tokens).map(|granted| (granted, CancellationToken::new())).collect()))
    }

    /// Cancelled when this grant ends; at once, if it is not in force.
    pub(super) fn end_of(&self, token: Granted<'_>) -> CancellationToken {
        let grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = grants.iter().find(|(granted, _)| is_same(granted.as_ref(), token)).map(|(_, end)| end.clone());
        known.unwrap_or_else(|| {
            let ended = CancellationToken::new();
            ended.cancel();
            ended
        })
    }

    /// These tokens are in force from now on; everything else ends. To be called before the settings are replaced.
    pub(super) fn keep(&self, tokens: &[Token]) {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut former = std::mem::take(&mut *grants);
        for granted in granted(tokens) {
            let place = former.iter().position(|(known, _)| is_same(known.as_ref(), granted.as_ref()));
            let kept = place.map(|place| former.swap_remove(place));
            grants.push(kept.unwrap_or_else(|| (granted, CancellationToken::new())));
        }
        former.into_iter().for_each(|(_, end)| end.cancel());
    }
}

fn granted(tokens: &[Token]) -> impl Iterator<Item = Option<Token>> {
    let everybody = tokens.is_empty().then_some(None);
    everybody.into_iter().chain(tokens.iter().cloned().map(Some))
}

/// Whether two grants allow the same. How often a token may ask follows the configuration by itself.
fn is_same(one: Granted<'_>, other: Granted<'_>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    let Token { name, sha256, admin, connectors, tools, deny_tools, calls_per_minute: _ } = one;
    (name, sha256, admin) == (&other.name, &other.sha256, &other.admin)
        && (connectors, tools, deny_tools) == (&other.connectors, &other.tools, &other.deny_tools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    #[test]
    fn a_grant_ends_with_its_token_and_with_whatever_the_token_may() {
        let token = |name: &str| Token::new(name, Digest::of(name.as_bytes()));
        let (one, two) = (token("one"), token("two"));
        let grants = Grants::of(&[one.clone(), two.clone()]);
        let (of_one, of_two) = (grants.end_of(Some(&one)), grants.end_of(Some(&two)));
        assert!(grants.end_of(None).is_cancelled(), "once there are tokens, everybody needs one");
        let slower = Token { calls_per_minute: Some(1), ..one.clone() };
        let narrower = Token { deny_tools: vec!["x".parse().unwrap()], ..two.clone() };
        grants.keep(&[narrower.clone(), slower]);
        assert!(!of_one.is_cancelled() && of_two.is_cancelled());
        assert!(grants.end_of(Some(&two)).is_cancelled(), "whoever was let in before has a grant that has ended");
        let of_narrower = grants.end_of(Some(&narrower));
        assert!(!of_narrower.is_cancelled());
        grants.keep(&[]);
        assert!(of_one.is_cancelled() && of_narrower.is_cancelled() && !grants.end_of(None).is_cancelled());
    }
}
