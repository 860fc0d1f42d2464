//! Printing: text for people or JSON for machines, on stdout; errors on stderr, or as JSON on stdout.

use std::io::{IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ContentArrangement, Table};
use cortex_mcp::model::text::shown;
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
    ///
    /// Whatever is in it, it is shown and not obeyed: much of it was said by servers, documents and traces.
    pub(crate) fn line(self, text: impl std::fmt::Display) {
        if !self.json {
            self.raw(coloured(&shown(&text.to_string())));
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
            let _ = writeln!(std::io::stderr().lock(), "cortex-mcp: {}", shown(&error.to_string()));
        }
    }

    /// Colours a word, on a terminal.
    pub(crate) fn tone(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
        };
        self.painted(text, code)
    }

    fn painted(self, text: &str, code: &str) -> String {
        if self.colour { format!("{PAINT}{code}{PAINTED}{text}{PAINT}0{PAINTED}") } else { text.to_owned() }
    }

    /// A table with these headings.
    pub(crate) fn table(self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !std::io::stdout().is_terminal() {
            table.set_width(PIPED_WIDTH);
        }
        table.set_header(headings.iter().map(|heading| Cell::new(self.painted(heading, "1"))));
        table
    }
}

/// Begin and end of a colour's code, until it is printed: characters that stand for nothing else. Escape sequences that are
/// in a text before that are not ours.
const PAINT: char = '\u{fdd0}';
const PAINTED: char = '\u{fdd1}';

/// The text with its colours as a terminal takes them.
fn coloured(text: &str) -> String {
    text.replace(PAINT, "\x1b[").replace(PAINTED, "m")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_colours_reach_the_terminal_and_escape_sequences_of_others_do_not() {
        let output = Output { json: false, colour: true };
        let said = format!("{} said \u{1b}]0;owned\u{7}\u{1b}[2J", output.tone("server", Tone::Bad));
        assert_eq!(coloured(&shown(&said)), "\u{1b}[31mserver\u{1b}[0m said \u{fffd}]0;owned\u{fffd}\u{fffd}[2J");
    }
}
