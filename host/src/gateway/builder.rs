//! Building a gateway: every part made, in order, before anything is served.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::assembly;
use super::claims_writer;
use super::definitions;
use super::embed::{Gateway, Parts};
use super::instance;
use super::limits;
use super::metrics::{ServerMetrics, StateMetrics};
use super::publish::{Publishing, obey};
use super::registry_tools;
use super::state_writer;
use crate::catalog::{Catalog, NameRule};
use crate::config::{ConfigError, RefreshMode, RegistrySettings, Settings, SignatureKeys};
use crate::connectors::{ConnectorsMetrics, Fleet, FleetSettings, KeptState};
use crate::edge::Edge;
use crate::edge::clock::SystemClock;
use crate::edge::disk::Disk;
use crate::edge::entropy::SystemEntropy;
use crate::edge::files::{Directory, MissingDirectory, SystemDirectory};
use crate::edge::http::{HttpOptions, HttpSetupError, LinkLocal, ReqwestHttp};
use crate::edge::process::{Processes, SystemProcesses};
use crate::edge::state::{StateRecord, StateSink};
use crate::edge::virtual_network::VirtualNetwork;
use crate::model::{InstanceId, milliseconds};
use crate::policy::contract::{self, CacheConfig, RefreshConfig, SubjectKind};
use crate::policy::{
    CacheAccess, DecisionSink, DiscardRecords, InstanceUse, Policy, PolicyComponent, PolicyError, PolicyMetrics,
    UpkeepConfig,
};
use crate::registry::{self, RegistryMetrics, RegistryPlace, Store, StoreError, StoreOptions, StoreParts};
use crate::service_map::{self, EndpointError, KeyRing, KeyRingError, Maintenance, MapEndpoint, MapHandle, MapMetrics};
use crate::telemetry::{self, MetricRegistry, RefreshMetrics};
use crate::trace::{FanOut, Shadow, TraceFacts, TraceWriter};

/// Makes a [`Gateway`].
pub struct GatewayBuilder {
    settings: Settings,
    edge: Option<Edge>,
    state: Option<Arc<dyn Directory>>,
    registry: Option<Arc<dyn Disk>>,
    trace: Option<Arc<dyn Directory>>,
    processes: Option<Arc<dyn Processes>>,
    sinks: Vec<Arc<dyn DecisionSink>>,
    policy: Option<Arc<PolicyComponent>>,
    shadow: Option<Arc<PolicyComponent>>,
}

