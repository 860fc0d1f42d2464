//! `cortex-mcp policy`: looking at policy components, and taking the embedded one out.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cortex_mcp::policy::{EMBEDDED_COMPONENT, InstanceUse, PolicyComponent};

use super::error::{CommandError, Exit};
use super::output::Output;

/// Inspects and exports policies.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy inspect --json
  cortex-mcp policy inspect my-policy.wasm
  cortex-mcp policy export cortex-policy.wasm")]
pub(crate) struct PolicyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells digest, size, imports and exports of a policy, after checking that it is one.
    #[command(after_help = "Examples:
  cortex-mcp policy inspect --json
  cortex-mcp policy inspect my-policy.wasm")]
    Inspect {
        /// The component; without one, the embedded default.
        file: Option<PathBuf>,
    },
    /// Writes the embedded default policy to a file.
    #[command(after_help = "Examples:
  cortex-mcp policy export
  cortex-mcp policy export - | sha256sum")]
    Export {
        /// The file; `-` for stdout.
        #[arg(default_value = "cortex-policy.wasm")]
        file: PathBuf,
    },
}

impl PolicyCommand {
    pub(crate) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        match self.command {
            Command::Inspect { file } => {
                let policy = match file {
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
            }
            Command::Export { file } => {
                let written = if file.as_os_str() == "-" {
                    std::io::Write::write_all(&mut std::io::stdout().lock(), EMBEDDED_COMPONENT)
                } else {
                    std::fs::write(&file, EMBEDDED_COMPONENT)
                };
                written.map_err(|source| CommandError::File { path: file.display().to_string(), source })?;
                if file.as_os_str() != "-" {
                    let bytes = EMBEDDED_COMPONENT.len();
                    output.value(&serde_json::json!({ "file": file, "size_bytes": bytes }));
                    output.line(format_args!("{} ({bytes} bytes)", file.display()));
                }
            }
        }
        Ok(Exit::Good)
    }
}
