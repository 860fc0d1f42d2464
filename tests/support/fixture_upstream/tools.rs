//! The tools as they are listed, always in the same order. The first must never need an argument: the suite calls it to
//! see which headers are refused.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Toggles;

/// The tool that comes and goes.
pub(super) const TOGGLED: &str = "test_toggled_tool";

/// Tools without arguments: names and descriptions.
const PLAIN: [(&str, &str); 27] = [
    ("test_simple_text", "Says one text"),
    ("test_image_content", "Shows a picture"),
    ("test_audio_content", "Plays a sound"),
    ("test_embedded_resource", "Embeds a resource"),
    ("test_multiple_content_types", "Says, shows and embeds"),
    ("test_error_handling", "Always fails"),
    ("test_tool_with_progress", "Reports its progress, if asked to"),
    ("test_tool_with_logging", "Logs while it runs"),
    ("test_logging_tool", "Logs while it runs, if asked to"),
    ("test_elicitation_sep1034_defaults", "Asks the user, with a default for every primitive type"),
    ("test_elicitation_sep1330_enums", "Asks the user to choose, in all five forms of a choice"),
    ("test_reconnection", "Closes its stream before it answers"),
    ("test_missing_capability", "Needs sampling"),
    ("test_streaming_elicitation", "Asks the user, on a stream"),
    ("test_trigger_tool_change", "Adds a tool, or takes it away again"),
    ("test_trigger_prompt_change", "Adds a prompt, or takes it away again"),
    ("test_trigger_resource_change", "Adds a resource, or takes it away again"),
    ("test_trigger_resource_update", "Says that the watched resource has changed"),
    ("test_input_required_result_elicitation", "Asks for a name"),
    ("test_input_required_result_sampling", "Asks a model"),
    ("test_input_required_result_list_roots", "Asks for the roots"),
    ("test_input_required_result_request_state", "Asks, and checks the state that comes back"),
    ("test_input_required_result_multiple_inputs", "Asks three things at once"),
    ("test_input_required_result_multi_round", "Asks twice"),
    ("test_input_required_result_tampered_state", "Asks, and refuses a state that was changed"),
    ("test_input_required_result_capabilities", "Asks what the client can answer"),
    ("test_slow", "Answers after two seconds"),
];

/// Every tool.
pub(super) fn list(toggles: &Toggles) -> Vec<Value> {
    let nothing = || json!({ "type": "object", "properties": {} });
    let mut tools: Vec<Value> = PLAIN.iter().map(|(name, description)| tool(name, description, &nothing())).collect();
    tools.extend([
        tool("test_sampling", "Asks a model", &one_string("prompt", "What the model is asked")),
        tool("test_elicitation", "Asks the user", &one_string("message", "What the user is asked")),
        tool("test_custom_headers", "Has arguments that are mirrored in headers", &mirrored()),
        tool("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", &json_schema_2020_12()),
    ]);
    if toggles.tool.load(Ordering::SeqCst) {
        tools.push(tool(TOGGLED, "Comes and goes", &nothing()));
    }
    tools
}

/// The schema of a tool's arguments, if there is such a tool.
pub(super) fn schema(toggles: &Toggles, name: &str) -> Option<Value> {
    list(toggles).into_iter().find(|tool| tool["name"] == name).map(|mut tool| tool["inputSchema"].take())
}

fn tool(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "description": description, "inputSchema": schema })
}

fn one_string(name: &str, description: &str) -> Value {
    let properties = json!({ name: { "type": "string", "description": description } });
    json!({ "type": "object", "properties": properties, "required": [name] })
}

fn mirrored() -> Value {
    json!({
        "type": "object",
        "properties": {
            "region": { "type": "string", "description": "Where", "x-mcp-header": "Region" },
            "priority": { "type": "integer", "description": "How urgent", "x-mcp-header": "Priority" },
            "dry_run": { "type": "boolean", "description": "Whether only to try", "x-mcp-header": "Dry-Run" },
            "query": { "type": "string", "description": "What; in no header" },
        },
    })
}

/// The very schema of SEP-1613 and SEP-2106, key by key.
fn json_schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
