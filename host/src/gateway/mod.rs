//! The gateway: one MCP endpoint over the catalog and the connectors, its admin routes, and [`Gateway`] for embedders.
//!
//! This room wires the others together and owns their tasks. Lists are answered from the published snapshot; calls pass
//! through losslessly. Nothing here decides what is fresh, who is refreshed or what is retried.
//!
//! # Embedding a gateway
//!
//! A gateway needs a home and something that names its servers: a signed service map, or as here the registry. It is built,
//! started, asked, and shut down; a runtime is yours, and so is whatever you hand to the builder.
//!
//! ```
//! use cortex_mcp::config::{Environment, Settings};
//! use cortex_mcp::demo::mcp_server::{McpServer, ServerOptions};
//! use cortex_mcp::gateway::Gateway;
//! use cortex_mcp::mcp::Outcome;
//! use serde_json::value::RawValue;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // An MCP server to connect to: yours will be elsewhere.
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let endpoint = format!("http://{}/mcp", listener.local_addr()?);
//! let server = McpServer::new(ServerOptions::default());
//! let serving = tokio::spawn(axum::serve(listener, server.router()).into_future());
//!
//! let home = tempfile::tempdir()?;
//! std::fs::create_dir_all(home.path().join("mcp"))?;
//! let entry = format!(r#"{{"name": "mine", "transport": "http", "endpoint": "{endpoint}"}}"#);
//! std::fs::write(home.path().join("mcp/servers.json"), format!(r#"{{"servers": [{entry}]}}"#))?;
//!
//! // Build and start. What was saved by a former process is served from here on.
//! let environment = Environment::default().plus("CORTEX_HOME", &home.path().display().to_string());
//! let gateway = Gateway::builder(Settings::from_environment(&environment)?).start().await?;
//!
//! // Every server has been tried once; the catalog is an immutable snapshot.
//! let report = gateway.first_pass().await;
//! assert_eq!((report.ready, report.failed), (1, 0));
//! let catalog = gateway.snapshot();
//! assert!(catalog.route("mine__echo").is_some());
//!
//! // Call a tool. The arguments and the result are raw JSON, as the server sent it.
//! let arguments = RawValue::from_string(r#"{"text": "hello"}"#.to_owned())?;
//! let Outcome::Result(result) = gateway.call("mine__echo", Some(arguments)).await? else { panic!("an error") };
//! assert!(result.get().contains("hello"));
//!
//! // End it, in order: calls in flight, sessions, saved state, the trace. Every task of the gateway has ended afterwards.
//! gateway.shut_down().await;
//! let written = gateway.status().trace.ok_or("it records its decisions")?;
//! assert_eq!((written.written, written.dropped), (gateway.status().policy.decisions, 0));
//! # serving.abort();
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! [`Gateway::router`] gives the routes to a server of yours, [`Gateway::serve`] serves them on a listener. Another policy is
//! deployed by [`GatewayBuilder::policy`], later by [`Gateway::swap_policy`]; decisions can be had as they are made by
//! [`GatewayBuilder::decisions`]. A gateway whose last handle is dropped ends too, at once and in the background: see
//! [`Gateway`].

mod admin;
mod assembly;
mod batch;
mod builder;
mod claims_writer;
mod connection_table;
mod connections;
mod cross_origin;
mod definitions;
mod detached_request;
mod door;
mod embed;
mod endpoint;
mod grants;
mod instance;
mod json;
pub mod limits;
mod listener;
mod listening;
mod metrics;
mod missing_list;
mod northbound;
mod oauth_discovery;
mod observed;
mod other_paths;
mod publish;
mod rate;
mod registry_tools;
mod reload;
mod request_body;
mod state_writer;
mod status;
mod stdio;
mod swap;
#[cfg(test)]
mod test_gateway;
mod visitor;

pub use builder::{GatewayBuilder, StartError, policy_for_commands};
pub use definitions::{Approval, ApproveError, Approved, PendingDefinition};
pub use embed::{Gateway, SyncKind};
pub use listening::{ListeningRecord, listening, target_rules};
pub use reload::ReloadReport;
pub use state_writer::StateRole;
pub use status::{BoundsStatus, Conflict, GatewayStatus};
pub use swap::{SwapError, SwapReport};
