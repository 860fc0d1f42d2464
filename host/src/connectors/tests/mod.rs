//! A fleet over a virtual network, with a server that lives: what clients wish for, and what servers say.

#[path = "../../../../tests/support/live.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "each test uses its own part")]
mod live;

mod doubtful_eras;
mod hung_calls;
mod leaving;
mod lost_sessions;
mod own_sessions;
mod refused_credentials;
mod starts;
mod timeouts;
mod wishes;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::live::Live;
use super::{ConnectorsMetrics, Fleet, FleetSettings, KeptState, Published, Publisher};
use crate::config::{Environment, FileSettings, Flags, Paths, Settings};
use crate::edge::Edge;
use crate::edge::clock::VirtualClock;
use crate::edge::entropy::VirtualEntropy;
use crate::edge::state::{StateRecord, StateSink};
use crate::edge::virtual_network::{Host, VirtualNetwork};
use crate::edge::virtual_processes::VirtualProcesses;
use crate::model::{Auth, Connector, ConnectorId, Quotas, Reach, Source, Timeouts, WallMs};
use crate::policy::{DiscardRecords, Policy, PolicyComponent, PolicyMetrics};

/// A fleet with one connector, `live`.
struct Rig {
    fleet: Arc<Fleet>,
    server: Arc<Live>,
    network: Arc<VirtualNetwork>,
}

/// Publishes and keeps nothing.
pub(super) struct Nowhere;

impl Publisher for Nowhere {
    fn publish(&self, _: Published) {}

    fn credential(&self, _: &ConnectorId, _: Option<u16>) {}

    fn withdraw(&self, _: &ConnectorId) {}

    fn forget(&self, _: &ConnectorId) {}
}

impl StateSink for Nowhere {
    fn keep(&self, _: &str, _: StateRecord) {}

    fn forget(&self, _: &str) {}

    fn keep_now(&self, _: &str, _: StateRecord) -> BoxFuture<'_, std::io::Result<()>> {
        futures_util::future::ready(Ok(())).boxed()
    }
}

fn id() -> ConnectorId {
    "live".parse().unwrap()
}

fn url() -> url::Url {
    "https://live.test/mcp".parse().unwrap()
}

pub(super) fn described(version: &str) -> Connector {
    Connector {
        id: id(),
        name: "Live".into(),
        version: version.into(),
        enabled: true,
        reach: Some(Reach::Http(url())),
        auth: Auth::default(),
        headers: Default::default(),
        scopes: Vec::new(),
        tags: Vec::new(),
        quotas: Quotas::default(),
        timeouts: Timeouts::default(),
        expires: None,
        source: Source::ServiceMap,
    }
}

/// What a file of settings says to a fleet.
fn settings(toml: &str) -> FleetSettings {
    let file = FileSettings::parse(toml, Path::new("gateway.toml")).unwrap();
    let paths = Paths::below(Path::new("/virtual"));
    FleetSettings::new(&Settings::from_parts(&Flags::default(), &Environment::default(), file, paths).unwrap())
}

/// A fleet without connectors.
fn fleet(network: Arc<VirtualNetwork>, processes: Arc<VirtualProcesses>, settings: FleetSettings) -> Arc<Fleet> {
    let edge = Edge {
        clock: Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000))),
        entropy: Arc::new(VirtualEntropy::from_number(7)),
        http: network,
    };
    static EMBEDDED: OnceLock<Arc<PolicyComponent>> = OnceLock::new();
    let component = EMBEDDED.get_or_init(|| Arc::new(PolicyComponent::embedded().unwrap())).clone();
    let policy = Policy::new(component.clone(), component, edge, Arc::new(DiscardRecords), PolicyMetrics::default());
    let (nowhere, metrics) = (Arc::new(Nowhere), ConnectorsMetrics::default());
    let kept = KeptState { sink: nowhere.clone(), records: Vec::new(), instance: Default::default() };
    Arc::new(Fleet::new(settings, Arc::new(policy), nowhere, kept, metrics, processes))
}

impl Rig {
    /// A fleet that has listed the server and listens to it.
    async fn new(modern: bool) -> Self {
        let server = Live::new(modern, 1);
        let network = Arc::new(VirtualNetwork::new());
        network.set(&url(), Host::Serve(server.router()));
        let fleet = fleet(network.clone(), Arc::new(VirtualProcesses::new()), settings(""));
        fleet.apply(vec![described("1")]).await;
        let rig = Self { fleet, server, network };
        rig.until("it listens", || rig.server.streams() == 1).await;
        rig
    }

    /// Waits, within a minute of virtual time, until something is so.
    async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let began = tokio::time::Instant::now();
        while !so() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
