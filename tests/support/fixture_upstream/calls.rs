//! What the tools do, apart from those that ask something of the client. None of them must know the era it is called
//! in.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::methods::{Asked, Outcome};
use super::wire::RpcError;
use super::{Change, content, input, tools};

/// A pause in which a client can see that what came before was not held back.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the slow tool takes: long enough to be cancelled, or to be overtaken.
const SLOW: Duration = Duration::from_secs(2);

/// Calls a tool.
pub(super) async fn call(asked: &Asked<'_>) -> Result<Outcome, RpcError> {
    let name = asked.text("name")?;
    let arguments = asked.arguments()?;
    if tools::schema(&asked.shared.toggles, name).is_none() {
        return Err(RpcError::invalid_params(format!("no such tool: {name}")));
    }
    if let Some(outcome) = input::call(name, &arguments, asked) {
        return outcome;
    }
    let toggles = &asked.shared.toggles;
    Ok(Outcome::Complete(match name {
        "test_simple_text" => content::said("This is a simple text response for testing."),
        "test_image_content" => content::called(vec![content::image()]),
        "test_audio_content" => content::called(vec![content::audio()]),
        "test_embedded_resource" => {
            let text = "This is an embedded resource content.";
            content::called(vec![content::embedded("test://embedded-resource", "text/plain", text)])
        }
        "test_multiple_content_types" => {
            let data = r#"{"test":"data","value":123}"#;
            content::called(vec![
                content::text("Multiple content types test:"),
                content::image(),
                content::embedded("test://mixed-content-resource", "application/json", data),
            ])
        }
        "test_error_handling" => content::failed("This tool intentionally returns an error for testing"),
        "test_tool_with_progress" => {
            asked.teller.progress(0, 100);
            sleep(PAUSE).await;
            asked.teller.progress(50, 100);
            sleep(PAUSE).await;
            asked.teller.progress(100, 100);
            content::said("Tool with progress executed successfully")
        }
        "test_tool_with_logging" | "test_logging_tool" => {
            asked.teller.log("info", "Tool execution started");
            sleep(PAUSE).await;
            asked.teller.log("info", "Tool processing data");
            sleep(PAUSE).await;
            asked.teller.log("info", "Tool execution completed");
            content::said("Tool with logging executed successfully")
        }
        "test_reconnection" => {
            if let Some(hang_up) = &asked.teller.hang_up {
                hang_up();
            }
            sleep(2 * PAUSE).await;
            content::said("Reconnection test completed successfully")
        }
        "test_trigger_tool_change" => {
            asked.shared.toggle(&toggles.tool, &Change::Tools);
            content::said("The tools have changed")
        }
        "test_trigger_prompt_change" => {
            asked.shared.toggle(&toggles.prompt, &Change::Prompts);
            content::said("The prompts have changed")
        }
        "test_trigger_resource_change" => {
            asked.shared.toggle(&toggles.resource, &Change::Resources);
            content::said("The resources have changed")
        }
        "test_trigger_resource_update" => {
            asked.shared.tell(&Change::Resource("test://watched-resource".to_owned()));
            content::said("The watched resource has changed")
        }
        "test_slow" => {
            sleep(SLOW).await;
            content::said("Slow, but done")
        }
        // These say what they were called with.
        "test_custom_headers" | "json_schema_2020_12_tool" => echoed(&Value::Object(arguments)),
        tools::TOGGLED => content::said("Still here"),
        _ => return Err(RpcError::new(-32603, format!("the tool {name} is listed and not implemented"))),
    }))
}

fn echoed(arguments: &Value) -> Value {
    content::said(&json!({ "arguments": arguments }).to_string())
}
