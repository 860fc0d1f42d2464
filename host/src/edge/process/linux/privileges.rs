//! What a child may not do: read other processes of its user that hide, or gain what its user has not.

use std::io;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// Hides the memory, environment and descriptors of this process from other processes of its user
/// (`PR_SET_DUMPABLE`): its files in `/proc` belong to root, and only a process with `CAP_SYS_PTRACE` can read them.
/// It leaves no core dump either. What it reads of itself is not affected.
pub fn hide_process() {
    // The kernel refuses this value to no process.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Drops every capability of the calling thread, for good: also programs that are setuid or have capabilities of their
/// own, and all programs of root, run without. Makes system calls only.
///
/// # Errors
/// The system's.
pub(in crate::edge::process) fn drop_privileges() -> io::Result<()> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The first number that is no capability, or no right to drop any. What follows suffices: the bounding set
            // is a second line.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // Kernels before 4.3 have no ambient set.
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_no_new_privs(true)?)
}
