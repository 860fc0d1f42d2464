//! Following the registry's file: what any writer changed becomes connectors of the running gateway.
//!
//! The content's digest is the truth; the file is looked at twice a second, and read when it looks different, at least
//! every five seconds: times are coarse. What a writer changed, added or removed is stamped by the policy (`adopt`) and
//! joined with what was known (`merge`); the winners are served. A file that can not be read changes nothing: what was
//! served before is still served. This task never writes.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connector::connector;
use super::document::{MAX_REGISTRY_BYTES, RegistryDocument, RegistryError, read};
use super::entry::{RegistryEntry, Transport};
use crate::edge::files::{Directory, FileLook};
use crate::model::{BootMs, Connector, Digest};
use crate::policy::contract::{ClockState, Entry, FoundEntry, Hlc};
use crate::policy::{Held, NoDecision, Policy, Subject};

/// How often the file is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How long a file that looks the same is taken for the same without being read.
const LOOKS_ARE_TRUSTED: Duration = Duration::from_secs(5);

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
        read: None,
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
    /// The content that was dealt with last; none as long as it has to be dealt with (again).
    seen: Option<Content>,
    /// What the file looked like when it was last read, and when that was.
    read: Option<(FileLook, BootMs)>,
    status: RegistryStatus,
}

/// What stands in the place of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Missing,
    TooLarge,
    Bytes(Digest),
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
        if let Err(error) = self.read() {
            // Once it can be read again, the same bytes are news.
            (self.seen, self.read) = (None, None);
            let error = format!("{FILE} can not be read: {error}");
            if self.status.error.as_deref() != Some(&error) {
                tracing::warn!(error, "what was read before stands");
            }
            self.report(Some(error));
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let now = self.policy.edge().clock.boot();
        let look = self.directory.look(FILE)?;
        let as_before = |(before, at): (FileLook, BootMs)| look == Some(before) && now.since(at) < LOOKS_ARE_TRUSTED;
        if self.seen.is_some() && self.read.is_some_and(as_before) {
            return Ok(());
        }
        let (content, file) = match self.directory.read_at_most(FILE, MAX_REGISTRY_BYTES) {
            Ok(None) => (Content::Missing, None),
            Ok(Some(bytes)) => (Content::Bytes(Digest::of(&bytes)), Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => (Content::TooLarge, None),
            Err(error) => return Err(error),
        };
        // The look is the older of the two: a change in between shows at the next look.
        self.read = look.map(|look| (look, now));
        if self.seen == Some(content) {
            return Ok(());
        }
        let dealt_with = match (content, file.as_deref().map(read)) {
            (Content::TooLarge, _) => {
                self.refuse(RegistryError::TooLarge);
                true
            }
            // A missing file is a registry without entries.
            (_, None) => self.take(RegistryDocument::default()),
            (_, Some(Ok(document))) => self.take(document),
            (_, Some(Err(error))) => {
                self.refuse(error);
                true
            }
        };
        self.seen = dealt_with.then_some(content);
        Ok(())
    }

    fn refuse(&mut self, error: RegistryError) {
        tracing::warn!(%error, "the registry can not be read; what was read before stands");
        self.report(Some(error.to_string()));
    }

    /// Adopts and joins what was found. Tells whether that was done; if the policy gave no decision, nothing is changed.
    fn take(&mut self, document: RegistryDocument) -> bool {
        match self.join(document) {
            Ok(()) => {
                self.report(None);
                true
            }
            Err(error) => {
                self.report(Some(error.to_string()));
                false
            }
        }
    }

    fn join(&mut self, document: RegistryDocument) -> Result<(), NoDecision> {
        let found = document.entries.iter().map(|entry| FoundEntry {
            name: entry.name.clone(),
            digest: entry.digest.to_string(),
            stamp: entry.rev.as_ref().map(|rev| Hlc { wall_ms: rev.wall_ms, counter: rev.counter }),
            writer: entry.rev.as_ref().map(|rev| rev.writer.clone()),
        });
        let (adopted, from_the_future) =
            self.policy.adopt(&self.subject, &mut self.clock, &self.writer, &self.entries, found.collect())?;
        let merged = self.policy.merge(&self.subject, self.entries.clone(), adopted)?;
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
        Ok(())
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
