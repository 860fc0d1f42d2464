//! The task that puts the descriptions together: the service map's connectors and the registry's, in one set.
//!
//! If both name one connector, the map's is served and the registry's is reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::status::Conflict;
use crate::connectors::Fleet;
use crate::model::{Connector, ConnectorId};
use crate::registry::RegistryView;
use crate::service_map::MapView;
use crate::trace::{ConnectorsNote, TraceWriter};

/// What was applied last.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    /// The number of map runs that had ended when it was put together.
    pub(super) map_runs: u64,
    /// Whether it holds everything that the first attempt brought.
    pub(super) settled: bool,
    /// Connectors that are described and disabled.
    pub(super) disabled: Vec<ConnectorId>,
    /// Ids that two entries claim.
    pub(super) conflicts: Vec<Conflict>,
}

/// Starts the task.
pub(super) fn start(
    fleet: Arc<Fleet>,
    mut map: Option<watch::Receiver<Arc<MapView>>>,
    mut registry: watch::Receiver<Arc<RegistryView>>,
    trace: Option<TraceWriter>,
    stop: CancellationToken,
) -> (watch::Receiver<Arc<Applied>>, JoinHandle<()>) {
    let publisher = watch::Sender::new(Arc::new(Applied::default()));
    let applied = publisher.subscribe();
    let task = tokio::spawn(async move {
        let mut told: Vec<Conflict> = Vec::new();
        let mut described = ConnectorsNote::default();
        loop {
            let map_view = map.as_mut().map(|map| map.borrow_and_update().clone());
            let registry_view = registry.borrow_and_update().clone();
            let (connectors, conflicts) = join(map_view.as_deref(), &registry_view);
            for conflict in news(&told, &conflicts) {
                tracing::warn!(connector = %conflict.id, name = conflict.hidden, "named twice: the first is served");
            }
            told.clone_from(&conflicts);
            let disabled = connectors.iter().filter(|one| !one.enabled).map(|one| one.id.clone()).collect();
            if let Some(trace) = &trace {
                let ids = |enabled: bool| {
                    let some = connectors.iter().filter(|one| one.enabled == enabled);
                    some.map(|one| one.id.to_string()).collect::<Vec<_>>()
                };
                let note = ConnectorsNote { enabled: ids(true), disabled: ids(false), ..described.clone() };
                if note != described {
                    described = ConnectorsNote { moment: fleet.now(), ..note };
                    trace.connectors(described.clone());
                }
            }
            fleet.apply(connectors).await;
            publisher.send_replace(Arc::new(Applied {
                map_runs: map_view.as_ref().map_or(0, |view| view.status.runs),
                settled: map_view.as_ref().is_none_or(|view| view.status.settled),
                disabled,
                conflicts,
            }));
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = changed(&mut map) => {}
                Ok(()) = registry.changed() => {}
            }
        }
    });
    (applied, task)
}

async fn changed(map: &mut Option<watch::Receiver<Arc<MapView>>>) -> Result<(), watch::error::RecvError> {
    match map {
        Some(map) => map.changed().await,
        None => std::future::pending().await,
    }
}

fn join(map: Option<&MapView>, registry: &RegistryView) -> (Vec<Connector>, Vec<Conflict>) {
    let of_map = map.and_then(|view| view.map.as_ref()).into_iter().flat_map(|map| &map.map.connectors);
    let mut joined: BTreeMap<ConnectorId, Connector> = BTreeMap::new();
    let mut conflicts = Vec::new();
    for connector in of_map.chain(&registry.connectors) {
        if joined.contains_key(&connector.id) {
            conflicts.push(Conflict { id: connector.id.clone(), hidden: connector.name.clone() });
        } else {
            joined.insert(connector.id.clone(), connector.clone());
        }
    }
    (joined.into_values().collect(), conflicts)
}

/// The conflicts that were not there when it was put together before.
fn news<'a>(before: &'a [Conflict], now: &'a [Conflict]) -> impl Iterator<Item = &'a Conflict> {
    now.iter().filter(|conflict| !before.contains(conflict))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts(ids: &[&str]) -> Vec<Conflict> {
        ids.iter().map(|id| Conflict { id: id.parse().unwrap(), hidden: (*id).to_owned() }).collect()
    }

    #[test]
    fn a_conflict_is_told_when_it_appears_and_not_each_time_that_documents_are_applied() {
        let told = |before: &[&str], now: &[&str]| -> Vec<String> {
            news(&conflicts(before), &conflicts(now)).map(|conflict| conflict.hidden.clone()).collect()
        };
        assert_eq!(told(&[], &["one"]), ["one"]);
        assert!(told(&["one"], &["one"]).is_empty());
        assert_eq!(told(&["one"], &["one", "two"]), ["two"]);
        assert_eq!(told(&[], &["one"]), ["one"], "one that went away is told again when it is back");
    }
}
