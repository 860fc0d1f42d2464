//! The command line: one file for each command, what they share in `output` and `common`.
//!
//! Results go to stdout, logs and progress to stderr. Every command has `--json`. Exit codes: 0 good, 1 failed, 2 usage, 3
//! partly.

mod call;
mod client;
mod common;
mod demo;
mod error;
mod map;
#[expect(clippy::disallowed_methods, reason = "what is written there is escaped")]
mod output;
mod policy;
mod registry;
mod replay;
mod serve;
mod status;
mod stdin;
mod sync;
mod token;
mod tools;
mod traces;
mod why;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::styling::{Style, Styles};
use clap::{Parser, Subcommand};

use error::CommandError;
use output::{Output, complain, notice};

/// The styles of help: bold, which is one of [`cortex_mcp::model::style`], and nothing else.
const HELP_STYLES: Styles = {
    let bold = Style::new().bold();
    Styles::plain().header(bold).usage(bold).literal(bold)
};

/// An MCP connector gateway whose every decision is made by a WebAssembly policy.
#[derive(Debug, Parser)]
#[command(name = "cortex-mcp", version, propagate_version = true, arg_required_else_help = true, styles = HELP_STYLES)]
#[command(after_help = "Examples:
  cortex-mcp demo                      a whole world on this machine, to look around in
  cortex-mcp serve                     the gateway, for the service map that the environment names
  cortex-mcp serve --stdio             the same for one client that starts it
  cortex-mcp tools                     what a running gateway serves
  cortex-mcp call server-01__echo --arguments '{\"text\":\"hello\"}'

Exit codes: 0 good, 1 failed, 2 wrong usage, 3 some connectors failed.")]
struct Cli {
    /// Print JSON instead of text for people.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the whole thing at work on loopback sockets: a signed service map, MCP servers, the gateway, calls.
    Demo(demo::Demo),
    /// Runs the gateway.
    Serve(serve::Serve),
    /// Refreshes the service map and every connector once, and tells how that went.
    Sync(sync::Sync),
    /// Lists the tools of a running gateway, or its prompts, resources or resource templates.
    Tools(tools::Tools),
    /// Makes a token for gateway.toml.
    Token(token::MakeToken),
    /// Calls a tool of a running gateway.
    Call(call::Call),
    /// Tells how a running gateway stands.
    Status(status::Status),
    /// Signs, verifies and shows service maps.
    Map(map::Map),
    /// Makes the decisions of a trace again, and tells what differs.
    Replay(replay::Replay),
    /// Tells why something is in the state it is in: the decisions that led there.
    Why(why::Why),
    /// Inspects, checks, swaps, exports and stacks policies.
    Policy(policy::PolicyCommand),
    /// Lists, changes, imports, exports, examines and mends the registry.
    Registry(registry::RegistryCommand),
}

/// Reports panics as every other error: escaped, and without secrets that the message quotes.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let backtrace =
            if backtrace.status() == BacktraceStatus::Captured { backtrace.to_string() } else { String::new() };
        notice(format_args!(
            "thread {:?} panicked at {place}: {message}\n{backtrace}",
            thread.name().unwrap_or_default()
        ));
    }));
}

/// Runs the command of this process's arguments.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    let output = Output::new(cli.json);
    let result = match cli.command {
        Command::Map(command) => command.run(&output),
        Command::Token(command) => command.run(&output),
        Command::Policy(command) => command.run(&output),
        Command::Registry(command) => command.run(&output),
        Command::Replay(command) => block_on(command.run(&output)),
        Command::Why(command) => block_on(command.run(&output)),
        Command::Demo(command) => block_on(command.run(&output)),
        Command::Serve(command) => block_on(command.run(&output)),
        Command::Sync(command) => block_on(command.run(&output)),
        Command::Tools(command) => block_on(command.run(&output)),
        Command::Call(command) => block_on(command.run(&output)),
        Command::Status(command) => block_on(command.run(&output)),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            output.error(&error);
            error.exit().into()
        }
    }
}

/// Answers arguments that are no command: help and version as text, mistakes as text or JSON.
fn unparsed(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && wants_json {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let error = CommandError::Usage(message);
        Output::new(true).error(&error);
        return error.exit().into();
    }
    if error.use_stderr() {
        // Without styles: the message quotes arguments.
        complain(error.render().to_string().trim_end());
        return error::Exit::Usage.into();
    }
    // Help and version hold text of this program only. Nothing is left to do if standard output is gone.
    let _ = error.print();
    error::Exit::Good.into()
}

pub(crate) fn block_on(
    command: impl Future<Output = Result<error::Exit, CommandError>>,
) -> Result<error::Exit, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandError::Runtime)?;
    let ended = runtime.block_on(command);
    runtime.shutdown_timeout(RUNTIME_END_TIMEOUT);
    ended
}

/// How long blocking work, such as reading from a disk that hangs, may go on after its command has ended. Then the process
/// ends all the same.
const RUNTIME_END_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use cortex_mcp::model::text::is_hidden;

    /// Set in the process that panics.
    const PANICS: &str = "CORTEX_TEST_PANICS";

    #[test]
    fn a_panic_is_escaped_masked_and_located() {
        if std::env::var_os(PANICS).is_some() {
            super::report_panics();
            panic!("owned\u{1b}[2J\u{202e} by ghp_canary0123456789");
        }
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "cli::tests::a_panic_is_escaped_masked_and_located", "--nocapture"]);
        let text = String::from_utf8(command.env(PANICS, "1").output().unwrap().stderr).unwrap();
        assert!(
            text.contains("panicked at host/src/cli/mod.rs") && text.contains("owned\\u{1b}[2J\\u{202e} by ***"),
            "{text}"
        );
        assert!(!text.contains(|character| is_hidden(character) && character != '\n'), "{text:?}");
    }
}
