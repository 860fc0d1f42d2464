//! Reading the fields of an object, with the path of each for the error message.
//!
//! Paths are made of the schema's own field names and of positions, never of names or values that a document invented.

use super::error::{MapError, SchemaRule};
use crate::model::document::{Object, Value};

/// An object whose fields are read.
pub(super) struct Fields<'a> {
    object: &'a Object,
    path: String,
}

impl<'a> Fields<'a> {
    /// The document's payload.
    pub(super) fn root(object: &'a Object) -> Self {
        Self { object, path: String::new() }
    }

    /// An element of a list, which must be an object.
    pub(super) fn element(value: &'a Value, path: String) -> Result<Self, MapError> {
        match value {
            Value::Object(object) => Ok(Self { object, path }),
            _ => Err(MapError::Schema { path, rule: SchemaRule::Object }),
        }
    }

    /// The path of a field.
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A fault of a field.
    pub(super) fn fault(&self, name: &str, rule: impl Into<SchemaRule>) -> MapError {
        MapError::Schema { path: self.path(name), rule: rule.into() }
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some()
    }

    /// All members, for a field that is a free map.
    pub(super) fn members(&self) -> &'a [(String, Value)] {
        self.object.members()
    }

    /// A field as `read` finds it, if it is there. `read` yields nothing for a value that breaks `rule`.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        rule: SchemaRule,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MapError> {
        self.object.get(name).map(|value| read(value).ok_or_else(|| self.fault(name, rule))).transpose()
    }

    /// A field as `read` finds it.
    pub(super) fn required<T>(
        &self,
        name: &str,
        rule: SchemaRule,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, MapError> {
        self.optional(name, rule, read)?.ok_or_else(|| self.fault(name, SchemaRule::Required))
    }

    /// A text that is not empty, if the field is there.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, MapError> {
        self.optional(name, SchemaRule::Text, text)
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, MapError> {
        self.required(name, SchemaRule::Text, text)
    }

    /// An integer above zero.
    pub(super) fn positive(&self, name: &str) -> Result<u64, MapError> {
        self.required(name, SchemaRule::Positive, |value| value.as_natural().filter(|number| *number > 0))
    }

    /// An integer, zero included, if the field is there.
    pub(super) fn natural(&self, name: &str) -> Result<Option<u64>, MapError> {
        self.optional(name, SchemaRule::Natural, Value::as_natural)
    }

    /// An object, if the field is there.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, MapError> {
        self.object.get(name).map(|value| Self::element(value, self.path(name))).transpose()
    }

    /// A list of texts that are not empty, if the field is there.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, MapError> {
        let Some(elements) = self.optional(name, SchemaRule::List, list)? else { return Ok(None) };
        let read = elements.iter().enumerate().map(|(index, value)| {
            text(value).map(str::to_owned).ok_or_else(|| self.fault(&format!("{name}[{index}]"), SchemaRule::Text))
        });
        read.collect::<Result<_, _>>().map(Some)
    }
}

/// The elements, if the value is a list.
pub(super) fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::List(elements) => Some(elements),
        _ => None,
    }
}

/// The flag, if the value is one.
pub(super) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Flag(flag) => Some(*flag),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_text().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::parse;

    #[test]
    fn faults_name_the_path_and_the_rule() {
        let Ok(Value::Object(object)) = parse(br#"{"a":{"texts":["x",""],"number":1.5}}"#) else { panic!("an object") };
        let fields = Fields::root(&object).object("a").unwrap().unwrap();
        let schema = |path: &str, rule| MapError::Schema { path: path.to_owned(), rule };
        assert_eq!(fields.texts("texts").unwrap_err(), schema("a.texts[1]", SchemaRule::Text));
        assert_eq!(fields.natural("number").unwrap_err(), schema("a.number", SchemaRule::Natural));
        assert_eq!(fields.text("missing").unwrap_err(), schema("a.missing", SchemaRule::Required));
        assert_eq!(fields.natural("missing"), Ok(None));
    }
}
