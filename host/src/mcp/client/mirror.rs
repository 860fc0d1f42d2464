//! Tool arguments that are mirrored into `Mcp-Param-*` headers (2026-07-28, `basic/transports/streamable-http`, "Custom
//! Headers from Tool Parameters").
//!
//! A tool whose annotations break a rule must not be offered; one whose annotations are sound must be called with the
//! headers. Schemas are parsed here only if they mention the annotation at all.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::listing::LeftOut;
use crate::mcp::limits::{MAX_MIRRORED_ARGUMENTS, MAX_MIRRORING_TOOLS, MAX_SCHEMA_DEPTH};
use crate::mcp::protocol::{PARAMETER_ANNOTATION, PARAMETER_HEADER_PREFIX, decode_header_value, encode_header_value};
use crate::model::raw::{self, RawObject};

/// One argument and its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    header: HeaderName,
    path: Vec<String>,
}

impl Mirror {
    /// The name of the header.
    pub(crate) fn header(&self) -> &HeaderName {
        &self.header
    }
}

/// Why a tool must not be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MirrorFault {
    #[error("its schema is too deep, or can not be read")]
    Schema,
    #[error("a header name is not an HTTP token")]
    Name,
    #[error("two arguments ask for the same header")]
    Duplicate,
    #[error("an argument for a header is not a string, an integer or a boolean")]
    Type,
    #[error("a header is asked for where no plain property stands")]
    Place,
    #[error("too many headers are asked for")]
    TooMany,
}

/// The mirrors of a session's tools, by tool name. Cheap to read while a list replaces it.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Mutex<Arc<HashMap<String, Arc<[Mirror]>>>>);

impl Mirrors {
    /// The mirrors of one tool.
    pub(super) fn of(&self, tool: &str) -> Option<Arc<[Mirror]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tool).cloned()
    }

    /// Replaces all of them.
    pub(super) fn replace(&self, found: HashMap<String, Arc<[Mirror]>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
    }
}

/// Keeps the tools that may be offered, and notes the mirrors of each and what is left out.
pub(super) fn sift(
    tools: Vec<(String, Box<RawValue>)>,
    found: &mut HashMap<String, Arc<[Mirror]>>,
    left_out: &mut LeftOut,
) -> Vec<Box<RawValue>> {
    let mut kept = Vec::with_capacity(tools.len());
    for (name, tool) in tools {
        match mirrors_of(&tool) {
            Ok(mirrors) => {
                if !mirrors.is_empty() && found.len() < MAX_MIRRORING_TOOLS {
                    found.insert(name, mirrors.into());
                }
                kept.push(tool);
            }
            Err(reason) => left_out.add(&name, format_args!("x-mcp-header: {reason}")),
        }
    }
    kept
}

/// The mirrors that a tool asks for.
pub(crate) fn mirrors_of(tool: &RawValue) -> Result<Vec<Mirror>, MirrorFault> {
    if !tool.get().contains(PARAMETER_ANNOTATION) {
        return Ok(Vec::new());
    }
    let Ok(tool) = RawObject::parse(tool) else { return Err(MirrorFault::Schema) };
    let Some(schema) = tool.get("inputSchema") else { return Ok(Vec::new()) };
    let schema: Value = serde_json::from_str(schema.get()).map_err(|_| MirrorFault::Schema)?;
    let mut search = Search::default();
    search.schema(&schema, Some(&mut Vec::new()), 0)?;
    Ok(search.found)
}

/// Adds the headers that mirror `arguments`. Absent and `null` arguments have none.
pub(crate) fn add_headers(mirrors: &[Mirror], arguments: Option<&RawValue>, headers: &mut HeaderMap) {
    let Some(arguments) = arguments else { return };
    for mirror in mirrors {
        if let Some(text) = value_at(arguments, &mirror.path).as_deref().and_then(header_text) {
            headers.insert(mirror.header.clone(), encode_header_value(&text));
        }
    }
}

