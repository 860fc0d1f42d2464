//! `cortex-mcp policy stack`.

use std::path::PathBuf;

use clap::Args;
use cortex_mcp::model::Digest;
use cortex_mcp::policy::stack::{self, Layer};

use super::in_file;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Stacks middleware on a policy: each one decides itself, or asks the one below it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy stack my-middleware.wasm --output my-policy.wasm
  cortex-mcp policy stack lower.wasm upper.wasm --on my-policy.wasm --output stacked.wasm")]
pub(super) struct Stack {
    /// The middleware, the lowest first: the last one is asked first.
    #[arg(required = true)]
    middleware: Vec<PathBuf>,
    /// The policy to stack it on; without one, the embedded default.
    #[arg(long, value_name = "POLICY")]
    on: Option<PathBuf>,
    /// The file to write the result to.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

impl Stack {
    pub(super) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let base = self.on.as_deref().map_or_else(|| Ok(Layer::embedded()), Layer::read)?;
        let middleware: Vec<Layer> = self.middleware.iter().map(|file| Layer::read(file)).collect::<Result<_, _>>()?;
        let bytes = stack::stack(&base, &middleware)?;
        std::fs::write(&self.output, &bytes).map_err(in_file(&self.output))?;
        let digest = Digest::of(&bytes);
        output.value(&serde_json::json!({ "file": self.output, "digest": digest, "size_bytes": bytes.len() }));
        output.line(format_args!("{} ({} bytes, digest {digest})", self.output.display(), bytes.len()));
        Ok(Exit::Good)
    }
}
