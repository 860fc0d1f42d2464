//! The rig: a virtual clock and network, MCP servers of alternating eras, a signed service map, directories in memory,
//! and gateways over them that can be stopped, crashed and started again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cortex_mcp::config::{Environment, FileSettings, Flags, Paths, Settings};
use cortex_mcp::connectors::ConnectorStatus;
use cortex_mcp::demo::mcp_server::{McpServer, ServerEra, ServerOptions};
use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::{Clock, VirtualClock};
use cortex_mcp::edge::disk::{self, Disk, MemoryDisk};
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::edge::virtual_network::{Host, VirtualNetwork};
use cortex_mcp::edge::virtual_processes::VirtualProcesses;
use cortex_mcp::gateway::{Gateway, GatewayBuilder};
use cortex_mcp::mcp::protocol::Era;
use cortex_mcp::model::WallMs;
use cortex_mcp::policy::{KeepRecords, PolicyComponent};
use tokio::time::Instant;
use url::Url;

use super::client::Client;
use super::map::{Described, KEY, MAP_URL, MapAnswer, MapDocument, MapOrigin};
use super::wire::Wire;

/// 2026-01-01T00:00:00Z: when every rig's time begins.
pub(crate) const START: WallMs = WallMs(1_767_225_600_000);

/// One upstream.
pub(crate) struct Upstream {
    pub(crate) id: String,
    pub(crate) url: Url,
    pub(crate) server: Arc<McpServer>,
}

/// The rig. Fields may be changed before a gateway is started.
pub(crate) struct Rig {
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) network: Arc<VirtualNetwork>,
    pub(crate) map: Arc<MapOrigin>,
    pub(crate) document: MapDocument,
    pub(crate) servers: Vec<Upstream>,
    pub(crate) state: MemoryDirectory,
    pub(crate) registry: MemoryDisk,
    pub(crate) processes: Arc<VirtualProcesses>,
    pub(crate) records: Arc<KeepRecords>,
    pub(crate) environment: Environment,
    pub(crate) toml: String,
    pub(crate) policy: Option<Arc<PolicyComponent>>,
    pub(crate) shadow: Option<Arc<PolicyComponent>>,
    /// Where decisions are recorded, besides `records`; nowhere, unless a test asks for it.
    pub(crate) trace: Option<MemoryDirectory>,
    pub(crate) entropy: AtomicU64,
}

/// A gateway that runs on a rig.
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) wire: Arc<Wire>,
    /// When it was started.
    pub(crate) started: Instant,
}

impl Rig {
    /// So many servers `s1`, `s2`, ..., the odd ones legacy and the even ones modern, with three tools each.
    pub(crate) fn new(servers: usize) -> Self {
        Self::of((1..=servers).map(Self::options))
    }

    /// What the rig's server of that number is like.
    pub(crate) fn options(number: usize) -> ServerOptions {
        let era = if number % 2 == 1 { ServerEra::Legacy } else { ServerEra::Modern };
        ServerOptions { name: format!("s{number}"), era, ttl_ms: Some(300_000), ..ServerOptions::default() }
    }

    /// Servers that are like this.
    pub(crate) fn of(options: impl IntoIterator<Item = ServerOptions>) -> Self {
        let network = Arc::new(VirtualNetwork::new());
        let servers: Vec<Upstream> = (1..)
            .zip(options)
            .map(|(number, options)| {
                let url = Url::parse(&format!("https://s{number}.test/mcp")).unwrap();
                let server = McpServer::new(options);
                network.set(&url, Host::Serve(server.router()));
                Upstream { id: format!("s{number}"), url, server }
            })
            .collect();
        let connectors = servers.iter().map(|server| Described::new(&server.id, server.url.as_str())).collect();
        let document = MapDocument { generated_at: START, ttl_seconds: 3_600, connectors };
        let map = MapOrigin::new(MapAnswer::Document(document.signed()));
        network.set(&map_url(), Host::Serve(map.router()));
        Self {
            clock: Arc::new(VirtualClock::starting_at(START.plus(1_000))),
            network,
            map,
            document,
            servers,
            state: MemoryDirectory::new(),
            registry: MemoryDisk::new(),
            processes: Arc::new(VirtualProcesses::new()),
            records: Arc::new(KeepRecords::new(100_000)),
            environment: Environment::from([
                ("CONNECTORS_SERVICE_MAP_URL", MAP_URL),
                ("CONNECTORS_SIGNATURE_KEY", KEY),
            ]),
            toml: String::new(),
            policy: None,
            shadow: None,
            trace: None,
            entropy: AtomicU64::new(7),
        }
    }

    /// The settings of its gateways.
    pub(crate) fn settings(&self) -> Settings {
        let file = FileSettings::parse(&self.toml, Path::new("gateway.toml")).unwrap();
        let paths = Paths::below(Path::new("/virtual"));
        let mut settings = Settings::from_parts(&Flags::default(), &self.environment, file, paths).unwrap();
        if self.trace.is_none() {
            settings.trace = None;
        }
        settings
    }

