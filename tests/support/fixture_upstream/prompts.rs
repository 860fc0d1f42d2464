//! The prompts, and how their arguments are completed. Like the tools, they must never know the era.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Toggles;
use super::content::{embedded, from_user, image, text};
use super::input;
use super::methods::{Asked, Outcome};
use super::wire::RpcError;

/// The prompt that comes and goes.
const TOGGLED: &str = "test_toggled_prompt";

/// What any argument of a prompt or template can be completed to.
const COMPLETIONS: [&str; 4] = ["paris", "park", "party", "testing"];

/// The most values that a completion may have.
const COMPLETION_LIMIT: usize = 100;

/// Every prompt.
pub(super) fn list(toggles: &Toggles) -> Vec<Value> {
    let argument =
        |name: &str, description: &str| json!({ "name": name, "description": description, "required": true });
    let mut prompts = vec![
        json!({ "name": "test_simple_prompt", "description": "A prompt without arguments" }),
        json!({
            "name": "test_prompt_with_arguments",
            "description": "A prompt with two arguments",
            "arguments": [argument("arg1", "First test argument"), argument("arg2", "Second test argument")],
        }),
        json!({
            "name": "test_prompt_with_embedded_resource",
            "description": "A prompt that embeds a resource",
            "arguments": [argument("resourceUri", "URI of the resource to embed")],
        }),
        json!({ "name": "test_prompt_with_image", "description": "A prompt with a picture" }),
        json!({ "name": "test_input_required_result_prompt", "description": "A prompt that asks for its context" }),
    ];
    if toggles.prompt.load(Ordering::SeqCst) {
        prompts.push(json!({ "name": TOGGLED, "description": "Comes and goes" }));
    }
    prompts
}

/// A prompt.
pub(super) fn get(asked: &Asked<'_>) -> Result<Outcome, RpcError> {
    let name = asked.text("name")?;
    let arguments = asked.arguments()?;
    let argument = |name: &str| {
        let missing = || RpcError::invalid_params(format!("the prompt needs the argument {name}"));
        arguments.get(name).and_then(Value::as_str).ok_or_else(missing)
    };
    let prompts = list(&asked.shared.toggles);
    let Some(prompt) = prompts.iter().find(|prompt| prompt["name"] == name) else {
        return Err(RpcError::invalid_params(format!("no such prompt: {name}")));
    };
    let messages = match name {
        "test_simple_prompt" => vec![from_user(&text("This is a simple prompt for testing."))],
        "test_prompt_with_arguments" => {
            let (first, second) = (argument("arg1")?, argument("arg2")?);
            vec![from_user(&text(&format!("Prompt with arguments: arg1='{first}', arg2='{second}'")))]
        }
        "test_prompt_with_embedded_resource" => {
            let resource = embedded(argument("resourceUri")?, "text/plain", "Embedded resource content for testing.");
            vec![from_user(&resource), from_user(&text("Please process the embedded resource above."))]
        }
        "test_prompt_with_image" => {
            vec![from_user(&image()), from_user(&text("Please analyze the image above."))]
        }
        "test_input_required_result_prompt" => match input::prompt_context(asked)? {
            Ok(context) => vec![from_user(&text(&format!("Prompt with context: {context}")))],
            Err(needs_input) => return Ok(needs_input),
        },
        _ => vec![from_user(&text("Still here"))],
    };
    Ok(Outcome::Complete(json!({ "description": prompt["description"], "messages": messages })))
}

/// How an argument goes on.
pub(super) fn complete(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let reference = asked.params.get("ref").and_then(|reference| reference["type"].as_str());
    if !matches!(reference, Some("ref/prompt" | "ref/resource")) {
        return Err(RpcError::invalid_params("params.ref is neither a prompt nor a resource"));
    }
    let typed = asked.params.get("argument").and_then(|argument| argument["value"].as_str());
    let typed = typed.ok_or_else(|| RpcError::invalid_params("params.argument.value must be a string"))?;
    let values: Vec<&str> =
        COMPLETIONS.into_iter().filter(|value| value.starts_with(typed)).take(COMPLETION_LIMIT).collect();
    Ok(json!({ "completion": { "total": values.len(), "values": values, "hasMore": false } }))
}
