//! What a subject's refresh keeps in its memo: the three things that the contract's state has no field for.
//!
//! They exclude one another. A subject that ended holds its end; a run under way holds that the credentials changed
//! meanwhile; between a failed run and the next it holds what the origin asked for (`Retry-After`). While a policy of
//! another family decides, the memo rests: so each note names the run it belongs to, and holds for no other. A memo that
//! cannot be read holds nothing: states come from outside, and no policy may fail because of one.

use crate::types::RefreshState;

const STOPPED: &[u8] = b"stopped";
const NEW_CREDENTIALS: &[u8] = b"new-credentials ";
const NOT_BEFORE: &[u8] = b"not-before ";

/// Forgets.
pub(super) fn clear(state: &mut RefreshState) {
    state.memo.clear();
}

/// The subject ended.
pub(super) fn note_stopped(state: &mut RefreshState) {
    state.memo = STOPPED.to_vec();
}

/// Whether the subject ended.
pub(super) fn is_stopped(state: &RefreshState) -> bool {
    state.memo == STOPPED
}

/// The credentials changed during the run under way. `again` alone would not tell: an announced change sets it too.
pub(super) fn note_new_credentials(state: &mut RefreshState, run_id: u64) {
    state.memo = [NEW_CREDENTIALS, run_id.to_string().as_bytes()].concat();
}

/// Whether the credentials changed during this run.
pub(super) fn has_new_credentials(state: &RefreshState, run_id: u64) -> bool {
    number(state.memo.strip_prefix(NEW_CREDENTIALS)) == Some(run_id)
}

/// The origin asked, with the end of the last run, not to be asked before this time of the boot clock.
pub(super) fn note_not_before(state: &mut RefreshState, boot_ms: u64) {
    let end = state.last_end_boot_ms.unwrap_or(0);
    state.memo = [NOT_BEFORE, format!("{end} {boot_ms}").as_bytes()].concat();
}

/// Before when the origin asked not to be asked; zero if it did not.
pub(super) fn not_before(state: &RefreshState) -> u64 {
    let mut numbers = state.memo.strip_prefix(NOT_BEFORE).unwrap_or_default().split(|byte| *byte == b' ');
    let (end, boot_ms) = (number(numbers.next()), number(numbers.next()));
    if end.is_some() && end == state.last_end_boot_ms { boot_ms.unwrap_or(0) } else { 0 }
}

fn number(digits: Option<&[u8]>) -> Option<u64> {
    core::str::from_utf8(digits?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::initial_refresh_state;

    #[test]
    fn what_was_noted_is_read_and_each_note_takes_the_place_of_the_last() {
        let mut state = RefreshState { last_end_boot_ms: Some(7), ..initial_refresh_state() };
        assert_eq!((is_stopped(&state), has_new_credentials(&state, 1), not_before(&state)), (false, false, 0));
        note_not_before(&mut state, u64::MAX);
        assert_eq!(not_before(&state), u64::MAX);
        note_new_credentials(&mut state, 1);
        assert_eq!((has_new_credentials(&state, 1), not_before(&state)), (true, 0));
        note_stopped(&mut state);
        assert_eq!((is_stopped(&state), has_new_credentials(&state, 1)), (true, false));
        clear(&mut state);
        assert!(!is_stopped(&state));
    }

    #[test]
    fn a_note_holds_for_its_own_run_and_no_other() {
        let mut state = RefreshState { last_end_boot_ms: Some(7), ..initial_refresh_state() };
        note_new_credentials(&mut state, 3);
        assert!(!has_new_credentials(&state, 4));
        note_not_before(&mut state, 90);
        state.last_end_boot_ms = Some(8);
        assert_eq!(not_before(&state), 0);
    }

    #[test]
    fn a_memo_that_can_not_be_read_holds_nothing() {
        for memo in
            ["not-before ", "not-before 7", "not-before 7 -1", "not-before 7 99999999999999999999", "else", "\u{e9}"]
        {
            let state = RefreshState { memo: memo.into(), last_end_boot_ms: Some(7), ..initial_refresh_state() };
            assert_eq!((is_stopped(&state), has_new_credentials(&state, 1), not_before(&state)), (false, false, 0));
        }
    }
}
