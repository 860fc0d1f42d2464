//! What the integration tests share: a virtual rig (clock, network, files, MCP servers, a signing service map),
//! clients of both eras, and policies that decide otherwise.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

pub(crate) mod canned;
pub(crate) mod client;
pub(crate) mod contract;
pub(crate) mod crash_directory;
pub(crate) mod crash_disk;
pub(crate) mod crashing_disk;
pub(crate) mod faulty_disk;
pub(crate) mod full_disk;
pub(crate) mod hostile;
pub(crate) mod hung_disk;
pub(crate) mod live;
pub(crate) mod log;
pub(crate) mod map;
pub(crate) mod policies;
pub(crate) mod rig;
pub(crate) mod scripted;
pub(crate) mod streaming;
pub(crate) mod talk;
pub(crate) mod traces;
pub(crate) mod turmoil_disk;
pub(crate) mod wire;

pub(crate) use client::{Answer, Client, tools_bytes};
pub(crate) use map::{Described, KEY, MAP_URL, MapAnswer, MapDocument, MapOrigin};
pub(crate) use rig::{Rig, Served, seconds, until};
