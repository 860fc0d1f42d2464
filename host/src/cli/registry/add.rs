//! `cortex-mcp registry add`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cortex_mcp::config::Environment;
use cortex_mcp::registry::{Change, RegistryEntry, TargetFault, is_name};
use serde_json::{Map, Value, json};

use super::open::{Opening, read_input};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::Output;

/// Adds a server: one that is reached at an address, or one that is a program to start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry add wiki --transport http --endpoint https://wiki.example/mcp
  cortex-mcp registry add wiki --endpoint https://wiki.example/mcp --header-env Authorization=WIKI_AUTH --overwrite
  cortex-mcp registry add files --env DATA_TOKEN --timeout start=300000 -- npx -y @modelcontextprotocol/server-filesystem /data
  pass show wiki-entry | cortex-mcp registry add wiki --from-json -

Everyone on this machine can see the arguments of a running command. Secrets do not belong there: take the value of a
header from a variable (--header-env NAME=VARIABLE), pass on a variable of the environment (--env NAME, without a
value), or hand the entry in on stdin (--from-json -). Values are stored as they are. ${file:/path} and ${env:NAME} in the
values of headers and variables are resolved each time that the server is connected to; any other ${...} is text.

Exit codes: 0 added, 1 a server of that name is there or the registry can not be written, 2 the entry is not
acceptable.")]
pub(super) struct Add {
    /// The server's name: 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', '-', the first a letter or digit.
    #[arg(required_unless_present = "from_json")]
    name: Option<String>,

    /// Its address, as with --endpoint.
    #[arg(value_name = "URL", conflicts_with = "endpoint")]
    address: Option<String>,

    /// How it is reached. Without it: stdio for a program, ws for a ws or wss address, else http.
    #[arg(long, value_name = "TRANSPORT", value_enum)]
    transport: Option<TransportName>,

    /// Its address.
    #[arg(long, value_name = "URL")]
    // A text, as all values here: clap would quote a wrong one, and it may be secret.
    endpoint: Option<String>,

    /// A header to send, as NAME=VALUE or 'NAME: VALUE'. Repeatable.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,

    /// A header to send, whose value is taken now from a variable of the environment. Repeatable.
    #[arg(long = "header-env", value_name = "NAME=VARIABLE")]
    header_variables: Vec<String>,

    /// A variable for the program; with NAME alone, its value is taken now from the environment. Repeatable.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    variables: Vec<String>,

    /// How long it may take, in milliseconds: connect, list, call or, for a program, start. Repeatable.
    #[arg(long = "timeout", value_name = "STEP=MILLISECONDS")]
    timeouts: Vec<String>,

    /// Put it in the place of a server of that name.
    #[arg(long)]
    overwrite: bool,

    /// Add it even if it is this gateway itself.
    #[arg(long)]
    force: bool,

    /// Read the entry, a JSON object, from a file, or from stdin for `-`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "transport", "endpoint", "headers", "header_variables",
        "variables", "timeouts", "command"])]
    from_json: Option<PathBuf>,

    /// The program to start, and its arguments.
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["address", "endpoint", "headers", "header_variables"])]
    command: Vec<String>,
}

/// A transport, as it is said on the command line and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TransportName {
    /// Streamable HTTP.
    #[value(alias = "streamableHttp", alias = "streamable-http")]
    Http,
    /// A program to start.
    Stdio,
    /// HTTP with server-sent events, of 2024-11-05.
    Sse,
    /// A web socket.
    Ws,
}

impl TransportName {
    /// The transport of that name in the file.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "http" | "streamableHttp" | "streamable-http" => Self::Http,
            "stdio" => Self::Stdio,
            "sse" => Self::Sse,
            "ws" => Self::Ws,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Stdio => "stdio",
            Self::Sse => "sse",
            Self::Ws => "ws",
        }
    }
}

/// The greatest size of an entry that is read; what the store takes is less.
const MAX_INPUT_BYTES: usize = 1 << 20;

fn usage(message: impl Into<String>) -> CommandError {
    CommandError::Usage(message.into())
}

