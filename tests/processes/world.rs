//! A world on loopback sockets in the test's process: MCP servers, and the map server that names them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use cortex_mcp::demo::mcp_server::{McpServer, ServerEra, ServerOptions};
use cortex_mcp::demo::{MapServer, Signer};
use cortex_mcp::model::ConnectorId;
use cortex_mcp::service_map::signed_document;
use url::Url;

use super::client::{Client, Listed};
use super::installation::{Installation, Serving};
use super::map::MapOrigin;
use super::service::Service;
use super::{PATIENCE, until};

/// The key that maps are signed with.
pub(crate) const KEY: &str = "the-signature-key-of-the-process-tests";

/// The token that the map server asks for.
pub(crate) const TOKEN: &str = "the-map-token-of-the-process-tests";

/// One MCP server.
pub(crate) struct Upstream {
    pub(crate) id: ConnectorId,
    pub(crate) server: Arc<McpServer>,
    pub(crate) service: Service,
}

impl Upstream {
    fn new(id: &str, options: ServerOptions, gauge: &Arc<Gauge>) -> Self {
        let server = McpServer::new(ServerOptions { name: id.to_owned(), ..options });
        let router = server.router().layer(from_fn_with_state((gauge.clone(), id.to_owned()), measured));
        Self { id: id.parse().unwrap(), service: Service::started(router), server }
    }

    pub(crate) fn endpoint(&self) -> Url {
        format!("http://{}/mcp", self.service.address()).parse().unwrap()
    }
}

/// How many servers have unanswered requests at one time.
#[derive(Debug, Default)]
pub(crate) struct Gauge(Mutex<Load>);

#[derive(Debug, Default)]
struct Load {
    unanswered: BTreeMap<String, usize>,
    most: usize,
}

impl Gauge {
    /// The most that there ever were. A client may race two requests to one server; that is one.
    pub(crate) fn most(&self) -> usize {
        self.0.lock().unwrap().most
    }
}

async fn measured(State((gauge, id)): State<(Arc<Gauge>, String)>, request: Request, next: Next) -> Response {
    /// Counts down also when the client goes away.
    struct Ticket<'a>(&'a Gauge, &'a str);
    impl Drop for Ticket<'_> {
        fn drop(&mut self) {
            let mut load = self.0.0.lock().unwrap();
            *load.unanswered.get_mut(self.1).unwrap() -= 1;
            load.unanswered.retain(|_, count| *count > 0);
        }
    }
    {
        let mut load = gauge.0.lock().unwrap();
        *load.unanswered.entry(id.clone()).or_default() += 1;
        load.most = load.most.max(load.unanswered.len());
    }
    let _ticket = Ticket(&gauge, &id);
    next.run(request).await
}

/// Servers and their map server.
pub(crate) struct World {
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) map: Service,
}

impl World {
    /// So many servers `server-01`, ... of alternating eras, the first of them legacy, with three tools each.
    pub(crate) fn new(servers: usize) -> Self {
        Self::with(servers, |_| ordinary())
    }

    /// The same, of such options; the eras alternate nevertheless.
    pub(crate) fn with(servers: usize, options: impl Fn(usize) -> ServerOptions) -> Self {
        let gauge = Arc::new(Gauge::default());
        let upstreams: Vec<_> = (1..=servers)
            .map(|number| {
                let era = if number % 2 == 1 { ServerEra::Legacy } else { ServerEra::Modern };
                Upstream::new(&format!("server-{number:02}"), ServerOptions { era, ..options(number) }, &gauge)
            })
            .collect();
        let sign: Signer = Arc::new(|document| signed_document(document, &KEY.into()).ok());
        let map = MapServer::new(sign, TOKEN.into(), entries(&upstreams));
        Self { gauge, upstreams, map: Service::started(map.router()) }
    }

    /// The same servers behind a map server that the test speaks for.
    pub(crate) fn scripted(servers: usize, origin: &Arc<MapOrigin>) -> Self {
        let mut world = Self::new(servers);
        world.map = Service::started(origin.router());
        world
    }

    /// What the map names.
    pub(crate) fn entries(&self) -> Vec<(ConnectorId, Url)> {
        entries(&self.upstreams)
    }

    pub(crate) fn map_url(&self) -> String {
        format!("http://{}/v1/connectors/service-map", self.map.address())
    }

    /// An installation that knows the map.
    pub(crate) fn installation(&self) -> Installation {
        Installation::new()
            .with("CONNECTORS_SERVICE_MAP_URL", &self.map_url())
            .with("CONNECTORS_SIGNATURE_KEY", KEY)
            .with("CONNECTORS_SERVICE_MAP_TOKEN", TOKEN)
    }

    /// Stops everything, connections and all.
    pub(crate) fn stop(&mut self) {
        self.map.stop();
        self.upstreams.iter_mut().for_each(|upstream| upstream.service.stop());
    }

    /// Starts everything again, on the same addresses.
    pub(crate) fn start(&mut self) {
        self.upstreams.iter_mut().for_each(|upstream| upstream.service.start());
        self.map.start();
    }

    /// How many requests the servers have seen.
    pub(crate) fn requests(&self) -> u64 {
        self.upstreams.iter().map(|upstream| upstream.server.counts().requests).sum()
    }
}

/// A server whose lists are fresh for a minute.
pub(crate) fn ordinary() -> ServerOptions {
    ServerOptions { ttl_ms: Some(60_000), ..ServerOptions::default() }
}

fn entries(upstreams: &[Upstream]) -> Vec<(ConnectorId, Url)> {
    upstreams.iter().map(|upstream| (upstream.id.clone(), upstream.endpoint())).collect()
}

/// Waits until a gateway serves so many tools.
pub(crate) fn wait_for_tools(gateway: &Serving, tools: usize) -> Listed {
    let client = gateway.client();
    until(&format!("{tools} tools are served"), PATIENCE, || {
        client.list().filter(|listed| listed.names().len() == tools)
    })
}
