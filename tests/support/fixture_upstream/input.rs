//! The tools and the prompt that ask something of the client.
//!
//! Each is a function from what the client has answered so far to either a result or what to ask next. It must never
//! keep anything: what has to be remembered between two rounds is in the request state, sealed.

use serde_json::{Value, json};

use super::content;
use super::methods::{Asked, Outcome};
use super::wire::{Members, RpcError};

/// A request to the client, under its key.
struct Question {
    key: &'static str,
    request: Value,
}

impl Question {
    /// The user is to fill in a form.
    fn form(key: &'static str, message: &str, properties: &Value, required: &[&str]) -> Self {
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        let params = json!({ "message": message, "requestedSchema": schema });
        Self { key, request: json!({ "method": "elicitation/create", "params": params }) }
    }

    /// A model is to answer.
    fn model(key: &'static str, prompt: &str, max_tokens: u32) -> Self {
        let message = json!({ "role": "user", "content": content::text(prompt) });
        let params = json!({ "messages": [message], "maxTokens": max_tokens });
        Self { key, request: json!({ "method": "sampling/createMessage", "params": params }) }
    }

    /// The client is to name its roots.
    fn roots(key: &'static str) -> Self {
        Self { key, request: json!({ "method": "roots/list", "params": {} }) }
    }

    /// Whether this can be an answer to it.
    fn takes(&self, answer: &Value) -> bool {
        match self.request["method"].as_str() {
            Some("elicitation/create") => {
                matches!(answer["action"].as_str(), Some("accept" | "decline" | "cancel"))
                    && (answer["content"].is_null() || answer["content"].is_object())
            }
            Some("sampling/createMessage") => !answer["content"].is_null(),
            _ => answer["roots"].is_array(),
        }
    }
}

/// The answers to all questions in their order; otherwise what is missing is asked (again), with this state.
fn answers(
    asked: &Asked<'_>,
    questions: &[Question],
    state: Option<String>,
) -> Result<Result<Vec<Value>, Outcome>, RpcError> {
    let nothing = Members::new();
    let given = match asked.params.get("inputResponses") {
        None => &nothing,
        Some(Value::Object(given)) => given,
        Some(_) => return Err(RpcError::invalid_params("params.inputResponses must be an object")),
    };
    let mut found = Vec::new();
    let mut missing = Members::new();
    for question in questions {
        match given.get(question.key) {
            Some(answer) if question.takes(answer) => found.push(answer.clone()),
            Some(_) => {
                let key = question.key;
                return Err(RpcError::invalid_params(format!(
                    "params.inputResponses.{key} is no answer to its request"
                )));
            }
            None => {
                missing.insert(question.key.to_owned(), question.request.clone());
            }
        }
    }
    Ok(if missing.is_empty() { Ok(found) } else { Err(Outcome::NeedsInput { requests: missing, state }) })
}

/// What was sealed in the state that came along, if the client has been here before.
fn remembered(asked: &Asked<'_>, owner: &str) -> Result<Option<String>, RpcError> {
    match (asked.params.get("requestState"), asked.params.get("inputResponses")) {
        (Some(Value::String(state)), _) => asked.shared.states.open(owner, state).map(Some),
        (Some(_), _) => Err(RpcError::invalid_params("params.requestState must be a string")),
        (None, Some(_)) => Err(RpcError::invalid_params("params.requestState is missing")),
        (None, None) => Ok(None),
    }
}

