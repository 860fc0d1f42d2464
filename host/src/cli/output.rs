//! Printing: text for people or JSON for machines, on stdout; errors on stderr, or as JSON on stdout.

use std::io::{IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, ContentArrangement, Table};
use serde::Serialize;
use serde_json::json;

use super::error::CommandError;

/// Where a command's results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

/// How something stands, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Doubtful,
    Bad,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, colour }
    }

    /// Whether machines read.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a line for people; nothing if machines read.
    pub(crate) fn line(self, text: impl std::fmt::Display) {
        if !self.json {
            self.raw(text);
        }
    }

    /// Prints a line, whoever reads.
    #[expect(clippy::unused_self, reason = "printing goes through here")]
    pub(crate) fn raw(self, text: impl std::fmt::Display) {
        // A reader that went away, as `head` does, is no error.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Prints a value for machines; nothing if people read.
    pub(crate) fn value(self, value: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string(value)
        {
            self.raw(text);
        }
    }

    /// Prints an error.
    pub(crate) fn error(self, error: &CommandError) {
        if self.json {
            self.value(&json!({ "error": { "class": error.class(), "message": error.to_string() } }));
        } else {
            // Nothing is left to do if stderr is gone too.
            let _ = writeln!(std::io::stderr().lock(), "cortex-mcp: {error}");
        }
    }

    /// Colours a word, on a terminal.
    pub(crate) fn tone(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A table with these headings.
    pub(crate) fn table(self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !std::io::stdout().is_terminal() {
            table.set_width(PIPED_WIDTH);
        }
        table.set_header(headings.iter().map(|heading| {
            let cell = Cell::new(heading);
            if self.colour { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        table
    }
}

/// Width of tables that no terminal measures.
const PIPED_WIDTH: u16 = 120;

/// Cuts a text to a number of characters, for tables.
pub(crate) fn shorten(text: &str, longest: usize) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}
