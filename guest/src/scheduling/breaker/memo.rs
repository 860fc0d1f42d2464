//! What a breaker keeps in its memo: how far answers to other things than its probe can be trusted.
//!
//! Two facts, both of the present opening. `answered`: a list, a session, a ping or an earlier call was answered since it
//! opened. `doubted`: it opened because a probe failed although something had been answered since it opened before, so that
//! such answers say nothing about calls until the open time has ended. A memo that cannot be read holds neither fact:
//! states come from outside, and no policy may fail because of one.

use crate::types::BreakerState;

const ANSWERED: &[u8] = b"answered";
const DOUBTED: &[u8] = b"doubted";
const DOUBTED_AND_ANSWERED: &[u8] = b"doubted answered";

/// Forgets: the breaker closes.
pub(super) fn clear(state: &mut BreakerState) {
    state.memo.clear();
}

/// A new opening begins. It is doubted if something was answered in the opening that its probe ended.
pub(super) fn note_opened(state: &mut BreakerState) {
    let memo = if was_answered(state) { DOUBTED } else { b"" };
    state.memo = memo.to_vec();
}

/// Something other than the probe was answered.
pub(super) fn note_answered(state: &mut BreakerState) {
    let memo = if is_doubted(state) { DOUBTED_AND_ANSWERED } else { ANSWERED };
    state.memo = memo.to_vec();
}

/// Whether answers to other things than calls are doubted.
pub(super) fn is_doubted(state: &BreakerState) -> bool {
    state.memo == DOUBTED || state.memo == DOUBTED_AND_ANSWERED
}

fn was_answered(state: &BreakerState) -> bool {
    state.memo == ANSWERED || state.memo == DOUBTED_AND_ANSWERED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::initial_breaker_state;

    #[test]
    fn an_opening_is_doubted_if_and_only_if_something_was_answered_in_the_one_before() {
        let mut state = initial_breaker_state();
        for (answered, doubted) in [(false, false), (true, false), (true, true), (false, true), (false, false)] {
            note_opened(&mut state);
            assert_eq!(is_doubted(&state), doubted);
            if answered {
                note_answered(&mut state);
                assert_eq!(is_doubted(&state), doubted, "an answer changes nothing for its own opening");
            }
        }
    }

    #[test]
    fn a_memo_that_cannot_be_read_holds_nothing() {
        for memo in ["else", "doubte", "answered ", "\u{e9}"] {
            let mut state = initial_breaker_state();
            state.memo = memo.into();
            assert!(!is_doubted(&state));
            note_opened(&mut state);
            assert_eq!(state.memo, b"");
        }
    }
}
