//! How a policy can fail: to load, or in a call.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::Trap;

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
    /// It is no regular file.
    #[error(
        "the policy {path} is a folder, a pipe or a device: write the component to a regular file and name that; it is \
         read anew whenever the configuration is"
    )]
    NotAFile {
        /// What was named.
        path: String,
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
    /// A function of it is too large.
    #[error("a function of the policy has {bytes} bytes of code; at most {} are accepted", limits::FUNCTION_BYTES_MAX)]
    FunctionTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The control flow of a function would make the compiler carry too many values.
    #[error(
        "a function of the policy has too many local variables for its many branches: at most {} values may meet",
        limits::FUNCTION_COPIES_MAX
    )]
    FunctionTooTangled,
    /// A function gives too many results.
    #[error("a function of the policy has {results} results; at most {} are accepted", limits::FUNCTION_RESULTS_MAX)]
    TooManyResults {
        /// Their number.
        results: usize,
    },
    /// It has too many functions.
    #[error("the policy has too many functions: at most {} are accepted", limits::FUNCTIONS_MAX)]
    TooManyFunctions,
    /// Its components and modules are nested too deeply.
    #[error("the policy's components are nested too deeply: at most {} levels are accepted", limits::NESTING_MAX)]
    NestedTooDeeply,
    /// It takes too long to compile.
    #[error("the policy did not compile within {limit:?} and was given up")]
    CompileTime {
        /// The limit.
        limit: Duration,
    },
    /// Another one that was given up is still being compiled.
    #[error(
        "no policy can be compiled now: one that took too long and was given up still occupies the compiler; try again \
         when it has ended, or restart the gateway"
    )]
    CompileBusy,
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
    /// It was refused more memory, or a larger table, and gave up.
    #[error(
        "it ran out of memory: it may have {} bytes and {} table elements",
        limits::MEMORY_BYTES_MAX,
        limits::TABLE_ELEMENTS_MAX
    )]
    OutOfMemory,
    /// It reached for memory that it does not have. A stack that the policy keeps in its own memory ends so when it
    /// overflows.
    #[error("it reached outside of its memory, as deep recursion does")]
    OutOfBounds,
    /// Any other trap: its code.
    #[error("it trapped: {0}")]
    Trapped(String),
    /// It called an import outside a decision.
    #[error("it called an import outside a decision")]
    ImportOutsideDecision,
    /// No instance of it can be made, for a reason other than a trap.
    #[error("no instance of it can be made: {0}")]
    NoInstance(String),
    /// Its result is larger than allowed.
    #[error("its result is too large: at most {} bytes are taken", limits::RESULT_BYTES_MAX)]
    ResultTooLarge,
    /// Its result breaks the contract.
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

impl Fault {
    /// How a call failed. `refused`: the instance was refused memory before.
    pub(super) fn of_call(error: &wasmtime::Error, refused: bool) -> Self {
        match Self::of_trap(error, refused) {
            Some(fault) => fault,
            None if error.root_cause().to_string().contains(RESULT_TOO_LARGE) => Self::ResultTooLarge,
            None => Self::BadResult(error.root_cause().to_string()),
        }
    }

    /// How making an instance failed.
    pub(super) fn of_instantiation(error: &wasmtime::Error, refused: bool) -> Self {
        match Self::of_trap(error, refused) {
            Some(fault) => fault,
            None if refused => Self::OutOfMemory,
            None => Self::NoInstance(error.root_cause().to_string()),
        }
    }

    fn of_trap(error: &wasmtime::Error, refused: bool) -> Option<Self> {
        if error.downcast_ref::<ImportOutsideDecision>().is_some() {
            return Some(Self::ImportOutsideDecision);
        }
        error.downcast_ref::<Trap>().map(|trap| match trap {
            Trap::OutOfFuel => Self::OutOfFuel,
            Trap::StackOverflow => Self::StackOverflow,
            Trap::MemoryOutOfBounds => Self::OutOfBounds,
            // How a language's runtime ends when its allocator fails.
            Trap::UnreachableCodeReached if refused => Self::OutOfMemory,
            Trap::UnreachableCodeReached => Self::Panicked,
            trap => Self::Trapped(trap.to_string()),
        })
    }
}

/// What the engine says when a call hands over more than [`limits::RESULT_BYTES_MAX`]: it has no public type for it.
const RESULT_TOO_LARGE: &str = "fuel allocated for hostcalls has been exhausted";

/// Neither the deployed policy nor the embedded default made a decision. The caller keeps what it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no decision on {subject}: {fault}")]
pub struct NoDecision {
    /// What was to be decided about.
    pub subject: String,
    /// The last fault.
    pub fault: Fault,
}
