//! The environment as values: read once, strictly parsed, and replaceable in tests.

use std::collections::BTreeMap;

use super::ConfigError;

/// A snapshot of environment variables. An empty value counts as unset.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's. Variables that are not UTF-8 are left out: none of ours can be.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    /// The same environment with one variable more, or with another value for it.
    #[must_use]
    pub fn plus(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The names of all variables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A boolean: true, 1, yes, on, false, 0, no, off, in any case.
    ///
    /// # Errors
    /// [`ConfigError::Variable`] for anything else.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(bad(name, "write true or false")),
        }
    }

    /// A whole number in decimal digits, without sign, spaces or exponent.
    ///
    /// # Errors
    /// [`ConfigError::Variable`] for anything else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse() {
            Ok(number) if digits => Ok(Some(number)),
            _ => Err(bad(name, "write a whole number in decimal digits")),
        }
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secrets.
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

pub(super) fn bad(name: &str, expected: impl Into<String>) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_read_in_any_case_and_nothing_else_is() {
        for (text, expected) in [("TRUE", true), ("1", true), ("Yes", true), ("off", false), ("False", false)] {
            assert_eq!(Environment::from([("X", text)]).boolean("X").unwrap(), Some(expected));
        }
        for text in ["tru", "2", " true", "y"] {
            assert!(Environment::from([("X", text)]).boolean("X").is_err(), "{text}");
        }
        assert_eq!(Environment::from([("X", "")]).boolean("X").unwrap(), None);
    }

    #[test]
    fn numbers_are_decimal_digits_only() {
        assert_eq!(Environment::from([("X", "300000")]).number("X").unwrap(), Some(300_000));
        for text in ["1e3", "0x10", " 7 ", "1.5", "-5", "+5", "Infinity", "99999999999999999999"] {
            assert!(Environment::from([("X", text)]).number("X").is_err(), "{text}");
        }
    }

    #[test]
    fn an_environment_never_prints_values() {
        assert!(!format!("{:?}", Environment::from([("KEY", "canary")])).contains("canary"));
    }
}
