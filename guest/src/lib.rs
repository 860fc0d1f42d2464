//! The default policy of cortex-mcp: every decision the gateway makes, as pure functions.
//!
//! A decision takes a state and an event as values and returns the next state, what the host is to do and why. Nothing
//! is kept between calls, and time and randomness come in through [`environment::Environment`] only, so a decision is a
//! function of what was recorded about it. The crate is built twice: as a WebAssembly component, which hosts load, and
//! as a Rust library, the *native twin*, which tests compare the component with.
//!
//! - [`scheduling`]: when to refresh, whom to try, who goes first and how many at once.
//! - [`caching`]: what is fresh, stale or forbidden.
//! - [`registry`]: who wins when several writers change the same things.
//! - [`limits`]: every number that these rules contain and the configuration does not.
//!
//! No function panics, whatever its input: arithmetic saturates and settings out of range are clamped. Unordered maps,
//! clocks of the standard library and floats are banned, because they make two runs of one record differ.
//!
//! # Example
//!
//! ```
//! use cortex_policy_default::{environment::Recorded, scheduling, types::*};
//!
//! let mut environment = Recorded::new(1_700_000_000_000, 5_000, 42);
//! let config = RefreshConfig {
//!     kind: SubjectKind::ServiceMap,
//!     mode: RefreshMode::Background,
//!     interval_ms: 300_000,
//!     floor_ms: 30_000,
//!     jitter_permille: 200,
//!     backoff_min_ms: 1_000,
//!     backoff_max_ms: 300_000,
//!     options: Vec::new(),
//! };
//! let event = RefreshEvent::Started(StartedEvent { start: StartKind::Cold, boot_id: 1 });
//! let decision = scheduling::refresh(&mut environment, &config, scheduling::initial_refresh_state(), event);
//! assert_eq!(decision.run_at_boot_ms, Some(5_000));
//! assert_eq!(decision.reason, RefreshReason::ColdStart);
//! ```
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]
#![cfg_attr(target_family = "wasm", deny(unsafe_code))]
// Tests may unwrap, and lists of one read best as literals.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::cloned_ref_to_slice_refs))]

pub mod caching;
#[cfg(all(target_family = "wasm", feature = "component"))]
mod component;
mod conversions;
pub mod environment;
pub mod limits;
pub mod registry;
pub mod scheduling;
#[cfg(test)]
mod testing;
pub mod types;
