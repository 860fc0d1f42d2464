//! A clock that is moved by hand: no test waits.

use std::sync::atomic::{AtomicU64, Ordering};

use cortex_mcp::edge::clock::Clock;
use cortex_mcp::model::{BootId, BootMs, WallMs};

/// 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600_000;

/// Both clocks of a machine.
#[derive(Debug)]
pub(crate) struct HandClock {
    wall: AtomicU64,
    boot: AtomicU64,
    boot_id: AtomicU64,
}

impl HandClock {
    pub(crate) fn new() -> Self {
        Self { wall: AtomicU64::new(START), boot: AtomicU64::new(20_000), boot_id: AtomicU64::new(1) }
    }

    /// Time passes.
    pub(crate) fn pass(&self, milliseconds: u64) {
        self.wall.fetch_add(milliseconds, Ordering::Relaxed);
        self.boot.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// Sets the wall clock.
    pub(crate) fn set(&self, wall_ms: u64) {
        self.wall.store(wall_ms, Ordering::Relaxed);
    }

    /// The machine starts anew.
    pub(crate) fn reboot(&self) {
        self.wall.fetch_add(30_000, Ordering::Relaxed);
        self.boot.store(5_000, Ordering::Relaxed);
        self.boot_id.fetch_add(1, Ordering::Relaxed);
    }

    /// The wall clock in nanoseconds, as files are stamped.
    pub(crate) fn wall_ns(&self) -> u64 {
        self.wall.load(Ordering::Relaxed) * 1_000_000
    }
}

impl Clock for HandClock {
    fn wall(&self) -> WallMs {
        WallMs(self.wall.load(Ordering::Relaxed))
    }

    fn boot(&self) -> BootMs {
        BootMs(self.boot.load(Ordering::Relaxed))
    }

    fn boot_id(&self) -> BootId {
        BootId(self.boot_id.load(Ordering::Relaxed))
    }
}
