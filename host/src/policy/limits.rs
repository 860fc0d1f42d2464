//! Every bound of the sandbox, in one place. Changing one changes what a recorded decision replays to: the header of a
//! trace names them.

use std::time::Duration;

use super::function::Function;

/// Greatest size of a component file. Interpreter-based policies are the largest: a Python one has 18 MiB.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;

/// Greatest number of functions in a component, nested ones included. JavaScript engines have 20,000.
pub const FUNCTIONS_MAX: usize = 200_000;

/// Greatest size of one function's body. One function is compiled by one thread, in memory that grows with it. The
/// greatest one of CPython has 427,000 bytes, of a JavaScript engine 172,000.
pub const FUNCTION_BYTES_MAX: usize = 1 << 20;

/// Greatest number of values that compiling one function has to carry to the places where its control flow meets. Each
/// costs the compiler about a KiB: a function of 20 KB can be written that takes it gigabytes. The greatest number in
/// CPython or a JavaScript engine is 128,144.
pub const FUNCTION_COPIES_MAX: usize = 400_000;

/// Greatest number of results of a function type. Compilers give one.
pub const FUNCTION_RESULTS_MAX: usize = 16;

/// How deeply components and modules may be nested. Each policy of a stack adds one or two.
pub const NESTING_MAX: usize = 64;

/// How long compiling a component may take. Interpreter-based policies take 3 to 6 s on two cores.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(60);

/// Greatest number of threads that compile a component. Each may need as much memory as the worst function that the
/// bounds above let through: 1.2 GiB, measured.
pub const COMPILE_THREADS_MAX: usize = 2;

/// The stack of a thread that compiles.
pub const COMPILE_STACK_BYTES: usize = 8 << 20;

/// The niceness of threads that compile a deployed component: against one busy thread each of the gateway they get a
/// tenth of a processor. Not the greatest: a policy that is worth having has to be compiled in time on a busy machine.
pub const COMPILE_NICENESS: i32 = 10;

/// The niceness of threads whose result nobody waits for any more: the greatest that there is.
pub const GIVEN_UP_NICENESS: i32 = 19;

/// Greatest linear memory of an instance, all of its memories together.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Greatest number of table elements of an instance, all of its tables together.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Greatest number of core instances, memories and tables in one component: stacked policies have several of each.
pub const INSTANCES_MAX: usize = 64;

/// Greatest number of bytes that one call may hand to the host.
pub const RESULT_BYTES_MAX: usize = 16 << 20;

/// Fuel for making an instance, start functions included.
pub const INSTANTIATION_FUEL: u64 = 200_000_000;

/// Fuel of a call before its items are counted: some ten thousand times what a decision of the default takes, and thirty
/// times what one takes that is interpreted (QuickJS: up to 600,000).
pub const CALL_FUEL_BASE: u64 = 20_000_000;

/// Fuel per item of a call's lists. A cold merge in the default takes about 9,000 an entry, one in a policy that is
/// interpreted (QuickJS) 88,000 of two thousand and 98,000 of ten thousand: more than twice that.
pub const CALL_FUEL_PER_ITEM: u64 = 250_000;

/// Greatest memo of a state.
pub const MEMO_BYTES_MAX: usize = 4096;

/// Faults in a row after which the embedded default decides until the next swap.
pub const FAULTS_IN_A_ROW_MAX: u32 = 5;

/// Used instances of the embedded default that are kept for the next call.
pub const IDLE_INSTANCES_MAX: usize = 8;

/// How much more fuel than today's budget a record may name and still be made again: budgets grow from version to version,
/// and a record from elsewhere must not keep a replay busy for ever.
pub const REPLAY_FUEL_FACTOR: u64 = 10;

/// The fuel of one call: a function of what is recorded, so that a replay has the same.
pub fn call_fuel(function: Function, items: usize) -> u64 {
    let items = u64::try_from(items).unwrap_or(u64::MAX);
    let per_item = match function {
        Function::Adopt | Function::Merge | Function::Plan => CALL_FUEL_PER_ITEM,
        _ => 0,
    };
    CALL_FUEL_BASE.saturating_add(items.saturating_mul(per_item))
}

/// Compiled code that is read from the cache, in bytes: some twenty times that of the embedded default.
pub const COMPILED_BYTES_MAX: usize = 16 << 20;