/// Calls a tool that asks something; none, if this one does not.
pub(super) fn call(name: &str, arguments: &Members, asked: &Asked<'_>) -> Option<Result<Outcome, RpcError>> {
    Some(match name {
        "test_sampling" => string(arguments, "prompt").and_then(|prompt| {
            one(asked, Question::model("sampled", prompt, 100), |answer| {
                format!("LLM response: {}", answer["content"]["text"].as_str().unwrap_or_default())
            })
        }),
        "test_elicitation" => string(arguments, "message").and_then(|message| {
            one(asked, user_and_email(message), |answer| format!("User response: {}", action_and_content(answer)))
        }),
        "test_elicitation_sep1034_defaults" => one(asked, defaults(), elicited),
        "test_elicitation_sep1330_enums" => one(asked, choices(), elicited),
        "test_streaming_elicitation" => {
            one(asked, confirmation("Please confirm"), |answer| format!("Confirmed: {}", answer["content"]))
        }
        "test_missing_capability" => one(asked, Question::model("needed", "Anything", 10), |answer| {
            format!("Sampled: {}", answer["content"]["text"].as_str().unwrap_or_default())
        }),
        "test_input_required_result_elicitation" => one(asked, name_of_user(), greeting),
        "test_input_required_result_sampling" => {
            let question = Question::model("capital_question", "What is the capital of France?", 100);
            one(asked, question, |answer| answer["content"]["text"].as_str().unwrap_or_default().to_owned())
        }
        "test_input_required_result_list_roots" => one(asked, Question::roots("client_roots"), |answer| {
            let roots = answer["roots"].as_array().into_iter().flatten();
            format!("Roots: {}", roots.filter_map(|root| root["uri"].as_str()).collect::<Vec<_>>().join(", "))
        }),
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            confirmed_with_state(name, asked)
        }
        "test_input_required_result_multiple_inputs" => three_at_once(name, asked),
        "test_input_required_result_multi_round" => two_rounds(name, asked),
        "test_input_required_result_capabilities" => what_it_can(asked),
        _ => return None,
    })
}

/// The context that the prompt is given by the user; otherwise how it is asked for.
pub(super) fn prompt_context(asked: &Asked<'_>) -> Result<Result<String, Outcome>, RpcError> {
    let properties = json!({ "context": { "type": "string" } });
    let message = "What context should the prompt use?";
    let question = Question::form("user_context", message, &properties, &["context"]);
    let context = |answers: Vec<Value>| answers[0]["content"]["context"].as_str().unwrap_or_default().to_owned();
    Ok(answers(asked, &[question], None)?.map(context))
}

/// A tool with one question and without a state.
fn one(asked: &Asked<'_>, question: Question, told: impl Fn(&Value) -> String) -> Result<Outcome, RpcError> {
    Ok(match answers(asked, &[question], None)? {
        Ok(answers) => Outcome::Complete(content::said(&told(&answers[0]))),
        Err(needs_input) => needs_input,
    })
}

fn confirmed_with_state(name: &str, asked: &Asked<'_>) -> Result<Outcome, RpcError> {
    remembered(asked, name)?;
    let state = asked.shared.states.seal(name, "asked");
    Ok(match answers(asked, &[confirmation("Please confirm")], Some(state))? {
        Ok(answers) => Outcome::Complete(content::said(&format!("state-ok: {}", action_and_content(&answers[0])))),
        Err(needs_input) => needs_input,
    })
}

fn three_at_once(name: &str, asked: &Asked<'_>) -> Result<Outcome, RpcError> {
    remembered(asked, name)?;
    let questions =
        [name_of_user(), Question::model("greeting", "Generate a greeting", 50), Question::roots("client_roots")];
    let state = asked.shared.states.seal(name, "asked");
    Ok(match answers(asked, &questions, Some(state))? {
        Ok(answers) => {
            let roots = answers[2]["roots"].as_array().map_or(0, Vec::len);
            let greeted = answers[1]["content"]["text"].as_str().unwrap_or_default();
            Outcome::Complete(content::said(&format!("{} {greeted} ({roots} roots)", greeting(&answers[0]))))
        }
        Err(needs_input) => needs_input,
    })
}