/// Whether a header does not say what its argument says: it is missing, broken, different, or there without one.
pub(crate) fn mismatched(mirrors: &[Mirror], arguments: Option<&RawValue>, headers: &HeaderMap) -> bool {
    mirrors.iter().any(|mirror| {
        let value = arguments.and_then(|arguments| value_at(arguments, &mirror.path));
        let is_text = value.as_deref().is_some_and(|value| value.get().starts_with('"'));
        match (value.as_deref().and_then(header_text), headers.get(&mirror.header)) {
            (None, None) => false,
            (Some(text), Some(said)) => {
                decode_header_value(said).is_none_or(|said| said != text && (is_text || decimal(&said) != text))
            }
            _ => true,
        }
    })
}

fn value_at(arguments: &RawValue, path: &[String]) -> Option<Box<RawValue>> {
    let mut value = arguments.to_owned();
    for key in path {
        let object = RawObject::parse(&value).ok()?;
        value = object.get(key)?.to_owned();
    }
    Some(value)
}

/// The text of a primitive: strings as they are, whole numbers in decimal, booleans by name. None for anything else.
fn header_text(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'"' => raw::as_text(value),
        b't' | b'f' => Some(value.get().to_owned()),
        b'-' | b'0'..=b'9' => Some(decimal(value.get())),
        _ => None,
    }
}

/// Writes `4.2e1` and `42.0` as `42`; what is no safe whole number stays as it is, for the server to judge.
fn decimal(number: &str) -> String {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    if number.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return number.to_owned();
    }
    match number.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() <= LARGEST => format!("{}", value as i64),
        _ => number.to_owned(),
    }
}

#[derive(Default)]
struct Search {
    found: Vec<Mirror>,
    names: HashSet<String>,
}

/// Keywords whose value maps names to schemas; the names are no keywords.
const NAMED_SCHEMAS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords whose value is data; an annotation in there annotates nothing.
const DATA: [&str; 5] = ["const", "enum", "default", "examples", "required"];

