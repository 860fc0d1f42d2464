//! Decisions about entries, stamps and when to write.

use super::{Quiet, Told, View, count, listed, plain};
use crate::model::WallMs;
use crate::policy::contract::{AdoptDecision, Entry, FoundEntry, MergeDecision, Pending, StampDecision};
use crate::trace::why::times::span;

/// Tells a stamp.
pub(super) fn stamp(decision: Option<&StampDecision>) -> Told {
    let sentence = match decision {
        Some(decision) => format!("a change was stamped {}", WallMs(decision.stamp.wall_ms)),
        None => "a change was to be stamped".to_owned(),
    };
    Told {
        outcome: decision.map(|_| "stamped".to_owned()),
        sentence,
        quiet: Some(Quiet::Same("a change was stamped".to_owned())),
        ..Told::default()
    }
}

/// Tells when what is pending is written.
pub(super) fn flush_after(pending: &Pending, decision: Option<u64>) -> Told {
    let changes = count(usize::try_from(pending.changes).unwrap_or(usize::MAX), "change waits", "changes wait");
    let closing = if pending.closing { ", and the store closes" } else { "" };
    let when = match decision {
        None => String::new(),
        Some(0) => ": written now".to_owned(),
        Some(wait) => format!(": written in {}", span(wait)),
    };
    let sentence = format!("{changes} to be written{closing}{when}");
    Told {
        outcome: decision.map(|wait| wait.to_string()),
        quiet: Some(Quiet::Same("changes wait to be written".to_owned())),
        sentence,
        ..Told::default()
    }
}

/// Tells what a foreign edit came to; none if it does not concern the entry whose view it is.
pub(super) fn adopt(
    base: &[Entry],
    found: &[FoundEntry],
    decision: Option<&AdoptDecision>,
    view: View<'_>,
) -> Option<Told> {
    let name = match view {
        View::Whole => return Some(adopt_whole(base, found, decision)),
        View::Connector(name) | View::Entry(name) => name,
    };
    let before = base.iter().find(|entry| entry.name == name);
    let stands = found.iter().rfind(|entry| entry.name == name);
    let after = decision.and_then(|decision| decision.entries.iter().find(|entry| entry.name == name));
    if before.is_none() && stands.is_none() && after.is_none() {
        return None;
    }
    let stamped = after.map(|entry| format!(": {}", change_of(entry))).unwrap_or_default();
    let change = match (before, stands) {
        (None, Some(_)) => "added",
        (Some(before), None) if !before.deleted => "removed",
        (Some(before), Some(stands)) if before.deleted || before.digest != stands.digest => "changed",
        (Some(before), _) if after.is_some_and(|after| after != before) => "stamped anew",
        (Some(_), _) | (None, None) => "as it was",
    };
    if matches!((view, change), (View::Connector(_), "as it was")) {
        return None;
    }
    let future = decision.is_some_and(|decision| decision.from_the_future.iter().any(|one| one == name));
    let future = if future {
        "; its stamp lies in the future by more than clocks may differ, and counts all the same"
    } else {
        ""
    };
    let sentence = format!("servers.json was read, and its entry was {change}{stamped}{future}");
    Some(Told {
        outcome: decision.map(|_| change.replace(' ', "-")),
        quiet: (change == "as it was")
            .then(|| Quiet::Same("servers.json was read, and its entry was as it was".into())),
        sentence,
        ..Told::default()
    })
}

fn adopt_whole(base: &[Entry], found: &[FoundEntry], decision: Option<&AdoptDecision>) -> Told {
    let known: std::collections::BTreeMap<&str, &Entry> =
        base.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let mut names: Vec<&str> = Vec::new();
    let entries = decision.map(|decision| decision.entries.as_slice()).unwrap_or_default();
    for entry in entries {
        if known.get(entry.name.as_str()).is_none_or(|before| *before != entry) {
            names.push(&entry.name);
        }
    }
    let read = format!("servers.json was read with {}", count(found.len(), "entry", "entries"));
    let (change, quiet) = match names.as_slice() {
        [] => ("nothing changed".to_owned(), true),
        names => (format!("{} changed: {}", names.len(), listed(names.iter().copied())), false),
    };
    let future = decision.map(|decision| decision.from_the_future.as_slice()).unwrap_or_default();
    let future = match future {
        [] => String::new(),
        names => format!("; stamped in the future: {}", listed(names.iter().map(String::as_str))),
    };
    let sentence = format!("{read}, {change}{future}");
    Told {
        outcome: decision.map(|_| if quiet { "unchanged" } else { "changed" }.to_owned()),
        quiet: quiet.then(|| Quiet::Same(sentence.clone())),
        sentence,
        ..Told::default()
    }
}

