//! How a policy can fail: to load, or in a call.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits;

/// A component that is no usable policy. The messages say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file can not be read.
    #[error("the policy {path} can not be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no usable policy.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        reason: Box<PolicyError>,
    },
    /// The file is too large.
    #[error("the policy is too large: at most {} bytes are accepted", limits::COMPONENT_BYTES_MAX)]
    TooLarge,
    /// The bytes are no component.
    #[error("this is not a WebAssembly component{hint}")]
    NotAComponent {
        /// What it seems to be instead.
        hint: &'static str,
    },
    /// It imports something that a policy may not import.
    #[error(
        "the policy imports {name}; a policy may import only cortex:policy/clock and cortex:policy/random \
         (and the function-less cortex:policy/types)"
    )]
    ForbiddenImport {
        /// The import.
        name: String,
    },
    /// It was built for another version of the contract.
    #[error("the policy uses {name}; this gateway speaks cortex:policy@0.1: rebuild the policy against its WIT")]
    OtherVersion {
        /// The interface.
        name: String,
    },
    /// It lacks an interface.
    #[error(
        "the policy does not export {name}; it must export scheduling, caching and registry of cortex:policy@0.1.0"
    )]
    MissingExport {
        /// The interface.
        name: String,
    },
    /// Its interfaces have other types.
    #[error("the policy's interfaces are not those of the contract: {reason}")]
    OtherTypes {
        /// What the engine says.
        reason: String,
    },
    /// It can not be compiled.
    #[error("the policy can not be compiled: {reason}")]
    Compile {
        /// What the engine says.
        reason: String,
    },
    /// It takes too long to compile.
    #[error("the policy did not compile within {} s", .limit.as_secs())]
    CompileTime {
        /// The limit.
        limit: Duration,
    },
    /// It can not be instantiated.
    #[error("the policy can not be instantiated: {0}")]
    Instantiate(Fault),
    /// The engine can not be set up on this machine.
    #[error("the WebAssembly engine can not be set up: {reason}")]
    Engine {
        /// What the engine says.
        reason: String,
    },
}

/// A policy's failure in one call. It costs that decision, which the embedded default then makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "detail")]
#[non_exhaustive]
pub enum Fault {
    /// It ran out of fuel.
    #[error("it ran out of fuel")]
    OutOfFuel,
    /// It overflowed its stack.
    #[error("it overflowed its stack")]
    StackOverflow,
    /// It hit an `unreachable`: a panic.
    #[error("it panicked")]
    Panicked,
    /// Any other trap: its code.
    #[error("it trapped: {0}")]
    Trapped(String),
    /// It called an import outside a decision.
    #[error("it called an import outside a decision")]
    ImportOutsideDecision,
    /// Its result breaks the contract, or is larger than allowed.
    #[error("its result can not be taken: {0}")]
    BadResult(String),
    /// Its memo is larger than allowed.
    #[error("its memo has {0} bytes; at most {max} are kept", max = limits::MEMO_BYTES_MAX)]
    MemoTooLarge(usize),
}

/// A call called an import while no decision was being made.
#[derive(Debug, thiserror::Error)]
#[error("an import was called outside a decision")]
pub(super) struct ImportOutsideDecision;

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        if error.downcast_ref::<ImportOutsideDecision>().is_some() {
            return Self::ImportOutsideDecision;
        }
        match error.downcast_ref::<wasmtime::Trap>() {
            Some(wasmtime::Trap::OutOfFuel) => Self::OutOfFuel,
            Some(wasmtime::Trap::StackOverflow) => Self::StackOverflow,
            Some(wasmtime::Trap::UnreachableCodeReached) => Self::Panicked,
            Some(trap) => Self::Trapped(trap.to_string()),
            None => Self::BadResult(error.root_cause().to_string()),
        }
    }
}

/// Neither the deployed policy nor the embedded default made a decision. The caller keeps what it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no decision on {subject}: {fault}")]
pub struct NoDecision {
    /// What was to be decided about.
    pub subject: String,
    /// The last fault.
    pub fault: Fault,
}
