//! `cortex-mcp token`: makes a token for `gateway.toml`. The token is printed once and kept nowhere; its hash is what is
//! configured.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use cortex_mcp::config::limits::TOKEN_NAME_MAX;
use cortex_mcp::edge::entropy::secret;
use cortex_mcp::model::Digest;
use serde::Serialize;

use super::error::{CommandError, Exit};
use super::output::Output;

/// What every token begins with, so that scanners for leaked secrets know one when they see it.
const PREFIX: &str = "cmcp_";

/// Makes a token that lets somebody in, and the table that says so in gateway.toml.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp token --name laptop
  cortex-mcp token --name ops --admin --json | jq -r .table >> ~/.config/cortex-os/mcp/gateway.toml

The token is shown once: only its hash is configured. Clients send it as `Authorization: Bearer TOKEN`; the commands of this
program take it from CORTEX_GATEWAY_TOKEN. What it may see and how often it may ask is said in the table: connectors, tools,
deny-tools, calls-per-minute. A running gateway reads gateway.toml anew on SIGHUP.")]
pub(crate) struct MakeToken {
    /// Its name, for logs.
    #[arg(long, default_value = "agent", value_name = "NAME")]
    name: String,

    /// It may change the gateway: swap its policy, change its registry.
    #[arg(long)]
    admin: bool,
}

#[derive(Serialize)]
struct Made {
    token: String,
    name: String,
    sha256: String,
    admin: bool,
    table: String,
}

impl MakeToken {
    pub(crate) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        if self.name.is_empty() || self.name.chars().count() > TOKEN_NAME_MAX {
            return Err(CommandError::Usage(format!("--name: write 1 to {TOKEN_NAME_MAX} characters")));
        }
        // Every one of the 256 bits is random: nothing to guess, and no salt needed for its hash.
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret().map_err(CommandError::Random)?));
        let sha256 = Digest::of(token.as_bytes()).to_string();
        let name = toml::Value::String(self.name.clone()).to_string();
        let admin = if self.admin { "admin = true\n" } else { "" };
        let table = format!("\n[[token]]\nname = {name}\nsha256 = \"{sha256}\"\n{admin}");
        output.line(format_args!("{token}"));
        output.line("");
        output.line("It is shown this once. Put this at the end of gateway.toml:");
        table.lines().for_each(|line| output.line(line));
        output.value(&Made { token, name: self.name, sha256, admin: self.admin, table });
        Ok(Exit::Good)
    }
}
