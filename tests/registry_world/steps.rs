//! What processes and the foreign editor do in a world, one at a time.

use std::sync::Arc;

use cortex_mcp::registry::{Acknowledge, LockError, ReadOnlyReason, Store, StoreError};

use super::editor::Edit;
use super::machines::Machine;
use super::{FILE, FOREIGN, NAMES, Running, Told, World, content, open, said};

impl<M: Machine> World<M> {
    /// What a store's error is: nothing if its process is dead, else a violation.
    pub(super) fn judge<T>(&mut self, machine: &M, what: &str, result: Result<T, StoreError>) -> Told<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.tell(format!("  {what}: {error}"));
                let held_up = self.one_name && matches!(error, StoreError::Lock(LockError::LegacyHeld { .. }));
                // Nobody waits here, not even for a lock file that was made a moment ago, or for the second half of a
                // document that changed while it was read.
                let met = self.cutting_in
                    && matches!(
                        error,
                        StoreError::Lock(LockError::Held { .. })
                            | StoreError::ReadOnly(ReadOnlyReason::Unreadable { .. })
                    );
                if machine.is_down() || held_up || met || (self.faulty && is_of_the_disk(&error)) {
                    Ok(None)
                } else {
                    Err(format!("{what} fails on a sound disk: {error}"))
                }
            }
        }
    }

    /// Forgets processes that are dead.
    pub(super) fn bury(&mut self) {
        self.running.retain(|running| !running.machine.is_down());
    }

    pub(super) fn next_writer(&mut self) -> String {
        self.processes += 1;
        format!("w{}", self.processes)
    }

    /// Another process opens the registry.
    pub(crate) fn start(&mut self) -> Told {
        let writer = self.next_writer();
        self.tell(format!("{writer} starts"));
        let machine = self.root.process();
        let opened = open(machine.disk(), &self.policy, &writer, Acknowledge::Journal);
        if let Some(store) = self.judge(&machine, &format!("opening by {writer}"), opened)? {
            self.running.push(Running { machine, store, writer });
            self.look_as(self.running.len() - 1, true)?;
        }
        Ok(())
    }

    /// Whether a store says what it may.
    pub(super) fn look(&mut self, chosen: usize) -> Told {
        self.look_as(chosen, false)
    }

    fn look_as(&mut self, chosen: usize, fresh: bool) -> Told {
        let running = &self.running[chosen];
        // Who can not read what others wrote does not know it.
        if running.machine.is_down() || self.faulty {
            return Ok(());
        }
        let said = said(&running.store.snapshot());
        self.ledger.check(&said, fresh).map_err(|what| format!("{} says: {what}", running.writer))
    }

    pub(super) fn change(&mut self, chosen: usize) -> Told {
        let name = if self.dice.chance(850) { *self.dice.pick(&NAMES) } else { *self.dice.pick(&FOREIGN) };
        let removes = self.running[chosen].store.snapshot().get(name).is_some() && self.dice.chance(300);
        self.set(chosen, name, removes)
    }

    /// A process sets a name to a new number, or removes it.
    pub(crate) fn set(&mut self, chosen: usize, name: &str, removes: bool) -> Told {
        let Running { machine, store, writer } = &self.running[chosen];
        let (machine, store, writer) = (machine.clone(), store.clone(), writer.clone());
        if self.set_by(&machine, &store, &writer, name, removes)? {
            self.look(chosen)?;
        }
        Ok(())
    }

    /// Whether it was acknowledged.
    pub(super) fn set_by(
        &mut self,
        machine: &M,
        store: &Arc<Store>,
        writer: &str,
        name: &str,
        removes: bool,
    ) -> Told<bool> {
        let number = self.ledger.number();
        let value = (!removes).then_some(number);
        self.tell(format!("{writer} sets {name} to {value:?}"));
        self.ledger.attempt(name, value);
        let result = if removes { store.remove(name) } else { store.upsert(content(name, number)) };
        let acknowledged = self.judge(machine, &format!("setting {name}"), result)?.is_some();
        if acknowledged {
            self.ledger.acknowledge(name);
            self.counts.acknowledged += 1;
        }
        Ok(acknowledged)
    }

    /// A command sets a name, and ends: what it acknowledges is in the document.
    pub(crate) fn command(&mut self) -> Told {
        let writer = self.next_writer();
        let name = *self.dice.pick(&NAMES);
        self.tell(format!("{writer} is a command"));
        let machine = self.root.process();
        let opened = open(machine.disk(), &self.policy, &writer, Acknowledge::Snapshot);
        let Some(store) = self.judge(&machine, &format!("opening by {writer}"), opened)? else { return Ok(()) };
        if self.set_by(&machine, &store, &writer, name, false)? {
            let document = self.document()?;
            if !self.root.is_down() && !self.faulty {
                let document = document.unwrap_or_default();
                self.ledger.check(&document, true).map_err(|what| format!("{FILE} after a command says: {what}"))?;
            }
        }
        let closed = store.close();
        self.judge(&machine, "closing", closed).map(drop)
    }

    /// A process does what is due.
    pub(crate) fn tend(&mut self, chosen: usize) -> Told {
        self.tell(format!("{} tends", self.running[chosen].writer));
        let _next = self.running[chosen].store.tend();
        self.look(chosen)
    }

    /// A process writes the document.
    pub(crate) fn flush(&mut self, chosen: usize) -> Told {
        if self.write(chosen)? {
            self.ledger.land();
        }
        Ok(())
    }

    /// Whether it did.
    pub(super) fn write(&mut self, chosen: usize) -> Told<bool> {
        self.tell(format!("{} flushes", self.running[chosen].writer));
        let (machine, store) = (self.running[chosen].machine.clone(), self.running[chosen].store.clone());
        let flushed = store.flush();
        let written = self.judge(&machine, "flushing", flushed)?.is_some();
        if written {
            self.look(chosen)?;
        }
        Ok(written)
    }

    /// A process ends in good order.
    pub(crate) fn close(&mut self, chosen: usize) -> Told {
        let running = self.running.remove(chosen);
        self.tell(format!("{} closes", running.writer));
        let closed = running.store.close();
        self.judge(&running.machine, "closing", closed).map(drop)
    }

    /// A process ends at once.
    pub(crate) fn kill(&mut self, chosen: usize) -> Told {
        if !M::KILLS {
            return self.close(chosen);
        }
        let running = self.running.remove(chosen);
        self.tell(format!("{} is killed", running.writer));
        self.counts.kills += 1;
        running.machine.kill();
        Ok(())
    }

    /// A foreign editor opens the document, or saves what was opened before.
    pub(super) fn edit(&mut self) -> Told {
        let Some((machine, mut edit, inherited)) = self.edit.take() else {
            let machine = self.root.process();
            self.tell("the editor opens the document".to_owned());
            match Edit::begin(&*machine.disk(), FILE) {
                Ok(Some(edit)) if !edit.is_based() => {}
                Ok(Some(edit)) => self.edit = Some((machine, edit, self.ledger.afloat())),
                Ok(None) => return Err("the document can not be read".to_owned()),
                Err(_) => {}
            }
            return Ok(());
        };
        let name = *self.dice.pick(&FOREIGN);
        let number = self.ledger.number();
        // Who removes what he does not have changes nothing.
        let value = (!edit.has(name) || self.dice.chance(750)).then_some(number);
        edit.set(name, value);
        self.temporaries += 1;
        let temporary = format!("editing-{}", self.temporaries);
        self.tell(format!("the editor sets {name} to {value:?} and saves"));
        for (inherited, value) in inherited.iter().filter(|(inherited, _)| inherited != name) {
            self.ledger.float(inherited, *value);
        }
        self.ledger.float(name, value);
        self.counts.foreign += 1;
        match edit.save(&*machine.disk(), FILE, &temporary) {
            Ok(()) => self.ledger.acknowledge(name),
            Err(_) if machine.is_down() || self.faulty => {}
            Err(error) => return Err(format!("the editor can not save: {error}")),
        }
        Ok(())
    }
}

/// Whether an error says that the disk is to blame, and that nothing was acknowledged.
fn is_of_the_disk(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::ReadOnly(ReadOnlyReason::Disk { .. })
            | StoreError::Unacknowledged(ReadOnlyReason::Disk { .. })
            | StoreError::Disk(_)
            | StoreError::Lock(_)
    )
}
