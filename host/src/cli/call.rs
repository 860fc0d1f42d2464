//! `cortex-mcp call`: one tool, once.

use clap::Args;
use cortex_mcp::mcp::Outcome;
use cortex_mcp::mcp::RpcError;
use cortex_mcp::model::raw::{self, RawObject};
use serde_json::value::RawValue;

use super::client::GatewayAddress;
use super::error::{CommandError, Exit};
use super::output::Output;

/// Calls a tool of a running gateway.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp call server-01__echo --arguments '{\"text\":\"hello\"}'
  cortex-mcp call server-01__add a=2 b=3

A value of NAME=VALUE that is JSON is taken as JSON, anything else as text. Exit codes: 0 a result, 1 an error.")]
pub(crate) struct Call {
    /// The tool, as `cortex-mcp tools` names it.
    tool: String,

    /// Single arguments.
    #[arg(value_name = "NAME=VALUE")]
    pairs: Vec<String>,

    /// All arguments, as a JSON object.
    #[arg(long, value_name = "JSON", conflicts_with = "pairs")]
    arguments: Option<String>,

    #[command(flatten)]
    address: GatewayAddress,
}

impl Call {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let arguments = self.arguments()?;
        let gateway = self.address.open()?;
        let session = gateway.session().await?;
        let mut params = RawObject::new();
        params.set("name", raw::string(&self.tool));
        params.set("arguments", arguments.to_raw());
        match gateway.call(&session, params).await? {
            Outcome::Result(result) => {
                output.value(&result);
                for text in texts(&result) {
                    output.text(text);
                }
                let object = RawObject::parse(&result).unwrap_or_default();
                let failed = object.get("isError").is_some_and(|value| value.get() == "true");
                Ok(if failed { Exit::Failed } else { Exit::Good })
            }
            Outcome::Error(error) => {
                let message = RpcError::parse(&error).map_or("an unreadable error".into(), |error| error.message);
                output.value(&serde_json::json!({ "error": error }));
                output.line(format_args!("the call failed: {message}"));
                Ok(Exit::Failed)
            }
        }
    }

    fn arguments(&self) -> Result<RawObject, CommandError> {
        if let Some(text) = &self.arguments {
            return text.parse().map_err(|_| CommandError::Usage("--arguments must be a JSON object".into()));
        }
        let mut arguments = RawObject::new();
        for pair in &self.pairs {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| CommandError::Usage(format!("{pair}: write NAME=VALUE")))?;
            let json = RawValue::from_string(value.to_owned()).ok();
            arguments.set(name, json.unwrap_or_else(|| raw::string(value)));
        }
        Ok(arguments)
    }
}

/// What a result says to a person: its texts, or the whole of it.
fn texts(result: &RawValue) -> Vec<String> {
    let content: Vec<Box<RawValue>> = RawObject::parse(result)
        .ok()
        .and_then(|result| result.get("content").and_then(|content| serde_json::from_str(content.get()).ok()))
        .unwrap_or_default();
    let texts: Vec<String> = content
        .iter()
        .map(|block| {
            let text = RawObject::parse(block).ok().and_then(|block| block.get_str("text"));
            text.unwrap_or_else(|| block.get().to_owned())
        })
        .collect();
    if texts.is_empty() { vec![result.get().to_owned()] } else { texts }
}
