//! How these tools are told in a list: names, schemas, and what they do to the world.

use serde_json::{Value, json};

use super::read::{LIMIT_DEFAULT, LIMIT_MAX, TRANSPORTS};
use super::{GET, LIST, REGISTER, STATS, UNREGISTER};
use crate::catalog::OwnTool;
use crate::model::raw;

/// What a name looks like.
const NAME_PATTERN: &str = "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$";

/// All of them, always in this order.
pub(super) fn all() -> Vec<OwnTool> {
    vec![
        tool(
            LIST,
            "List registered servers",
            "Lists the MCP servers of the local registry, ordered by name. Values of headers and environments are shown \
             as ***.",
            &json!({
                "namePattern": { "type": "string", "maxLength": 128, "description":
                    "A glob for the whole name, whatever its case: * stands for any characters, ? for one." },
                "transport": { "type": "string", "enum": TRANSPORTS, "description":
                    "Only servers of this transport; http and streamableHttp are the same." },
                "tags": { "type": "array", "items": { "type": "string" }, "description":
                    "Only servers whose entry has all of these in its tags." },
                "limit": { "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT,
                    "description": "How many are told at most; total and truncated say how many there are." },
            }),
            &[],
            READS,
        ),
        tool(
            GET,
            "Show a registered server",
            "Shows one MCP server of the local registry. Values of headers and environments are shown as ***.",
            &json!({
                "name": name(),
                "includeStatus": { "type": "boolean", "default": false, "description":
                    "Also what is observed: its last change, and how its connector stands." },
            }),
            &["name"],
            READS,
        ),
        tool(
            REGISTER,
            "Register a server",
            "Puts an MCP server into the local registry, durably. The gateway connects to it, unless its transport is ws, \
             which is kept for other programs. Needs the right to change the gateway. What starts a program or refers to \
             files and variables needs `commands = true` in the gateway's configuration too.",
            &json!({
                "name": name(),
                "transport": { "type": "string", "enum": TRANSPORTS },
                "endpoint": { "type": "string", "description":
                    "The address; with the transports http, streamableHttp, sse (http or https) and ws (ws or wss)." },
                "headers": texts("Header fields to send, by name; with an endpoint."),
                "command": { "type": "string", "description": "The program to start; with the transport stdio." },
                "args": { "type": "array", "items": { "type": "string" }, "description": "Its arguments." },
                "env": texts("Its environment."),
                "description": { "type": "string" },
                "tags": { "type": "array", "items": { "type": "string" } },
                "extra": { "type": "object", "description": "Further fields of the entry, which are kept as they are." },
                "overwrite": { "type": "boolean", "default": false, "description":
                    "Whether an entry of that name is replaced; without it that is an error." },
            }),
            &["name", "transport"],
            // Replacing needs to be asked for, and the same request again changes nothing then.
            Effects { reads: false, destroys: true, idempotent: false },
        ),
        tool(
            UNREGISTER,
            "Unregister a server",
            "Removes an MCP server from the local registry, durably. Needs the right to change the gateway.",
            &json!({ "name": name() }),
            &["name"],
            Effects { reads: false, destroys: true, idempotent: true },
        ),
        tool(
            STATS,
            "Count registered servers",
            "Counts the servers of the local registry by transport, and tells whether the registry can be written.",
            &json!({}),
            &[],
            READS,
        ),
    ]
}

/// What a tool does to the world.
#[derive(Clone, Copy)]
struct Effects {
    reads: bool,
    destroys: bool,
    idempotent: bool,
}

const READS: Effects = Effects { reads: true, destroys: false, idempotent: true };

fn name() -> Value {
    json!({ "type": "string", "pattern": NAME_PATTERN, "description": "The server's name." })
}

fn texts(description: &str) -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": description })
}

fn tool(
    name: &'static str,
    title: &str,
    description: &str,
    properties: &Value,
    required: &[&str],
    effects: Effects,
) -> OwnTool {
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["additionalProperties"] = false.into();
    let definition = json!({
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": schema,
        "annotations": {
            "readOnlyHint": effects.reads,
            "destructiveHint": effects.destroys,
            "idempotentHint": effects.idempotent,
            "openWorldHint": false,
        },
    });
    OwnTool { name, definition: raw::trusted(definition.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_schema_that_takes_no_unknown_argument_and_says_what_it_does() {
        let tools: Vec<Value> = all().iter().map(|tool| serde_json::from_str(tool.definition.get()).unwrap()).collect();
        let names: Vec<&str> = all().iter().map(|tool| tool.name).collect();
        assert_eq!(names, [LIST, GET, REGISTER, UNREGISTER, STATS]);
        for (tool, name) in tools.iter().zip(names) {
            let schema = &tool["inputSchema"];
            assert_eq!((&tool["name"], &schema["type"]), (&json!(name), &json!("object")));
            assert_eq!(schema["additionalProperties"], false);
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(schema["properties"].get(required.as_str().unwrap()).is_some(), "{tool}");
            }
            let changes = [REGISTER, UNREGISTER].contains(&name);
            let hints = &tool["annotations"];
            assert_eq!((&hints["readOnlyHint"], &hints["destructiveHint"]), (&json!(!changes), &json!(changes)));
            assert!(!name.contains("__"), "no connector's tool has that name");
        }
        assert!(tools.iter().all(|tool| !tool.to_string().contains("includeInactive")));
    }
}
