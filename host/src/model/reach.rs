//! How a server is reached: an address that speaks one of the transports, or a command that is started.
//!
//! Values only. Nothing here starts or connects anything, and nothing here is expanded from the environment.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use url::Url;

/// How a server is reached.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reach {
    /// Streamable HTTP, of either era.
    Http(Url),
    /// HTTP with Server-Sent Events, of 2024-11-05: a stream at this address, and posts to where it says.
    Sse {
        /// The address of the stream.
        sse: Url,
    },
    /// A child process that speaks on its standard input and output.
    Stdio(CommandLine),
}

/// A command, as an argument vector: no shell ever reads it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct CommandLine {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is set in its environment, besides the few variables that every child gets. Values may be secrets.
    pub environment: BTreeMap<String, String>,
}

impl Reach {
    /// The address, where there is one.
    pub fn url(&self) -> Option<&Url> {
        match self {
            Self::Http(url) | Self::Sse { sse: url } => Some(url),
            Self::Stdio(_) => None,
        }
    }

    /// The command, where there is one.
    pub fn command(&self) -> Option<&CommandLine> {
        match self {
            Self::Http(_) | Self::Sse { .. } => None,
            Self::Stdio(command) => Some(command),
        }
    }

    /// The transport, as people and machines read it.
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Sse { .. } => "sse",
            Self::Stdio(_) => "stdio",
        }
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths and queries of URLs may hold keys.
        match self {
            Self::Http(url) | Self::Sse { sse: url } => {
                write!(formatter, "{}({})", self.transport(), url.origin().ascii_serialization())
            }
            Self::Stdio(command) => command.fmt(formatter),
        }
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments may hold keys too.
        write!(formatter, "stdio({}, {} arguments)", self.program, self.arguments.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_queries_nor_arguments_nor_the_environment_are_printed() {
        let command = CommandLine {
            program: "run".into(),
            arguments: vec!["--key=canary".into()],
            environment: BTreeMap::from([("KEY".into(), "canary".into())]),
        };
        let url = Url::parse("https://a.example/canary?key=canary").unwrap();
        for reach in [Reach::Stdio(command), Reach::Http(url.clone()), Reach::Sse { sse: url }] {
            let text = format!("{reach:?}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
