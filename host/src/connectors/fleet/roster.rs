//! Who belongs to the fleet, and who is on the way out. Nobody waits for another: what is new starts at once, and each
//! connector that leaves or is rebuilt does so in a task of its own, which the fleet owns.
//!
//! A name has one supervisor at a time. One that changed, or that comes back while the former one of its name is ending,
//! starts when that has ended, from what is described by then. Until then a changed one stays where it was.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Fleet, Member};
use crate::connectors::handle::{Handle, Signal};
use crate::connectors::wishes::ResourceWishes;
use crate::connectors::{definitions, limits, saved};
use crate::edge::state::StateRecord;
use crate::model::{Connector, ConnectorId, Reach};

/// What is described, and who is on the way out.
#[derive(Default)]
pub(super) struct Roster {
    /// All that have an entry, also those that are disabled.
    described: BTreeSet<ConnectorId>,
    wanted: BTreeMap<ConnectorId, Connector>,
    /// Those whose supervisors are ending, and the resources that clients still want of the next one of the name.
    retiring: BTreeMap<ConnectorId, Arc<ResourceWishes>>,
    /// Whether the fleet ends: nobody is started any more.
    ends: bool,
}

impl Fleet {
    /// Follows the descriptions. Returns once every connector that is new serves what was saved of it; none waits for a
    /// packet, and none that leaves is waited for.
    pub async fn apply(self: &Arc<Self>, desired: Vec<Connector>) {
        let added = self.follow(desired);
        // In between, other tasks have their turn.
        for some in added.chunks(limits::STARTS_BETWEEN_YIELDS) {
            self.start_wanted(some);
            tokio::task::yield_now().await;
        }
        self.restoring.wait().await;
        if !self.opened.is_cancelled() {
            // What is left may be described later; it holds on to no more than its own bytes until then.
            self.lock_saved().values_mut().for_each(|record| record.body.detach());
            self.lock_approved().values_mut().for_each(|record| record.body.detach());
            self.open();
        }
    }