/// Tells a join; none if it does not concern the entry whose view it is.
pub(super) fn merge(
    ours: &[Entry],
    theirs: &[Entry],
    decision: Option<&MergeDecision>,
    view: View<'_>,
) -> Option<Told> {
    let name = match view {
        View::Whole => return Some(merge_whole(ours, theirs, decision)),
        View::Connector(name) | View::Entry(name) => name,
    };
    let of = |entries: &'_ [Entry]| entries.iter().find(|entry| entry.name == name).cloned();
    let (before, winner) = (of(ours), decision.and_then(|decision| of(&decision.entries)));
    let loser = decision.and_then(|decision| of(&decision.superseded));
    if before.is_none() && winner.is_none() && of(theirs).is_none() {
        return None;
    }
    let as_it_was = loser.is_none() && winner.is_some() && before == winner;
    if as_it_was && matches!(view, View::Connector(_)) {
        return None;
    }
    let in_force = winner.as_ref().map(|entry| format!(": {}", change_of(entry))).unwrap_or_default();
    let (outcome, sentence) = match (&loser, as_it_was) {
        (Some(loser), _) => (
            "superseded",
            format!("entries were joined, and the later change won{in_force}, over {}", change_of(loser)),
        ),
        (None, true) => ("unchanged", "entries were joined, and its entry stays as it was".to_owned()),
        (None, false) => ("taken", format!("entries were joined, and its change was taken{in_force}")),
    };
    Some(Told {
        outcome: decision.map(|_| outcome.to_owned()),
        quiet: as_it_was.then(|| Quiet::Same(sentence.clone())),
        sentence,
        ..Told::default()
    })
}

fn merge_whole(ours: &[Entry], theirs: &[Entry], decision: Option<&MergeDecision>) -> Told {
    let joined = format!("{} and {} were joined", count(ours.len(), "known entry", "known entries"), theirs.len());
    let Some(decision) = decision else {
        return Told { sentence: joined, ..Told::default() };
    };
    let superseded: Vec<&str> = decision.superseded.iter().map(|entry| entry.name.as_str()).collect();
    let in_force = decision.entries.iter().filter(|entry| !entry.deleted).count();
    let lost = match superseded.as_slice() {
        [] => String::new(),
        names => format!("; a later change won over an earlier one of {}", listed(names.iter().copied())),
    };
    let sentence = format!("{joined}: {in_force} in force{lost}");
    let quiet = ours == decision.entries && superseded.is_empty();
    Told {
        outcome: Some(if superseded.is_empty() { "joined" } else { "superseded" }.to_owned()),
        quiet: quiet.then(|| Quiet::Same(sentence.clone())),
        sentence,
        ..Told::default()
    }
}

/// Who changed an entry, when, and whether the change was its removal.
pub(in crate::trace::why) fn change_of(entry: &Entry) -> String {
    let what = if entry.deleted { "the removal" } else { "the change" };
    format!("{what} of {} by {}", WallMs(entry.stamp.wall_ms), plain(&entry.writer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::contract::{ClockState, Hlc};

    fn entry(name: &str, wall_ms: u64, writer: &str, digest: &str) -> Entry {
        let stamp = Hlc { wall_ms, counter: 0 };
        Entry { name: name.into(), stamp, writer: writer.into(), deleted: digest.is_empty(), digest: digest.into() }
    }

    fn found(name: &str, digest: &str) -> FoundEntry {
        FoundEntry { name: name.into(), digest: digest.into(), stamp: None, writer: None }
    }

    fn adopted(entries: Vec<Entry>) -> AdoptDecision {
        AdoptDecision { state: ClockState::initial(), entries, from_the_future: vec!["wiki".into()] }
    }

    #[test]
    fn an_edit_is_told_by_what_it_did_to_the_entry() {
        let base = [entry("wiki", 1, "me", "d1")];
        let told = |found: &[FoundEntry], after| {
            adopt(&base, found, Some(&adopted(vec![after])), View::Entry("wiki")).unwrap()
        };
        let changed = told(&[found("wiki", "d2")], entry("wiki", 1_767_225_600_000, "editor", "d2"));
        assert_eq!(
            changed.sentence,
            "servers.json was read, and its entry was changed: the change of 2026-01-01T00:00:00Z by editor; its stamp \
             lies in the future by more than clocks may differ, and counts all the same"
        );
        let removed = told(&[], entry("wiki", 5, "editor", ""));
        assert!(removed.sentence.contains("was removed: the removal of"), "{removed:?}");
        assert!(told(&[found("wiki", "d1")], base[0].clone()).quiet.is_some());
        assert_eq!(adopt(&base, &[], Some(&adopted(vec![])), View::Entry("other")), None);
    }

    #[test]
    fn a_join_tells_which_change_won() {
        let (ours, theirs) = ([entry("wiki", 1, "me", "d1")], [entry("wiki", 2, "you", "d2")]);
        let decision = MergeDecision { entries: theirs.to_vec(), superseded: ours.to_vec() };
        let told = merge(&ours, &theirs, Some(&decision), View::Entry("wiki")).unwrap();
        assert_eq!(
            told.sentence,
            "entries were joined, and the later change won: the change of 1970-01-01T00:00:00.002Z by you, over the change \
             of 1970-01-01T00:00:00.001Z by me"
        );
    }
}