/// A gateway that can not be started. The messages say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The keys of the service map.
    #[error("the signature keys are not usable: {0}")]
    Keys(#[from] KeyRingError),
    /// The address of the service map.
    #[error("the service map's address is not usable: {0}")]
    Endpoint(#[from] EndpointError),
    /// The HTTP client.
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    /// A folder.
    #[error("{path} can not be used: {source}; check that it is a folder that you may write to")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The registry.
    #[error(transparent)]
    Registry(#[from] StoreError),
    /// A thread.
    #[error("a thread can not be started: {0}; is the machine's limit of threads reached?")]
    Thread(std::io::Error),
}

impl GatewayBuilder {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            edge: None,
            state: None,
            registry: None,
            trace: None,
            processes: None,
            sinks: Vec::new(),
            policy: None,
            shadow: None,
        }
    }

    /// Another outside world than this machine's.
    #[must_use]
    pub fn edge(mut self, edge: Edge) -> Self {
        self.edge = Some(edge);
        self
    }

    /// Another place for last known good state than the configured folder.
    #[must_use]
    pub fn state_directory(mut self, directory: Arc<dyn Directory>) -> Self {
        self.state = Some(directory);
        self
    }

    /// Another folder of the registry's file, which is `servers.json` in it, than the configured one.
    #[must_use]
    pub fn registry_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.registry = Some(disk);
        self
    }

    /// Another place for the trace than the configured folder, if the settings want one.
    #[must_use]
    pub fn trace_directory(mut self, directory: Arc<dyn Directory>) -> Self {
        self.trace = Some(directory);
        self
    }

    /// Other processes than this machine's.
    #[must_use]
    pub fn processes(mut self, processes: Arc<dyn Processes>) -> Self {
        self.processes = Some(processes);
        self
    }

    /// One more place where a record of each decision is handed, besides the trace.
    #[must_use]
    pub fn decisions(mut self, sink: Arc<dyn DecisionSink>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Another policy than the configured one. A reload leaves it alone, unless its settings name a file.
    #[must_use]
    pub fn policy(mut self, policy: Arc<PolicyComponent>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Another shadow policy than the configured one.
    #[must_use]
    pub fn shadow(mut self, shadow: Arc<PolicyComponent>) -> Self {
        self.shadow = Some(shadow);
        self
    }

    /// Starts the gateway, and returns once the lists that an earlier process saved are served. They are before the first
    /// packet leaves.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Gateway, StartError> {
        let gateway = self.begin().await?;
        gateway.restored().await;
        Ok(gateway)
    }

    /// Starts the gateway, and returns as soon as it can be asked whether it is alive. MCP requests wait until the lists that
    /// an earlier process saved are served.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn begin(self) -> Result<Gateway, StartError> {
        let Self { settings, edge, state, registry, trace, processes, sinks, policy: policy_given, shadow } = self;
        settings.validate()?;
        let loading = load_components(settings.clone(), policy_given.clone(), shadow);
        let (components, edge) = tokio::join!(loading, system_edge(edge, &settings));
        let (Components { default, deployed, shadow }, edge) = (components?, edge?);
        let processes = processes.unwrap_or_else(|| Arc::new(SystemProcesses::new()));
        let map = service_map_of(&settings)?;
        let state = state_directory(state, &settings.paths.state())?;
        let registry = registry_disk(registry, &settings)?;
        let mut registered = MetricRegistry::default();
        telemetry::register_process(&mut registered);
        let metrics = ServerMetrics::new(&mut registered);
        let refreshes = RefreshMetrics::new(&mut registered);
        let run = format!("{:013x}", edge.entropy.seed());
        let components = [deployed.clone(), default.clone()];
        let trace = start_trace(&settings, trace, &edge, &run, &components)?;
        let shadow = shadow.map(|shadow| Shadow::start(shadow, &components, trace.clone()));
        let shadow = shadow.transpose().map_err(StartError::Thread)?;
        let decisions = decision_sinks(sinks, trace.as_ref(), shadow.as_ref());
        let policy =
            Arc::new(Policy::new(deployed, default, edge.clone(), decisions, PolicyMetrics::new(&mut registered)));
        let writer = format!("gateway-{run}");
        let registry_metrics = RegistryMetrics::new(&mut registered);
        // Before anything runs: what it decides and draws is the same every time.
        let store = open_registry(registry, &policy, &writer, registry_metrics, &settings).await?;
        let started = state_writer::start(policy.clone(), StateMetrics::new(&mut registered), state.clone(), writer);
        let state_writer::Started { writer: state_writer, mut saved, task: state_task, .. } =
            report_state(started, &settings)?;
        let instance = instance::take(&mut saved, &state_writer, &state, &*edge.entropy).await;
        let sink: Arc<dyn StateSink> = Arc::new(state_writer.clone());
        let former = state_writer.former_map();
        let mut records: BTreeMap<String, StateRecord> = saved.into_iter().collect();
        let map_record = records.remove(service_map::RECORD_NAME);
        let catalog = empty_catalog(&settings, instance);
        let claims = claims_writer::restore(&catalog, records.remove(claims_writer::RECORD_NAME).as_ref());
        let publishing = Publishing { catalog: catalog.clone(), trace: trace.clone(), clock: edge.clock.clone() };
        let fleet = Arc::new(Fleet::new(
            FleetSettings::new(&settings),
            policy.clone(),
            Arc::new(publishing),
            KeptState { sink: sink.clone(), records: records.into_iter().collect(), instance },
            ConnectorsMetrics::new(&mut registered, refreshes.clone()),
            processes,
        ));
        let stop = CancellationToken::new();
        let started = map.map(|source| {
            let metrics = MapMetrics::new(&mut registered, refreshes);
            start_map(source, &settings, &policy, (sink, former), metrics, stop.clone(), map_record)
        });
        let (map, map_task) = started.unzip();
        let (registry_view, registry_task) = registry::keep(store.clone(), stop.clone());
        let map_view = map.as_ref().map(MapHandle::view);
        let (applied, assembly_task) =
            assembly::start(fleet.clone(), map_view, registry_view.clone(), trace.clone(), stop.clone());
        let claims_task = claims_writer::run(catalog.clone(), state_writer.clone(), stop.clone(), claims);
        let definitions_task = definitions::take_over(fleet.clone(), state_writer.previous_definitions(), stop.clone());
        let mut tasks = vec![registry_task, assembly_task, definitions_task, tokio::spawn(claims_task)];
        tasks.extend(map_task);
        let parts = Parts {
            settings: arc_swap::ArcSwap::from_pointee(settings),
            edge,
            policy,
            policy_given,
            catalog,
            fleet,
            metrics,
            registered,
            map,
            registry: registry_view,
            store,
            applied,
            state: state_writer,
            trace,
            shadow,
            stop,
            first_pass: watch::Sender::new(None),
        };
        Ok(Gateway::assemble(parts, tasks, state_task))
    }
}

