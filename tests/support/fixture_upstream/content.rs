//! The fixed contents: a picture, a sound, and the forms of content blocks. They must stay small: every run carries
//! them.

use serde_json::{Value, json};

/// A picture of one red pixel.
pub(super) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";

/// A sound without samples.
pub(super) const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

/// A block of text.
pub(super) fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// The picture as a block.
pub(super) fn image() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

/// The sound as a block.
pub(super) fn audio() -> Value {
    json!({ "type": "audio", "data": WAV, "mimeType": "audio/wav" })
}

/// A resource as a block.
pub(super) fn embedded(uri: &str, kind: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } })
}

/// The result of a call with these blocks.
pub(super) fn called(content: Vec<Value>) -> Value {
    json!({ "content": content })
}

/// The result of a call that is one text.
pub(super) fn said(words: &str) -> Value {
    called(vec![text(words)])
}

/// The result of a call that failed.
pub(super) fn failed(words: &str) -> Value {
    json!({ "content": [text(words)], "isError": true })
}

/// A message of a prompt.
pub(super) fn from_user(content: &Value) -> Value {
    json!({ "role": "user", "content": content })
}
