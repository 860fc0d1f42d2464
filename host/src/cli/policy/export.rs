//! `cortex-mcp policy export`.

use std::path::PathBuf;

use clap::Args;
use cortex_mcp::policy::EMBEDDED_COMPONENT;

use super::in_file;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Writes the embedded default policy to a file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy export
  cortex-mcp policy export - | sha256sum")]
pub(super) struct Export {
    /// The file; `-` for stdout.
    #[arg(default_value = "cortex-policy.wasm")]
    file: PathBuf,
}

impl Export {
    pub(super) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let file = self.file;
        if file.as_os_str() == "-" {
            output.binary(EMBEDDED_COMPONENT).map_err(in_file(&file))?;
            return Ok(Exit::Good);
        }
        std::fs::write(&file, EMBEDDED_COMPONENT).map_err(in_file(&file))?;
        let bytes = EMBEDDED_COMPONENT.len();
        output.value(&serde_json::json!({ "file": file, "size_bytes": bytes }));
        output.line(format_args!("{} ({bytes} bytes)", file.display()));
        Ok(Exit::Good)
    }
}
