//! What a `server.json` asks its user for: header values, environment variables, arguments and parts of addresses.
//!
//! A fixed value stands; else the environment is asked, under the input's own name and then under the environment's
//! spelling of it; else the default stands. What is required and not given is a reason to skip the server, what is
//! optional and not given is left out with a note. Arguments stay a list: no shell ever reads them.

use serde_json::{Map, Value};

use super::expand::{Variables, add};
use super::names::{environment_spelling, shown};
use super::report::{Note, SkipReason};
use super::server_json::wrong;

/// The inputs of one server.
pub(super) struct Inputs<'v, 'a> {
    variables: &'v Variables<'a>,
    /// What is to be said of the server.
    pub(super) notes: Vec<Note>,
}

impl<'v, 'a> Inputs<'v, 'a> {
    /// No inputs yet.
    pub(super) fn new(variables: &'v Variables<'a>) -> Self {
        Self { variables, notes: Vec::new() }
    }

    /// An address, each `{name}` in it filled in.
    ///
    /// # Errors
    /// [`SkipReason::Variable`] for a name without a value.
    pub(super) fn address(
        &mut self,
        template: &str,
        variables: Option<&Map<String, Value>>,
    ) -> Result<String, SkipReason> {
        self.fill(template, variables, true)?.ok_or(SkipReason::Missing { field: "url" })
    }

    /// A list of named inputs: headers, or environment variables.
    ///
    /// # Errors
    /// [`SkipReason`].
    pub(super) fn named(&mut self, list: Option<&Value>, field: &str) -> Result<Vec<(String, String)>, SkipReason> {
        let mut named = Vec::new();
        for input in objects(list, field)? {
            let input = input.ok_or_else(|| wrong(field))?;
            let name = input.get("name").and_then(Value::as_str).ok_or_else(|| wrong(field))?;
            match self.input(input, name)? {
                Some(value) => named.push((name.to_owned(), value)),
                None => add(&mut self.notes, Note::Optional { name: shown(&environment_spelling(name)) }),
            }
        }
        Ok(named)
    }

    /// A list of arguments, positional and named ones, as a program gets them.
    ///
    /// # Errors
    /// [`SkipReason`].
    pub(super) fn arguments(&mut self, list: Option<&Value>, field: &str) -> Result<Vec<String>, SkipReason> {
        let mut arguments = Vec::new();
        for (index, input) in objects(list, field)?.into_iter().enumerate() {
            let input = input.ok_or_else(|| wrong(field))?;
            let text = |field: &str| input.get(field).and_then(Value::as_str);
            let name = text("name").filter(|_| text("type") != Some("positional"));
            let asked = name.or(text("valueHint")).map_or_else(|| format!("{field}_{index}"), str::to_owned);
            let Some(name) = name else {
                match self.input(input, &asked)? {
                    Some(value) => arguments.push(value),
                    None => add(&mut self.notes, Note::Optional { name: shown(&environment_spelling(&asked)) }),
                }
                continue;
            };
            let is_flag = text("format") == Some("boolean");
            match self.input(input, &asked)? {
                Some(value) if is_flag => {
                    if value == "true" {
                        arguments.push(name.to_owned());
                    }
                }
                Some(value) => arguments.extend([name.to_owned(), value]),
                None if is_flag => {}
                None => add(&mut self.notes, Note::Optional { name: shown(&environment_spelling(&asked)) }),
            }
        }
        Ok(arguments)
    }

    /// The value of an input; none if it is optional and not given.
    fn input(&mut self, input: &Map<String, Value>, name: &str) -> Result<Option<String>, SkipReason> {
        let required = input.get("isRequired") == Some(&Value::Bool(true));
        let value = match input.get("value") {
            Some(Value::String(value)) => self.fill(value, input.get("variables").and_then(Value::as_object), false)?,
            None | Some(Value::Null) => match self.ask(name)? {
                Some(value) => Some(value),
                None => default(input),
            },
            Some(_) => return Err(wrong(name)),
        };
        if value.is_none() && required {
            return Err(SkipReason::Variable { name: shown(&environment_spelling(name)) });
        }
        Ok(value)
    }

    /// A template with its variables filled in: those that are declared, or `all` of them. None if one that is not
    /// required has no value.
    fn fill(
        &mut self,
        template: &str,
        declared: Option<&Map<String, Value>>,
        all: bool,
    ) -> Result<Option<String>, SkipReason> {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            filled.push_str(&rest[..start]);
            let body = &rest[start + 1..];
            let end = body.find(['{', '}']).filter(|end| body[*end..].starts_with('}'));
            let name = end.map(|end| &body[..end]).filter(|name| is_variable(name));
            let declaration = name.and_then(|name| declared?.get(name));
            match name {
                Some(name) if all || declaration.is_some() => {
                    let empty = Map::new();
                    let declaration = declaration.and_then(Value::as_object).unwrap_or(&empty);
                    let value = match declaration.get("value").and_then(Value::as_str) {
                        Some(value) => Some(value.to_owned()),
                        None => self.ask(name)?.or_else(|| default(declaration)),
                    };
                    let required = all || declaration.get("isRequired") == Some(&Value::Bool(true));
                    match value {
                        Some(value) => filled.push_str(&value),
                        None if required => {
                            return Err(SkipReason::Variable { name: shown(&environment_spelling(name)) });
                        }
                        None => return Ok(None),
                    }
                    rest = &body[name.len() + 1..];
                }
                _ => {
                    filled.push('{');
                    rest = body;
                }
            }
        }
        filled.push_str(rest);
        Ok(Some(filled))
    }

    fn ask(&self, name: &str) -> Result<Option<String>, SkipReason> {
        let spelt = environment_spelling(name);
        match self.variables.get(name)? {
            None if spelt != name => self.variables.get(&spelt),
            value => Ok(value),
        }
    }
}

/// The default of an input; numbers and flags are texts on a command line.
fn default(input: &Map<String, Value>) -> Option<String> {
    match input.get("default")? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// The objects of a list; nothing if there is none, and nothing for an element that is none.
fn objects<'j>(list: Option<&'j Value>, field: &str) -> Result<Vec<Option<&'j Map<String, Value>>>, SkipReason> {
    match list {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.iter().map(Value::as_object).collect()),
        Some(_) => Err(wrong(field)),
    }
}
