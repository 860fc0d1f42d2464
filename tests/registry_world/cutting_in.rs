//! Who cuts in, in a world: just before a call of somebody who is at work, an editor saves, or another process changes
//! something or writes the document, and does all of it before that call is made.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use cortex_mcp::registry::{Acknowledge, Store, StoreError};

use super::editor::Edit;
use super::machines::Machine;
use super::{FILE, FOREIGN, NAMES, Told, World, content, open};

/// Within how many calls of who is at work somebody cuts in.
const CALLS: usize = 40;

impl<M: Machine> World<M> {
    /// Somebody cuts in while somebody else is at work.
    pub(super) fn cut_in(&mut self) -> Told {
        let operation = self.root.operations() + self.dice.among(1, CALLS) as u64;
        self.cutting_in = true;
        let cut = if self.dice.coin() { self.editor_cuts_in(operation) } else { self.process_cuts_in(operation) };
        self.cutting_in = false;
        // Two foreign editors at once lose each other's work without any help.
        self.root.before(u64::MAX, Box::new(|| {}));
        cut
    }

    /// A foreign editor saves while somebody else writes the document. One who writes in place is at the mercy of every
    /// crash: what he wrote is not asked for.
    fn editor_cuts_in(&mut self, operation: u64) -> Told {
        let machine = self.root.process();
        let name = *self.dice.pick(&FOREIGN);
        let number = self.ledger.number();
        self.temporaries += 1;
        let temporary = format!("editing-{}", self.temporaries);
        let in_place = self.dice.chance(300);
        let how = if in_place { " in place" } else { "" };
        self.tell(format!("before call {operation} the editor sets {name} to {number}{how}"));
        self.ledger.float(name, Some(number));
        self.counts.foreign += 1;
        self.edit = None;
        let torn = self.torn.clone();
        let work = move || {
            let disk = machine.disk();
            let Ok(Some(mut edit)) = Edit::begin(&*disk, FILE) else { return };
            if !edit.is_based() {
                return;
            }
            edit.set(name, Some(number));
            if in_place {
                torn.store(true, Ordering::Relaxed);
                torn.store(edit.save_in_place(&*disk, FILE).is_err(), Ordering::Relaxed);
            } else {
                let _ = edit.save(&*disk, FILE, &temporary);
            }
        };
        self.root.before(operation, Box::new(work));
        let chosen = self.dice.below(self.running.len());
        let written = self.write(chosen)?;
        self.cutting_in = false;
        if in_place && !written && !self.running[chosen].machine.is_down() {
            // At the next look, the document is whole.
            self.pass(1);
            self.write(chosen)?;
        }
        Ok(())
    }

    /// Another process changes a name, or writes the document, while somebody writes it or changes another name.
    fn process_cuts_in(&mut self, operation: u64) -> Told {
        let chosen = self.dice.below(self.running.len());
        let (name, other) = (NAMES[self.dice.below(2)], NAMES[2]);
        let number = self.ledger.number();
        let others: Vec<usize> = (0..self.running.len()).filter(|index| *index != chosen).collect();
        let cutter = (!others.is_empty() && self.dice.chance(700)).then(|| *self.dice.pick(&others));
        let flushes = cutter.is_some() && self.dice.chance(400);
        let (machine, opened, writer) = match cutter {
            Some(cutter) => {
                let running = &self.running[cutter];
                (running.machine.clone(), Some(running.store.clone()), running.writer.clone())
            }
            None => (self.root.process(), None, self.next_writer()),
        };
        let what = if flushes { "flushes".to_owned() } else { format!("sets {name} to {number}") };
        self.tell(format!("before call {operation} {writer} {what}"));
        if !flushes {
            self.ledger.attempt(name, Some(number));
        }
        let done: Arc<Mutex<Option<Result<(), StoreError>>>> = Arc::default();
        let (told, own, policy) = (done.clone(), machine.clone(), self.policy.clone());
        let work = move || {
            let opened = opened.map_or_else(|| open(own.disk(), &policy, &writer, Acknowledge::Snapshot), Ok);
            let change =
                |store: Arc<Store>| if flushes { store.flush() } else { store.upsert(content(name, number)).map(drop) };
            *told.lock().unwrap() = Some(opened.and_then(change));
        };
        self.root.before(operation, Box::new(work));
        if self.dice.chance(700) {
            self.write(chosen)?;
        } else {
            self.set(chosen, other, false)?;
        }
        let result = done.lock().unwrap().take();
        let Some(result) = result else { return Ok(()) };
        let made = self.judge(&machine, "what cuts in", result)?.is_some();
        if made && !flushes {
            self.ledger.acknowledge(name);
            self.counts.acknowledged += 1;
        }
        Ok(())
    }
}
