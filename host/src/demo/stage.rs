//! The demo's world on loopback sockets: the servers that the map names, the one that signs it, and their end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use super::map_server::{MapServer, Signer};
use super::mcp_server::{McpServer, ServerEra, ServerOptions};
use crate::edge::entropy::{Entropy, SystemEntropy};
use crate::mcp::Era;
use crate::model::ConnectorId;

/// What the world is to be like.
#[derive(Clone, Copy, Debug)]
pub struct StageOptions {
    /// How many servers the map names.
    pub connectors: usize,
    /// Tools of each.
    pub tools: usize,
    /// Delay of every answer.
    pub latency: Duration,
    /// Of the servers, so many refuse connections.
    pub dead: usize,
    /// Of the servers, so many accept connections and never answer.
    pub hung: usize,
}

/// A world that can not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The numbers do not fit.
    #[error("--dead {dead} and --hung {hung} are more than --connectors {connectors}")]
    Numbers {
        /// As asked.
        connectors: usize,
        /// As asked.
        dead: usize,
        /// As asked.
        hung: usize,
    },
    /// A socket can not be had.
    #[error("a loopback socket can not be had: {0}")]
    Socket(#[from] std::io::Error),
    /// A name or an address is not usable.
    #[error("the demo's own names are not usable: {0}")]
    Name(String),
}

/// A running world. It ends when it is dropped.
pub struct Stage {
    map_url: Url,
    token: String,
    servers: Vec<(ConnectorId, Era, Arc<McpServer>)>,
    /// Held so that they end with the stage.
    _tasks: JoinSet<()>,
}

impl Stage {
    /// Sets it up: servers of alternating eras, the first of them legacy; the last ones are hung, those before dead.
    /// `sign` signs the map.
    ///
    /// # Errors
    /// [`StageError`].
    pub async fn set_up(options: StageOptions, sign: Signer) -> Result<Self, StageError> {
        let StageOptions { connectors, dead, hung, .. } = options;
        let healthy =
            connectors.checked_sub(dead.saturating_add(hung)).ok_or(StageError::Numbers { connectors, dead, hung })?;
        let mut tasks = JoinSet::new();
        let mut servers = Vec::new();
        let mut entries = Vec::new();
        let width = connectors.to_string().len().max(2);
        for number in 1..=connectors {
            let id: ConnectorId = name(format!("server-{number:0width$}"))?;
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let endpoint: Url = name(format!("http://{}/mcp", listener.local_addr()?))?;
            if number <= healthy {
                let (era, server_era) =
                    if number % 2 == 1 { (Era::Legacy, ServerEra::Legacy) } else { (Era::Modern, ServerEra::Modern) };
                let server = McpServer::new(ServerOptions {
                    name: id.to_string(),
                    era: server_era,
                    tools: options.tools,
                    latency: options.latency,
                    ..ServerOptions::default()
                });
                tasks.spawn(serve(listener, server.router()));
                servers.push((id.clone(), era, server));
            } else if number <= healthy + dead {
                // The port was free a moment ago and nobody listens on it now.
                drop(listener);
            } else {
                tasks.spawn(hang(listener));
            }
            entries.push((id, endpoint));
        }
        let token = format!("demo-token-{:x}", SystemEntropy.seed());
        let map = MapServer::new(sign, SecretString::from(token.as_str()), entries);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let map_url = name(format!("http://{}/v1/connectors/service-map", listener.local_addr()?))?;
        tasks.spawn(serve(listener, map.router()));
        Ok(Self { map_url, token, servers, _tasks: tasks })
    }

    /// Where the service map is.
    pub fn map_url(&self) -> &Url {
        &self.map_url
    }

    /// The token that the map server asks for: made for this stage.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The healthy server of that number, from 1.
    pub fn server(&self, number: usize) -> Option<&Arc<McpServer>> {
        self.servers.get(number.checked_sub(1)?).map(|(_, _, server)| server)
    }

    /// The most requests in sequence that any server of an era saw until its list was complete.
    pub fn round_trips(&self, era: Era) -> u64 {
        let of_era = self.servers.iter().filter(|(_, its, _)| *its == era);
        of_era.filter_map(|(_, _, server)| server.round_trips_until_listed()).max().unwrap_or(0)
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stage").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: String) -> Result<T, StageError> {
    text.parse().map_err(|error| StageError::Name(format!("{text}: {error}")))
}

async fn serve(listener: TcpListener, router: Router) {
    let listener = listener.tap_io(|stream| {
        // Small answers are not to wait for a full packet.
        let _ = stream.set_nodelay(true);
    });
    // It serves until its task is dropped with the stage.
    let _ = axum::serve(listener, router).await;
}

/// Accepts and never answers.
async fn hang(listener: TcpListener) {
    let mut held: Vec<TcpStream> = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        if held.len() == HELD_CONNECTIONS {
            held.remove(0);
        }
        held.push(stream);
    }
}

/// Connections that a hung server holds open; the oldest goes first.
const HELD_CONNECTIONS: usize = 64;