    /// Lets packets leave: after a warm start a little later, so that the requests that waited for it are answered first.
    fn open(&self) {
        let (opened, stop) = (self.opened.clone(), self.stop.clone());
        if !self.is_warm {
            return opened.cancel();
        }
        self.draining.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(limits::WARM_REST) => opened.cancel(),
            }
        });
    }

    /// Lets go of connectors that are not described any more, and of those whose sessions must be rebuilt. Returns those
    /// that are to be started.
    fn follow(self: &Arc<Self>, desired: Vec<Connector>) -> Vec<ConnectorId> {
        let described: BTreeSet<ConnectorId> = desired.iter().map(|connector| connector.id.clone()).collect();
        let wanted: BTreeMap<ConnectorId, Connector> =
            desired.into_iter().filter(|connector| connector.enabled).map(|one| (one.id.clone(), one)).collect();
        let roster = &mut *self.roster();
        if roster.ends {
            return Vec::new();
        }
        roster.described.difference(&described).for_each(|id| self.publisher.forget(id));
        roster.described = described;
        let before = self.members.load_full();
        let mut members = (*before).clone();
        for (id, member) in before.iter().filter(|(id, _)| !wanted.contains_key(*id)) {
            tracing::info!(connector = %id, "disabled or gone: it drains and leaves");
            members.remove_mut(id);
            // What it may still publish is withdrawn once its supervisor has ended.
            if roster.described.contains(id) {
                self.publisher.withdraw(id);
            }
            // What clients want of one that is being rebuilt is kept: it may be described again before that has ended.
            if let Entry::Vacant(entry) = roster.retiring.entry(id.clone()) {
                entry.insert(Arc::default());
                self.retire(member.clone());
            }
        }
        let mut added = Vec::new();
        for (id, connector) in &wanted {
            if roster.retiring.contains_key(id) {
                continue;
            }
            match members.get(id) {
                Some(member) if self.must_be_rebuilt(&member.handle, connector) => {
                    tracing::info!(connector = %id, "its description changed: its session is rebuilt");
                    // What clients wish for outlives a rebuilt session.
                    roster.retiring.insert(id.clone(), member.handle.wishes.clone());
                    self.retire(member.clone());
                }
                Some(_) => {}
                None => added.push(id.clone()),
            }
        }
        self.members.store(Arc::new(members));
        roster.wanted = wanted;
        added
    }

    /// Rebuilds the sessions of those that need it.
    pub(super) fn rebuild(self: &Arc<Self>, must_be_rebuilt: impl Fn(&Handle) -> bool) {
        let roster = &mut *self.roster();
        if roster.ends {
            return;
        }
        for (id, member) in self.members.load().iter().filter(|(_, member)| must_be_rebuilt(&member.handle)) {
            if let Entry::Vacant(entry) = roster.retiring.entry(id.clone()) {
                tracing::info!(connector = %id, "its credential was added or removed: its session is rebuilt");
                entry.insert(member.handle.wishes.clone());
                self.retire(member.clone());
            }
        }
    }

    /// Every connector that has an entry, also those that are disabled.
    pub fn described(&self) -> BTreeSet<ConnectorId> {
        self.roster().described.clone()
    }

    /// Starts those of these connectors that are still described and are not there.
    fn start_wanted(&self, ids: &[ConnectorId]) {
        let roster = self.roster();
        if roster.ends {
            return;
        }
        let mut members = (**self.members.load()).clone();
        for id in ids.iter().filter(|id| !roster.retiring.contains_key(*id)) {
            let Some(connector) = roster.wanted.get(id).filter(|_| !members.contains_key(id)) else { continue };
            members.insert_mut(id.clone(), Arc::new(self.start(connector.clone(), Arc::default())));
        }
        self.members.store(Arc::new(members));
    }

    /// Returns when every connector that is being rebuilt has been, or after [`limits::REBUILD_PATIENCE`].
    pub(in crate::connectors) async fn rebuilt(&self) {
        let mut retired = self.retired.subscribe();
        let is_rebuilding = || {
            let roster = self.roster();
            roster.retiring.keys().any(|id| roster.wanted.contains_key(id))
        };
        let rebuilt = async { while is_rebuilding() && retired.changed().await.is_ok() {} };
        // One that hangs is on its way out, and nothing is asked of it.
        let _ = tokio::time::timeout(limits::REBUILD_PATIENCE, rebuilt).await;
    }

    /// Every connector that is not on its way out, for others in this room.
    pub(in crate::connectors) fn handles(&self) -> Vec<Arc<Handle>> {
        let roster = self.roster();
        let members = self.members.load();
        let staying = members.iter().filter(|(id, _)| !roster.retiring.contains_key(*id));
        staying.map(|(_, member)| member.handle.clone()).collect()
    }

    /// From now on the fleet has no members and starts none. Returns those that are not on their way out already.
    pub(super) fn disband(&self) -> Vec<Arc<Member>> {
        let mut roster = self.roster();
        roster.ends = true;
        let members = self.members.swap(Arc::default());
        members.iter().filter(|(id, _)| !roster.retiring.contains_key(*id)).map(|(_, member)| member.clone()).collect()
    }

    /// Whether another description asks for another session. What does not is taken over.
    fn must_be_rebuilt(&self, handle: &Handle, described: &Connector) -> bool {
        let current = handle.connector.load_full();
        // Quotas belong to a gate that is built with the session.
        let same_session = current.quotas == described.quotas && current.fingerprint() == described.fingerprint();
        // Without headers that can be sent there is no session that could stay.
        let same_session = same_session && (handle.headers.is_some() || *current == *described);
        if same_session && *current != *described {
            let described = Arc::new(described.clone());
            handle.connector.store(described.clone());
            if let Some(headers) = &handle.headers {
                headers.set_connector(described);
            }
            handle.signals.send(Signal::Described);
        }
        !same_session
    }

    /// Stops a connector's supervisor, starts the next one of its name if there is to be one, and lets its calls end.
    fn retire(self: &Arc<Self>, member: Arc<Member>) {
        member.stop.cancel();
        let fleet = self.clone();
        self.draining.spawn(async move {
            let record = fleet.stop(&member).await;
            let handle = member.handle.clone();
            // Dropped however this ends.
            let _left = fleet.retired(&handle, record);
            drop((fleet, member));
            handle.calls.close();
            let _ = tokio::time::timeout(limits::DRAIN_TIMEOUT, handle.calls.wait()).await;
            handle.close().await;
        });
    }

    /// The supervisor of a connector has ended. When what is returned is dropped, its process is gone too.
    fn retired(&self, handle: &Arc<Handle>, record: Option<StateRecord>) -> DropGuard {
        let id = &handle.id;
        handle.own.leave();
        let left = CancellationToken::new();
        if matches!(handle.connector.load().reach, Some(Reach::Stdio(_))) {
            let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
            leaving.retain(|_, left| !left.is_cancelled());
            leaving.insert(id.clone(), left.clone());
        }
        self.keep_approved(handle);
        let roster = &mut *self.roster();
        let wishes = roster.retiring.remove(id).unwrap_or_default();
        match roster.wanted.get(id) {
            None => {
                match roster.described.contains(id) {
                    true => self.publisher.withdraw(id),
                    false => self.publisher.forget(id),
                }
                self.state.forget(&saved::record_name(id));
            }
            // What it last saved is for the next process.
            Some(_) if roster.ends => {}
            Some(connector) => {
                self.lock_saved().extend(record.map(|record| (id.clone(), record)));
                if handle.connector.load().origin_digest() != connector.origin_digest() {
                    // What is listed is another server's: no call of it may reach this one.
                    self.publisher.withdraw(id);
                }
                let member = Arc::new(self.start(connector.clone(), wishes));
                if handle.was_listed() {
                    member.handle.note_listed();
                }
                self.members.store(Arc::new(self.members.load().insert(id.clone(), member)));
            }
        }
        self.retired.send_replace(());
        left.drop_guard()
    }

    /// A connector that comes back, switched on again or named again by the map, is compared with what was approved of it.
    fn keep_approved(&self, handle: &Handle) {
        let Some(record) = handle.definitions.hand_over() else { return };
        let mut approved = self.lock_approved();
        approved.insert(handle.id.clone(), record);
        while approved.len() > limits::ABSENT_BASELINES_MAX {
            let Some((forgotten, _)) = approved.pop_first() else { break };
            self.state.forget(&definitions::record_name(&forgotten));
        }
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connector's supervisor seems not to end before what is returned is dropped.
    #[cfg(test)]
    pub(in crate::connectors) fn hang_on_leaving(&self, id: &ConnectorId) -> tokio::sync::oneshot::Sender<()> {
        let (release, released) = tokio::sync::oneshot::channel();
        let member = self.members.load().get(id).cloned().unwrap();
        let mut task = member.task.lock().unwrap();
        let supervisor = task.take().unwrap();
        *task = Some(tokio::spawn(async move {
            let record = supervisor.await.unwrap();
            let _ = released.await;
            record
        }));
        release
    }
}
