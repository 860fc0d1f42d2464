//! Whether a client saw of a server, through the gateway, what the reference client sees of it directly.
//!
//! SDKs write the same thing differently: some leave a default out, some keep what only one era has. What is compared
//! is what the server said; what the protocol's layers add to that is left aside.

use serde_json::{Map, Value, json};

use super::servers::Server;

/// A cell of the matrix: what one client saw of one server.
pub(crate) struct Cell {
    pub(crate) server: &'static str,
    pub(crate) client: &'static str,
    /// Whether the server gives its lists in pages.
    pub(crate) paged: bool,
    /// How many tools it listed.
    pub(crate) listed: usize,
    /// How many of its calls were answered as the server answers them.
    pub(crate) called: usize,
    pub(crate) prompted: usize,
    pub(crate) read: usize,
    /// What is not as it should be.
    pub(crate) faults: Vec<String>,
}

/// Where a server's part is in what a client saw of all of them: its first call, prompt and resource.
#[derive(Clone, Copy, Default)]
pub(crate) struct Offsets {
    pub(crate) calls: usize,
    pub(crate) prompts: usize,
    pub(crate) resources: usize,
}

impl Offsets {
    /// Where the next server's part is.
    pub(crate) fn after(self, server: &Server) -> Self {
        Self {
            calls: self.calls + server.calls.len(),
            prompts: self.prompts + server.prompts.len(),
            resources: self.resources + server.resources.len(),
        }
    }
}

/// What the gateway puts before the names of a server's tools and prompts.
fn prefix(server: &Server) -> String {
    format!("{}__", server.id)
}

/// The name under which a list of the gateway has this tool or prompt of a server.
pub(crate) fn name<'a>(listed: &'a Value, server: &Server, original: &str) -> Option<&'a str> {
    let prefix = prefix(server);
    let mut names = listed.as_array()?.iter().filter_map(|one| one["name"].as_str());
    names.find(|name| name.strip_prefix(&prefix).is_some_and(|name| stands_for(name, original)))
}

/// Whether the gateway gives this name to what its server calls so: the same, or where that is too long, its beginning
/// and eight hexadecimal characters.
fn stands_for(name: &str, original: &str) -> bool {
    let shortened = name.rsplit_once('_').is_some_and(|(beginning, hash)| {
        hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) && original.starts_with(beginning)
    });
    name == original || shortened
}

/// The address under which a list of the gateway has this resource: its own, or one that its own was made part of.
pub(crate) fn address<'a>(listed: &'a Value, uri: &str) -> Option<&'a str> {
    let addresses = listed.as_array()?.iter().filter_map(|one| one["uri"].as_str());
    addresses.into_iter().find(|address| *address == uri || address.ends_with(uri))
}

/// Compares what a client saw through the gateway with what the reference client saw of the server.
pub(crate) fn cell(server: &Server, client: &'static str, saw: &Value, reference: &Value, at: Offsets) -> Cell {
    let mut faults = Vec::new();
    let mut listed = 0;
    for (member, wanted) in [("tools", true), ("prompts", !server.prompts.is_empty())] {
        let mut of_server = items(&saw[member], &prefix(server));
        let expected = items(&reference[member], "");
        for (one, original) in of_server.iter_mut().zip(&expected) {
            if stands_for(one["name"].as_str().unwrap(), original["name"].as_str().unwrap()) {
                one["name"] = original["name"].clone();
            }
        }
        listed = if member == "tools" { of_server.len() } else { listed };
        if wanted && of_server != expected {
            faults.push(format!("{member}{}", difference(&Value::from(of_server), &Value::from(expected))));
        }
    }
    if listed != server.tools {
        faults.push(format!("it lists {listed} of {} tools", server.tools));
    }
    let mut same = |member: &str, from: usize, count: usize| {
        let mut same = 0;
        for nth in 0..count {
            let (got, expected) = (said(&saw[member][from + nth]), said(&reference[member][nth]));
            if got == expected && expected != json!({}) {
                same += 1;
            } else {
                faults.push(format!("{member}[{nth}]{}", difference(&got, &expected)));
            }
        }
        same
    };
    let called = same("called", at.calls, server.calls.len());
    let prompted = same("prompted", at.prompts, server.prompts.len());
    let read = same("read", at.resources, server.resources.len());
    Cell { server: server.id, client, paged: server.paged, listed, called, prompted, read, faults }
}

/// The items of a list whose names begin so, without that beginning, and with what every SDK keeps of an item.
fn items(list: &Value, prefix: &str) -> Vec<Value> {
    const KEPT: [&str; 6] = ["title", "description", "inputSchema", "outputSchema", "annotations", "arguments"];
    let mut found = Vec::new();
    for item in list.as_array().into_iter().flatten() {
        let Some(name) = item["name"].as_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
        let kept = KEPT.into_iter().filter_map(|key| Some((key.to_owned(), item.get(key)?.clone())));
        let mut kept: Map<_, _> = kept.filter(|(_, value)| !value.is_null()).collect();
        kept.insert("name".into(), name.into());
        found.push(without_defaults(kept.into()));
    }
    found
}

/// A result without what belongs to an era or to the gateway, and without defaults.
fn said(result: &Value) -> Value {
    let mut result = without_defaults(result.clone());
    let Some(object) = result.as_object_mut() else { return result };
    for key in ["resultType", "ttlMs", "cacheScope"] {
        object.remove(key);
    }
    if object.get("isError") == Some(&Value::Bool(false)) {
        object.remove("isError");
    }
    for one in object.get_mut("contents").and_then(Value::as_array_mut).into_iter().flatten() {
        // The gateway may have an address of its own for a resource.
        if let Some(content) = one.as_object_mut() {
            content.remove("uri");
        }
    }
    result
}

/// The value without members that are null, without what protocol and gateway put into `_meta`, and without the day on
/// which it was said. Texts that are JSON are taken for what they say.
fn without_defaults(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut kept = Map::new();
            for (key, value) in object {
                let of_the_day = key == "datetime" || key == "day_of_week";
                let of_a_layer = key.starts_with("io.modelcontextprotocol/") || key.starts_with("com.brainwav.cortex/");
                let value = if key == "text" { parsed(value) } else { value };
                let value = without_defaults(value);
                let empty = key == "_meta" && value == json!({});
                if !of_the_day && !of_a_layer && !empty && !value.is_null() {
                    kept.insert(key, value);
                }
            }
            kept.into()
        }
        Value::Array(values) => values.into_iter().map(without_defaults).collect(),
        other => other,
    }
}

fn parsed(text: Value) -> Value {
    let parsed = text.as_str().and_then(|text| serde_json::from_str(text).ok());
    parsed.filter(Value::is_object).unwrap_or(text)
}

/// Where two values first differ, for people.
fn difference(got: &Value, expected: &Value) -> String {
    match (got, expected) {
        (Value::Object(one), Value::Object(other)) => {
            let key = one.keys().chain(other.keys()).find(|key| one.get(*key) != other.get(*key));
            key.map_or_else(String::new, |key| format!(".{key}{}", difference(&got[key], &expected[key])))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let nth = one.iter().zip(other).position(|(one, other)| one != other);
            nth.map_or_else(String::new, |nth| format!("[{nth}]{}", difference(&one[nth], &other[nth])))
        }
        _ => format!(" is {}, not {}", short(got), short(expected)),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 300 { text.chars().take(300).chain("…".chars()).collect() } else { text }
}
