//! What an import says: the entries that it proposes, what it left out and why.
//!
//! Everything here is made to be shown to people, so it holds names only; the one place that holds values, a proposed
//! entry, does not show them.

use std::fmt;

use serde_json::{Map, Value};

use super::import::ImportFormat;
use super::limits::{MAX_DEPTH, MAX_IMPORT_BYTES, MAX_IMPORT_SERVERS};
use super::names::shown;
use super::references::Referrals;
use crate::registry::EntryRule;

/// What a file would bring into the registry.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The file's format: the one that was asked for, or the one that its shape shows.
    pub format: ImportFormat,
    /// The entries, in the file's order. No two have one name.
    pub servers: Vec<Proposed>,
    /// What can not be imported as it stands, in the file's order.
    pub skipped: Vec<Skipped>,
    /// What is to be said of the file as a whole.
    pub notes: Vec<Note>,
}

/// An entry for the registry. Its debug form shows names only.
#[derive(Clone, PartialEq)]
pub struct Proposed {
    /// Its name, well-formed for the registry; `entry` has it too.
    pub name: String,
    /// The entry, as the registry's file holds it. Without `rev`: that is for the store to give.
    pub entry: Map<String, Value>,
    /// What the importer changed or did not follow.
    pub notes: Vec<Note>,
}

impl fmt::Debug for Proposed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |field: &str| -> Vec<String> {
            let members = self.entry.get(field).and_then(Value::as_object);
            members.into_iter().flat_map(Map::keys).map(|name| shown(name)).collect()
        };
        formatter
            .debug_struct("Proposed")
            .field("name", &self.name)
            .field("fields", &self.entry.keys().map(|name| shown(name)).collect::<Vec<_>>())
            .field("headers", &names("headers"))
            .field("env", &names("env"))
            .field("notes", &self.notes)
            .finish()
    }
}

/// A server that can not be imported as it stands. Its display form is a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The name that the file gives it, as it can be shown; none if it gives none.
    pub name: Option<String>,
    /// Why.
    pub reason: SkipReason,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "{name} {}", self.reason),
            None => write!(formatter, "a server without a name {}", self.reason),
        }
    }
}

/// Why a server is not imported, as the predicate of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// It is no object.
    #[error("is no object; give it a command or a url")]
    NotAnObject,
    /// It has no name.
    #[error("has no name; give it one")]
    NoName,
    /// It says neither what to start nor where to connect.
    #[error("has neither a command nor a url; give it one of them")]
    NoServer,
    /// Its transport needs a field that it does not have.
    #[error("has no {field}, which its transport needs; add it")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// Its type or transport is none that is known.
    #[error("has an unknown type or transport; use stdio, http, sse or ws")]
    UnknownTransport,
    /// A field has a value of the wrong kind.
    #[error(
        "has a field {field} of the wrong kind; a command or url is a text, args are a list of texts, env and headers \
         are objects of texts"
    )]
    WrongKind {
        /// The field.
        field: String,
    },
    /// It uses a variable that is not set.
    #[error("needs the variable {name}, which is not set and has no default; set it and import again")]
    Variable {
        /// The variable.
        name: String,
    },
    /// It uses an input that an editor would ask for.
    #[error("needs the input {id}, which an editor asks for; write its value in place of ${{input:{id}}}")]
    Input {
        /// The input's id.
        id: String,
    },
    /// It uses a variable that only an editor can give.
    #[error("uses the editor's variable {name}, which has no meaning here; write its value in its place")]
    Editor {
        /// The variable.
        name: String,
    },
    /// It refers to files or variables of this machine, which its server would get.
    #[error("{0}; import it with --allow-references if its server may have them")]
    References(Referrals),
    /// The values of the variables are too large.
    #[error("becomes too large when its variables are replaced; shorten their values")]
    Expansion,
    /// It breaks a rule of the registry.
    #[error("{0}")]
    Entry(EntryRule),
    /// It has nothing that can be connected to or started.
    #[error(
        "offers no remote of type streamable-http or sse, and no package that can be started over stdio; add it by hand"
    )]
    NothingToRun,
    /// Its registry has deleted it.
    #[error("is deleted in its registry; look for its successor")]
    Deleted,
    /// A newer version stands beside it.
    #[error("is not the latest version; import that one, or this one alone")]
    Superseded,
}

impl SkipReason {
    /// A short stable name of the reason, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::NoName => "no_name",
            Self::NoServer => "no_server",
            Self::Missing { .. } => "missing_field",
            Self::UnknownTransport => "unknown_transport",
            Self::WrongKind { .. } => "wrong_kind",
            Self::Variable { .. } => "variable_not_set",
            Self::Input { .. } => "input_needed",
            Self::Editor { .. } => "editor_variable",
            Self::References(_) => "references",
            Self::Expansion => "expansion_too_large",
            Self::Entry(_) => "entry_rule",
            Self::NothingToRun => "nothing_to_run",
            Self::Deleted => "deleted",
            Self::Superseded => "superseded",
        }
    }
}

