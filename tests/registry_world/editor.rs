//! A foreign editor: takes no lock, reads the document, thinks, and puts another in its place, durably.

use std::io;

use cortex_mcp::edge::disk::{self, Disk};
use serde_json::{Value, json};

use super::ledger;

/// What an editor has open.
#[derive(Clone)]
pub(crate) struct Edit {
    document: Value,
}

/// An entry as the tests write them: the number tells values apart.
pub(crate) fn entry(name: &str, number: u32) -> Value {
    json!({ "name": name, "transport": "http", "endpoint": format!("https://{name}.test/v{number}") })
}

/// The number of an endpoint; a very large one if it has none.
pub(crate) fn number(endpoint: &str) -> u32 {
    endpoint.rsplit("/v").next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
}

/// What a document says; an error if it can not be read.
pub(crate) fn said(bytes: &[u8]) -> Result<ledger::Said, String> {
    let document: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let servers = document["servers"].as_array().ok_or("no list of servers")?;
    let said = servers.iter().map(|server| {
        let name = server["name"].as_str().ok_or("no name")?;
        let endpoint = server["endpoint"].as_str().ok_or("no endpoint")?;
        Ok((name.to_owned(), number(endpoint)))
    });
    said.collect()
}

impl Edit {
    /// Opens the document; an empty one if there is none. None if it can not be read.
    pub(crate) fn begin(disk: &dyn Disk, file: &str) -> io::Result<Option<Self>> {
        let document = match disk::read(disk, file, 1 << 20)? {
            None => json!({ "servers": [] }),
            Some(bytes) => match serde_json::from_slice(&bytes) {
                Ok(document) => document,
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(Self { document }))
    }

    /// Whether what was opened says which document it is, and is as its writer left it. Who takes back what an editor before
    /// him did puts an older document back as it was: nobody can tell what he means.
    pub(crate) fn is_based(&self) -> bool {
        let servers = self.document["servers"].as_array().unwrap();
        self.document.get("generation").is_some() && servers.iter().all(|server| server.get("rev").is_some())
    }

    /// Whether the document has a name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.document["servers"].as_array().unwrap().iter().any(|server| server["name"] == name)
    }

    /// Sets a name, as somebody who knows nothing of `rev`.
    pub(crate) fn set(&mut self, name: &str, value: ledger::Value) {
        let servers = self.document["servers"].as_array_mut().unwrap();
        servers.retain(|server| server["name"] != name);
        servers.extend(value.map(|number| entry(name, number)));
    }

    /// Drops what newer writers put in.
    pub(crate) fn forget(&mut self) {
        let document = self.document.as_object_mut().unwrap();
        document.retain(|member, _| member == "servers");
        for server in self.document["servers"].as_array_mut().unwrap() {
            server.as_object_mut().unwrap().shift_remove("rev");
        }
    }

    /// Puts it in the place of whatever is there.
    pub(crate) fn save(&self, disk: &dyn Disk, file: &str, temporary: &str) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(&self.document).unwrap();
        disk::write_new(disk, temporary, &bytes, None)?;
        disk.rename(temporary, file)?;
        disk.sync()
    }

    /// Writes it over what is there, as editors do that keep the file, and durably in the end: a crash meanwhile tears it.
    pub(crate) fn save_in_place(&self, disk: &dyn Disk, file: &str) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(&self.document).unwrap();
        let Some(open) = disk.open(file)? else { return Ok(()) };
        // Nothing of what was there is left, were it longer.
        let length = usize::try_from(open.look()?.length).unwrap_or(0);
        bytes.resize(bytes.len().max(length), b'\n');
        disk::write_all_at(&*open, 0, &bytes)?;
        open.sync_all()
    }
}