/// The folder and the name of the registry's file.
fn registry_disk(given: Option<Arc<dyn Disk>>, settings: &Settings) -> Result<(Arc<dyn Disk>, String), StartError> {
    if let Some(disk) = given {
        return Ok((disk, "servers.json".to_owned()));
    }
    let path = settings.paths.registry();
    let folder = |source| StartError::Folder { path: path.display().to_string(), source };
    let place = RegistryPlace::of(&path).map_err(folder)?;
    let disk = place.open().map_err(folder)?;
    Ok((Arc::new(disk), place.file))
}

fn store_options(settings: &Settings) -> StoreOptions {
    let RegistrySettings { write_through, batch, .. } = settings.registry;
    StoreOptions { write_through, batch, ..StoreOptions::default() }
}

/// Opens the registry, off the async workers.
async fn open_registry(
    (disk, file): (Arc<dyn Disk>, String),
    policy: &Arc<Policy>,
    writer: &str,
    metrics: RegistryMetrics,
    settings: &Settings,
) -> Result<Arc<Store>, StartError> {
    let (policy, writer) = (policy.clone(), writer.to_owned());
    let parts = StoreParts { disk, file, policy, writer, metrics, options: store_options(settings) };
    let opened = tokio::task::spawn_blocking(move || Store::open(parts));
    // It ends without a result only with the runtime.
    Ok(opened.await.map_err(|ended| StartError::Thread(ended.into()))??)
}

/// Where decisions are recorded: in the places that were given, the trace, and the shadow policy.
fn decision_sinks(
    mut given: Vec<Arc<dyn DecisionSink>>,
    trace: Option<&TraceWriter>,
    shadow: Option<&Shadow>,
) -> Arc<FanOut> {
    given.extend(trace.cloned().map(|trace| -> Arc<dyn DecisionSink> { Arc::new(trace) }));
    given.extend(shadow.cloned().map(|shadow| -> Arc<dyn DecisionSink> { Arc::new(shadow) }));
    Arc::new(FanOut::new(given))
}

/// Reports saved state of a form that is not read any more.
fn report_state(
    started: std::io::Result<state_writer::Started>,
    settings: &Settings,
) -> Result<state_writer::Started, StartError> {
    let folder = settings.paths.state().display().to_string();
    let started = started.map_err(|source| StartError::Folder { path: folder.clone(), source })?;
    if started.old_files > 0 {
        tracing::info!(
            folder,
            files = started.old_files,
            "saved state of an older form is not read: lists are fetched again; the *.state files can be deleted"
        );
    }
    Ok(started)
}

/// A catalog that follows the settings, with the gateway's own tools.
fn empty_catalog(settings: &Settings, instance: InstanceId) -> Arc<Catalog> {
    let catalog =
        Catalog::new(NameRule { style: settings.names, longest: settings.name_length }).with_instance(instance);
    // Nothing is in it yet whose names could be recorded.
    let _ = obey(&catalog, settings);
    catalog.serve_first(registry_tools::served(&settings.registry));
    Arc::new(catalog)
}

/// What was given, else this machine. Off the async workers: the platform's certificates are some hundred files.
async fn system_edge(given: Option<Edge>, settings: &Settings) -> Result<Edge, StartError> {
    if let Some(edge) = given {
        return Ok(edge);
    }
    let link_local = if settings.allow_link_local { LinkLocal::Allowed } else { LinkLocal::Refused };
    let options = HttpOptions { roots: settings.private_roots()?, link_local };
    let http = tokio::task::spawn_blocking(move || ReqwestHttp::new(&options));
    // It ends without a result only with the runtime.
    let http = http.await.map_err(|ended| StartError::Thread(ended.into()))??;
    Ok(Edge { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy), http: Arc::new(http) })
}

