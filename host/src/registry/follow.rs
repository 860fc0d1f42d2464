//! Following the registry's file: what any writer changed becomes connectors of the running gateway.
//!
//! The content's digest is the truth; the file is looked at twice a second. What a writer changed, added or
//! removed is stamped by the policy (`adopt`) and joined with what was known (`merge`); the winners are served. A file
//! that can not be read changes nothing: what was served before is still served. This task never writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connector::connector;
use super::document::{RegistryDocument, RegistryError, read};
use super::entry::{RegistryEntry, Transport};
use crate::edge::files::Directory;
use crate::model::{Connector, Digest};
use crate::policy::contract::{ClockState, Entry, FoundEntry, Hlc};
use crate::policy::{Held, Policy, Subject};

/// How often the file is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The name of the registry's file.
const FILE: &str = "servers.json";

/// What is published about the registry.
#[derive(Clone, Debug, Default)]
pub struct RegistryView {
    /// The connectors of its entries, by id.
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
    /// Why the file as it is now can not be read; what was read before stands.
    pub error: Option<String>,
    /// What of it can not be used, each a sentence.
    pub problems: Vec<String>,
}

/// Reads the registry, publishes it, and starts the task that follows it.
pub fn follow(
    policy: Arc<Policy>,
    directory: Arc<dyn Directory>,
    writer: String,
    stop: CancellationToken,
) -> (watch::Receiver<Arc<RegistryView>>, JoinHandle<()>) {
    let publisher = watch::Sender::new(Arc::new(RegistryView::default()));
    let view = publisher.subscribe();
    let mut follower = Follower {
        policy,
        directory,
        writer,
        publisher,
        subject: Arc::new(Subject::new("registry")),
        clock: Held::new(ClockState::initial()),
        entries: Vec::new(),
        contents: BTreeMap::new(),
        seen: None,
        status: RegistryStatus::default(),
    };
    // What is there already is published before anything is served.
    follower.look_now();
    (view, tokio::spawn(follower.run(stop)))
}

struct Follower {
    policy: Arc<Policy>,
    directory: Arc<dyn Directory>,
    writer: String,
    publisher: watch::Sender<Arc<RegistryView>>,
    subject: Arc<Subject>,
    clock: Held<ClockState>,
    /// What is known, ordered by name, removed entries included.
    entries: Vec<Entry>,
    /// The content of every entry in force, by name.
    contents: BTreeMap<String, RegistryEntry>,
    /// The digest of the file when it was last looked at; none inside for a missing file.
    seen: Option<Option<Digest>>,
    status: RegistryStatus,
}

impl Follower {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            self = self.look().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// Looks at the file once, off the async workers: it may be large, and merging it too.
    async fn look(mut self) -> Self {
        let fallback = self.publisher.clone();
        let looked = tokio::task::spawn_blocking(move || {
            self.look_now();
            self
        });
        match looked.await {
            Ok(follower) => follower,
            Err(error) => {
                // Only a panic in the look gets here; the task can not go on without its state.
                tracing::error!(%error, "the registry is not followed any more");
                drop(fallback);
                std::future::pending().await
            }
        }
    }

    fn look_now(&mut self) {
        let file = match self.directory.read(FILE) {
            Ok(file) => file,
            Err(error) => return self.report(Some(format!("{FILE} can not be read: {error}"))),
        };
        let digest = file.as_deref().map(Digest::of);
        if self.seen == Some(digest) {
            return;
        }
        self.seen = Some(digest);
        match file.as_deref().map(read) {
            // A missing file is a registry without entries.
            None => self.take(RegistryDocument::default()),
            Some(Ok(document)) => self.take(document),
            Some(Err(error)) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: RegistryError) {
        tracing::warn!(%error, "the registry can not be read; what was read before stands");
        self.report(Some(error.to_string()));
    }

    fn take(&mut self, document: RegistryDocument) {
        let found = document.entries.iter().map(|entry| FoundEntry {
            name: entry.name.clone(),
            digest: entry.digest.to_string(),
            stamp: entry.rev.as_ref().map(|rev| Hlc { wall_ms: rev.wall_ms, counter: rev.counter }),
            writer: entry.rev.as_ref().map(|rev| rev.writer.clone()),
        });
        let adopted = self.policy.adopt(&self.subject, &mut self.clock, &self.writer, &self.entries, found.collect());
        let (adopted, from_the_future) = match adopted {
            Ok(adopted) => adopted,
            Err(error) => return self.report(Some(error.to_string())),
        };
        let merged = match self.policy.merge(&self.subject, std::mem::take(&mut self.entries), adopted) {
            Ok(merged) => merged,
            Err(error) => return self.report(Some(error.to_string())),
        };
        let mut known = std::mem::take(&mut self.contents);
        known.extend(document.entries.into_iter().map(|entry| (entry.name.clone(), entry)));
        for entry in merged.entries.iter().filter(|entry| !entry.deleted) {
            // An entry that lost to a later stamp keeps the content that won.
            if let Some(content) = known.remove(&entry.name) {
                self.contents.insert(entry.name.clone(), content);
            }
        }
        self.entries = merged.entries;
        let mut problems: Vec<String> = document.problems.iter().map(ToString::to_string).collect();
        problems
            .extend(from_the_future.iter().map(|name| format!("{name} is stamped in the future; check the clocks")));
        problems.extend(self.contents.values().filter_map(|entry| match &entry.transport {
            Transport::Unsupported { kind } => {
                Some(format!("{} uses the transport {}, which is not served", entry.name, kind.as_str()))
            }
            Transport::Http { .. } => None,
        }));
        for problem in &problems {
            tracing::warn!(problem, "registry");
        }
        self.status = RegistryStatus { entries: self.contents.len(), error: None, problems };
        self.report(None);
    }

    fn report(&mut self, error: Option<String>) {
        self.status.error = error;
        let connectors: Vec<Connector> = self.contents.values().filter_map(connector).collect();
        self.publisher.send_if_modified(|view| {
            if view.connectors == connectors && view.status == self.status {
                return false;
            }
            *view = Arc::new(RegistryView { connectors, status: self.status.clone() });
            true
        });
    }
}
