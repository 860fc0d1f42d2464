//! Records as they are on disk: with the stamp of the write in front of the record's own header.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::edge::files::Directory;
use crate::edge::state::{self, SavedState, StateRecord, StateStore};
use crate::policy::contract::Hlc;
use crate::service_map::RECORD_NAME;

/// Records with files of their own. The map's rollback protection must never fall back to an older version.
const OWN_FILES: &[&str] = &[RECORD_NAME];

#[derive(Serialize, Deserialize)]
struct Stamped {
    stamp: Hlc,
    writer: String,
    header: Box<RawValue>,
}

/// Puts the stamp in front of the record's header.
pub(super) fn stamp(record: StateRecord, stamp: Hlc, writer: &str) -> Result<StateRecord, serde_json::Error> {
    let header = RawValue::from_string(record.header)?;
    StateRecord::new(&Stamped { stamp, writer: writer.to_owned(), header }, record.body)
}

/// Returns the record without its stamp.
fn strip(record: StateRecord) -> Option<(Hlc, StateRecord)> {
    let stamped: Stamped = record.header().ok()?;
    Some((stamped.stamp, StateRecord { header: stamped.header.get().to_owned(), body: record.body }))
}

/// What a directory holds.
pub(super) struct Loaded {
    /// Absent unless this process leads.
    pub(super) store: Option<StateStore>,
    pub(super) records: Vec<(String, Hlc, StateRecord)>,
    pub(super) old_files: usize,
}

/// Reads every record; takes over the writing if this process `leads`.
pub(super) fn load(directory: &Arc<dyn Directory>, leads: bool) -> io::Result<Loaded> {
    let (mut store, saved) = match leads {
        true => StateStore::open(directory.clone(), OWN_FILES).map(|(store, saved)| (Some(store), saved))?,
        false => (None, state::read(&**directory, OWN_FILES)?),
    };
    let SavedState { records, damaged, old_files } = saved;
    for damaged in damaged {
        let name = damaged.name.as_deref().unwrap_or("unknown");
        tracing::warn!(name, file = damaged.file, "saved state is damaged; an older version is used, or it is fetched");
    }
    let mut loaded = Loaded { store: None, records: Vec::new(), old_files };
    for (name, record) in records {
        if let Some((stamp, record)) = strip(record) {
            loaded.records.push((name, stamp, record));
            continue;
        }
        tracing::warn!(name, "saved state has no stamp that can be read; it is fetched");
        if let Some(store) = &mut store {
            store.reject(&name)?;
        }
    }
    loaded.store = store;
    Ok(loaded)
}
