//! The values that cross the boundary, as plain Rust.
//!
//! One type for every type of `wit/types.wit`, under the name that a WIT binding generator gives it. They exist so that
//! the decisions can be written, tested and fuzzed without WebAssembly; they must never grow behaviour or a field that
//! the WIT does not have.

mod breaker;
mod caching;
mod pace;
mod refresh;
mod registry;
mod shared;

pub use breaker::*;
pub use caching::*;
pub use pace::*;
pub use refresh::*;
pub use registry::*;
pub use shared::*;
