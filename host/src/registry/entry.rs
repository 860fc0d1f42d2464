//! One entry of the registry: its name, how its server is reached, and which edit it came from.
//!
//! Unknown fields are part of an entry's digest and text and mean nothing else here. Header values are kept as secrets from the
//! moment they are read, and the debug form of an entry shows names only.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::value::RawValue;
use url::Url;

use super::limits::{MAX_ENTRY_BYTES, TIMEOUT_RANGE_MS};
use super::render;
use crate::model::address::AddressFault;
use crate::model::document::DocumentFault;
use crate::model::document::{Object, Source, Value};
use crate::model::headers::HeaderFault;
use crate::model::{Digest, Timeouts, address, canonical, headers};

/// The content of an entry: everything in it but `rev`.
#[derive(Clone)]
pub struct RegistryEntry {
    /// Its name, unique in the registry: `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$`.
    pub name: String,
    /// The digest of its canonical JSON.
    pub digest: Digest,
    /// How the server is reached, or the rule that what is said about that breaks. Such an entry is kept, and not served.
    pub transport: Result<Transport, EntryRule>,
    /// How long its server may take, where the entry says.
    pub timeouts: Timeouts,
    /// Its JSON text without white space; numbers and strings as they were spelt. It may hold secrets.
    text: Arc<str>,
}

impl RegistryEntry {
    /// Reads an entry that is to be put into the registry. A `rev` that it brings is dropped: the registry gives its own.
    ///
    /// # Errors
    /// The first [`EntryRule`] that is broken.
    pub fn parse(json: &str) -> Result<Self, EntryRule> {
        let entry = Self::kept(json)?;
        match &entry.transport {
            Ok(_) if entry.text.len() > MAX_ENTRY_BYTES => Err(EntryRule::TooLarge),
            Ok(_) => Ok(entry),
            Err(rule) => Err(*rule),
        }
    }

    /// Reads an entry that is in the registry already, whatever else is wrong with it.
    pub(super) fn kept(json: &str) -> Result<Self, EntryRule> {
        let source = Source::new(json.as_bytes())?;
        Self::read(&source, source.root())?.1.ok_or(EntryRule::Name)
    }

    /// Its JSON text without white space. It may hold secrets.
    pub fn json(&self) -> &str {
        &self.text
    }

    /// Reads what stands in a document: the object, and the entry if its name is well-formed.
    pub(super) fn read<'a>(source: &Source<'a>, part: &'a RawValue) -> Result<(Object, Option<Self>), EntryRule> {
        let Value::Object(object) = source.value(part)? else { return Err(EntryRule::Object) };
        let Some(name) = name(&object).map(str::to_owned) else { return Ok((object, None)) };
        let mut text = String::with_capacity(part.get().len());
        text.push('{');
        for (member, value) in source.members(part)?.unwrap_or_default() {
            if member != REV {
                if text.len() > 1 {
                    text.push(',');
                }
                render::string(&member, &mut text);
                text.push(':');
                render::compact(value.get(), &mut text);
            }
        }
        text.push('}');
        let (digest, transport) = (digest(&object), transport(&object));
        let (transport, timeouts) = match (transport, timeouts(&object)) {
            (Ok(_), Err(rule)) => (Err(rule), Timeouts::default()),
            (transport, timeouts) => (transport, timeouts.unwrap_or_default()),
        };
        Ok((object, Some(Self { name, digest, transport, timeouts, text: text.into() })))
    }
}

/// Names and digests only: the text may hold secrets.
impl fmt::Debug for RegistryEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryEntry")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// An edit: a hybrid logical clock's stamp and who made it. In the file: `{"wallMs", "counter", "writer"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rev {
    /// Milliseconds since the epoch; below 2^53.
    pub wall_ms: u64,
    /// Tells stamps of the same millisecond apart.
    pub counter: u32,
    /// The writer's id; not empty.
    pub writer: String,
}

