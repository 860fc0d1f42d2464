//! `cortex-mcp tools approve`.

use bytes::Bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;
use cortex_mcp::connectors::DefinitionKind;
use cortex_mcp::model::{ConnectorId, Digest};
use serde_json::{Value, json};

use crate::cli::client::GatewayAddress;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Approve a changed definition, or every changed definition of a connector. The digest is that of the change that was
/// reviewed, as `cortex-mcp tools --changed` shows it. Another one is refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp tools --changed
  cortex-mcp tools approve bank__pay --digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  cortex-mcp tools approve bank://accounts --kind resources --digest 9f86d08...
  cortex-mcp tools approve bank --kind instructions --digest 9f86d08...
  cortex-mcp tools approve --connector bank --digest 9f86d08...

Approving everything takes the digest that `cortex-mcp status` shows for the connector. From another machine, or where tokens
are configured, CORTEX_GATEWAY_TOKEN must hold one with admin = true. Exit codes: 0 approved, 1 refused, 2 wrong usage.")]
pub(super) struct Approve {
    /// The exposed name, the server's own one, or the URI; the connector's ID for its instructions.
    #[arg(required_unless_present = "connector")]
    name: Option<String>,

    /// The digest of the change, 64 hexadecimal characters.
    #[arg(long, value_name = "DIGEST")]
    digest: Digest,

    /// Approve a change of this connector only; without a name, every change of it.
    #[arg(long, value_name = "ID")]
    connector: Option<ConnectorId>,

    /// The kind of the definition.
    #[arg(long, default_value = DefinitionKind::Tools.as_str(),
        value_parser = PossibleValuesParser::new(DefinitionKind::ALL.map(DefinitionKind::as_str)))]
    kind: String,

    #[command(flatten)]
    address: GatewayAddress,
}

impl Approve {
    pub(super) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let approval = json!({
            "connector": self.connector.as_ref().map(ConnectorId::as_str),
            "kind": self.kind,
            "name": self.name,
            "digest": self.digest,
        });
        let answer = self.address.open()?.approve(Bytes::from(approval.to_string())).await?;
        let approved: Value =
            serde_json::from_slice(&answer).map_err(|error| CommandError::Refused(error.to_string()))?;
        output.value(&approved);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let connector = text(&approved["connector"]);
        for change in approved["approved"].as_array().into_iter().flatten() {
            let (kind, name, how) = (text(&change["kind"]), text(&change["name"]), text(&change["change"]));
            output.line(format_args!("{connector}: approved {name:?} of the {kind}, which was {how}"));
        }
        Ok(Exit::Good)
    }
}
