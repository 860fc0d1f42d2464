//! Keeping the registry of a running gateway: the task that tends the store, and turns what it knows into connectors.
//!
//! The folder is looked at twice a second; what any writer changed is served within that time. A registry that can not be
//! read changes nothing: what was served before is still served.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connector::connector;
use super::entry::RegistryEntry;
use super::limits::PROBE_PAUSE;
use super::names::FileKind;
use super::snapshot::RegistrySnapshot;
use super::standing::Standing;
use super::store::{Store, StoreCounts, locked};
use crate::edge::disk::FolderWatch;
use crate::model::Connector;

/// What is published about the registry.
#[derive(Clone, Debug, Default)]
pub struct RegistryView {
    /// The connectors of its entries, by name.
    pub connectors: Vec<Connector>,
    /// How it stands.
    pub status: RegistryStatus,
}

/// How the registry stands, as `status` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// Entries in force.
    pub entries: usize,
    /// Whether it can be written, and if not, why.
    pub standing: Standing,
    /// Why it can not be written or read as it is now, as a sentence; what was read before stands.
    pub error: Option<String>,
    /// What of it can not be used, each a sentence.
    pub problems: Vec<String>,
    /// The generation of the document.
    pub generation: u64,
    /// What was done so far, and what waits.
    pub counts: StoreCounts,
}

/// Starts the task that keeps a registry. When it is stopped, it closes the store: everything that was acknowledged is in
/// the document then, or in a journal that is taken over by whoever comes next.
pub fn keep(store: Arc<Store>, stop: CancellationToken) -> (watch::Receiver<Arc<RegistryView>>, JoinHandle<()>) {
    let mut seen = Seen::new(&store);
    let publisher = watch::Sender::new(Arc::new(seen.view.clone()));
    let published = publisher.subscribe();
    let task = tokio::spawn(async move {
        let mut changes = store.subscribe();
        let hints = hints(&store);
        let mut pause_after_panic = PROBE_PAUSE.0;
        loop {
            let (tended, before) = (store.clone(), seen.clone());
            // Off the async workers: disks are slow, and merging may be too.
            let tending = tokio::task::spawn_blocking(move || {
                let pause = tended.tend();
                (pause, before.next(&tended))
            });
            let pause = match tending.await {
                Ok((pause, next)) => {
                    if let Some(next) = next {
                        publish(&publisher, next.view.clone());
                        seen = Arc::new(next);
                    }
                    pause_after_panic = PROBE_PAUSE.0;
                    pause
                }
                // Only a panic gets here. What is served is still served, and the registry is tended again.
                Err(error) => {
                    tracing::error!(%error, "the registry could not be tended");
                    let pause = pause_after_panic;
                    pause_after_panic = (pause * 2).min(PROBE_PAUSE.1);
                    pause
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = changed(&mut changes) => {}
                () = touched(hints.as_ref()) => {}
            }
        }
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Ok(Err(error)) = closed {
            tracing::error!(%error, "the registry was closed without writing its document; what was acknowledged is in the journal");
        }
    });
    (published, task)
}

/// Hints that others changed the folder; none where there are none. The registry is looked at twice a second all the same.
fn hints(store: &Store) -> Option<FolderWatch> {
    let (names, own) = (store.names.clone(), locked(&store.core).judge.writer().to_owned());
    let concerns = move |name: &str| match names.kind(name) {
        Some(FileKind::Snapshot) => true,
        Some(FileKind::Segment { writer, .. }) => writer != own,
        _ => false,
    };
    store.disk.watch(Box::new(concerns)).unwrap_or_else(|error| {
        tracing::info!(%error, "the registry's folder is not watched; it is looked at twice a second");
        None
    })
}

/// Returns a little after somebody else touched the registry. Hints that come together are one.
async fn touched(hints: Option<&FolderWatch>) {
    match hints {
        Some(hints) => hints.touched().await,
        None => std::future::pending().await,
    }
    tokio::time::sleep(GATHERED).await;
}

/// Returns a little after something changed: changes that come together are served together.
async fn changed(changes: &mut watch::Receiver<Arc<RegistrySnapshot>>) {
    match changes.changed().await {
        Ok(()) => tokio::time::sleep(GATHERED).await,
        Err(_) => std::future::pending().await,
    }
}

/// How long changes are gathered before they are served.
const GATHERED: Duration = Duration::from_millis(100);

fn publish(publisher: &watch::Sender<Arc<RegistryView>>, now: RegistryView) {
    publisher.send_if_modified(|published| {
        if published.connectors == now.connectors && published.status == now.status {
            return false;
        }
        for problem in now.status.problems.iter().filter(|problem| !published.status.problems.contains(problem)) {
            tracing::warn!(problem, "registry");
        }
        *published = Arc::new(now);
        true
    });
}

/// A snapshot of the registry, and what was made of it: most looks find the same one again.
struct Seen {
    snapshot: Arc<RegistrySnapshot>,
    view: RegistryView,
}

impl Seen {
    fn new(store: &Store) -> Arc<Self> {
        let snapshot = store.snapshot();
        let view = RegistryView { connectors: connectors(&snapshot), status: status(&snapshot, store.counts()) };
        Arc::new(Self { snapshot, view })
    }

    /// What there is now; none if nothing has changed. Costs nothing in the number of entries then.
    fn next(&self, store: &Store) -> Option<Self> {
        let (snapshot, counts) = (store.snapshot(), store.counts());
        let is_same = Arc::ptr_eq(&snapshot, &self.snapshot);
        if is_same && counts == self.view.status.counts {
            return None;
        }
        let connectors = if is_same { self.view.connectors.clone() } else { connectors(&snapshot) };
        let view = RegistryView { connectors, status: status(&snapshot, counts) };
        Some(Self { snapshot, view })
    }
}

fn connectors(snapshot: &RegistrySnapshot) -> Vec<Connector> {
    snapshot.entries().filter_map(|entry| connector(entry)).collect()
}

fn status(snapshot: &RegistrySnapshot, counts: StoreCounts) -> RegistryStatus {
    let mut problems = snapshot.problems.to_vec();
    problems.extend(snapshot.entries().filter_map(|entry| unserved(entry)));
    let error = match &snapshot.standing {
        Standing::Writable => None,
        Standing::Behind { reason, .. } => Some(reason.clone()),
        Standing::ReadOnly { reason, .. } => Some(reason.to_string()),
    };
    RegistryStatus {
        entries: snapshot.count(),
        standing: snapshot.standing.clone(),
        error,
        problems,
        generation: snapshot.generation,
        counts,
    }
}

/// Why an entry is not served, if it is well-formed all the same.
fn unserved(entry: &RegistryEntry) -> Option<String> {
    let transport = entry.transport.as_ref().ok().filter(|transport| !transport.is_served())?;
    Some(format!("{} uses the transport {}, which is not served", entry.name, transport.as_str()))
}