/// How a server is reached.
#[derive(Clone)]
pub enum Transport {
    /// Streamable HTTP.
    Http {
        /// Where.
        endpoint: Url,
        /// Header fields to send, by name; their values are secrets.
        headers: BTreeMap<String, SecretString>,
    },
    /// HTTP with server-sent events, of 2024-11-05.
    Sse {
        /// Where the stream is.
        endpoint: Url,
        /// Header fields to send, by name; their values are secrets.
        headers: BTreeMap<String, SecretString>,
    },
    /// A child process.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments; they may hold secrets.
        arguments: Vec<String>,
        /// Variables of its environment, by name; their values are secrets.
        environment: BTreeMap<String, SecretString>,
    },
    /// A web socket: no transport of the protocol, and not served. The entry is kept and reported.
    WebSocket,
}

impl Transport {
    /// The transport's name in the registry.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Sse { .. } => "sse",
            Self::Stdio { .. } => "stdio",
            Self::WebSocket => "ws",
        }
    }

    /// Whether this gateway serves it.
    pub fn is_served(&self) -> bool {
        !matches!(self, Self::WebSocket)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct(self.as_str());
        match self {
            // Paths and queries of such URLs may hold keys, and so may arguments.
            Self::Http { endpoint, headers } | Self::Sse { endpoint, headers } => shown
                .field("origin", &endpoint.origin().ascii_serialization())
                .field("headers", &headers.keys())
                .finish(),
            Self::Stdio { command, environment, .. } => {
                shown.field("command", command).field("environment", &environment.keys()).finish_non_exhaustive()
            }
            Self::WebSocket => shown.finish(),
        }
    }
}

/// A rule that a part of the registry breaks, as the predicate of a sentence. Nothing is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryRule {
    /// It is no acceptable JSON value.
    #[error("can not be read: {0}")]
    Document(#[from] DocumentFault),
    /// An object.
    #[error("must be an object")]
    Object,
    /// A list.
    #[error("must be a list")]
    List,
    /// A well-formed name.
    #[error("must have a name of 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', '-', the first a letter or digit")]
    Name,
    /// A name that no earlier entry has.
    #[error("repeats the name of an earlier entry, which is the one that counts")]
    RepeatedName,
    /// A known transport.
    #[error("must have the transport http, streamableHttp, stdio, sse or ws")]
    Transport,
    /// An address, where the transport is not `stdio`.
    #[error("must have an endpoint, since its transport is not stdio")]
    NoEndpoint,
    /// A command, where the transport is `stdio`.
    #[error("must have a command that is not empty, since its transport is stdio")]
    NoCommand,
    /// Arguments in a list of texts.
    #[error("must have its args in a list of texts without NUL characters")]
    Args,
    /// The environment in an object of texts.
    #[error("must have its env in an object of texts, by names without '=' and NUL characters")]
    Env,
    /// Timeouts within their bounds.
    #[error(
        "must have its timeouts in an object; connectMs, listMs, callMs and, where the transport is stdio, startMs are \
         integers from {} to {}",
        TIMEOUT_RANGE_MS.start(),
        TIMEOUT_RANGE_MS.end()
    )]
    Timeouts,
    /// An address of a web socket.
    #[error("must have an endpoint that is a ws or wss URL without user name and password")]
    SocketEndpoint,
    /// Not too much.
    #[error("must have at most {MAX_ENTRY_BYTES} bytes")]
    TooLarge,
    /// An acceptable address.
    #[error("has an endpoint that is refused; it {0}")]
    Address(AddressFault),
    /// Headers in an object.
    #[error("must have its headers in an object")]
    Headers,
    /// Acceptable headers.
    #[error("has headers that are refused; they {0}")]
    Header(#[from] HeaderFault),
    /// A well-formed `rev`.
    #[error("must have a rev of wallMs, counter and writer; until then it counts as edited by hand")]
    Rev,
    /// A tombstone has a `rev`.
    #[error("must have a name and a rev; it is left out of account")]
    Tombstone,
    /// An integer.
    #[error("must be an integer from zero, and below 2^53; it counts as absent")]
    Generation,
}

/// The member that holds the edit an entry came from.
pub(super) const REV: &str = "rev";

/// The name of an entry or tombstone, if it is well-formed.
pub(super) fn name(object: &Object) -> Option<&str> {
    object.get("name").and_then(Value::as_text).filter(|name| is_name(name))
}

