//! The resources and the template. What is not there is an error, never empty contents.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Toggles;
use super::content::PNG;
use super::methods::Asked;
use super::wire::RpcError;

/// The resource that comes and goes.
const TOGGLED: &str = "test://toggled-resource";

/// Every resource. The first can be read: the suite reads it to see the caching hints.
pub(super) fn list(toggles: &Toggles) -> Vec<Value> {
    let resource = |uri: &str, name: &str, about: &str, kind: &str| {
        let mut resource = json!({ "uri": uri, "name": name, "description": about });
        resource["mimeType"] = kind.into();
        resource
    };
    let mut resources = vec![
        resource("test://static-text", "Static text", "A text", "text/plain"),
        resource("test://static-binary", "Static binary", "A picture", "image/png"),
        resource("test://watched-resource", "Watched resource", "A text to subscribe to", "text/plain"),
    ];
    if toggles.resource.load(Ordering::SeqCst) {
        resources.push(resource(TOGGLED, "Toggled resource", "Comes and goes", "text/plain"));
    }
    resources
}

/// Every template.
pub(super) fn templates() -> Vec<Value> {
    vec![json!({
        "uriTemplate": "test://template/{id}/data",
        "name": "Data by id",
        "description": "A template with one parameter",
        "mimeType": "application/json",
    })]
}

/// The contents of a resource.
pub(super) fn read(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let uri = asked.text("uri")?;
    let text = |text: &str| json!({ "uri": uri, "mimeType": "text/plain", "text": text });
    let contents = match uri {
        "test://static-text" => text("This is the content of the static text resource."),
        "test://static-binary" => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
        "test://watched-resource" => text("This is the content of the watched resource."),
        TOGGLED if asked.shared.toggles.resource.load(Ordering::SeqCst) => text("Still here"),
        _ => match uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data")) {
            Some(id) if !id.is_empty() && !id.contains('/') => {
                let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
            }
            _ => return Err(RpcError::invalid_params("no such resource").with_data(json!({ "uri": uri }))),
        },
    };
    Ok(json!({ "contents": [contents] }))
}
