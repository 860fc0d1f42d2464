//! The machines that a world can run on, as far as a world has to know them.

use std::sync::Arc;

use cortex_mcp::edge::disk::Disk;

use crate::support::crash_disk::CrashDisk;
use crate::support::turmoil_disk::TurmoilDisk;

/// A process's view of a machine that can be crashed.
pub(crate) trait Machine: Clone + Send + 'static {
    /// Whether one process may end alone.
    const KILLS: bool;

    fn disk(&self) -> Arc<dyn Disk>;
    fn process(&self) -> Self;
    fn kill(&self);
    fn operations(&self) -> u64;
    fn crash_at(&self, operation: u64);
    fn is_down(&self) -> bool;
    fn recover(&self, seed: u64) -> Self;
    fn set_wall_ns(&self, wall_ns: u64);
    /// Has somebody cut in before a call, where that is possible.
    fn before(&self, operation: u64, work: Box<dyn FnOnce() + Send>);
    fn keep_log(&self);
    fn log(&self) -> String;
}

impl Machine for CrashDisk {
    const KILLS: bool = true;

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn process(&self) -> Self {
        self.process()
    }

    fn kill(&self) {
        self.kill();
    }

    fn operations(&self) -> u64 {
        self.operations()
    }

    fn crash_at(&self, operation: u64) {
        self.crash_at(operation);
    }

    fn is_down(&self) -> bool {
        self.is_dead()
    }

    fn recover(&self, seed: u64) -> Self {
        self.recover(seed)
    }

    fn set_wall_ns(&self, wall_ns: u64) {
        self.set_wall_ns(wall_ns);
    }

    fn before(&self, operation: u64, work: Box<dyn FnOnce() + Send>) {
        self.before(operation, work);
    }

    fn keep_log(&self) {
        self.keep_log();
    }

    fn log(&self) -> String {
        self.log()
    }
}

impl Machine for TurmoilDisk {
    const KILLS: bool = false;

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn process(&self) -> Self {
        self.clone()
    }

    fn kill(&self) {}

    fn operations(&self) -> u64 {
        self.operations()
    }

    fn crash_at(&self, operation: u64) {
        self.crash_at(operation);
    }

    fn is_down(&self) -> bool {
        self.is_dead()
    }

    fn recover(&self, _seed: u64) -> Self {
        self.recover()
    }

    fn set_wall_ns(&self, wall_ns: u64) {
        self.set_wall_ns(wall_ns);
    }

    fn before(&self, _operation: u64, _work: Box<dyn FnOnce() + Send>) {}

    fn keep_log(&self) {}

    fn log(&self) -> String {
        String::new()
    }
}