/// Whether a text is a well-formed name.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The edit that an object names: nothing if it names none.
///
/// # Errors
/// [`EntryRule::Rev`].
pub(super) fn rev(object: &Object) -> Result<Option<Rev>, EntryRule> {
    let Some(value) = object.get(REV) else { return Ok(None) };
    let Value::Object(rev) = value else { return Err(EntryRule::Rev) };
    let wall_ms = rev.get("wallMs").and_then(Value::as_natural);
    let counter = rev.get("counter").and_then(Value::as_natural).and_then(|counter| u32::try_from(counter).ok());
    let writer = rev.get("writer").and_then(Value::as_text).filter(|writer| !writer.is_empty());
    match (wall_ms, counter, writer) {
        (Some(wall_ms), Some(counter), Some(writer)) => Ok(Some(Rev { wall_ms, counter, writer: writer.to_owned() })),
        _ => Err(EntryRule::Rev),
    }
}

/// How the entry's server is reached.
///
/// # Errors
/// The first [`EntryRule`] that is broken.
pub(super) fn transport(object: &Object) -> Result<Transport, EntryRule> {
    match object.get("transport").and_then(Value::as_text) {
        Some("http" | "streamableHttp" | "streamable-http") => {
            Ok(Transport::Http { endpoint: endpoint(object)?, headers: header_fields(object)? })
        }
        Some("sse") => Ok(Transport::Sse { endpoint: endpoint(object)?, headers: header_fields(object)? }),
        Some("stdio") => command(object),
        Some("ws") => {
            socket(object)?;
            header_fields(object)?;
            Ok(Transport::WebSocket)
        }
        _ => Err(EntryRule::Transport),
    }
}

/// The digest of an entry's content: of everything in it but [`REV`].
pub(super) fn digest(object: &Object) -> Digest {
    Digest::of(canonical::object_without(object, REV).as_bytes())
}

/// How long the entry's server may take. Members that nothing here knows are left to who wrote them.
///
/// # Errors
/// [`EntryRule::Timeouts`].
fn timeouts(object: &Object) -> Result<Timeouts, EntryRule> {
    let timeouts = match object.get("timeouts") {
        None => return Ok(Timeouts::default()),
        Some(Value::Object(timeouts)) => timeouts,
        Some(_) => return Err(EntryRule::Timeouts),
    };
    let timeout = |name| match timeouts.get(name) {
        None => Ok(None),
        Some(value) => {
            let milliseconds = value.as_natural().filter(|milliseconds| TIMEOUT_RANGE_MS.contains(milliseconds));
            milliseconds.map(|milliseconds| Some(Duration::from_millis(milliseconds))).ok_or(EntryRule::Timeouts)
        }
    };
    let start = timeout("startMs")?;
    if start.is_some() && object.get("transport").and_then(Value::as_text) != Some("stdio") {
        return Err(EntryRule::Timeouts);
    }
    Ok(Timeouts { connect: timeout("connectMs")?, list: timeout("listMs")?, call: timeout("callMs")?, start })
}

/// Longest name of an entry, in bytes.
const MAX_NAME_LENGTH: usize = 128;

fn endpoint(object: &Object) -> Result<Url, EntryRule> {
    let text = object.get("endpoint").and_then(Value::as_text).ok_or(EntryRule::NoEndpoint)?;
    address::read_own(text).map_err(EntryRule::Address)
}

fn socket(object: &Object) -> Result<(), EntryRule> {
    let text = object.get("endpoint").and_then(Value::as_text).ok_or(EntryRule::NoEndpoint)?;
    let url = Url::parse(text).map_err(|_| EntryRule::SocketEndpoint)?;
    let well_formed = matches!(url.scheme(), "ws" | "wss") && url.username().is_empty() && url.password().is_none();
    if well_formed { Ok(()) } else { Err(EntryRule::SocketEndpoint) }
}

