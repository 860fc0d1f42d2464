//! The tools of the server: what they are, their pages, and what they answer.
//!
//! Deterministic, all of them: the same list and the same arguments always give the same bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::mcp::RawObject;
use crate::model::raw;

/// The tools of a server.
#[derive(Clone, Debug)]
pub enum Tools {
    /// So many generated ones.
    Generated(usize),
    /// These documents. A tool without one of the well-known names answers with its name and its arguments.
    Documents(Vec<Box<RawValue>>),
}

impl From<usize> for Tools {
    fn from(count: usize) -> Self {
        Self::Generated(count)
    }
}

impl From<Vec<Box<RawValue>>> for Tools {
    fn from(documents: Vec<Box<RawValue>>) -> Self {
        Self::Documents(documents)
    }
}

/// One page of the list.
#[derive(Debug)]
pub(super) struct Page {
    /// `[...]`
    pub(super) tools: Box<RawValue>,
    /// The cursor of the next page.
    pub(super) next: Option<String>,
}

/// A cursor that this server did not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCursor;

impl Tools {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Generated(count) => *count,
            Self::Documents(documents) => documents.len(),
        }
    }

    /// The definition of a tool.
    pub(super) fn find(&self, name: &str) -> Option<Box<RawValue>> {
        (0..self.len()).map(|index| self.document(index)).find(|tool| name_of(tool).as_deref() == Some(name))
    }

    /// The page that begins at a cursor.
    pub(super) fn page(&self, cursor: Option<&str>, size: Option<usize>) -> Result<Page, BadCursor> {
        let start = cursor.map_or(Ok(0), read_cursor)?;
        if start > 0 && start >= self.len() {
            return Err(BadCursor);
        }
        let end = size.map_or(self.len(), |size| self.len().min(start + size.max(1)));
        let mut text = String::from("[");
        for index in start..end {
            if index > start {
                text.push(',');
            }
            text.push_str(self.document(index).get());
        }
        text.push(']');
        Ok(Page { tools: raw::trusted(text), next: (end < self.len()).then(|| write_cursor(end)) })
    }

    fn document(&self, index: usize) -> Box<RawValue> {
        match self {
            Self::Generated(_) => generated(index),
            Self::Documents(documents) => documents.get(index).cloned().unwrap_or_else(raw::empty_object),
        }
    }
}

/// What a tool answers: the members of a `CallToolResult`. A tool's own failure is a result with `isError`.
pub(super) fn call(name: &str, arguments: &RawObject) -> RawObject {
    match name {
        "echo" => succeeded(arguments.to_raw().get(), Some(&arguments.to_raw())),
        "add" => add(arguments),
        "uppercase" => match arguments.get_str("text") {
            Some(text) => succeeded(&text.to_uppercase(), None),
            None => failed("uppercase needs the text `text`"),
        },
        _ => {
            let mut content = RawObject::new();
            content.set("tool", raw::string(name));
            content.set("arguments", arguments.to_raw());
            succeeded(content.to_raw().get(), Some(&content.to_raw()))
        }
    }
}

fn add(arguments: &RawObject) -> RawObject {
    let number =
        |key: &str| arguments.get(key).and_then(|value| serde_json::from_str::<serde_json::Number>(value.get()).ok());
    let (Some(a), Some(b)) = (number("a"), number("b")) else { return failed("add needs the numbers `a` and `b`") };
    let whole = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b)).map(|sum| sum.to_string());
    let float =
        || a.as_f64().zip(b.as_f64()).map(|(a, b)| a + b).filter(|sum| sum.is_finite()).map(|sum| sum.to_string());
    let Some(sum) = whole.or_else(float) else { return failed("the sum is too large") };
    succeeded(&sum, Some(&raw::trusted(format!("{{\"sum\":{sum}}}"))))
}

fn succeeded(text: &str, structured: Option<&RawValue>) -> RawObject {
    let mut result = RawObject::new();
    result.set("content", text_content(text));
    if let Some(structured) = structured {
        result.set("structuredContent", structured.to_owned());
    }
    result.set("isError", RawValue::FALSE.to_owned());
    result
}

fn failed(text: &str) -> RawObject {
    let mut result = RawObject::new();
    result.set("content", text_content(text));
    result.set("isError", RawValue::TRUE.to_owned());
    result
}

fn text_content(text: &str) -> Box<RawValue> {
    raw::trusted(format!("[{{\"type\":\"text\",\"text\":{}}}]", raw::string(text)))
}

fn name_of(tool: &RawValue) -> Option<String> {
    RawObject::parse(tool).ok()?.get_str("name")
}

