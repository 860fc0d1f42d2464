//! `cortex-mcp tools`: what a running gateway serves.

use clap::Args;
use cortex_mcp::model::raw::RawObject;
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::GatewayAddress;
use super::error::{CommandError, Exit};
use super::output::{Output, shorten};

/// Lists the tools of a running gateway.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp tools
  cortex-mcp tools --connector wikidata
  cortex-mcp tools --json | jq -r '.tools[].name'")]
pub(crate) struct Tools {
    /// Only those of this connector.
    #[arg(long, value_name = "ID")]
    connector: Option<String>,

    #[command(flatten)]
    address: GatewayAddress,
}

#[derive(Serialize)]
struct Listed {
    tools: Vec<Box<RawValue>>,
}

impl Tools {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let gateway = self.address.open()?;
        let session = gateway.session().await?;
        let list = gateway.list(&session).await?;
        let mut table = output.table(&["tool", "connector", "description"]);
        let mut tools = Vec::new();
        for tool in list.tools {
            let Ok(object) = RawObject::parse(&tool) else { continue };
            let connector = connector_of(&object);
            if self.connector.is_some() && self.connector != connector {
                continue;
            }
            let description = shorten(&object.get_str("description").unwrap_or_default(), 70);
            table.add_row([object.get_str("name").unwrap_or_default(), connector.unwrap_or_default(), description]);
            tools.push(tool);
        }
        output.line(&table);
        output.line(format_args!("{} tools", tools.len()));
        output.value(&Listed { tools });
        Ok(Exit::Good)
    }
}

/// The connector that a definition says it is of.
pub(crate) fn connector_of(tool: &RawObject) -> Option<String> {
    let meta = RawObject::parse(tool.get("_meta")?).ok()?;
    RawObject::parse(meta.get("com.brainwav.cortex/connector")?).ok()?.get_str("id")
}
