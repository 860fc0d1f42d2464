//! The methods that both eras have, written once for both. How an outcome is put into words is left to the eras.

use serde_json::{Value, json};

use super::wire::{self, Members, RpcError};
use super::{Shared, calls, prompts, resources, tools};

/// The severities of logs, the least first.
pub(super) const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How a request ends, if not in an error.
pub(super) enum Outcome {
    /// With a result.
    Complete(Value),
    /// Not yet: the client is to answer these requests, by their keys, and to ask again, with the state if there is
    /// one.
    NeedsInput { requests: Members, state: Option<String> },
}

/// What is told to the client while its request is served, as far as it wants to know.
pub(super) struct Teller {
    /// Sends a notification on the request's stream.
    pub(super) send: Box<dyn Fn(Value) + Send + Sync>,
    /// The token that progress is told by.
    pub(super) progress_token: Option<Value>,
    /// The least severity that is told.
    pub(super) log_level: Option<String>,
    /// Closes the request's stream before the end, where the era can go on after that.
    pub(super) hang_up: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Teller {
    pub(super) fn progress(&self, progress: u32, total: u32) {
        if let Some(token) = &self.progress_token {
            let params = json!({ "progressToken": token, "progress": progress, "total": total });
            (self.send)(wire::notification("notifications/progress", params));
        }
    }

    pub(super) fn log(&self, level: &str, data: &str) {
        let severity = |level: &str| LEVELS.iter().position(|one| *one == level);
        if self.log_level.as_deref().and_then(severity).is_some_and(|least| severity(level) >= Some(least)) {
            let params = json!({ "level": level, "logger": "fixture", "data": data });
            (self.send)(wire::notification("notifications/message", params));
        }
    }
}

/// A request, as far as the eras have it in common.
pub(super) struct Asked<'a> {
    pub(super) shared: &'a Shared,
    pub(super) params: &'a Members,
    /// What the client says that it can do.
    pub(super) capabilities: &'a Value,
    pub(super) teller: &'a Teller,
}

impl Asked<'_> {
    /// A text among the params.
    pub(super) fn text(&self, name: &str) -> Result<&str, RpcError> {
        let missing = || RpcError::invalid_params(format!("params.{name} must be a string"));
        self.params.get(name).and_then(Value::as_str).ok_or_else(missing)
    }

    /// The arguments, which may be left out.
    pub(super) fn arguments(&self) -> Result<Members, RpcError> {
        match self.params.get("arguments") {
            None => Ok(Members::new()),
            Some(Value::Object(arguments)) => Ok(arguments.clone()),
            Some(_) => Err(RpcError::invalid_params("params.arguments must be an object")),
        }
    }
}

/// Whether the eras have this method in common.
pub(super) fn is_shared(method: &str) -> bool {
    matches!(
        method,
        "tools/list"
            | "tools/call"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "completion/complete"
    )
}

/// Serves a request.
pub(super) async fn answer(method: &str, asked: &Asked<'_>) -> Result<Outcome, RpcError> {
    let complete = |result: Value| Ok(Outcome::Complete(result));
    match method {
        "tools/list" => complete(json!({ "tools": tools::list(&asked.shared.toggles) })),
        "tools/call" => calls::call(asked).await,
        "prompts/list" => complete(json!({ "prompts": prompts::list(&asked.shared.toggles) })),
        "prompts/get" => prompts::get(asked),
        "resources/list" => complete(json!({ "resources": resources::list(&asked.shared.toggles) })),
        "resources/templates/list" => complete(json!({ "resourceTemplates": resources::templates() })),
        "resources/read" => complete(resources::read(asked)?),
        "completion/complete" => complete(prompts::complete(asked)?),
        _ => Err(RpcError::method_not_found(method)),
    }
}

/// What the server can do, in either era.
pub(super) fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "subscribe": true, "listChanged": true },
        "logging": {},
        "completions": {},
    })
}

/// Who the server is.
pub(super) fn server_info() -> Value {
    json!({ "name": "fixture-upstream", "version": "1.0.0" })
}

/// What the client would have to be capable of to answer these requests, and is not.
pub(super) fn missing_capabilities(requests: &Members, capabilities: &Value) -> Members {
    let needed = requests.values().filter_map(|request| match request["method"].as_str() {
        Some("elicitation/create") => Some("elicitation"),
        Some("sampling/createMessage") => Some("sampling"),
        Some("roots/list") => Some("roots"),
        _ => None,
    });
    needed.filter(|name| !capabilities[*name].is_object()).map(|name| (name.to_owned(), json!({}))).collect()
}