/// The policies of a gateway.
struct Components {
    default: Arc<PolicyComponent>,
    deployed: Arc<PolicyComponent>,
    shadow: Option<Arc<PolicyComponent>>,
}

/// Reads and compiles what was not given, off the async workers: an embedder's other tasks go on meanwhile.
async fn load_components(
    settings: Settings,
    policy: Option<Arc<PolicyComponent>>,
    shadow: Option<Arc<PolicyComponent>>,
) -> Result<Components, StartError> {
    let loaded = tokio::task::spawn_blocking(move || -> Result<Components, PolicyError> {
        // First: another component's contract is compared with its, which would make it without the cache.
        let default = embedded(&settings, CacheAccess::ReadWrite)?;
        let deployed = match policy {
            Some(policy) => policy,
            None => configured_policy(&settings)?,
        };
        let shadow = match (shadow, &settings.policy.shadow) {
            (Some(shadow), _) => Some(shadow),
            (None, Some(path)) => {
                let family = settings.policy.shadow_family.as_deref();
                Some(Arc::new(PolicyComponent::read(path, family, InstanceUse::Fresh)?))
            }
            (None, None) => None,
        };
        Ok(Components { default, deployed, shadow })
    });
    // It ends without a result only with the runtime.
    Ok(loaded.await.map_err(|ended| StartError::Thread(ended.into()))??)
}

/// Says that options are on the record: their values are hidden everywhere else.
pub(super) fn warn_of_recorded_options(settings: &Settings) {
    let options: Vec<&str> = settings.policy.options.iter().map(|(name, _)| name.as_str()).collect();
    if !options.is_empty() {
        tracing::warn!(
            ?options,
            "the values of the policy's options are recorded in the trace, in clear: they are no place for secrets"
        );
    }
}

/// The policy that the settings name: a file's, or the embedded default.
pub(super) fn configured_policy(settings: &Settings) -> Result<Arc<PolicyComponent>, PolicyError> {
    let Some(path) = &settings.policy.file else { return embedded(settings, CacheAccess::Read) };
    let instance_use = if settings.policy.reuse { InstanceUse::Reused } else { InstanceUse::Fresh };
    Ok(Arc::new(PolicyComponent::read(path, settings.policy.family.as_deref(), instance_use)?))
}

/// The policy that the settings name, for a command that works on the registry and serves nothing. No decision is recorded.
///
/// # Errors
/// [`PolicyError`], if it can not be read or is none.
pub fn policy_for_commands(settings: &Settings) -> Result<Arc<Policy>, PolicyError> {
    // No command that uses it asks the network.
    let http = Arc::new(VirtualNetwork::new());
    let edge = Edge { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy), http };
    let default = embedded(settings, CacheAccess::Read)?;
    let deployed = configured_policy(settings)?;
    Ok(Arc::new(Policy::new(deployed, default, edge, Arc::new(DiscardRecords), PolicyMetrics::default())))
}

/// Begins the trace, if the settings want one.
fn start_trace(
    settings: &Settings,
    directory_given: Option<Arc<dyn Directory>>,
    edge: &Edge,
    run: &str,
    [deployed, default]: &[Arc<PolicyComponent>; 2],
) -> Result<Option<TraceWriter>, StartError> {
    let Some(trace) = &settings.trace else { return Ok(None) };
    warn_of_recorded_options(settings);
    let directory = match directory(directory_given, &trace.directory) {
        Err(StartError::Folder { path, source }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
            tracing::warn!(path, "the folder of the trace cannot be written: decisions are not recorded");
            return Ok(None);
        }
        directory => directory?,
    };
    let facts = TraceFacts {
        directory,
        // Whoever is told it may work in another folder.
        path: std::path::absolute(&trace.directory).unwrap_or_else(|_| trace.directory.clone()),
        bytes_max: trace.mebibytes << 20,
        run: run.to_owned(),
        started: edge.clock.now(),
        deployed: deployed.clone(),
        default: default.clone(),
        configuration: settings.redacted(),
    };
    TraceWriter::start(facts).map(Some).map_err(StartError::Thread)
}

