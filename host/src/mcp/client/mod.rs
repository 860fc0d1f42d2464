//! The client side: opening a session with a server of either era over any transport, listing what it offers, passing
//! requests on.
//!
//! One request is one POST, or one message on a pipe. Nothing here retries, caches or waits on its own account, with one
//! exception each: a header mismatch is repaired once, as the specification asks, and tidying runs in the background under
//! a bound.

mod challenge;
mod discovery;
mod exchange;
mod facts;
mod handshake;
mod link;
mod listing;
mod meta;
mod mirror;
mod pipe;
mod progress;
mod rate;
mod session;
mod start;
mod stream;
mod tidying;
mod transport;
mod upstream;
mod upstream_headers;
mod verdict;

#[cfg(test)]
mod tests;

pub(crate) use mirror::{add_headers, mirrors_of, mismatched};

pub use challenge::Challenge;
pub use facts::ServerFacts;
pub use handshake::Declared;
pub use listing::{LeftOut, ListScope, Listed};
pub use session::Session;
pub use start::{KnownEra, Start};
pub use upstream::Upstream;
pub use upstream_headers::{CredentialEvidence, CredentialRefusal, FixedHeaders, UpstreamHeaders};
pub use verdict::Answered;
