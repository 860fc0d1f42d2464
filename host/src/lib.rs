//! `cortex-mcp` keeps an agent's MCP connectors alive and fast: a signed service map of MCP servers becomes one MCP
//! endpoint, and every decision on the way is made by a policy that is a WebAssembly component.

#![deny(unsafe_code)]

pub mod catalog;
pub mod config;
pub mod connectors;
pub mod demo;
pub mod edge;
pub mod gateway;
pub mod mcp;
pub mod model;
pub mod policy;
pub mod registry;
pub mod service_map;
pub mod telemetry;
pub mod trace;
