//! The command line of `cortex-mcp`.

#![deny(unsafe_code)]

mod cli;

use std::process::ExitCode;

use cortex_mcp::edge::descriptors::raise_descriptor_limit;
use cortex_mcp::edge::process::{hide_process, run_watcher_if_asked};
use tikv_jemallocator::Jemalloc;

/// The allocator of a server: fast with many threads, and what is freed goes back to the system. `benches/load` measures it
/// beside others.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How it is set up: a thread of its own gives pages back ten seconds after they were freed (sooner costs throughput: at
/// once, a third of it), and two arenas with small caches keep what an idle gateway holds small. The symbol is a
/// `const char *`, which a reference to bytes that end with 0 is too.
#[allow(unsafe_code, reason = "it is jemalloc's own name for its options, and nothing else has it")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 87] =
    b"background_thread:true,dirty_decay_ms:10000,muzzy_decay_ms:0,narenas:2,tcache_max:8192\0";

fn main() -> ExitCode {
    // Before anything else is done or allocated: a watcher is to stay small.
    if let Some(code) = run_watcher_if_asked() {
        return code;
    }
    cli::report_panics();
    // Before a secret is read.
    hide_process();
    raise_descriptor_limit(DESCRIPTORS_MAX);
    cli::run()
}

/// The most descriptors that the gateway opens: enough for its bounds of connections, upstream servers and files, and
/// far below what the kernel has memory for.
pub(crate) const DESCRIPTORS_MAX: u64 = 65_536;
