//! What the demo runs on the loopback interface instead of the internet. The tests use it as well.

pub mod mcp_server;
