//! `cortex-mcp` keeps an agent's MCP connectors alive and fast: a signed service map of MCP servers becomes one MCP
//! endpoint, and every decision on the way is made by a policy that is a WebAssembly component.

#![deny(unsafe_code)]

pub mod config;
pub mod edge;
pub mod model;
pub mod registry;
pub mod service_map;
pub mod policy;
pub mod telemetry;
