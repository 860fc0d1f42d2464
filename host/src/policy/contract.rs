//! The contract's types, generated from `wit/`, and what the host adds to them: initial states and conversions.
//!
//! `lookup` stands last in its interface: wasmtime 48's generator has a local of that name and loses what comes after.
//!
//! These are the only policy types in the host. They serialise, so that states persist and decisions can be recorded.

use crate::model;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    unsafe_code,
    clippy::all,
    reason = "generated, and documented in the WIT; the unchecked calls are of functions whose types were checked at load"
)]
mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "policy",
        imports: { default: trappable },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use generated::cortex::policy::types::*;
pub(super) use generated::cortex::policy::{clock, random, types};
pub(super) use generated::{Policy as PolicyWorld, PolicyPre};

/// The contract itself, for authors of policies: the files of the WIT package `cortex:policy`, by name.
pub const WIT: [(&str, &str); 5] = [
    ("world.wit", include_str!("../../../wit/world.wit")),
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("scheduling.wit", include_str!("../../../wit/scheduling.wit")),
    ("caching.wit", include_str!("../../../wit/caching.wit")),
    ("registry.wit", include_str!("../../../wit/registry.wit")),
];

impl RefreshState {
    /// The state of a subject about which nothing happened yet.
    pub fn initial() -> Self {
        Self {
            phase: RefreshPhase::Idle,
            failures: 0,
            last_class: None,
            interval_ms: 0,
            next_run_id: 1,
            last_end_boot_ms: None,
            boot_id: 0,
            memo: Vec::new(),
        }
    }
}

impl BreakerState {
    /// A closed breaker that saw nothing yet.
    pub fn initial() -> Self {
        Self {
            phase: BreakerPhase::Closed,
            consecutive: 0,
            recent: 0,
            recent_count: 0,
            opened: 0,
            next_probe_id: 1,
            memo: Vec::new(),
        }
    }
}

impl ConcurrencyState {
    /// A limit about which nothing was decided yet.
    pub fn initial() -> Self {
        Self { limit_milli: 0, in_flight: 0, baseline_ms: None, since_decrease: 0, memo: Vec::new() }
    }
}

impl CacheState {
    /// No value.
    pub fn initial() -> Self {
        Self {
            value: None,
            ratchets: Vec::new(),
            failing: None,
            in_flight: None,
            expired_arrivals: Vec::new(),
            memo: Vec::new(),
        }
    }
}

impl ClockState {
    /// A hybrid clock that saw nothing yet.
    pub fn initial() -> Self {
        Self { last: Hlc { wall_ms: 0, counter: 0 }, memo: Vec::new() }
    }
}

impl From<model::Moment> for Instant {
    fn from(moment: model::Moment) -> Self {
        Self { wall_ms: moment.wall.0, boot_ms: moment.boot.0, boot_id: moment.boot_id.0 }
    }
}

/// Spells out an enumeration that stands both in the contract and in [`model`].
macro_rules! same_cases {
    ($name:ident { $($case:ident),* $(,)? }) => {
        impl From<model::$name> for $name {
            fn from(value: model::$name) -> Self {
                match value { $(model::$name::$case => Self::$case),* }
            }
        }
        impl From<$name> for model::$name {
            fn from(value: $name) -> Self {
                match value { $($name::$case => Self::$case),* }
            }
        }
    };
}

same_cases!(FailureClass {
    Dns,
    Refused,
    Timeout,
    Auth,
    NotFound,
    Gone,
    Throttled,
    Server,
    Oversize,
    Redirect,
    Decode,
    Signature,
    Schema,
    Expiry,
    Rollback,
});

/// The name of an enumeration's case as the contract spells it: `PastSoftPoint` is `past-soft-point`.
pub fn case_name(case: &impl std::fmt::Debug) -> String {
    let spelled = format!("{case:?}");
    // Generated enumerations print as `Type::Case`; a payload is not part of the name.
    let case = spelled.rsplit("::").next().unwrap_or(&spelled);
    let case = case.split(['(', ' ', '{']).next().unwrap_or(case);
    let mut name = String::with_capacity(case.len() + 4);
    for (position, character) in case.chars().enumerate() {
        if character.is_ascii_uppercase() && position > 0 {
            name.push('-');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}
