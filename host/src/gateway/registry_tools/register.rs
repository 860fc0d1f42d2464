//! A server that is to be registered: its entry, and what is answered once it is durable.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::answer::Failure;
use super::arguments::Arguments;
use super::show;
use crate::config::RegistrySettings;
use crate::model::raw::{self, RawObject};
use crate::model::reference::has_reference;
use crate::registry::{Change, Outcome, RegistryEntry, Transport};

/// What goes into an entry as it is, in this order.
const FIELDS: [&str; 8] = ["transport", "endpoint", "headers", "command", "args", "env", "description", "tags"];

/// Fields that `extra` may not hold, because they mean something: the name, those above, and the registry's own.
const OWN_FIELDS: [&str; 2] = ["name", "rev"];

/// Fields that say which process is started, and how, whatever the transport is.
const COMMAND_FIELDS: [&str; 5] = ["command", "args", "env", "environment", "cwd"];

/// What is to be registered.
#[derive(Debug)]
pub(super) struct Registration {
    /// The entry.
    pub(super) entry: RegistryEntry,
    overwrite: bool,
}

impl Registration {
    /// Reads the arguments. Members of `extra` become fields of the entry.
    pub(super) fn parse(arguments: &Arguments) -> Result<Self, Failure> {
        let known: Vec<&str> = ["name"].into_iter().chain(FIELDS).chain(["extra", "overwrite"]).collect();
        arguments.only(&known)?;
        let name = arguments.name()?;
        let transport = arguments.text("transport")?.ok_or_else(|| Failure::argument("transport", "is needed"))?;
        let (of_others, kind) =
            if transport == "stdio" { (&FIELDS[1..3], "http, sse and ws") } else { (&FIELDS[3..6], "stdio") };
        if let Some(field) = of_others.iter().find(|field| arguments.has(field)) {
            return Err(Failure::argument(field, format!("goes with the transport {kind}")));
        }
        arguments.text("description")?;
        arguments.texts("tags")?;
        let mut members = RawObject::new();
        members.set("name", raw::string(&name));
        for field in FIELDS {
            if let Some(value) = arguments.raw(field) {
                members.set(field, value.to_owned());
            }
        }
        if let Some(extra) = arguments.object("extra")? {
            for (field, value) in extra.iter() {
                if OWN_FIELDS.contains(&field) || FIELDS.contains(&field) {
                    return Err(Failure::argument(
                        "extra",
                        format!("may not hold {field}, which is an argument of its own"),
                    ));
                }
                members.set(field, value.to_owned());
            }
        }
        let entry = RegistryEntry::parse(members.to_raw().get())?;
        Ok(Self { entry, overwrite: arguments.flag("overwrite")? })
    }

    /// Refuses what starts a program or reads files and variables of this machine: an injected prompt is enough to ask for it.
    pub(super) fn check_commands(&self, settings: &RegistrySettings) -> Result<(), Failure> {
        if settings.commands {
            return Ok(());
        }
        let refused = |message| Err(Failure::Refused { reason: "commands", message });
        let is_command = matches!(self.entry.transport, Ok(Transport::Stdio { .. }))
            || RawObject::from_str(self.entry.json())
                .map_or(true, |members| COMMAND_FIELDS.iter().any(|field| members.get(field).is_some()));
        if is_command {
            return refused(
                "an entry with a command starts a program on the machine of the gateway; set commands = true in [registry] of \
                 gateway.toml to allow that over MCP, or use `cortex-mcp registry add`",
            );
        }
        match &self.entry.transport {
            Ok(Transport::Http { headers, .. } | Transport::Sse { headers, .. })
                if headers.values().any(|value| has_reference(value.expose_secret())) =>
            {
                refused(
                    "a reference reads a file or a variable on the machine of the gateway; set commands = true in [registry] of \
                     gateway.toml to allow that over MCP, or use `cortex-mcp registry add`",
                )
            }
            _ => Ok(()),
        }
    }

    /// The change that it comes to.
    pub(super) fn change(&self) -> Change {
        if self.overwrite { Change::put(self.entry.clone()) } else { Change::put_new(self.entry.clone()) }
    }
}