fn command(object: &Object) -> Result<Transport, EntryRule> {
    let argument = |text: &&str| !text.contains('\0');
    let command = object.get("command").and_then(Value::as_text);
    let command = command.filter(|command| !command.is_empty()).filter(argument).ok_or(EntryRule::NoCommand)?;
    let arguments = match object.get("args") {
        None => Vec::new(),
        Some(Value::List(list)) => {
            let texts = list.iter().map(|one| one.as_text().filter(argument).map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(EntryRule::Args)?
        }
        Some(_) => return Err(EntryRule::Args),
    };
    let variable = |(name, value): &(String, Value)| {
        let well_formed = !name.is_empty() && !name.contains(['=', '\0']);
        let value = value.as_text().filter(argument).filter(|_| well_formed)?;
        Some((name.clone(), SecretString::from(value)))
    };
    let environment = match object.get("env") {
        None => BTreeMap::new(),
        Some(Value::Object(variables)) => {
            variables.members().iter().map(variable).collect::<Option<_>>().ok_or(EntryRule::Env)?
        }
        Some(_) => return Err(EntryRule::Env),
    };
    Ok(Transport::Stdio { command: command.to_owned(), arguments, environment })
}

fn header_fields(object: &Object) -> Result<BTreeMap<String, SecretString>, EntryRule> {
    let members = match object.get("headers") {
        None => &[][..],
        Some(Value::Object(headers)) => headers.members(),
        Some(_) => return Err(EntryRule::Headers),
    };
    let mut names = HashSet::new();
    let mut fields = BTreeMap::new();
    for (name, value) in members {
        if !names.insert(headers::check_name(name)?) {
            return Err(HeaderFault::Repeated.into());
        }
        let value = value.as_text().ok_or(HeaderFault::Value)?;
        headers::check_value(value)?;
        fields.insert(name.clone(), value.into());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::parse;

    fn object(text: &str) -> Object {
        match parse(text.as_bytes()) {
            Ok(Value::Object(object)) => object,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn the_digest_is_of_the_content_and_not_of_its_spelling_or_rev() {
        let plain = digest(&object(r#"{"name":"a","transport":"stdio"}"#));
        let rev = r#"{"rev":{"wallMs":1,"counter":0,"writer":"w"}, "transport":"stdio","name":"\u0061"}"#;
        assert_eq!(digest(&object(rev)), plain);
        assert_ne!(digest(&object(r#"{"name":"a","transport":"stdio","x":1}"#)), plain);
    }

    #[test]
    fn timeouts_are_read_within_their_bounds() {
        let read = |transport: &str, timeouts: &str| {
            let target =
                if transport == "stdio" { r#""command":"run""# } else { r#""endpoint":"http://10.0.0.1/mcp""# };
            let entry = format!(r#"{{"name":"a","transport":"{transport}",{target},"timeouts":{timeouts}}}"#);
            RegistryEntry::parse(&entry).map(|entry| entry.timeouts)
        };
        let ms = |milliseconds| Some(Duration::from_millis(milliseconds));
        let all = r#"{"connectMs":1,"listMs":2,"callMs":3600000,"startMs":4,"other":"kept"}"#;
        let expected = Timeouts { connect: ms(1), list: ms(2), call: ms(3_600_000), start: ms(4) };
        assert_eq!(read("stdio", all), Ok(expected));
        assert_eq!(read("http", r#"{"callMs":5}"#), Ok(Timeouts { call: ms(5), ..Timeouts::default() }));
        for (transport, timeouts) in [
            ("http", r#"{"startMs":4}"#),
            ("stdio", r#"{"startMs":0}"#),
            ("stdio", r#"{"callMs":3600001}"#),
            ("stdio", r#"{"callMs":"5"}"#),
            ("stdio", r#"{"listMs":1.5}"#),
            ("stdio", "[]"),
        ] {
            assert_eq!(read(transport, timeouts), Err(EntryRule::Timeouts), "{transport} {timeouts}");
        }
    }

    #[test]
    fn names_keep_the_rule_of_the_registry_tools() {
        let well_formed = |text: &str| name(&object(&format!("{{\"name\":\"{text}\"}}"))).is_some();
        assert!(["a", "A.b_c-1", "0", &"x".repeat(128)].into_iter().all(well_formed));
        assert!(!["", ".a", "../../etc", "a b", "é", &"x".repeat(129)].into_iter().any(well_formed));
        assert_eq!(name(&object("{}")), None);
    }

    #[test]
    fn http_has_three_spellings_and_other_transports_are_named() {
        for kind in ["http", "streamableHttp", "streamable-http"] {
            let text = format!(r#"{{"transport":"{kind}","endpoint":"http://10.0.0.1/mcp"}}"#);
            assert!(matches!(transport(&object(&text)), Ok(Transport::Http { .. })), "{kind}");
        }
        for (text, served) in [("stdio", true), ("sse", true), ("ws", false)] {
            let more = r#""command":"run","endpoint":"#;
            let address = if text == "ws" { "wss://a/mcp" } else { "https://a/sse" };
            let read = transport(&object(&format!(r#"{{"transport":"{text}",{more}"{address}"}}"#))).unwrap();
            assert_eq!((read.as_str(), read.is_served()), (text, served));
        }
    }

    #[test]
    fn a_command_is_an_argument_vector_and_its_secrets_are_not_printed() {
        let text = r#"{"transport":"stdio","command":"run","args":["--key","canary"],"env":{"KEY":"canary"}}"#;
        let read = transport(&object(text)).unwrap();
        let shown = format!("{read:?}");
        assert!(shown.contains("run") && !shown.contains("canary"), "{shown}");
        let Transport::Stdio { arguments, environment, .. } = read else { panic!("stdio") };
        assert_eq!((arguments.len(), environment.len()), (2, 1));
    }

    #[test]
    fn what_an_http_entry_may_say_is_bounded() {
        for (fields, rule) in [
            (r#""transport":"https""#, EntryRule::Transport),
            (r#""transport":"http""#, EntryRule::NoEndpoint),
            (r#""transport":"http","endpoint":"ftp://a""#, EntryRule::Address(AddressFault::Scheme)),
            (r#""transport":"http","endpoint":"https://u:p@a""#, EntryRule::Address(AddressFault::UserInfo)),
            (r#""transport":"http","endpoint":"https://a","headers":[]"#, EntryRule::Headers),
            (r#""transport":"http","endpoint":"https://a","headers":{"Host":"b"}"#, HeaderFault::Reserved.into()),
            (r#""transport":"http","endpoint":"https://a","headers":{"x":"1","X":"2"}"#, HeaderFault::Repeated.into()),
            (r#""transport":"http","endpoint":"https://a","headers":{"x":1}"#, HeaderFault::Value.into()),
            (r#""transport":"sse""#, EntryRule::NoEndpoint),
            (r#""transport":"ws","endpoint":"https://a""#, EntryRule::SocketEndpoint),
            (r#""transport":"ws","endpoint":"wss://u:p@a""#, EntryRule::SocketEndpoint),
            (r#""transport":"stdio""#, EntryRule::NoCommand),
            (r#""transport":"stdio","command":"""#, EntryRule::NoCommand),
            (r#""transport":"stdio","command":"run","args":[1]"#, EntryRule::Args),
            (r#""transport":"stdio","command":"run","env":{"A=B":"c"}"#, EntryRule::Env),
        ] {
            assert_eq!(transport(&object(&format!("{{{fields}}}"))).map(|_| ()), Err(rule), "{fields}");
        }
    }

    #[test]
    fn the_debug_form_shows_the_names_of_headers_and_no_value() {
        let text = r#"{"transport":"http","endpoint":"https://a/?key=s3cr3t","headers":{"X-Key":"s3cr3t"}}"#;
        let shown = format!("{:?}", transport(&object(text)).unwrap());
        assert!(shown.contains("X-Key") && shown.contains("https://a") && !shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn a_rev_is_whole_or_a_fault() {
        let whole = rev(&object(r#"{"rev":{"wallMs":5,"counter":2,"writer":"w"}}"#));
        assert_eq!(whole, Ok(Some(Rev { wall_ms: 5, counter: 2, writer: "w".to_owned() })));
        assert_eq!(rev(&object("{}")), Ok(None));
        let overflow = r#"{"wallMs":5,"counter":4294967296,"writer":"w"}"#;
        for bad in ["1", "{}", overflow, r#"{"wallMs":5,"counter":0,"writer":""}"#] {
            assert_eq!(rev(&object(&format!("{{\"rev\":{bad}}}"))), Err(EntryRule::Rev), "{bad}");
        }
    }
}
