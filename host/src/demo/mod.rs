//! What the demo runs on the loopback interface instead of the internet: a server of signed maps and MCP servers of both
//! eras. The tests use them as well.

mod map_server;
pub mod mcp_server;
mod stage;

pub use map_server::{MapServer, Signer, map_document};
pub use stage::{Stage, StageError, StageOptions};
