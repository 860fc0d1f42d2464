//! The scenes that the golden traces show. Everything in them is virtual, so that each plays the same way every time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod alone;
mod gateway;
mod map;

use std::collections::BTreeSet;
use std::pin::Pin;

use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::gateway::SyncKind;

use crate::support::traces::{plain, segments};
use crate::support::{Rig, Served};

/// A scene that is being played; it gives the text of its trace.
pub(crate) type Playing = Pin<Box<dyn Future<Output = String>>>;

/// A scene: the name of its trace, and how to play it.
pub(crate) type Scene = (&'static str, fn() -> Playing);

/// Every scene.
pub(crate) const SCENES: [Scene; 12] = [
    ("outage-and-recovery", || Box::pin(gateway::outage_and_recovery())),
    ("refusals", || Box::pin(gateway::refusals())),
    ("clocks", || Box::pin(gateway::clocks())),
    ("calls", || Box::pin(gateway::calls())),
    ("registry", || Box::pin(gateway::registry())),
    ("restarts", || Box::pin(gateway::restarts())),
    ("on-demand", || Box::pin(gateway::on_demand())),
    ("options", || Box::pin(gateway::options())),
    ("map-rotation", || Box::pin(map::rotation())),
    ("map-frozen-and-expired", || Box::pin(map::frozen_and_expired())),
    ("map-unreachable", || Box::pin(map::unreachable())),
    ("alone", || Box::pin(alone::every_event())),
];

/// A rig whose gateways are recorded, one after another, in one trace.
pub(crate) struct Stage {
    pub(crate) rig: Rig,
    directory: MemoryDirectory,
    taken: BTreeSet<String>,
    text: String,
}

impl Stage {
    pub(crate) fn new(mut rig: Rig) -> Self {
        let directory = MemoryDirectory::new();
        rig.trace = Some(directory.clone());
        Self { rig, directory, taken: BTreeSet::new(), text: String::new() }
    }

    /// The gateway ends.
    pub(crate) async fn end(&mut self, served: Served) {
        served.gateway.shut_down().await;
        let segments = trace_in(&self.directory, &mut self.taken);
        self.text.push_str(&segments);
    }

    /// The trace of all gateways so far.
    pub(crate) fn text(self) -> String {
        self.text
    }
}

/// The segments in a directory that were not there before, in order.
fn trace_in(directory: &MemoryDirectory, taken: &mut BTreeSet<String>) -> String {
    let mut text = String::new();
    for name in segments(directory) {
        // What an earlier gateway left, a later one compresses.
        if taken.insert(name.trim_end_matches(".gz").to_owned()) {
            text.push_str(&String::from_utf8(plain(directory.read(&name).unwrap().unwrap())).unwrap());
        }
    }
    assert!(!text.is_empty() && !text.contains(r#"{"dropped":"#), "the scene is not recorded whole");
    text
}

/// Refreshes everything now.
pub(crate) async fn force(served: &Served) {
    served.gateway.sync(SyncKind::Force, |_| {}).await;
}
