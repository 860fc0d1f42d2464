//! The ID of the gateway's home: drawn once, kept in its state, shared by all gateways of the home.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StateRole;
use super::state_writer::{self, StateWriter};
use crate::edge::entropy::Entropy;
use crate::edge::files::Directory;
use crate::edge::state::{Body, StateRecord, StateSink};
use crate::model::InstanceId;

/// The name of its record.
const RECORD_NAME: &str = "instance";

/// How often a follower looks for the ID that its leader has just drawn, before it does without.
const LOOKS_MAX: u32 = 10;

/// How long it waits in between: a batch of state is written after a twentieth of a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
struct Header {
    id: InstanceId,
}

/// Takes the ID out of the records, or draws one, which is kept if this process writes the state. Two gateways that start at
/// once on a new home have the same one: the follower waits a moment for what its leader writes.
pub(super) async fn take(
    records: &mut Vec<(String, StateRecord)>,
    writer: &StateWriter,
    directory: &Arc<dyn Directory>,
    entropy: &dyn Entropy,
) -> InstanceId {
    if let Some(id) = take_from(records) {
        return id;
    }
    let leads = writer.role() != StateRole::Follower;
    let looks = if leads { 0 } else { LOOKS_MAX };
    for _ in 0..looks {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let directory = directory.clone();
        let read = tokio::task::spawn_blocking(move || state_writer::read_records(&directory)).await;
        if let Some(id) = read.ok().and_then(Result::ok).and_then(|mut records| take_from(&mut records)) {
            return id;
        }
    }
    // 32 hexadecimal digits are an ID.
    let id = entropy.unguessable().parse().unwrap_or_default();
    if leads && let Ok(record) = StateRecord::new(&Header { id }, Body::default()) {
        writer.keep(RECORD_NAME, record);
    }
    id
}

fn take_from(records: &mut Vec<(String, StateRecord)>) -> Option<InstanceId> {
    let position = records.iter().position(|(name, _)| name == RECORD_NAME)?;
    let (_, record) = records.swap_remove(position);
    Some(record.header::<Header>().ok()?.id)
}