    /// Sets a variable of the environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment = self.environment.clone().plus(name, value);
    }

    /// Starts a gateway on the rig's directories.
    pub(crate) async fn start(&self) -> Served {
        self.start_on(&self.network, &self.state).await
    }

    /// Starts a gateway on another network or another state directory.
    pub(crate) async fn start_on(&self, network: &Arc<VirtualNetwork>, state: &MemoryDirectory) -> Served {
        let (wire, builder) = self.builder(network, state);
        let started = Instant::now();
        let gateway = builder.start().await.unwrap();
        Served { gateway, wire, started }
    }

    /// The builder of a gateway, and its wire.
    pub(crate) fn builder(
        &self,
        network: &Arc<VirtualNetwork>,
        state: &MemoryDirectory,
    ) -> (Arc<Wire>, GatewayBuilder) {
        let wire = Wire::new(network.clone());
        let edge = Edge {
            clock: self.clock.clone(),
            entropy: Arc::new(VirtualEntropy::from_number(self.entropy.fetch_add(1_000_003, Ordering::SeqCst))),
            http: wire.clone(),
        };
        let builder = Gateway::builder(self.settings())
            .edge(edge)
            .state_directory(Arc::new(state.clone()))
            .registry_disk(Arc::new(self.registry.clone()))
            .processes(self.processes.clone())
            .decisions(self.records.clone());
        let builder = match &self.policy {
            Some(policy) => builder.policy(policy.clone()),
            None => builder,
        };
        let builder = match &self.shadow {
            Some(shadow) => builder.shadow(shadow.clone()),
            None => builder,
        };
        let builder = match &self.trace {
            Some(directory) => builder.trace_directory(Arc::new(directory.clone())),
            None => builder,
        };
        (wire, builder)
    }

    /// Starts a gateway and waits until every connector serves its list or has tried to.
    pub(crate) async fn ready(&self) -> Served {
        let served = self.start().await;
        served.gateway.first_pass().await;
        served
    }

    /// The server of that number, from 1.
    pub(crate) fn server(&self, number: usize) -> &Arc<McpServer> {
        &self.servers[number - 1].server
    }

    /// Nobody listens there any more.
    pub(crate) fn refuse(&self, number: usize) {
        self.network.set(&self.servers[number - 1].url, Host::Refuse);
    }

    /// It accepts and never answers.
    pub(crate) fn hang(&self, number: usize) {
        self.network.set(&self.servers[number - 1].url, Host::Hang);
    }

    /// It is back.
    pub(crate) fn revive(&self, number: usize) {
        let upstream = &self.servers[number - 1];
        self.network.set(&upstream.url, Host::Serve(upstream.server.router()));
    }

    /// What stands at the map's origin.
    pub(crate) fn map_host(&self, host: Host) {
        self.network.set(&map_url(), host);
    }

    /// The map's origin is back.
    pub(crate) fn revive_map(&self) {
        self.map_host(Host::Serve(self.map.router()));
    }

    /// Every server and the map refuse connections.
    pub(crate) fn stop_everything(&self) {
        (1..=self.servers.len()).for_each(|number| self.refuse(number));
        self.map_host(Host::Refuse);
    }

    /// Everything is back.
    pub(crate) fn revive_everything(&self) {
        (1..=self.servers.len()).for_each(|number| self.revive(number));
        self.revive_map();
    }

    /// A newer map, changed by `change`, signed and served from now on.
    pub(crate) fn publish(&mut self, change: impl FnOnce(&mut MapDocument)) {
        self.document.generated_at = self.document.generated_at.plus(1_000);
        change(&mut self.document);
        self.map.serve(&self.document);
    }

    /// Writes the registry's file, as a program that takes no lock does.
    pub(crate) fn write_registry(&self, text: &str) {
        edit(&self.registry, text.as_bytes());
    }

    /// What the disk holds now, apart from the rig's: what a crash leaves.
    pub(crate) fn copy_of_state(&self) -> MemoryDirectory {
        let copy = MemoryDirectory::new();
        for name in self.state.names().unwrap() {
            copy.replace(&name, &self.state.read(&name).unwrap().unwrap()).unwrap();
        }
        copy
    }

    /// The process behind `served` is gone without a word: its packets are lost, and so is what it did not write.
    pub(crate) fn crash(&mut self, served: &Served) {
        served.wire.unplug();
        self.state = self.copy_of_state();
    }

    /// The requests that all servers and the map were asked so far.
    pub(crate) fn requests(&self) -> u64 {
        let servers: u64 = self.servers.iter().map(|upstream| upstream.server.counts().requests).sum();
        servers + self.map.requests() as u64
    }
}

impl Served {
    /// A client of the gateway.
    pub(crate) fn client(&self, era: Era) -> Client {
        Client::new(self.gateway.router("127.0.0.1:8420".parse().unwrap()), era)
    }

    pub(crate) fn modern(&self) -> Client {
        self.client(Era::Modern)
    }

    pub(crate) fn legacy(&self) -> Client {
        self.client(Era::Legacy)
    }

    /// How many tools are served.
    pub(crate) fn tools(&self) -> usize {
        self.gateway.snapshot().tool_count()
    }

    /// How many tools of one connector are served.
    pub(crate) fn tools_of(&self, id: &str) -> usize {
        self.gateway.status().connectors.iter().find(|status| status.id.as_str() == id).map_or(0, |status| status.tools)
    }

    /// How a connector stands; none if there is no such connector.
    pub(crate) fn connector(&self, id: &str) -> Option<Arc<ConnectorStatus>> {
        self.gateway.status().connectors.into_iter().find(|status| status.id.as_str() == id)
    }

    /// The value of a sample in the metrics, by its whole name with labels; none if it is not there.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.gateway.metrics();
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits, in virtual time, until something is so.
    pub(crate) async fn until(&self, what: &str, limit: Duration, so: impl Fn(&Self) -> bool) -> Duration {
        until(what, limit, || so(self)).await
    }
}

/// Waits, in virtual time, until something is so; tells how long that took.
pub(crate) async fn until(what: &str, limit: Duration, so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() <= limit, "{what}: not within {limit:?} of virtual time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn map_url() -> Url {
    Url::parse(MAP_URL).unwrap()
}

/// Puts another file in the place of the registry's, as a program that takes no lock does.
pub(crate) fn edit(disk: &dyn Disk, bytes: &[u8]) {
    disk::write_new(disk, "edited", bytes, None).unwrap();
    disk.rename("edited", "servers.json").unwrap();
}
