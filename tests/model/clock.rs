//! Clocks for the model: moved by hand, so that a day costs nothing; they can be stepped, suspended and started anew.
//!
//! The virtual clock of the rig follows tokio's and cannot begin a boot at zero; this one can. It also has a flaw that
//! may be switched on, a boot clock that steps along with the wall clock, to show that the model notices.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use cortex_mcp::edge::clock::Clock;
use cortex_mcp::model::{BootId, BootMs, WallMs};

/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;

/// How long a machine has been up when its gateway starts.
const UPTIME: u64 = 20_000;

/// A moment on both clocks, as the model notes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) wall: u64,
    pub(crate) boot: u64,
    pub(crate) boot_id: u64,
}

/// The clocks.
#[derive(Debug)]
pub(crate) struct ModelClock {
    wall: AtomicI64,
    boot: AtomicU64,
    boot_id: AtomicU64,
    /// The wall clock of somebody else, which is never wrong.
    truth: AtomicU64,
    flawed: AtomicBool,
}

impl ModelClock {
    pub(crate) fn new() -> Self {
        Self {
            wall: AtomicI64::new(START),
            boot: AtomicU64::new(UPTIME),
            boot_id: AtomicU64::new(1),
            truth: AtomicU64::new(START.unsigned_abs()),
            flawed: AtomicBool::new(false),
        }
    }

    /// From now on the boot clock steps along with the wall clock, as no boot clock may.
    pub(crate) fn break_boot_clock(&self) {
        self.flawed.store(true, Ordering::Relaxed);
    }

    /// Time passes.
    pub(crate) fn pass(&self, milliseconds: u64) {
        self.boot.fetch_add(milliseconds, Ordering::Relaxed);
        self.wall.fetch_add(milliseconds as i64, Ordering::Relaxed);
        self.truth.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn step_wall(&self, milliseconds: i64) {
        self.wall.fetch_add(milliseconds, Ordering::Relaxed);
        if self.flawed.load(Ordering::Relaxed) {
            let boot = self.boot.load(Ordering::Relaxed);
            self.boot.store(boot.saturating_add_signed(milliseconds), Ordering::Relaxed);
        }
    }

    /// How far the wall clock is off.
    pub(crate) fn wrong_by(&self) -> i64 {
        self.wall.load(Ordering::Relaxed) - self.truth() as i64
    }

    /// The machine is off for a while, and starts again: the boot clock begins anew under another id.
    pub(crate) fn reboot(&self, off: u64) {
        self.wall.fetch_add(off as i64, Ordering::Relaxed);
        self.truth.fetch_add(off, Ordering::Relaxed);
        self.boot.store(UPTIME, Ordering::Relaxed);
        self.boot_id.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks something as it would be asked so much later.
    pub(crate) fn later<R>(&self, milliseconds: u64, ask: impl FnOnce() -> R) -> R {
        self.boot.fetch_add(milliseconds, Ordering::Relaxed);
        self.wall.fetch_add(milliseconds as i64, Ordering::Relaxed);
        let answer = ask();
        self.boot.fetch_sub(milliseconds, Ordering::Relaxed);
        self.wall.fetch_sub(milliseconds as i64, Ordering::Relaxed);
        answer
    }

    /// The time of somebody whose clock is right: the origin.
    pub(crate) fn truth(&self) -> u64 {
        self.truth.load(Ordering::Relaxed)
    }

    /// Now.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { wall: self.wall().0, boot: self.boot().0, boot_id: self.boot_id().0 }
    }
}

impl Clock for ModelClock {
    fn wall(&self) -> WallMs {
        WallMs(u64::try_from(self.wall.load(Ordering::Relaxed)).unwrap_or(0))
    }

    fn boot(&self) -> BootMs {
        BootMs(self.boot.load(Ordering::Relaxed))
    }

    fn boot_id(&self) -> BootId {
        BootId(self.boot_id.load(Ordering::Relaxed))
    }
}
