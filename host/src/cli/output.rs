//! Writes results: text for people or JSON for machines on standard output; errors and notices on standard error.
//!
//! This is the only module that writes to either. A [`Span`] is escaped when it is made and styled when it is written, so that no
//! text of a server, a file or an argument reaches a terminal as a control.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement};
use cortex_mcp::model::redaction::mask_text;
use cortex_mcp::model::style::{self, Style};
use cortex_mcp::model::text::{escape, escape_json, escape_lines};
use serde::Serialize;
use serde_json::json;

use super::error::CommandError;

/// Writes the results of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    is_styled: bool,
}

/// A piece of a line or the content of a cell: escaped text, and its style.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    text: String,
    style: Option<Style>,
}

impl<T: Display> From<T> for Span {
    fn from(text: T) -> Self {
        Self { text: escape(&text.to_string()).into_owned(), style: None }
    }
}

impl Span {
    pub(crate) fn styled(text: impl Display, style: Style) -> Self {
        Self { style: Some(style), ..Self::from(text) }
    }

    fn write(&self, is_styled: bool, line: &mut String) {
        match self.style.filter(|_| is_styled) {
            Some(style) => line.extend([style.sequence(), &self.text, style::RESET]),
            None => line.push_str(&self.text),
        }
    }
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, is_styled: style::is_styled(&io::stdout()) }
    }

    /// Whether JSON is written instead of text for people.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Writes a line for people; nothing with `--json`.
    pub(crate) fn line(self, text: impl Display) {
        self.spans([text.into()]);
    }

    /// Writes a line of several spans for people.
    pub(crate) fn spans<const N: usize>(self, spans: [Span; N]) {
        if !self.json {
            let mut line = String::new();
            spans.iter().for_each(|span| span.write(self.is_styled, &mut line));
            self.write(&line);
        }
    }

    /// Writes text that may have several lines, for people.
    pub(crate) fn text(self, text: impl Display) {
        if !self.json {
            self.write(&escape_lines(&text.to_string()));
        }
    }

    /// Writes a table for people.
    pub(crate) fn rows(self, table: &Table) {
        if !self.json {
            self.write(&table.render());
        }
    }

    /// Writes a JSON value; nothing without `--json`.
    pub(crate) fn value(self, value: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string(value)
        {
            self.write(&escape_json(&text));
        }
    }

    /// Writes a document in a format of its own, with and without `--json`.
    pub(crate) fn document(self, text: &str) {
        self.write(&escape_lines(text));
    }

    /// Writes bytes that are no text. A terminal is refused.
    pub(crate) fn binary(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if stdout.is_terminal() {
            let reason = "standard output is a terminal; redirect it to a file or a pipe";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        stdout.write_all(bytes)
    }

    /// Writes an error.
    pub(crate) fn error(self, error: &CommandError) {
        if self.json {
            self.value(&json!({ "error": { "class": error.class(), "message": mask_text(&error.to_string()) } }));
        } else {
            notice(error);
        }
    }

    #[expect(clippy::unused_self, reason = "standard output is written to through an `Output`")]
    fn write(self, text: &str) {
        // A reader that went away, as `head` does, is no error.
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    /// Returns a table with these headings.
    pub(crate) fn table(self, headings: &[&str]) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !io::stdout().is_terminal() {
            table.set_width(PIPED_WIDTH);
        }
        if self.is_styled {
            table.enforce_styling();
        }
        let mut table = Table { table, is_styled: self.is_styled };
        let headings = headings.iter().map(|heading| table.cell(Span::styled(heading, Style::Heading)));
        let headings: Vec<Cell> = headings.collect();
        table.table.set_header(headings);
        table
    }
}

/// Writes an error or a notice beside the result to standard error.
pub(crate) fn notice(text: impl Display) {
    // A line of its own can only be this program's.
    complain(&format!("cortex-mcp: {}", text.to_string().replace('\n', "\n  ")));
}

/// Writes text of several lines to standard error. Secrets that it quotes, such as arguments, are masked.
pub(crate) fn complain(text: &str) {
    // Nothing is left to do if standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{}", escape_lines(&mask_text(text)));
}

/// A table for people.
pub(crate) struct Table {
    table: comfy_table::Table,
    is_styled: bool,
}

impl Table {
    pub(crate) fn add_row<const N: usize>(&mut self, cells: [Span; N]) {
        let cells = cells.map(|span| self.cell(span));
        self.table.add_row(cells);
    }

    fn cell(&self, span: Span) -> Cell {
        let cell = Cell::new(span.text);
        match span.style.filter(|_| self.is_styled) {
            Some(Style::Success) => cell.fg(Color::DarkGreen),
            Some(Style::Warning) => cell.fg(Color::DarkYellow),
            Some(Style::Error) => cell.fg(Color::DarkRed),
            Some(Style::Heading) => cell.add_attribute(Attribute::Bold),
            Some(Style::Faint) => cell.add_attribute(Attribute::Dim),
            None => cell,
        }
    }

    /// The text. Cells are escaped, so that every escape character in it is of a style: those of the table's library are replaced
    /// by those of [`Style`].
    fn render(&self) -> String {
        self.table.to_string().replace("\x1b[38;5;", "\x1b[3").replace("\x1b[39m", style::RESET)
    }
}

/// Width of tables that no terminal measures.
const PIPED_WIDTH: u16 = 120;

/// Cuts a text to a number of characters, for tables. Hidden characters count as they are shown.
pub(crate) fn shorten(text: &str, longest: usize) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let flat = escape(&flat);
    match flat.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use cortex_mcp::model::text::is_hidden;

    use super::*;

    /// The text without exactly the sequences of the listed styles.
    fn unstyled(text: &str) -> String {
        let text = Style::ALL.iter().fold(text.to_owned(), |text, style| text.replace(style.sequence(), ""));
        text.replace(style::RESET, "")
    }

    #[test]
    fn styles_reach_the_terminal_and_controls_of_others_do_not() {
        let span = Span::styled("\u{1b}]0;owned\u{7}\u{1b}[2J\n\u{fdd0}", Style::Error);
        let mut line = String::new();
        span.write(true, &mut line);
        assert_eq!(line, "\u{1b}[31m\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{a}\\u{fdd0}\u{1b}[0m");
        line.clear();
        span.write(false, &mut line);
        assert!(!line.contains(is_hidden), "{line}");
    }

    #[test]
    fn a_table_of_every_character_and_style_holds_the_listed_sequences_only() {
        let every: String =
            ('\0'..='\u{fff}').chain('\u{2000}'..='\u{2fff}').chain(['\u{fdd0}', '\u{e0041}']).collect();
        for is_styled in [true, false] {
            let mut table = Output { json: false, is_styled }.table(&["one", "two"]);
            for style in Style::ALL {
                table.add_row([Span::styled(&every, style), Span::from("\u{1b}[38;5;1mred\u{1b}[39m")]);
            }
            let text = table.render();
            assert_eq!(text.contains('\u{1b}'), is_styled);
            let left = unstyled(&text);
            assert!(!left.contains(|character| is_hidden(character) && character != '\n'), "{left}");
        }
    }
}
