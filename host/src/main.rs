//! The command line of `cortex-mcp`.

#![deny(unsafe_code)]

mod cli;

use std::process::ExitCode;

use cortex_mcp::edge::descriptors::raise_descriptor_limit;
use cortex_mcp::edge::process::{hide_process, run_watcher_if_asked};

fn main() -> ExitCode {
    // Before anything else is done or allocated: a watcher is to stay small.
    if let Some(code) = run_watcher_if_asked() {
        return code;
    }
    // Before a secret is read.
    hide_process();
    raise_descriptor_limit(DESCRIPTORS_MAX);
    cli::run()
}

/// The most descriptors that the gateway opens: enough for its bounds of connections, upstream servers and files, and
/// far below what the kernel has memory for.
pub(crate) const DESCRIPTORS_MAX: u64 = 65_536;
