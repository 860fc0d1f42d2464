//! A gateway without connectors, in memory and under virtual time, for the tests of this module.

use std::sync::Arc;

use axum::Router;

use super::Gateway;
use crate::config::{Environment, Settings, Token};
use crate::edge::Edge;
use crate::edge::clock::VirtualClock;
use crate::edge::disk::MemoryDisk;
use crate::edge::entropy::VirtualEntropy;
use crate::edge::files::MemoryDirectory;
use crate::edge::virtual_network::VirtualNetwork;
use crate::model::WallMs;

/// A gateway with these tokens, and its routes.
pub(super) async fn gateway(tokens: Vec<Token>) -> (Gateway, Router) {
    let edge = Edge {
        clock: Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000))),
        entropy: Arc::new(VirtualEntropy::from_number(7)),
        http: Arc::new(VirtualNetwork::new()),
    };
    let mut settings = Settings::from_environment(&Environment::default()).unwrap();
    settings.trace = None;
    settings.tokens = tokens;
    let gateway = Gateway::builder(settings)
        .edge(edge)
        .state_directory(Arc::new(MemoryDirectory::new()))
        .registry_disk(Arc::new(MemoryDisk::new()))
        .start();
    let gateway = gateway.await.unwrap();
    let router = gateway.router("127.0.0.1:8420".parse().unwrap());
    (gateway, router)
}
