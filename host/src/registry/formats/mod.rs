//! Other programs' files: MCP servers read from them for the registry, and the registry's entries written for them.
//!
//! Pure functions over bytes and values: nothing here touches a file, and the environment comes in as a closure. What
//! is read is a proposal; whether it is stored is for the caller to decide. A `${VAR}` is replaced while a client's
//! file is imported and at no other time; a reference, which the gateway resolves at each connect, is taken only if the caller allows it. No note, reason, error or debug form ever holds a value: only names of
//! servers, fields and variables.

mod arguments;
mod client;
mod clients;
mod expand;
mod export;
mod hide;
mod import;
mod limits;
mod names;
mod package;
mod references;
mod report;
mod server_json;
mod snippet;
mod text;

#[cfg(test)]
mod tests;

pub use clients::{ExportFormat, UnknownFormat};
pub use export::{ExportNote, ExportRemark, Exported, Secrets, export};
pub use hide::literal_secrets;
pub use import::{ImportFormat, import};
pub use limits::{MAX_DEPTH, MAX_IMPORT_BYTES, MAX_IMPORT_SERVERS};
pub use references::{ImportedReferences, Referrals};
pub use report::{ImportError, Note, Preview, Proposed, SkipReason, Skipped};
pub use snippet::snippet;
