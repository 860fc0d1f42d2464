//! Which trace is meant by whoever names none: the configured one, else that of the running gateway.

use std::path::PathBuf;

use cortex_mcp::config::{Environment, Flags, Settings};
use serde_json::Value;

use super::client::GatewayAddress;
use super::error::CommandError;

/// The configured folder if a trace is in it, else the one that the running gateway names; that one first, if the user
/// names the gateway.
pub(crate) async fn usual_trace(address: &GatewayAddress) -> Result<PathBuf, CommandError> {
    let configured = configured_trace()?;
    if !address.is_named() && holds_segments(&configured) {
        return Ok(configured);
    }
    let status = async { address.open()?.admin(http::Method::GET, "/status").await };
    let directory = status.await.ok().and_then(|body| {
        let status: Value = serde_json::from_slice(&body).ok()?;
        status["trace"]["directory"].as_str().map(PathBuf::from)
    });
    match directory {
        Some(directory) if holds_segments(&directory) => Ok(directory),
        Some(directory) => Err(CommandError::NoTrace {
            hint: format!(
                "the running gateway writes its trace to {}, where this process finds none: copy it from the gateway's \
                 machine and name it with --trace",
                directory.display()
            ),
        }),
        None => Err(CommandError::NoTrace {
            hint: format!(
                "{} holds none, and no running gateway names another: name a trace with --trace, or run a gateway \
                 without --no-trace",
                configured.display()
            ),
        }),
    }
}

/// The folder of the trace that the configuration names.
fn configured_trace() -> Result<PathBuf, CommandError> {
    let settings = Settings::resolve(&Flags::default(), &Environment::of_process())?;
    Ok(settings.trace.map_or_else(|| settings.paths.trace(), |trace| trace.directory))
}

/// Whether a folder can be read as a trace.
pub(crate) fn holds_segments(folder: &PathBuf) -> bool {
    folder.is_dir() && cortex_mcp::trace::TraceReader::open(std::slice::from_ref(folder)).is_ok()
}