fn two_rounds(tool: &str, asked: &Asked<'_>) -> Result<Outcome, RpcError> {
    let states = &asked.shared.states;
    let text = |name: &str| json!({ name: { "type": "string" } });
    let first = Question::form("step1", "Step 1: What is your name?", &text("name"), &["name"]);
    let second = Question::form("step2", "Step 2: What is your favorite color?", &text("color"), &["color"]);
    let name = match remembered(asked, tool)?.as_deref() {
        None | Some("step1") => match answers(asked, &[first], Some(states.seal(tool, "step1")))? {
            Ok(answers) => {
                let name = answers[0]["content"]["name"].as_str().unwrap_or_default();
                let requests = Members::from_iter([(second.key.to_owned(), second.request)]);
                let state = Some(states.seal(tool, &format!("step2 {name}")));
                return Ok(Outcome::NeedsInput { requests, state });
            }
            Err(needs_input) => return Ok(needs_input),
        },
        Some(state) => state.strip_prefix("step2 ").unwrap_or_default().to_owned(),
    };
    let state = states.seal(tool, &format!("step2 {name}"));
    Ok(match answers(asked, &[second], Some(state))? {
        Ok(answers) => {
            let color = answers[0]["content"]["color"].as_str().unwrap_or_default();
            Outcome::Complete(content::said(&format!("{name} likes {color}")))
        }
        Err(needs_input) => needs_input,
    })
}

fn what_it_can(asked: &Asked<'_>) -> Result<Outcome, RpcError> {
    let all = [
        ("elicitation", name_of_user()),
        ("sampling", Question::model("greeting", "Generate a greeting", 50)),
        ("roots", Question::roots("client_roots")),
    ];
    let can = all.into_iter().filter(|(capability, _)| asked.capabilities[*capability].is_object());
    let questions: Vec<Question> = can.map(|(_, question)| question).collect();
    Ok(match answers(asked, &questions, None)? {
        Ok(answers) => Outcome::Complete(content::said(&format!("Answers: {}", answers.len()))),
        Err(needs_input) => needs_input,
    })
}

fn string<'a>(arguments: &'a Members, name: &str) -> Result<&'a str, RpcError> {
    let missing = || RpcError::invalid_params(format!("the tool needs the argument {name}"));
    arguments.get(name).and_then(Value::as_str).ok_or_else(missing)
}

fn action_and_content(answer: &Value) -> String {
    let action = answer["action"].as_str().unwrap_or_default();
    format!("action={action}, content={}", answer["content"])
}

fn elicited(answer: &Value) -> String {
    format!("Elicitation completed: {}", action_and_content(answer))
}

fn greeting(answer: &Value) -> String {
    match answer["content"]["name"].as_str() {
        Some(name) => format!("Hello, {name}!"),
        None => "Hello, whoever you are!".to_owned(),
    }
}

fn name_of_user() -> Question {
    Question::form("user_name", "What is your name?", &json!({ "name": { "type": "string" } }), &["name"])
}

fn confirmation(message: &str) -> Question {
    Question::form("confirm", message, &json!({ "ok": { "type": "boolean" } }), &["ok"])
}

fn user_and_email(message: &str) -> Question {
    let properties = json!({
        "username": { "type": "string", "description": "User's response" },
        "email": { "type": "string", "description": "User's email address" },
    });
    Question::form("user", message, &properties, &["username", "email"])
}

/// A default for every primitive type (SEP-1034).
fn defaults() -> Question {
    let properties = json!({
        "name": { "type": "string", "description": "User name", "default": "John Doe" },
        "age": { "type": "integer", "description": "User age", "default": 30 },
        "score": { "type": "number", "description": "User score", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "description": "Verification status", "default": true },
    });
    Question::form("defaults", "Please review these defaults", &properties, &[])
}

/// Every form of a choice (SEP-1330).
fn choices() -> Question {
    let titled = |word: &str| {
        let option = |number: u8, ordinal: &str| {
            let title = format!("{ordinal} {word}");
            json!({ "const": format!("value{number}"), "title": title })
        };
        json!([option(1, "First"), option(2, "Second"), option(3, "Third")])
    };
    let options = json!(["option1", "option2", "option3"]);
    let properties = json!({
        "untitledSingle": { "type": "string", "enum": options },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    });
    Question::form("choices", "Please choose", &properties, &[])
}