impl Add {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let (text, source) = match &self.from_json {
            Some(path) => {
                let source = if path.as_os_str() == "-" { "stdin".to_owned() } else { path.display().to_string() };
                (self.given(&read_input(path, MAX_INPUT_BYTES)?)?, source)
            }
            None => (Value::Object(self.described(&Environment::of_process())?).to_string(), "arguments".to_owned()),
        };
        let entry = RegistryEntry::parse(&text).map_err(cortex_mcp::registry::StoreError::from)?;
        match opening.target_rules().check(&entry) {
            Err(fault @ (TargetFault::Own { .. } | TargetFault::OwnCommand)) if !self.force => {
                return Err(CommandError::OwnTarget { name: entry.name, fault });
            }
            Err(fault @ TargetFault::LinkLocal) => return Err(CommandError::Target { name: entry.name, fault }),
            Err(_) | Ok(()) => {}
        }
        let store = opening.to_write()?;
        let name = entry.name.clone();
        let added = store.change(if self.overwrite { Change::put(entry) } else { Change::put_new(entry) });
        let closed = store.close();
        let added = added?;
        closed?;
        output.value(&json!({ "ok": true, "added": name, "source": source, "outcome": added.outcome }));
        let outcome = serde_json::to_value(added.outcome).unwrap_or_default();
        output.line(format_args!("{} {name}", outcome.as_str().unwrap_or_default()));
        Ok(Exit::Good)
    }

    /// The entry that was handed in, as it is spelt; with the name of the command line, if it has none.
    fn given(&self, bytes: &[u8]) -> Result<String, CommandError> {
        let text = std::str::from_utf8(bytes).map_err(|_| usage("the entry is not UTF-8 text"))?.trim();
        let wrong = || usage("the entry is no JSON object; see --help for what it may be");
        let members: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
        let Some(name) = &self.name else { return Ok(text.to_owned()) };
        match members.get("name") {
            Some(own) if own.as_str() == Some(name) => Ok(text.to_owned()),
            Some(_) => Err(usage("the entry has another name than the one that is given; leave one of them away")),
            None => {
                let rest = text.strip_prefix('{').ok_or_else(wrong)?;
                let comma = if members.is_empty() { "" } else { "," };
                Ok(format!("{{\"name\":{}{comma}{rest}", Value::from(name.as_str())))
            }
        }
    }

    /// The entry that the command line describes.
    fn described(&self, environment: &Environment) -> Result<Map<String, Value>, CommandError> {
        let name = self.name.clone().unwrap_or_default();
        if !is_name(&name) {
            let message = "a name has 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', '-', the first a letter or digit";
            return Err(usage(message));
        }
        let endpoint = self.endpoint.as_ref().or(self.address.as_ref());
        let transport = match (self.transport, endpoint, self.command.is_empty()) {
            (Some(TransportName::Stdio), Some(_), _) => {
                return Err(usage("a stdio server has a command, after `--`, and no address"));
            }
            (Some(transport), ..) if transport != TransportName::Stdio && !self.command.is_empty() => {
                return Err(usage("a command, after `--`, is for the transport stdio"));
            }
            (Some(transport), ..) => transport,
            (None, None, false) => TransportName::Stdio,
            (None, Some(address), _) if address.starts_with("ws:") || address.starts_with("wss:") => TransportName::Ws,
            (None, Some(_), _) => TransportName::Http,
            (None, None, true) => {
                return Err(usage("give the server an address (--endpoint URL), or a command after `--`"));
            }
        };
        let mut entry = Map::new();
        entry.insert("name".to_owned(), name.into());
        entry.insert("transport".to_owned(), transport.as_str().into());
        if transport == TransportName::Stdio {
            let (command, args) =
                self.command.split_first().ok_or_else(|| usage("a stdio server needs a command, after `--`"))?;
            entry.insert("command".to_owned(), command.as_str().into());
            if !args.is_empty() {
                entry.insert("args".to_owned(), args.into());
            }
            if !self.header_variables.is_empty() || !self.headers.is_empty() {
                return Err(usage("headers are for servers with an address; a program gets variables (--env)"));
            }
            insert_some(&mut entry, "env", self.environment(environment)?);
        } else {
            let endpoint = endpoint.ok_or_else(|| usage("give the server an address (--endpoint URL)"))?;
            entry.insert("endpoint".to_owned(), endpoint.as_str().into());
            if !self.variables.is_empty() {
                return Err(usage("variables are for programs; a server with an address gets headers (--header)"));
            }
            insert_some(&mut entry, "headers", self.header_fields(environment)?);
        }
        insert_some(&mut entry, "timeouts", self.timeouts()?);
        Ok(entry)
    }

    fn timeouts(&self) -> Result<Map<String, Value>, CommandError> {
        let wrong = || usage("write --timeout STEP=MILLISECONDS, where STEP is connect, list, call or start");
        let mut timeouts = Map::new();
        for text in &self.timeouts {
            let (step, milliseconds) = text.split_once('=').ok_or_else(wrong)?;
            if !["connect", "list", "call", "start"].contains(&step) {
                return Err(wrong());
            }
            let milliseconds: u64 = milliseconds.parse().map_err(|_| wrong())?;
            if timeouts.insert(format!("{step}Ms"), milliseconds.into()).is_some() {
                return Err(usage("--timeout gives one step twice"));
            }
        }
        Ok(timeouts)
    }

    fn header_fields(&self, environment: &Environment) -> Result<Map<String, Value>, CommandError> {
        let mut fields = Map::new();
        for text in &self.headers {
            let at = text.find([':', '=']).ok_or_else(|| usage("write a header as NAME=VALUE or 'NAME: VALUE'"))?;
            let value = &text[at + 1..];
            let value = if text[at..].starts_with(':') { value.trim() } else { value };
            put(&mut fields, text[..at].trim(), value, "--header")?;
        }
        for text in &self.header_variables {
            let (name, variable) = text.split_once('=').ok_or_else(|| usage("write --header-env NAME=VARIABLE"))?;
            put(&mut fields, name.trim(), of_environment(environment, variable)?, "--header-env")?;
        }
        Ok(fields)
    }

    fn environment(&self, environment: &Environment) -> Result<Map<String, Value>, CommandError> {
        let mut variables = Map::new();
        for text in &self.variables {
            match text.split_once('=') {
                Some((name, value)) => put(&mut variables, name, value, "--env")?,
                None => put(&mut variables, text, of_environment(environment, text)?, "--env")?,
            }
        }
        Ok(variables)
    }
}

