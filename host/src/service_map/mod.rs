//! The signed service map: fetching it, verifying it and reading it into connectors.
//!
//! The received bytes are parsed once ([`verify()`]), the signature is checked over the canonical form of exactly what
//! was received, and only then is the model built. Nothing here judges time (fresh, stale, expired, rolled back): that
//! is the policy's. Nothing here ever quotes a body, a header or a key in an error.

mod dialect;
mod entry;
mod envelope;
mod error;
mod fetch;
mod fields;
mod keys;
mod maintain;
mod metrics;
mod sign;
mod signature;
mod verify;
mod view;

pub use dialect::{BRAND, Dialect, MAX_CONNECTORS, MAX_TTL, ServiceMap};
pub use error::{DecodeFault, MapError, SchemaRule, SignatureFault};
pub use fetch::{EndpointError, FETCH_DEADLINE, Fetched, MapEndpoint, fetch};
pub use keys::{KeyRing, KeyRingError};
pub use maintain::{Maintenance, RECORD_NAME, start};
pub use metrics::MapMetrics;
pub use sign::{sign, signed_document};
pub use verify::{MAX_MAP_BYTES, VerifiedMap, verify};
pub use view::{MapFailure, MapHandle, MapStatus, MapView};
