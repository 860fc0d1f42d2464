//! A record: what is known of a subject's bytes, and the bytes.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::Digest;

/// The last-known-good state of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// What is known of the body, as one line of JSON.
    pub header: String,
    /// The bytes, as they were received.
    pub body: Body,
}

impl StateRecord {
    /// Creates a record with this header.
    ///
    /// # Errors
    /// If the header does not serialize.
    pub fn new(header: &impl Serialize, body: impl Into<Body>) -> Result<Self, serde_json::Error> {
        Ok(Self { header: serde_json::to_string(header)?, body: body.into() })
    }

    /// Parses the header.
    ///
    /// # Errors
    /// If it has another form.
    pub fn header<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.header)
    }
}

/// The bytes of a record: at hand, or rendered only when a store finds that it lacks them. Cheap to clone.
#[derive(Clone)]
pub struct Body {
    /// Absent if it was not computed yet.
    digest: Option<Digest>,
    length: usize,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Bytes(Bytes),
    Render(Arc<dyn Fn() -> Bytes + Send + Sync>),
}

impl Body {
    /// A body that is rendered on demand. `length` is an estimate; the digest must be that of the rendered bytes, and the
    /// record is refused if it is not.
    pub fn deferred(digest: Digest, length: usize, render: impl Fn() -> Bytes + Send + Sync + 'static) -> Self {
        Self { digest: Some(digest), length, source: Source::Render(Arc::new(render)) }
    }

    /// Bytes whose digest was verified.
    pub(super) fn verified(bytes: Bytes, digest: Digest) -> Self {
        Self { digest: Some(digest), length: bytes.len(), source: Source::Bytes(bytes) }
    }

    /// The digest of the bytes; absent if there are none.
    pub fn digest(&self) -> Option<Digest> {
        match &self.source {
            Source::Bytes(bytes) if bytes.is_empty() => None,
            Source::Bytes(bytes) => Some(self.digest.unwrap_or_else(|| Digest::of(bytes))),
            Source::Render(_) => self.digest,
        }
    }

    /// The number of bytes, as far as that is known without rendering them.
    pub fn estimated_length(&self) -> usize {
        self.length
    }

    /// Copies the bytes out of the file that they were read with, so that the rest of it can be freed.
    pub fn detach(&mut self) {
        if let Source::Bytes(bytes) = &mut self.source {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> Bytes {
        match &self.source {
            Source::Bytes(bytes) => bytes.clone(),
            Source::Render(render) => render(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { digest: None, length: bytes.len(), source: Source::Bytes(bytes) }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Body {}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The bytes may be megabytes, and secret.
        formatter.debug_struct("Body").field("digest", &self.digest()).field("length", &self.length).finish()
    }
}

/// What becomes of a record.
#[derive(Clone, Debug)]
pub enum Change {
    /// This replaces what was stored.
    Record(StateRecord),
    /// Nothing is stored any more.
    Removal,
}