fn insert_some(entry: &mut Map<String, Value>, field: &str, members: Map<String, Value>) {
    if !members.is_empty() {
        entry.insert(field.to_owned(), Value::Object(members));
    }
}

fn put(members: &mut Map<String, Value>, name: &str, value: &str, flag: &str) -> Result<(), CommandError> {
    if name.is_empty() {
        return Err(usage(format!("{flag} has no name before its value")));
    }
    match members.insert(name.to_owned(), value.into()) {
        None => Ok(()),
        Some(_) => Err(usage(format!("{flag} gives one name twice"))),
    }
}

fn of_environment<'a>(environment: &'a Environment, variable: &str) -> Result<&'a str, CommandError> {
    environment.get(variable).ok_or_else(|| {
        // What is said in place of a variable's name may be a secret.
        let is_variable =
            variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && variable.len() <= 64;
        let name = if is_variable { variable } else { "that was named" };
        usage(format!("the variable {name} is not set"))
    })
}

/// An entry as the store takes it.
pub(super) fn parsed(entry: &Map<String, Value>) -> Result<RegistryEntry, cortex_mcp::registry::EntryRule> {
    RegistryEntry::parse(&Value::Object(entry.clone()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::registry::show::object;

    #[test]
    fn a_name_is_put_into_an_entry_without_changing_its_spelling() {
        let add = |name: Option<&str>| Add {
            name: name.map(str::to_owned),
            address: None,
            transport: None,
            endpoint: None,
            headers: Vec::new(),
            header_variables: Vec::new(),
            variables: Vec::new(),
            timeouts: Vec::new(),
            overwrite: false,
            force: false,
            from_json: None,
            command: Vec::new(),
        };
        let entry = br#" { "transport" : "ws", "x": 1.50 } "#;
        assert_eq!(add(Some("a")).given(entry).unwrap(), r#"{"name":"a", "transport" : "ws", "x": 1.50 }"#);
        assert_eq!(object(&add(Some("a")).given(b"{}").unwrap())["name"], "a");
        assert!(add(Some("a")).given(br#"{"name":"b"}"#).is_err());
        assert!(add(None).given(b"[]").is_err());
        assert_eq!(add(Some("b")).given(br#"{"name":"b"}"#).unwrap(), r#"{"name":"b"}"#);
    }
}
