//! What of un-synced changes a crash leaves.
//!
//! Sectors are written in any order, each as it was after any of its writes, some torn at any byte. The length of a
//! file is apart from its data: what was never written within it reads as zeros. Changes of names are seen in their
//! order, or, in an unordered folder, in any order that keeps the order of each name; each change is seen or not, never
//! in part.

use std::collections::{BTreeMap, BTreeSet};

use super::content::{Content, DirtyWrite};
use super::dice::Dice;
use super::machine::NameChange;

/// What is written in one piece, unless it is torn.
pub(super) const SECTOR: usize = 512;

/// The content that is left of a file with this durable content and these un-synced writes.
pub(super) fn content(durable: &Content, dirty: &[DirtyWrite], dice: &mut Dice) -> Content {
    if dirty.is_empty() {
        return durable.clone();
    }
    let mut whole = durable.clone();
    for write in dirty {
        write.apply(&mut whole);
    }
    // How many of a thousand sectors survive with all that was written to them.
    let whole_permille = match dice.below(4) {
        0 => return durable.clone(),
        1 => return whole,
        2 => 500,
        _ => dice.among(50, 950),
    };
    let mut left = durable.clone();
    left.resize(whole.len());
    let mut base = [0; SECTOR];
    for (sector, writes) in touched(durable, dirty) {
        let start = sector * SECTOR;
        let held = left.read(start, &mut base);
        let newest = if dice.chance(whole_permille) { writes.len() } else { dice.among(0, writes.len()) };
        let version = |count: usize| {
            let mut bytes = base;
            for &write in &writes[..count] {
                dirty[write].apply_within(&mut bytes[..held], start);
            }
            bytes
        };
        let mut bytes = version(newest);
        if newest > 0 && dice.chance(120) {
            let older = version(dice.below(newest));
            let cut = dice.below(held + 1);
            if dice.coin() {
                bytes[cut..].copy_from_slice(&older[cut..]);
            } else {
                bytes[..cut].copy_from_slice(&older[..cut]);
            }
        }
        left.write(start, &bytes[..held]);
    }
    left.resize(length(durable.len(), whole.len(), dirty, dice));
    left
}

/// Which writes touch which sectors, in their order. Zeros where nothing but zeros is or comes make no difference.
fn touched(durable: &Content, dirty: &[DirtyWrite]) -> BTreeMap<usize, Vec<usize>> {
    let sectors = |start: usize, end: usize| start / SECTOR..end.div_ceil(SECTOR);
    let mut touched: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for write in dirty.iter().filter(|write| !write.is_zeros()) {
        touched.extend(sectors(write.offset, write.end()).map(|sector| (sector, Vec::new())));
    }
    if dirty.iter().any(DirtyWrite::is_zeros) {
        let written = durable.written().flat_map(|page| sectors(page.start, page.end));
        touched.extend(written.map(|sector| (sector, Vec::new())));
    }
    for (index, write) in dirty.iter().enumerate() {
        for (_, writes) in touched.range_mut(sectors(write.offset, write.end())) {
            writes.push(index);
        }
    }
    touched
}

/// How long the file is: as before, as after all, as after any of the writes, or up to any sector between.
fn length(durable: usize, whole: usize, dirty: &[DirtyWrite], dice: &mut Dice) -> usize {
    if durable >= whole {
        return whole;
    }
    match dice.below(4) {
        0 => durable,
        1 => whole,
        2 => dice.pick(dirty).end().clamp(durable, whole),
        _ => (dice.among(durable / SECTOR, whole / SECTOR) * SECTOR).clamp(durable, whole),
    }
}

/// Which of these un-synced changes of names are seen after a crash.
pub(super) fn names(queue: &[NameChange], ordered: bool, dice: &mut Dice) -> Vec<NameChange> {
    let seen_permille = match dice.below(4) {
        0 => return Vec::new(),
        1 => return queue.to_vec(),
        2 => 500,
        _ => dice.among(50, 950),
    };
    if ordered {
        return queue[..dice.among(0, queue.len())].to_vec();
    }
    let mut blocked: BTreeSet<&str> = BTreeSet::new();
    let mut seen = Vec::new();
    for change in queue {
        let free = change.names().all(|name| !blocked.contains(name));
        if free && dice.chance(seen_permille) {
            seen.push(change.clone());
        } else {
            blocked.extend(change.names());
        }
    }
    seen
}