/// The embedded default, compiled once in a process, or taken from a folder for compiled code.
pub(super) fn embedded(settings: &Settings, access: CacheAccess) -> Result<Arc<PolicyComponent>, PolicyError> {
    static EMBEDDED: OnceLock<Arc<PolicyComponent>> = OnceLock::new();
    if let Some(component) = EMBEDDED.get() {
        return Ok(component.clone());
    }
    let component = match &settings.policy.compiled_cache {
        Some(folder) => PolicyComponent::embedded_cached(folder, access)?,
        None => PolicyComponent::embedded()?,
    };
    let component = Arc::new(component);
    Ok(EMBEDDED.get_or_init(|| component).clone())
}

/// The folder of the state. A home that is read-only and has none is served from its configuration.
fn state_directory(given: Option<Arc<dyn Directory>>, path: &Path) -> Result<Arc<dyn Directory>, StartError> {
    match directory(given, path) {
        Err(StartError::Folder { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
            Ok(Arc::new(MissingDirectory))
        }
        directory => directory,
    }
}

fn directory(given: Option<Arc<dyn Directory>>, path: &Path) -> Result<Arc<dyn Directory>, StartError> {
    match given {
        Some(directory) => Ok(directory),
        None => match SystemDirectory::open(path) {
            Ok(directory) => Ok(Arc::new(directory)),
            Err(source) => Err(StartError::Folder { path: path.display().to_string(), source }),
        },
    }
}

fn service_map_of(settings: &Settings) -> Result<Option<(MapEndpoint, KeyRing)>, StartError> {
    let Some(url) = &settings.service_map_url else { return Ok(None) };
    let keys = match &settings.secrets.signature_keys {
        Some(SignatureKeys::Single(key)) => KeyRing::single(key.clone())?,
        Some(SignatureKeys::List(list)) => {
            use secrecy::ExposeSecret as _;
            KeyRing::parse_list(list.expose_secret())?
        }
        None => return Err(ConfigError::MissingSignatureKey.into()),
    };
    let endpoint = MapEndpoint::parse(url.as_str(), settings.secrets.service_map_token.clone())?;
    Ok(Some((endpoint, keys)))
}

fn start_map(
    (endpoint, keys): (MapEndpoint, KeyRing),
    settings: &Settings,
    policy: &Arc<Policy>,
    (state, former): (Arc<dyn StateSink>, watch::Receiver<Option<StateRecord>>),
    metrics: MapMetrics,
    stop: CancellationToken,
    saved: Option<StateRecord>,
) -> (MapHandle, JoinHandle<()>) {
    let upkeep = map_upkeep(settings, policy);
    let maintenance = Maintenance { policy: policy.clone(), endpoint, keys, upkeep, state, former, metrics, stop };
    service_map::start(maintenance, saved)
}

/// The settings of the service map's upkeep.
pub(super) fn map_upkeep(settings: &Settings, policy: &Policy) -> UpkeepConfig {
    use crate::connectors::limits as fleet_limits;
    let options = settings.policy.options.clone();
    UpkeepConfig {
        refresh: RefreshConfig {
            kind: SubjectKind::ServiceMap,
            mode: match settings.refresh_mode {
                RefreshMode::Background => contract::RefreshMode::Background,
                RefreshMode::OnDemand => contract::RefreshMode::OnDemand,
            },
            interval_ms: milliseconds(settings.refresh_interval),
            floor_ms: milliseconds(fleet_limits::REFRESH_FLOOR.min(settings.refresh_interval)),
            jitter_permille: fleet_limits::REFRESH_JITTER_PERMILLE,
            backoff_min_ms: milliseconds(limits::MAP_BACKOFF_MIN),
            backoff_max_ms: milliseconds(settings.refresh_interval),
            options: options.clone(),
        },
        cache: CacheConfig {
            kind: SubjectKind::ServiceMap,
            boot_id: policy.edge().clock.boot_id().0,
            ttl_min_ms: milliseconds(limits::MAP_TTL_MIN),
            ttl_max_ms: milliseconds(limits::MAP_TTL_MAX),
            ttl_default_ms: milliseconds(limits::MAP_TTL_MIN),
            soft_permille: fleet_limits::SOFT_PERMILLE,
            soft_jitter_permille: fleet_limits::SOFT_JITTER_PERMILLE,
            max_stale_ms: milliseconds(settings.max_stale),
            skew_ms: milliseconds(fleet_limits::CLOCK_SKEW),
            negative_min_ms: milliseconds(fleet_limits::NEGATIVE_MIN),
            negative_max_ms: milliseconds(fleet_limits::NEGATIVE_MAX),
            credential: String::new(),
            options,
        },
    }
}
