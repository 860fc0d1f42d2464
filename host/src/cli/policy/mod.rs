//! `cortex-mcp policy`: looking at policy components, taking the embedded one out, and putting new ones together.

mod check;
mod export;
mod inspect;
#[cfg(feature = "compose")]
mod stack;
mod swap;
mod wit;

use std::path::Path;

use clap::{Args, Subcommand};

use super::error::{CommandError, Exit};
use super::output::Output;

/// Inspects, checks, swaps, exports and stacks policies.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp policy inspect --json
  cortex-mcp policy inspect my-policy.wasm
  cortex-mcp policy check my-policy.wasm
  cortex-mcp policy swap my-policy.wasm
  cortex-mcp policy export cortex-policy.wasm
  cortex-mcp policy wit wit
  cortex-mcp policy stack my-middleware.wasm --output my-policy.wasm")]
pub(crate) struct PolicyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells digest, size, imports and exports of a policy, after checking that it is one.
    Inspect(inspect::Inspect),
    /// Checks a policy: its imports, exports and limits, a dry run, and what it would have decided otherwise.
    Check(check::Check),
    /// Deploys a policy in a running gateway, or goes back to a former one.
    Swap(swap::Swap),
    /// Writes the embedded default policy to a file.
    Export(export::Export),
    /// Writes the contract, the WIT files that a policy is built against, to a folder.
    Wit(wit::Wit),
    /// Stacks middleware on a policy; what comes out is a policy.
    #[cfg(feature = "compose")]
    Stack(stack::Stack),
}

impl PolicyCommand {
    pub(crate) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        match self.command {
            Command::Inspect(command) => command.run(output),
            Command::Check(command) => crate::cli::block_on(command.run(output)),
            Command::Swap(command) => crate::cli::block_on(command.run(output)),
            Command::Export(command) => command.run(output),
            Command::Wit(command) => command.run(output),
            #[cfg(feature = "compose")]
            Command::Stack(command) => command.run(output),
        }
    }
}

/// Names the file in an error that came of reading or writing it.
fn in_file(path: &Path) -> impl FnOnce(std::io::Error) -> CommandError + '_ {
    |source| CommandError::File { path: path.display().to_string(), source }
}
