//! `cortex-mcp registry`: the servers of this machine, in the file that other programs and people edit too.
//!
//! A file for each subcommand; how they open the registry is in `open`, how entries are shown in `show`, and how files
//! are written in `output_file`. Secrets are shown only if that is asked for.

mod add;
mod doctor;
mod export;
mod former;
mod get;
mod import;
mod journal;
mod list;
mod open;
mod output_file;
mod remove;
mod repair;
mod show;
mod snippet;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::error::{CommandError, Exit};
use super::output::Output;

/// Lists, changes, imports, exports, examines and mends the registry: the servers of this machine.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry list
  cortex-mcp registry add wiki --transport http --endpoint https://wiki.example/mcp --header-env Authorization=WIKI_AUTH
  cortex-mcp registry add files -- npx -y @modelcontextprotocol/server-filesystem /data
  cortex-mcp registry import ~/.cursor/mcp.json --dry-run
  cortex-mcp registry doctor

The file is mcp/servers.json below CORTEX_HOME, else XDG_CONFIG_HOME/cortex-os, else ~/.config/cortex-os. A change is
durable in it when its command ends. Values of headers and environment variables are shown as *** unless --reveal is
given.")]
pub(super) struct RegistryCommand {
    #[command(flatten)]
    configuration: Configuration,

    #[command(subcommand)]
    command: Command,
}

/// Where the settings come from.
#[derive(Debug, Args)]
struct Configuration {
    /// The configuration file, instead of gateway.toml below the home folder.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the servers.
    List(list::List),
    /// Shows one server.
    Get(get::Get),
    /// Adds a server.
    Add(add::Add),
    /// Removes servers.
    Remove(remove::Remove),
    /// Takes servers over from another program's file, or from an official server.json.
    Import(import::Import),
    /// Writes the servers for another program.
    Export(export::Export),
    /// Prints what makes a client use the gateway.
    Snippet(snippet::Snippet),
    /// Looks at everything that may be wrong, and says what to do. Writes nothing.
    Doctor(doctor::Doctor),
    /// Mends what the doctor reports as mendable, without removing the only copy of anything.
    Repair(repair::Repair),
    /// Reads the journals.
    Journal(journal::Journal),
    /// Lists the values that edits of other programs replaced.
    Former(former::Former),
}

impl RegistryCommand {
    pub(super) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let opening = open::Opening::of(&self.configuration)?;
        match self.command {
            Command::List(command) => command.run(*output, &opening),
            Command::Get(command) => command.run(*output, &opening),
            Command::Add(command) => command.run(*output, &opening),
            Command::Remove(command) => command.run(*output, &opening),
            Command::Import(command) => command.run(*output, &opening),
            Command::Export(command) => command.run(*output, &opening),
            Command::Snippet(command) => command.run(*output, &opening),
            Command::Doctor(command) => command.run(*output, &opening),
            Command::Repair(command) => command.run(*output, &opening),
            Command::Journal(command) => command.run(*output, &opening),
            Command::Former(command) => command.run(*output, &opening),
        }
    }
}
