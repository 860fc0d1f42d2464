//! `cortex-mcp policy swap`.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use cortex_mcp::policy::{InstanceUse, PolicyComponent};
use serde_json::Value;

use crate::cli::client::GatewayAddress;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Deploys a policy in a running gateway: checked first, at once, without losing state. It lasts until the gateway ends or is
/// told to reload; to keep it, name it in gateway.toml.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy swap my-policy.wasm
  cortex-mcp policy swap --back
  cortex-mcp policy swap --to 3f786850e387
  cortex-mcp policy swap --to 3f786850e387 --family my-policy

From another machine, or where tokens are configured, CORTEX_GATEWAY_TOKEN must hold one with admin = true.")]
pub(super) struct Swap {
    /// The component.
    #[arg(required_unless_present_any = ["back", "to"], conflicts_with_all = ["back", "to"])]
    file: Option<PathBuf>,

    /// Go back to the policy that decided before.
    #[arg(long, conflicts_with = "to")]
    back: bool,

    /// Go back to the policy whose digest begins so; the embedded default is always known.
    #[arg(long, value_name = "DIGEST")]
    to: Option<String>,

    /// Whose memos it is given; by default only its own digest's. The embedded default is of the family cortex-default.
    /// With --to, the family that it was deployed with.
    #[arg(long, value_name = "NAME", conflicts_with = "back")]
    family: Option<String>,

    /// Use its instances again, as `reuse = true` in gateway.toml does.
    #[arg(long, conflicts_with = "back")]
    reuse: bool,

    #[command(flatten)]
    gateway: GatewayAddress,
}

impl Swap {
    pub(super) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        if self.reuse && self.to.is_some() && self.family.is_none() {
            return Err(CommandError::Usage("--to DIGEST --reuse names a policy only together with --family".into()));
        }
        let gateway = self.gateway.open()?;
        let mut query: Vec<(&str, &str)> = Vec::new();
        query.extend(self.to.iter().map(|digest| ("digest", digest.as_str())));
        query.extend(self.family.iter().map(|family| ("family", family.as_str())));
        if self.reuse {
            query.push(("reuse", "true"));
        }
        let answer = match &self.file {
            Some(file) => {
                // Whatever is wrong with it is told here, where the file is.
                let component = PolicyComponent::read(file, self.family.as_deref(), InstanceUse::Fresh)?;
                gateway.swap(&query, Bytes::from_owner(component.bytes().clone())).await?
            }
            None => gateway.swap_back(&query).await?,
        };
        let report: Value =
            serde_json::from_slice(&answer).map_err(|error| CommandError::Refused(error.to_string()))?;
        output.value(&report);
        let digest =
            |place: &str| report[place]["digest"].as_str().unwrap_or_default().chars().take(12).collect::<String>();
        let (before, after) = (digest("before"), digest("after"));
        if report["before"] == report["after"] {
            output.line(format_args!("{after} was deployed already"));
        } else if before == after {
            output.line(format_args!(
                "{after} again, of the family {}, after {} decisions",
                report["after"]["family"].as_str().unwrap_or_default(),
                report["decisions"]
            ));
            output.line("go back with: cortex-mcp policy swap --back");
        } else {
            output.line(format_args!("{before} -> {after}, after {} decisions", report["decisions"]));
            output.line(format_args!("go back with: cortex-mcp policy swap --to {before}"));
        }
        Ok(Exit::Good)
    }
}
