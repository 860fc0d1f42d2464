//! `cortex-mcp policy swap`.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use cortex_mcp::policy::{InstanceUse, PolicyComponent};
use serde_json::Value;

use super::in_file;
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
    #[arg(long, value_name = "NAME", requires = "file")]
    family: Option<String>,

    /// Use its instances again, as `reuse = true` in gateway.toml does.
    #[arg(long, requires = "file")]
    reuse: bool,

    #[command(flatten)]
    gateway: GatewayAddress,
}

impl Swap {
    pub(super) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let gateway = self.gateway.open()?;
        let answer = match &self.file {
            Some(file) => {
                // Whatever is wrong with it is told here, where the file is.
                PolicyComponent::read(file, self.family.as_deref(), InstanceUse::Fresh)?;
                let bytes = std::fs::read(file).map_err(in_file(file))?;
                let mut query: Vec<(&str, &str)> =
                    self.family.iter().map(|family| ("family", family.as_str())).collect();
                if self.reuse {
                    query.push(("reuse", "true"));
                }
                gateway.send("/policy", &query, Bytes::from(bytes)).await?
            }
            None => {
                let query: Vec<(&str, &str)> = self.to.iter().map(|digest| ("digest", digest.as_str())).collect();
                gateway.send("/policy/back", &query, Bytes::new()).await?
            }
        };
        let report: Value =
            serde_json::from_slice(&answer).map_err(|error| CommandError::Refused(error.to_string()))?;
        output.value(&report);
        let digest =
            |place: &str| report[place]["digest"].as_str().unwrap_or_default().chars().take(12).collect::<String>();
        let (before, after) = (digest("before"), digest("after"));
        if before == after {
            output.line(format_args!("{after} was deployed already"));
        } else {
            output.line(format_args!("{before} -> {after}, after {} decisions", report["decisions"]));
            output.line(format_args!("go back with: cortex-mcp policy swap --to {before}"));
        }
        Ok(Exit::Good)
    }
}
