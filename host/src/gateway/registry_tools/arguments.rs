//! The arguments of a call: each of its type, and none that the tool does not know.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::answer::Failure;
use crate::model::raw::RawObject;
use crate::registry::is_name;

/// What a tool was called with.
pub(super) struct Arguments(RawObject);

impl Arguments {
    /// Reads them; none at all are none.
    pub(super) fn parse(arguments: Option<&RawValue>) -> Result<Self, Failure> {
        let Some(arguments) = arguments else { return Ok(Self(RawObject::new())) };
        let refused = |_| Failure::Validation { argument: None, message: "the arguments must be an object".to_owned() };
        RawObject::parse(arguments).map(Self).map_err(refused)
    }

    /// Refuses every argument but these: an argument that is not known is not ignored.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        let Some((name, _)) = self.0.iter().find(|(name, _)| !known.contains(name)) else { return Ok(()) };
        let rest =
            if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) };
        let name: String = name.chars().take(NAME_SHOWN).collect();
        Err(Failure::argument(&name, format!("is no argument of this tool; {rest}")))
    }

    /// A value as it was written.
    pub(super) fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name)
    }

    /// Whether there is one of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.typed(name, "must be a string")
    }

    /// True or false; false if it is left out.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.typed(name, "must be true or false")?.unwrap_or(false))
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Failure> {
        self.typed(name, "must be a list of strings")
    }

    /// An object, with its values as they were written.
    pub(super) fn object(&self, name: &str) -> Result<Option<RawObject>, Failure> {
        let refused = |_| Failure::argument(name, "must be an object");
        self.raw(name).map(|value| RawObject::parse(value).map_err(refused)).transpose()
    }

    /// A whole number within a range.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Failure> {
        let rule = format!("must be a whole number from {} to {}", range.start(), range.end());
        let number: Option<u64> = self.typed(name, &rule)?;
        match number {
            Some(number) if !range.contains(&number) => Err(Failure::argument(name, rule)),
            number => Ok(number),
        }
    }

    /// The name of a server.
    pub(super) fn name(&self) -> Result<String, Failure> {
        let rule = "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', '-', the first a letter or digit";
        self.text("name")?.filter(|name| is_name(name)).ok_or_else(|| Failure::argument("name", rule))
    }

    fn typed<T: DeserializeOwned>(&self, name: &str, rule: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|_| Failure::argument(name, rule))
    }
}

/// How much of the name of an unknown argument is told.
const NAME_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Result<Arguments, Failure> {
        Arguments::parse(Some(&RawValue::from_string(text.to_owned()).unwrap()))
    }

    #[test]
    fn an_unknown_argument_is_named_and_not_ignored() {
        for name in ["includeInactive", "force"] {
            let error = arguments(&format!("{{\"name\":\"a\",\"{name}\":true}}")).unwrap().only(&["name"]).unwrap_err();
            assert_eq!(error.code(), "validation_error");
            assert!(error.to_string().starts_with(name), "{error}");
        }
        assert!(arguments("[]").is_err() && Arguments::parse(None).is_ok());
    }

    #[test]
    fn values_have_their_type_and_null_is_none() {
        let all =
            arguments(r#"{"text":1,"flag":null,"texts":["a",1],"object":[],"number":1.5,"name":"../x"}"#).unwrap();
        let refused = [
            all.text("text").is_err(),
            all.flag("flag").is_err(),
            all.texts("texts").is_err(),
            all.object("object").is_err(),
            all.number("number", 1..=9).is_err(),
            all.name().is_err(),
        ];
        assert_eq!(refused, [true; 6]);
        assert_eq!(all.number("none", 1..=9).unwrap(), None);
        assert!(arguments(r#"{"n":10}"#).unwrap().number("n", 1..=9).is_err());
    }
}
