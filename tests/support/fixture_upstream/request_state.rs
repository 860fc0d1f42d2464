//! What a tool is to remember between two rounds, in the client's hands: the client must not be able to change it.

use std::hash::{BuildHasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::wire::RpcError;

/// Seals and opens request states. The key is its own: a state of another fixture is as good as a forged one.
#[derive(Default)]
pub(super) struct RequestStates {
    /// Keyed `SipHash`: nobody without the keys can compute the digest of another state.
    key: RandomState,
}

impl RequestStates {
    /// A state that only `open` for the same owner takes.
    pub(super) fn seal(&self, owner: &str, payload: &str) -> String {
        format!("{}.{:016x}", URL_SAFE_NO_PAD.encode(payload), self.digest(owner, payload))
    }

    /// What was sealed for this owner.
    pub(super) fn open(&self, owner: &str, state: &str) -> Result<String, RpcError> {
        let refused = || RpcError::invalid_params("the requestState is not one that this server gave out for this");
        let (payload, digest) = state.split_once('.').ok_or_else(refused)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| refused())?;
        let payload = String::from_utf8(payload).map_err(|_| refused())?;
        if digest == format!("{:016x}", self.digest(owner, &payload)) { Ok(payload) } else { Err(refused()) }
    }

    fn digest(&self, owner: &str, payload: &str) -> u64 {
        self.key.hash_one((owner, payload))
    }
}
