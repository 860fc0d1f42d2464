//! What a foreign editor did to a document.
//!
//! Compares a document as it stands with the base it came from. What the editor changed, added or removed bears a fresh
//! stamp, above every stamp seen, so that it wins the merge that follows. What a cooperating writer stamped above the
//! base keeps its own stamp. What is unchanged keeps what it has, so that a reformatted file is no change at all. A stamp
//! from the future is reported and never refused; contents are compared by digest only.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::order;
use super::stamp::next;
use crate::environment::Environment;
use crate::limits::FUTURE_TOLERANCE_MS;
use crate::types::{AdoptDecision, ClockState, Entry, FoundEntry, Hlc};

#[cfg(test)]
mod tests;

/// Decides what a foreign editor changed, added or removed relative to `base`, and stamps it as `writer`'s.
///
/// If a name stands twice in `base`, the greater entry counts; if it stands twice in `found`, the last does, as in JSON.
pub fn adopt(
    environment: &mut dyn Environment,
    clock: ClockState,
    writer: &str,
    base: &[Entry],
    found: &[FoundEntry],
) -> AdoptDecision {
    let wall_ms = environment.wall_ms();
    let stamps = base.iter().map(|entry| entry.stamp).chain(found.iter().filter_map(|entry| entry.stamp));
    let mut stamper = Stamper { wall_ms, last: stamps.fold(clock.last, Hlc::max), writer };

    let known = by_name(base);
    let present: BTreeMap<&str, &FoundEntry> = found.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let names: BTreeSet<&str> = known.keys().chain(present.keys()).copied().collect();
    let entries = names
        .into_iter()
        .filter_map(|name| match (known.get(name), present.get(name)) {
            (Some(base), Some(found)) => Some(stamper.compared(base, found)),
            (None, Some(found)) => Some(stamper.added(found)),
            (Some(base), None) => Some(stamper.missing(base)),
            (None, None) => None,
        })
        .collect();

    let latest = wall_ms.saturating_add(FUTURE_TOLERANCE_MS);
    let future: BTreeSet<&str> = base
        .iter()
        .map(|entry| (entry.name.as_str(), Some(entry.stamp)))
        .chain(found.iter().map(|entry| (entry.name.as_str(), entry.stamp)))
        .filter(|(_, stamp)| stamp.is_some_and(|stamp| stamp.wall_ms > latest))
        .map(|(name, _)| name)
        .collect();
    AdoptDecision {
        state: ClockState { last: stamper.last, ..clock },
        entries,
        from_the_future: future.into_iter().map(str::to_owned).collect(),
    }
}

fn by_name(base: &[Entry]) -> BTreeMap<&str, &Entry> {
    let mut known: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in base {
        known
            .entry(&entry.name)
            .and_modify(|held| {
                if order(entry, held).is_gt() {
                    *held = entry;
                }
            })
            .or_insert(entry);
    }
    known
}

/// Gives stamps that only grow, starting above every stamp seen.
struct Stamper<'a> {
    wall_ms: u64,
    last: Hlc,
    writer: &'a str,
}

impl Stamper<'_> {
    /// A name that stands in both.
    fn compared(&mut self, base: &Entry, found: &FoundEntry) -> Entry {
        if let Some(stamp) = found.stamp.filter(|stamp| *stamp > base.stamp) {
            return self.stamped(found, stamp);
        }
        if !base.deleted && base.digest == found.digest {
            return base.clone();
        }
        self.fresh(found)
    }

    /// A name that stands in the document only.
    fn added(&mut self, found: &FoundEntry) -> Entry {
        match found.stamp {
            Some(stamp) => self.stamped(found, stamp),
            None => self.fresh(found),
        }
    }

    /// A name that stands in the base only. What was removed already stays as it was removed.
    fn missing(&mut self, base: &Entry) -> Entry {
        if base.deleted {
            return base.clone();
        }
        Entry {
            name: base.name.clone(),
            stamp: self.tick(),
            writer: self.writer.to_owned(),
            deleted: true,
            digest: String::new(),
        }
    }

    /// An entry that a cooperating writer stamped.
    fn stamped(&self, found: &FoundEntry, stamp: Hlc) -> Entry {
        Entry {
            name: found.name.clone(),
            stamp,
            writer: found.writer.clone().unwrap_or_else(|| self.writer.to_owned()),
            deleted: false,
            digest: found.digest.clone(),
        }
    }

    fn fresh(&mut self, found: &FoundEntry) -> Entry {
        let stamp = self.tick();
        Entry {
            name: found.name.clone(),
            stamp,
            writer: self.writer.to_owned(),
            deleted: false,
            digest: found.digest.clone(),
        }
    }

    fn tick(&mut self) -> Hlc {
        self.last = next(self.wall_ms, self.last);
        self.last
    }
}
