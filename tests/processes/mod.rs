//! What the tests of the real binary share: an installation (home folder, environment, commands), a world on loopback
//! sockets (MCP servers and a signing map server that can be stopped and started again on their addresses), and a
//! client that blocks.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

pub(crate) mod client;
pub(crate) mod installation;
pub(crate) mod interop;
pub(crate) mod map;
pub(crate) mod service;
pub(crate) mod world;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, Listed};
pub(crate) use installation::{Finished, Installation, Serving};
pub(crate) use map::{Answer, MapOrigin};
pub(crate) use service::Service;
pub(crate) use world::{KEY, TOKEN, Upstream, World, ordinary, wait_for_tools};

/// How long anything may take before a test says that it does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `found` finds something, and returns it.
pub(crate) fn until<T>(what: &str, patience: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "within {patience:?}, this did not happen: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
