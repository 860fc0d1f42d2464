//! What is specific to Linux: the watcher process, privileges, and hiding a process from others.
//!
//! The gateway starts one **watcher**: its own binary with a hidden argument, an empty environment and one socket. For each
//! child the gateway hands the watcher a control socket, the command (in memory, so that its size does not matter) and the
//! ends of three pipes; the watcher forks a **shim** for it. The shim starts the command and is the subreaper of
//! everything below it, so that what the command starts stays its descendant, also after a double fork and in a session
//! of its own. The shim reports how the command ended, and ends the whole tree when it is asked to, or when the gateway's
//! end of its control socket is closed by whatever the gateway ended by. It is done when the kernel has no child left
//! for it.
//!
//! The watcher is a subreaper too: what a shim that was killed leaves behind is ended by the watcher, and the command
//! itself by `PR_SET_PDEATHSIG`. A watcher that was killed leaves its shims at work, each on its own socket; the gateway
//! starts another one for the next child.
//!
//! Watcher and shims have one thread each, hold no secret but the commands that they start, and cannot be read by their
//! children ([`hide_process`]).

mod client;
mod privileges;
mod shim;
mod signals;
mod tree;
mod watcher;
mod wire;

pub(super) use self::client::Watcher;
pub(super) use self::privileges::drop_privileges;
pub use self::privileges::hide_process;
pub use self::watcher::run_watcher_if_asked;
