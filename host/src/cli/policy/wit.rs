//! `cortex-mcp policy wit`.

use std::path::PathBuf;

use clap::Args;
use cortex_mcp::policy::contract;

use super::in_file;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Writes the contract to a folder: the WIT package `cortex:policy`, documented in itself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy wit
  cortex-mcp policy wit my-policy/wit")]
pub(super) struct Wit {
    /// The folder; it is made if it is missing.
    #[arg(default_value = "wit")]
    folder: PathBuf,
}

impl Wit {
    pub(super) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        std::fs::create_dir_all(&self.folder).map_err(in_file(&self.folder))?;
        let mut files = Vec::with_capacity(contract::WIT.len());
        for (name, text) in contract::WIT {
            let file = self.folder.join(name);
            std::fs::write(&file, text).map_err(in_file(&file))?;
            output.line(file.display());
            files.push(file);
        }
        output.value(&serde_json::json!({ "files": files }));
        Ok(Exit::Good)
    }
}
