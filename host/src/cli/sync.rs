//! `cortex-mcp sync`: every connector once, now.

use clap::Args;
use cortex_mcp::gateway::{Gateway, SyncKind};

use super::client::GatewayAddress;
use super::common::{GatewayFlags, exit_of, processes, progress_line, spinner};
use super::error::{CommandError, Exit};
use super::output::Output;

/// Refreshes the service map and every connector once. The lists are kept for the next `serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp sync                      in this process, with the configuration of `serve`
  cortex-mcp sync --running            in the gateway that runs already
  cortex-mcp sync --json | jq .failed

Exit codes: 0 all are ready, 3 some failed, 1 all failed.")]
pub(crate) struct Sync {
    /// Ask the running gateway instead of syncing in this process.
    #[arg(long)]
    running: bool,

    #[command(flatten)]
    address: GatewayAddress,

    #[command(flatten)]
    gateway: GatewayFlags,
}

impl Sync {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        if self.running {
            return self.run_remotely(*output).await;
        }
        let settings = self.gateway.settings(None)?;
        let gateway = Gateway::builder(settings).processes(processes()).start().await?;
        let bar = spinner(*output, "syncing");
        let report =
            gateway.sync(SyncKind::AtLeastOnce, |synced| bar.suspend(|| output.spans(progress_line(synced)))).await;
        bar.finish_and_clear();
        let map_failure = gateway.status().service_map.and_then(|map| map.last_failure);
        gateway.shut_down().await;
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        if let Some(failure) = &map_failure {
            value["serviceMapFailure"] = serde_json::to_value(failure).unwrap_or_default();
            output.line(format_args!("the service map was not refreshed ({}): {}", failure.class, failure.message));
        }
        output.value(&value);
        output.line(format_args!(
            "{} of {} connectors ready in {} ms",
            report.ready, report.connector_count, report.duration_ms
        ));
        Ok(match (exit_of(&report), map_failure) {
            (Exit::Good, Some(_)) if report.connector_count == 0 => Exit::Failed,
            (Exit::Good, Some(_)) => Exit::Partly,
            (exit, _) => exit,
        })
    }

    async fn run_remotely(&self, output: Output) -> Result<Exit, CommandError> {
        let bar = spinner(output, "the gateway syncs");
        let body = self.address.open()?.admin(http::Method::POST, "/sync").await;
        bar.finish_and_clear();
        let report: serde_json::Value = serde_json::from_slice(&body?).unwrap_or_default();
        output.value(&report);
        let count = |key: &str| report[key].as_u64().unwrap_or(0);
        let (ready, failed) = (count("ready"), count("failed"));
        output.line(format_args!(
            "{ready} of {} connectors ready in {} ms",
            count("connectorCount"),
            count("durationMs")
        ));
        Ok(match (ready, failed) {
            (_, 0) => Exit::Good,
            (0, _) => Exit::Failed,
            _ => Exit::Partly,
        })
    }
}