/// What is answered. `hidden_by`: the connector of the service map that is served in its place.
pub(super) fn registered(entry: &RegistryEntry, outcome: Outcome, hidden_by: Option<&str>) -> Value {
    let (mut served, mut note) = show::standing(entry);
    if let (true, Some(id)) = (served, hidden_by) {
        served = false;
        note = Some(format!("the service map names the connector {id} too, and is served in its place"));
    }
    let mut told = json!({ "status": outcome, "server": show::entry(entry), "served": served });
    if let Some(note) = note {
        told["note"] = note.into();
    }
    told
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn registration(text: &str) -> Result<Registration, Failure> {
        Registration::parse(&Arguments::parse(Some(&RawValue::from_string(text.to_owned()).unwrap())).unwrap())
    }

    #[test]
    fn an_entry_holds_its_fields_as_they_were_written_and_those_of_extra() {
        let text = r#"{"overwrite":true,"tags":["t"],"transport":"http","name":"a","endpoint":"https://a/mcp",
            "headers":{"X":"k"},"extra":{"vendor":{"big":12345678901234567890.50}}}"#;
        let registration = registration(text).unwrap();
        assert!(registration.overwrite);
        let expected = concat!(
            r#"{"name":"a","transport":"http","endpoint":"https://a/mcp","headers":{"X":"k"},"tags":["t"],"#,
            r#""vendor":{"big":12345678901234567890.50}}"#
        );
        assert_eq!(registration.entry.json(), expected);
    }

    #[test]
    fn what_no_entry_may_be_is_refused_by_name() {
        for (text, part) in [
            (r#"{"transport":"http","endpoint":"https://a/"}"#, "name"),
            (r#"{"name":"../etc","transport":"http","endpoint":"https://a/"}"#, "name"),
            (r#"{"name":"a"}"#, "transport"),
            (r#"{"name":"a","transport":"https","endpoint":"https://a/"}"#, "transport"),
            (r#"{"name":"a","transport":"http"}"#, "endpoint"),
            (r#"{"name":"a","transport":"http","endpoint":"ftp://a/"}"#, "endpoint"),
            (r#"{"name":"a","transport":"stdio"}"#, "command"),
            (r#"{"name":"a","transport":"stdio","command":"x","endpoint":"https://a/"}"#, "endpoint goes with"),
            (
                r#"{"name":"a","transport":"http","endpoint":"https://a/","env":{}}"#,
                "env goes with the transport stdio",
            ),
            (r#"{"name":"a","transport":"http","endpoint":"https://a/","tags":"x"}"#, "tags"),
            (r#"{"name":"a","transport":"http","endpoint":"https://a/","headers":{"X":1}}"#, "headers"),
            (r#"{"name":"a","transport":"http","endpoint":"https://a/","extra":{"rev":1}}"#, "rev"),
            (r#"{"name":"a","transport":"http","endpoint":"https://a/","extra":{"command":"x"}}"#, "command"),
            (r#"{"name":"a","transport":"http","endpoint":"https://a/","force":true}"#, "force"),
        ] {
            let error = registration(text).unwrap_err();
            assert_eq!(error.code(), "validation_error", "{text}");
            assert!(error.to_string().contains(part), "{error}");
        }
        let large = format!(
            r#"{{"name":"a","transport":"http","endpoint":"https://a/","description":"{}"}}"#,
            "x".repeat(64 << 10)
        );
        assert_eq!(registration(&large).unwrap_err().code(), "validation_error");
    }

    #[test]
    fn what_starts_a_program_or_reads_a_file_needs_the_setting() {
        let allowed = RegistrySettings { commands: true, ..RegistrySettings::default() };
        let http = r#""name":"a","transport":"http","endpoint":"https://a/""#;
        for (text, is_command) in [
            (format!("{{{http}}}"), false),
            (format!(r#"{{{http},"headers":{{"X":"${{HOME}}"}},"extra":{{"note":"${{file:/x}}"}}}}"#), false),
            (format!(r#"{{{http},"headers":{{"X":"${{file:/etc/passwd}}"}}}}"#), true),
            (format!(r#"{{{http},"headers":{{"X":"a\u0024{{env:HOME}}"}}}}"#), true),
            (format!(r#"{{{http},"extra":{{"cwd":"/"}}}}"#), true),
            (format!(r#"{{{http},"extra":{{"environment":{{}}}}}}"#), true),
            (r#"{"name":"a","transport":"sse","endpoint":"https://a/","headers":{"X":"${env:A}"}}"#.to_owned(), true),
            (r#"{"name":"a","transport":"stdio","command":"sh"}"#.to_owned(), true),
            (r#"{"name":"a","transport":"stdio","command":"sh","overwrite":true}"#.to_owned(), true),
            (r#"{"name":"a","transport":"ws","endpoint":"wss://a/"}"#.to_owned(), false),
        ] {
            let registration = registration(&text).unwrap();
            let refused = registration.check_commands(&RegistrySettings::default());
            assert_eq!(refused.is_err(), is_command, "{text}");
            if let Err(failure) = refused {
                assert!(
                    failure.code() == "security_error" && failure.to_string().contains("commands = true"),
                    "{failure}"
                );
            }
            assert!(registration.check_commands(&allowed).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_registered_and_not_served_is_told_why() {
        let entry = |text: &str| registration(text).unwrap().entry;
        let ws = entry(r#"{"name":"a","transport":"ws","endpoint":"wss://a/"}"#);
        let told = registered(&ws, Outcome::Created, None);
        assert_eq!((&told["status"], &told["served"]), (&json!("created"), &json!(false)));
        assert!(told["note"].as_str().unwrap().contains("ws"), "{told}");
        let http = entry(r#"{"name":"abc","transport":"http","endpoint":"https://a/"}"#);
        assert_eq!(registered(&http, Outcome::Updated, None)["served"], true);
        let hidden = registered(&http, Outcome::Updated, Some("abc"));
        assert_eq!(hidden["served"], false);
        assert!(hidden["note"].as_str().unwrap().contains("service map"), "{hidden}");
    }
}
