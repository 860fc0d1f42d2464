//! `cortex-mcp registry remove`.

use std::collections::BTreeSet;

use clap::Args;
use cortex_mcp::registry::{Change, Outcome, StoreError};
use serde_json::json;

use super::open::{Opening, tell};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Removes servers, all of them in one write.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry remove wiki
  cortex-mcp registry remove wiki files --if-present

Exit codes: 0 removed, 1 there is none of them, 3 some of them are not there.")]
pub(super) struct Remove {
    /// The servers' names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Take a server that is not there for removed.
    #[arg(long)]
    if_present: bool,
}

impl Remove {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let store = opening.to_write()?;
        let names: Vec<String> = self.names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let change = |name: &String| if self.if_present { Change::remove(name) } else { Change::remove_existing(name) };
        let (mut removed, mut missing) = (Vec::new(), Vec::new());
        for (name, answer) in names.iter().zip(store.change_all(names.iter().map(change).collect())) {
            match answer {
                Ok(done) if done.outcome == Outcome::Removed => removed.push(name),
                Ok(_) => missing.push(name),
                Err(StoreError::Missing { .. }) if names.len() > 1 => missing.push(name),
                Err(error) => return Err(error.into()),
            }
        }
        store.close()?;
        let ok = missing.is_empty() || self.if_present;
        output.value(&json!({ "ok": ok, "removed": removed, "missing": missing }));
        for name in &removed {
            output.line(format_args!("removed {name}"));
        }
        if !output.is_json() && !ok {
            for name in &missing {
                tell(format_args!("there is no server {name:?} in the registry"));
            }
        }
        Ok(match (ok, removed.is_empty()) {
            (true, _) => Exit::Good,
            (false, true) => Exit::Failed,
            (false, false) => Exit::Partly,
        })
    }
}
