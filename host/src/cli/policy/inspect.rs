//! `cortex-mcp policy inspect`.

use std::path::PathBuf;

use clap::Args;
use cortex_mcp::policy::{InstanceUse, PolicyComponent};

use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Tells digest, size, imports and exports of a policy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy inspect --json
  cortex-mcp policy inspect my-policy.wasm")]
pub(super) struct Inspect {
    /// The component; without one, the embedded default.
    file: Option<PathBuf>,
}

impl Inspect {
    pub(super) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let policy = match self.file {
            Some(file) => PolicyComponent::read(&file, None, InstanceUse::Fresh)?,
            None => PolicyComponent::embedded()?,
        };
        let inspection = policy.inspection();
        output.value(inspection);
        output.line(format_args!("digest  {}", inspection.digest));
        output.line(format_args!("size    {} bytes", inspection.size_bytes));
        for import in &inspection.imports {
            output.line(format_args!("import  {import}"));
        }
        for export in &inspection.exports {
            output.line(format_args!("export  {export}"));
        }
        Ok(Exit::Good)
    }
}
