//! The outside world as small traits, each with a real and a virtual implementation: clock, entropy, HTTP, files, processes.
//!
//! Everything that a control loop learns from outside, or does to it, passes through here, so that the same loops run
//! under virtual time against an in-memory network. Nothing here decides anything.

mod certificates;
pub mod clock;
pub mod descriptors;
pub mod disk;
pub mod entropy;
pub mod file_access;
pub mod files;
pub mod http;
pub mod limits;
pub mod process;
pub mod process_usage;
mod proxies;
pub mod redirect;
pub mod references;
pub mod secret_file;
pub mod state;
pub mod virtual_network;
pub mod virtual_processes;

use std::sync::Arc;

/// The outside world, as one gateway sees it.
#[derive(Clone)]
pub struct Edge {
    /// Both clocks, and waiting.
    pub clock: Arc<dyn clock::Clock>,
    /// Where seeds come from.
    pub entropy: Arc<dyn entropy::Entropy>,
    /// The network.
    pub http: Arc<dyn http::Http>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Edge")
    }
}
