//! Every bound of the sandbox, in one place. Changing one changes what a recorded decision replays to: the header of a
//! trace names them.

use std::time::Duration;

use super::record::Function;

/// Greatest size of a component file. Interpreter-based policies are the largest: a Python one has 18 MiB.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;

/// How long compiling a component may take. Interpreter-based policies take 3 to 6 s on two cores.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(60);

/// Greatest linear memory of an instance.
pub const MEMORY_BYTES_MAX: usize = 64 << 20;

/// Greatest number of table elements of an instance.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Greatest number of core instances, memories and tables in one component: stacked policies have several of each.
pub const INSTANCES_MAX: usize = 64;

/// Greatest number of bytes that one call may hand to the host.
pub const RESULT_BYTES_MAX: usize = 16 << 20;

/// Fuel for making an instance, start functions included.
pub const INSTANTIATION_FUEL: u64 = 200_000_000;

/// Fuel of a call before its items are counted: some ten thousand times what a decision of the default takes.
pub const CALL_FUEL_BASE: u64 = 20_000_000;

/// Fuel per item of a call's lists. A cold merge in the default takes about 9,000 an entry.
pub const CALL_FUEL_PER_ITEM: u64 = 100_000;

/// Greatest memo of a state.
pub const MEMO_BYTES_MAX: usize = 4096;

/// Faults in a row after which the embedded default decides until the next swap.
pub const FAULTS_IN_A_ROW_MAX: u32 = 5;

/// Used instances of the embedded default that are kept for the next call.
pub const IDLE_INSTANCES_MAX: usize = 8;

/// The fuel of one call: a function of what is recorded, so that a replay has the same.
pub fn call_fuel(function: Function, items: usize) -> u64 {
    let items = u64::try_from(items).unwrap_or(u64::MAX);
    let per_item = match function {
        Function::Adopt | Function::Merge | Function::Plan => CALL_FUEL_PER_ITEM,
        _ => 0,
    };
    CALL_FUEL_BASE.saturating_add(items.saturating_mul(per_item))
}