fn generated(index: usize) -> Box<RawValue> {
    let document = match index {
        0 => definition(
            "echo",
            "Echo",
            "Returns its arguments.",
            r#"{"type":"object","additionalProperties":true}"#,
            None,
        ),
        1 => definition("add", "Add", "Adds two numbers.", NUMBERS_SCHEMA, Some(SUM_SCHEMA)),
        2 => definition("uppercase", "Uppercase", "Returns a text in capitals.", TEXT_SCHEMA, None),
        _ => {
            let number = index + 1;
            let description = format!("Tool {number} of this server; returns its name and its arguments.");
            definition(&format!("tool-{number}"), &format!("Tool {number}"), &description, FILLER_SCHEMA, None)
        }
    };
    document.to_raw()
}

fn definition(name: &str, title: &str, description: &str, input: &str, output: Option<&str>) -> RawObject {
    let mut tool = RawObject::new();
    tool.set("name", raw::string(name));
    tool.set("title", raw::string(title));
    tool.set("description", raw::string(description));
    tool.set("inputSchema", raw::trusted(input.to_owned()));
    if let Some(output) = output {
        tool.set("outputSchema", raw::trusted(output.to_owned()));
    }
    tool.set("annotations", raw::trusted(r#"{"readOnlyHint":true,"idempotentHint":true}"#.to_owned()));
    tool
}

const NUMBERS_SCHEMA: &str =
    r#"{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"number"}},"required":["a","b"]}"#;
const SUM_SCHEMA: &str = r#"{"type":"object","properties":{"sum":{"type":"number"}},"required":["sum"]}"#;
const TEXT_SCHEMA: &str = r#"{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}"#;
const FILLER_SCHEMA: &str = concat!(
    r#"{"type":"object","properties":{"text":{"type":"string","description":"Any text."},"#,
    r#""count":{"type":"integer","minimum":0}}}"#
);

fn write_cursor(index: usize) -> String {
    STANDARD.encode(format!("{CURSOR_PREFIX}{index}"))
}

fn read_cursor(cursor: &str) -> Result<usize, BadCursor> {
    let text = STANDARD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(BadCursor)?;
    text.strip_prefix(CURSOR_PREFIX).and_then(|index| index.parse().ok()).filter(|index| *index > 0).ok_or(BadCursor)
}

const CURSOR_PREFIX: &str = "from ";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, arguments: &str) -> String {
        call(name, &RawObject::from_str(arguments).unwrap()).to_raw().get().to_owned()
    }

    #[test]
    fn pages_join_to_the_whole_list() {
        let tools = Tools::from(7);
        let whole = tools.page(None, None).unwrap();
        let mut joined = Vec::new();
        let mut cursor = None;
        loop {
            let page = tools.page(cursor.as_deref(), Some(3)).unwrap();
            joined.extend(serde_json::from_str::<Vec<Box<RawValue>>>(page.tools.get()).unwrap());
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(serde_json::to_string(&joined).unwrap(), whole.tools.get());
        assert_eq!((joined.len(), whole.next), (7, None));
    }

    #[test]
    fn only_the_servers_own_cursors_are_taken() {
        let tools = Tools::from(7);
        for bad in ["", "3", "!", &write_cursor(7), &STANDARD.encode("from -1"), &write_cursor(0)] {
            assert_eq!(tools.page(Some(bad), Some(3)).unwrap_err(), BadCursor, "{bad}");
        }
    }

    #[test]
    fn tools_do_what_they_say() {
        assert!(
            text("echo", r#"{"n":123456789012345678901}"#)
                .contains(r#""structuredContent":{"n":123456789012345678901}"#)
        );
        assert!(text("add", r#"{"a":2,"b":40}"#).contains(r#""structuredContent":{"sum":42}"#));
        assert!(text("add", r#"{"a":0.5,"b":1}"#).contains(r#"{"sum":1.5}"#));
        assert!(text("add", "{}").contains(r#""isError":true"#));
        assert!(text("uppercase", r#"{"text":"straße"}"#).contains("STRASSE"));
        assert!(text("tool-9", "{}").contains(r#"{"tool":"tool-9","arguments":{}}"#));
    }

    #[test]
    fn every_generated_tool_can_be_found_by_its_name() {
        let tools = Tools::from(5);
        for name in ["echo", "add", "uppercase", "tool-4", "tool-5"] {
            assert!(tools.find(name).is_some(), "{name}");
        }
        assert!(tools.find("tool-6").is_none());
    }
}