impl Search {
    /// Looks through one schema. `path` is the way to it, if that leads through `properties` only.
    fn schema(&mut self, schema: &Value, mut path: Option<&mut Vec<String>>, depth: usize) -> Result<(), MirrorFault> {
        if depth > MAX_SCHEMA_DEPTH {
            return Err(MirrorFault::Schema);
        }
        match schema {
            Value::Array(schemas) => schemas.iter().try_for_each(|schema| self.schema(schema, None, depth + 1)),
            Value::Object(members) => {
                if let Some(annotation) = members.get(PARAMETER_ANNOTATION) {
                    self.note(annotation, members, path.as_deref().map(Vec::as_slice))?;
                }
                for (keyword, value) in members {
                    match value {
                        Value::Object(named) if NAMED_SCHEMAS.contains(&keyword.as_str()) => {
                            for (name, schema) in named {
                                let on = if keyword == "properties" { path.as_deref_mut() } else { None };
                                self.named(name, schema, on, depth)?;
                            }
                        }
                        _ if keyword == PARAMETER_ANNOTATION || DATA.contains(&keyword.as_str()) => {}
                        _ => self.schema(value, None, depth + 1)?,
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn named(
        &mut self,
        name: &str,
        schema: &Value,
        path: Option<&mut Vec<String>>,
        depth: usize,
    ) -> Result<(), MirrorFault> {
        let Some(path) = path else { return self.schema(schema, None, depth + 1) };
        path.push(name.to_owned());
        self.schema(schema, Some(path), depth + 1)?;
        path.pop();
        Ok(())
    }

    fn note(
        &mut self,
        annotation: &Value,
        members: &Map<String, Value>,
        path: Option<&[String]>,
    ) -> Result<(), MirrorFault> {
        let path = path.filter(|path| !path.is_empty()).ok_or(MirrorFault::Place)?;
        let name = annotation.as_str().filter(|name| !name.is_empty()).ok_or(MirrorFault::Name)?;
        let header = format!("{PARAMETER_HEADER_PREFIX}{}", name.to_ascii_lowercase());
        // A header name of the `http` crate is exactly an HTTP token.
        let header = HeaderName::try_from(header).map_err(|_| MirrorFault::Name)?;
        if !matches!(members.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
            return Err(MirrorFault::Type);
        }
        if !self.names.insert(name.to_ascii_lowercase()) {
            return Err(MirrorFault::Duplicate);
        }
        if self.found.len() == MAX_MIRRORED_ARGUMENTS {
            return Err(MirrorFault::TooMany);
        }
        self.found.push(Mirror { header, path: path.to_vec() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(properties: &str) -> Box<RawValue> {
        raw::trusted(format!(r#"{{"name":"t","inputSchema":{{"type":"object",{properties}}}}}"#))
    }

    fn fault(properties: &str) -> MirrorFault {
        mirrors_of(&tool(properties)).expect_err(properties)
    }

    fn headers(properties: &str, arguments: &str) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        let mirrors = mirrors_of(&tool(properties)).unwrap();
        add_headers(&mirrors, Some(&raw::trusted(arguments.to_owned())), &mut headers);
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    const SOUND: &str = r#""properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "count":{"type":"integer","x-mcp-header":"Count"},
        "nested":{"type":"object","properties":{"dry":{"type":"boolean","x-mcp-header":"Dry"}}},
        "x-mcp-header":{"type":"array","default":{"x-mcp-header":1}}}"#;

    #[test]
    fn annotated_arguments_become_headers() {
        let sent = headers(SOUND, r#"{"region":"Zürich","count":4.20e1,"nested":{"dry":false},"other":1}"#);
        let expected =
            [("mcp-param-region", "=?base64?WsO8cmljaA==?="), ("mcp-param-count", "42"), ("mcp-param-dry", "false")];
        assert_eq!(sent, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn absent_and_null_arguments_and_wrong_shapes_have_no_header() {
        assert_eq!(headers(SOUND, r#"{"region":null,"count":[1],"nested":7}"#), []);
        assert_eq!(headers(SOUND, "{}"), []);
    }

    #[test]
    fn a_number_that_is_not_whole_or_not_safe_is_left_to_the_server() {
        for (argument, value) in
            [("1.5", "1.5"), ("12345678901234567890", "12345678901234567890"), ("1e300", "1e300"), ("-7", "-7")]
        {
            assert_eq!(headers(SOUND, &format!(r#"{{"count":{argument}}}"#))[0].1, value);
        }
    }

    #[test]
    fn a_tool_that_misuses_the_annotation_is_refused() {
        for (properties, expected) in [
            (r#""properties":{"a":{"type":"string","x-mcp-header":""}}"#, MirrorFault::Name),
            (r#""properties":{"a":{"type":"string","x-mcp-header":"a b"}}"#, MirrorFault::Name),
            (r#""properties":{"a":{"type":"string","x-mcp-header":"a\r\nb"}}"#, MirrorFault::Name),
            (r#""properties":{"a":{"type":"string","x-mcp-header":"Größe"}}"#, MirrorFault::Name),
            (r#""properties":{"a":{"type":"string","x-mcp-header":1}}"#, MirrorFault::Name),
            (r#""properties":{"a":{"type":"number","x-mcp-header":"A"}}"#, MirrorFault::Type),
            (r#""properties":{"a":{"type":"object","x-mcp-header":"A"}}"#, MirrorFault::Type),
            (r#""properties":{"a":{"x-mcp-header":"A"}}"#, MirrorFault::Type),
            (
                r#""properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}"#,
                MirrorFault::Duplicate,
            ),
            (r#""x-mcp-header":"Root""#, MirrorFault::Place),
            (r#""properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}"#, MirrorFault::Place),
            (r#""properties":{"a":{"anyOf":[{"type":"string","x-mcp-header":"A"}]}}"#, MirrorFault::Place),
            (r#""$defs":{"default":{"type":"string","x-mcp-header":"A"}}"#, MirrorFault::Place),
            (r#""if":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}"#, MirrorFault::Place),
        ] {
            assert_eq!(fault(properties), expected, "{properties}");
        }
    }

    #[test]
    fn a_schema_deeper_than_the_cap_is_refused_only_if_it_mentions_the_annotation() {
        let deep = format!("\"not\":{}{}", "{\"not\":".repeat(500), "{}".to_owned() + &"}".repeat(500));
        assert_eq!(mirrors_of(&tool(&deep)), Ok(vec![]));
        assert_eq!(fault(&format!("\"x-mcp-header\":\"A\",{deep}")), MirrorFault::Schema);
    }
}