/// What an import changed or did not follow. The display form is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The file's name for the server is not well-formed for the registry, or another has it.
    Renamed {
        /// The name in the file, as it can be shown.
        from: String,
    },
    /// The file says that the server is switched off.
    Disabled,
    /// The entry says both what to start and where to connect.
    BothKinds,
    /// A field is not in the entry: the chosen transport has no use for it.
    LeftOut {
        /// The field.
        field: String,
    },
    /// A number or flag was made a text.
    MadeText {
        /// The field.
        field: String,
    },
    /// A value refers to a file or a variable of this machine, which the server gets.
    Reference(Referrals),
    /// A `${...}` stands as it was, since its form is none that is replaced, or since the field is none where it is.
    NotReplaced {
        /// The field.
        field: String,
    },
    /// A whole value is `$NAME`, which is not replaced.
    Dollar {
        /// The field.
        field: String,
    },
    /// A variable of the arguments is left to the program, whose own `env` sets it.
    LeftToProgram {
        /// The variable.
        name: String,
    },
    /// A field is kept and has no effect here.
    NotFollowed {
        /// The field.
        field: String,
    },
    /// Something that may be given was not given and is left out.
    Optional {
        /// Its name; the variable to set.
        name: String,
    },
    /// The package's runtime is none that is known for its kind; the usual one is used.
    Runtime {
        /// The usual one.
        used: &'static str,
    },
    /// Its registry calls it deprecated.
    Deprecated,
    /// The file has servers of single projects too, which are not read.
    Projects,
    /// A list goes on elsewhere; only this page was read.
    MorePages,
    /// There is more to say of the server than is said.
    More,
}

impl Note {
    /// A short stable name of the note's kind, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Renamed { .. } => "renamed",
            Self::Disabled => "disabled",
            Self::BothKinds => "both_kinds",
            Self::LeftOut { .. } => "left_out",
            Self::MadeText { .. } => "made_text",
            Self::Reference(_) => "reference",
            Self::NotReplaced { .. } => "not_replaced",
            Self::Dollar { .. } => "dollar_name",
            Self::LeftToProgram { .. } => "left_to_program",
            Self::NotFollowed { .. } => "not_followed",
            Self::Optional { .. } => "optional_not_given",
            Self::Runtime { .. } => "runtime",
            Self::Deprecated => "deprecated",
            Self::Projects => "projects_not_read",
            Self::MorePages => "more_pages",
            Self::More => "more",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renamed { from } => write!(formatter, "the file calls it \"{from}\""),
            Self::Disabled => formatter.write_str(
                "the file says that it is switched off, which is kept and has no effect here; leave it out if it is not to \
                 be used",
            ),
            Self::BothKinds => formatter.write_str("it has a command and a url; the command is used"),
            Self::LeftOut { field } => {
                write!(formatter, "its field {field} is left out; its transport has no use for it")
            }
            Self::MadeText { field } => write!(formatter, "its field {field} is no text and is made one"),
            Self::NotReplaced { field } => {
                write!(formatter, "its field {field} holds a ${{...}} that is not replaced and stands as it is"
                )
            }
            Self::Reference(referrals) => write!(formatter, "it {referrals}, each time that it is connected to"),
            Self::Dollar { field } => {
                write!(
                    formatter,
                    "its field {field} is a $NAME, which stands as it is; write ${{NAME}} to have it replaced"
                )
            }
            Self::LeftToProgram { name } => {
                write!(formatter, "the variable {name} in its arguments is left to the program, whose env sets it")
            }
            Self::NotFollowed { field } => write!(formatter, "its field {field} is kept and has no effect here"),
            Self::Optional { name } => {
                write!(formatter, "{name} may be given and is not; set it and import again if it is needed")
            }
            Self::Runtime { used } => write!(formatter, "its runtime is not known; {used} is used"),
            Self::Deprecated => formatter.write_str("its registry calls it deprecated"),
            Self::Projects => formatter.write_str(
                "the file has servers of single projects too, which are not read; import them from the projects",
            ),
            Self::More => formatter.write_str("there is more of this kind"),
            Self::MorePages => formatter.write_str("the list goes on elsewhere; only this page was read"),
        }
    }
}

/// Why nothing of a file can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is too large.
    #[error("the file is larger than {MAX_IMPORT_BYTES} bytes; is this the right file?")]
    TooLarge,
    /// It is not UTF-8. Lines and columns count from 1.
    #[error("the file is not UTF-8 text (line {line}, column {column}); save it as UTF-8")]
    Encoding {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// It is not JSON. Lines and columns count from 1.
    #[error(
        "the file is not JSON (line {line}, column {column}); comments and trailing commas are allowed, nothing else is"
    )]
    Syntax {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An object has two members of one name. Lines and columns count from 1.
    #[error("an object of the file has two members of one name (line {line}, column {column}); remove one")]
    Repeated {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// It nests too deep.
    #[error("the file nests deeper than {MAX_DEPTH} levels; is this the right file?")]
    TooDeep,
    /// It has too many servers.
    #[error("the file has more than {MAX_IMPORT_SERVERS} servers; split it")]
    TooMany,
    /// It has none of the accepted shapes.
    #[error(
        "the file has none of the accepted shapes: {{\"servers\": [...]}} of a registry; an object of servers under \
         \"mcpServers\", \"servers\", \"mcp\": {{\"servers\"}} or \"context_servers\" of a client; or a server.json with \
         a name and packages or remotes"
    )]
    Shape,
    /// It has not the shape that was asked for.
    #[error("the file does not have the shape of the format {0}; leave the format away to have it guessed")]
    OtherShape(ImportFormat),
}
