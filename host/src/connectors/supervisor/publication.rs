//! What a supervisor publishes: the list that is served, and the status.

use std::sync::Arc;
use std::time::Duration;

use super::Supervisor;
use crate::connectors::publish::Published;
use crate::connectors::status::ConnectorStatus;
use crate::mcp::Irregularity;
use crate::model::{BootMs, ListFacts, ListKind, ListState, OfferSource, Reach, Scope, WallMs, milliseconds};
use crate::policy::contract::{CacheScope, Freshness, RefreshReason, ServeVerdict, case_name};

impl Supervisor {
    /// Publishes list and status, if they changed.
    pub(super) fn publish(&mut self) {
        let verdict = self.upkeep.verdict();
        let fetched_wall = self.upkeep.value().map(|value| WallMs(value.requested.wall_ms));
        let serving = verdict.serve == ServeVerdict::Serve;
        let state = list_state(verdict.state);
        let served = self.offer.as_ref().filter(|_| serving).and_then(|_| self.handle.definitions.served());
        let hidden = served.as_ref().map(|_| self.handle.definitions.hidden_keys()).unwrap_or_default();
        let count = |kind| served.as_ref().map_or(0, |offer| offer.list(kind).items().len());
        let status = ConnectorStatus {
            id: self.handle.id.clone(),
            name: self.handle.connector.load().name.clone(),
            source: self.handle.connector.load().source,
            contact: self.handle.contact(),
            era: self.handle.slot.as_ref().ok().and_then(|slot| slot.era()),
            state,
            reason: case_name(&verdict.reason),
            transport: self.handle.connector.load().reach.as_ref().map(Reach::transport),
            tools: count(ListKind::Tools),
            prompts: count(ListKind::Prompts),
            resources: count(ListKind::Resources),
            templates: count(ListKind::Templates),
            fetched_at: fetched_wall.map(|time| time.to_string()),
            refreshing: self.upkeep.is_running(),
            next_attempt: self.upkeep.due().map(|due| self.wall_of(due).to_string()),
            next_reason: reason_name(self.upkeep.reason()),
            failures: self.upkeep.failures().0,
            last_failure: self.last_failure.clone(),
            credential: self.handle.headers.as_ref().and_then(|headers| headers.refused_credential()),
            breaker: case_name(&self.handle.breaker.phase()),
            definitions: self.handle.definitions.status(),
            warnings: self.handle.metrics.inbound.irregularities.seen().map(Irregularity::description).collect(),
            last_duration_ms: self.last_duration_ms,
            fetched_wall,
            runs: self.runs,
            forces: self.forces,
        };
        let published = Published {
            connector: self.handle.connector.load_full(),
            offer: served,
            source: if self.runs == 0 { OfferSource::Saved } else { OfferSource::Fetched },
            hidden,
            facts: ListFacts {
                state,
                reason: status.reason.clone(),
                fetched_at: fetched_wall,
                fresh_until: self.fresh_until(),
                next_attempt: self.upkeep.due(),
                scope: match self.upkeep.value().map(|value| value.scope) {
                    Some(CacheScope::Public) => Scope::Public,
                    Some(CacheScope::Private) | None => Scope::Private,
                },
                contact: status.contact,
            },
        };
        let is_news = self.published.as_ref().is_none_or(|before| !published.says_the_same_as(before));
        if is_news && !self.with.stop.is_cancelled() {
            self.with.publisher.publish(published.clone());
            self.published = Some(published);
        }
        self.handle.status.send_if_modified(|published| {
            let changed = **published != status;
            if changed {
                *published = Arc::new(status);
            }
            changed
        });
    }

    fn fresh_until(&self) -> Option<BootMs> {
        let verdict = self.upkeep.verdict();
        let value = self.upkeep.value()?;
        let fresh = matches!(verdict.state, Freshness::Fresh | Freshness::Soft);
        let now = self.with.run.clock.now();
        // Under another boot id the age is only known by the wall clock.
        let age = match value.requested.boot_id == now.boot_id.0 {
            true => now.boot.0.saturating_sub(value.requested.boot_ms),
            false => now.wall.0.saturating_sub(value.requested.wall_ms),
        };
        let remaining = Duration::from_millis(value.fresh_ms.saturating_sub(age));
        fresh.then(|| now.boot.plus(remaining))
    }

    fn wall_of(&self, due: BootMs) -> WallMs {
        let now = self.with.run.clock.now();
        now.wall.plus(milliseconds(due.since(now.boot)))
    }
}

fn list_state(freshness: Freshness) -> ListState {
    match freshness {
        Freshness::Empty => ListState::Empty,
        Freshness::Fresh => ListState::Fresh,
        Freshness::Soft => ListState::Soft,
        Freshness::Stale => ListState::Stale,
        Freshness::StaleError => ListState::StaleError,
        Freshness::Expired => ListState::Expired,
        Freshness::Frozen => ListState::Frozen,
    }
}

fn reason_name(reason: RefreshReason) -> String {
    case_name(&reason)
}
