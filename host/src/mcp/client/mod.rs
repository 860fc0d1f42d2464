//! The client side: opening a session with a server of either era, listing its tools, passing requests on.
//!
//! One request is one POST. Nothing here retries, caches or waits on its own account, with one exception each: a
//! header mismatch is repaired once, as the specification asks, and tidying runs in the background under a bound.

mod discovery;
mod exchange;
mod handshake;
mod listing;
mod meta;
mod mirror;
mod session;
mod transport;
mod upstream;

#[cfg(test)]
mod tests;

pub(crate) use mirror::{add_headers, mirrors_of};

pub use listing::{ListScope, ToolList};
pub use session::Session;
pub use upstream::Upstream;
