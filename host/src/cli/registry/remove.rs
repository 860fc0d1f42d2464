//! `cortex-mcp registry remove`.

use std::collections::BTreeSet;

use clap::Args;
use cortex_mcp::registry::{Change, Outcome, StoreError};
use serde_json::{Value, json};

use super::open::Opening;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, notice};

/// Removes servers, all of them in one write.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry remove wiki
  cortex-mcp registry remove wiki files --if-present

Exit codes: 0 removed, 1 none was removed, 3 some of them are not there or could not be removed.")]
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
        let (mut removed, mut missing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (name, answer) in names.iter().zip(store.change_all(names.iter().map(change).collect())) {
            match answer {
                Ok(done) if done.outcome == Outcome::Removed => removed.push(name),
                Ok(_) => missing.push(name),
                Err(StoreError::Missing { .. }) if names.len() > 1 => missing.push(name),
                Err(error) => failed.push((name, CommandError::from(error))),
            }
        }
        let closed = store.close();
        if removed.is_empty() && !failed.is_empty() {
            // Nothing was done: the first error is all there is to tell.
            return Err(failed.swap_remove(0).1);
        }
        if let Err(error) = &closed {
            // What was removed is so in the file already.
            notice(format_args!("the registry was not closed in good order: {error}"));
        }
        let ok = (missing.is_empty() || self.if_present) && failed.is_empty() && closed.is_ok();
        output.value(&told(ok, &removed, &missing, &failed));
        for name in &removed {
            output.line(format_args!("removed {name}"));
        }
        if !output.is_json() && !ok {
            for name in missing.iter().filter(|_| !self.if_present) {
                notice(format_args!("there is no server {name:?} in the registry"));
            }
            for (name, error) in &failed {
                notice(format_args!("{name:?} could not be removed: {error}"));
            }
        }
        Ok(match (ok, removed.is_empty()) {
            (true, _) => Exit::Good,
            (false, true) => Exit::Failed,
            (false, false) => Exit::Partly,
        })
    }
}

/// What was done, for machines.
fn told(ok: bool, removed: &[&String], missing: &[&String], failed: &[(&String, CommandError)]) -> Value {
    let mut refused = Vec::new();
    for (name, error) in failed {
        refused.push(json!({ "name": name, "class": error.class(), "message": error.to_string() }));
    }
    json!({ "ok": ok, "removed": removed, "missing": missing, "failed": refused })
}
