//! `cortex-mcp registry get`.

use clap::Args;
use cortex_mcp::model::WallMs;
use cortex_mcp::registry::{StoreError, connector_id};

use super::open::{Opening, partly};
use super::show::{entry, raw, secrets, told_state};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span};

/// Shows one server: its entry as it stands in the file, its connector, and who changed it last.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry get wiki
  cortex-mcp registry get wiki --json --reveal

Exit codes: 0 shown, 1 there is no such server.")]
pub(super) struct Get {
    /// The server's name.
    name: String,

    /// Show secrets too.
    #[arg(long)]
    reveal: bool,
}

impl Get {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let snapshot = opening.to_read()?.snapshot();
        let Some(found) = snapshot.get(&self.name) else {
            // If it can not be read, that is why.
            return Err(match snapshot.standing.reason() {
                Some(reason) => StoreError::ReadOnly(reason.clone()).into(),
                None => StoreError::Missing { name: self.name }.into(),
            });
        };
        let secrets = secrets(self.reveal);
        output.value(&raw(found.json(), secrets));
        output.line(format_args!("name       {}", found.name));
        output.line(format_args!("connector  {}", connector_id(&found.name)));
        output.spans([Span::from("state      "), told_state(found)]);
        if let Some((wall_ms, writer)) = snapshot.edit(&found.name) {
            output.line(format_args!("changed    {} by {writer}", WallMs(wall_ms)));
        }
        output.text(format_args!("{:#}", entry(found.json(), secrets)));
        partly(output, &snapshot);
        Ok(Exit::Good)
    }
}
