//! Batches: several messages in one body, which 2025-03-26 demands that servers take, and no other revision knows (2025-03-26,
//! `basic`, Batching).
//!
//! Each message is answered as if it had come alone. The answers come together as one array, when the last of them is there:
//! whoever wants messages before an answer makes that request alone.

use std::future::Future;

use axum::body::to_bytes;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use serde_json::value::RawValue;

use super::limits;
use crate::mcp::envelope::error_bytes;
use crate::mcp::protocol::INTERNAL_ERROR;

/// The messages of a body; none if it is no array, holds none, or more than [`limits::BATCH_MESSAGES_MAX`].
pub(super) fn messages(body: &[u8]) -> Option<Vec<Box<RawValue>>> {
    let messages: Vec<Box<RawValue>> = serde_json::from_slice(body).ok()?;
    (1..=limits::BATCH_MESSAGES_MAX).contains(&messages.len()).then_some(messages)
}

/// Waits for the answers of all messages, each by its own deadline, and joins those that have a body; none if no answer has.
pub(super) async fn answers(answering: impl Iterator<Item = impl Future<Output = Response>>) -> Option<Bytes> {
    let mut array = BytesMut::new();
    for answer in join_all(answering).await {
        // It is in memory as a whole: nothing is streamed to who takes JSON only.
        let room = limits::BATCH_ANSWER_BYTES_MAX.saturating_sub(array.len());
        let Ok(body) = to_bytes(answer.into_body(), room).await else {
            let message = "the answers of this batch are too large together: ask in several batches, or one by one";
            return Some(error_bytes(None, INTERNAL_ERROR, message, None));
        };
        if !body.is_empty() {
            array.put_u8(if array.is_empty() { b'[' } else { b',' });
            array.put_slice(&body);
        }
    }
    if array.is_empty() {
        return None;
    }
    array.put_u8(b']');
    Some(array.freeze())
}
