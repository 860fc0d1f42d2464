//! Time: a wall clock that may step, a boot clock that never does, and waiting.
//!
//! The boot clock counts suspended time (`CLOCK_BOOTTIME`), which `std::time::Instant` does not; a timer set for a
//! boot time therefore looks again every [`LONGEST_NAP`], so that it fires soon after the machine wakes up.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::model::{BootId, BootMs, Digest, Moment, WallMs, milliseconds};

/// How long a timer sleeps at most before it reads the boot clock again.
pub const LONGEST_NAP: Duration = Duration::from_secs(5);

/// Both clocks.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn wall(&self) -> WallMs;
    /// The boot clock.
    fn boot(&self) -> BootMs;
    /// Which boot of the machine this is.
    fn boot_id(&self) -> BootId;

    /// Both at once.
    fn now(&self) -> Moment {
        Moment { wall: self.wall(), boot: self.boot(), boot_id: self.boot_id() }
    }
}

impl dyn Clock {
    /// Returns when the boot clock reaches `due`.
    pub fn sleep_until(self: &std::sync::Arc<Self>, due: BootMs) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let remaining = due.since(clock.boot());
                if remaining.is_zero() {
                    return;
                }
                tokio::time::sleep(remaining.min(LONGEST_NAP)).await;
            }
        })
    }

    /// Like `sleep_until`; without a time it never returns.
    pub fn sleep_until_some(self: &std::sync::Arc<Self>, due: Option<BootMs>) -> BoxFuture<'static, ()> {
        match due {
            Some(due) => self.sleep_until(due),
            None => Box::pin(std::future::pending()),
        }
    }
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: BootId,
}

impl SystemClock {
    /// Reads the boot id once; where the system tells none, the wall-clock time of the boot stands in for it.
    pub fn new() -> Self {
        let boot_id = match std::fs::read("/proc/sys/kernel/random/boot_id") {
            Ok(id) => fold(&Digest::of(&id)),
            Err(_) => system_wall().0.saturating_sub(system_boot().0) / 10_000,
        };
        Self { boot_id: BootId(boot_id) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> WallMs {
        system_wall()
    }

    fn boot(&self) -> BootMs {
        system_boot()
    }

    fn boot_id(&self) -> BootId {
        self.boot_id
    }
}

/// Clocks that follow tokio's, and that a test can step, suspend and reboot.
///
/// Under a paused runtime they stand still until every task waits, and then jump to the next timer.
#[derive(Debug)]
pub struct VirtualClock {
    origin: Instant,
    wall_at_origin: AtomicI64,
    suspended: AtomicU64,
    boot_id: AtomicU64,
}

impl VirtualClock {
    /// Clocks that show `wall` and an hour of uptime now.
    pub fn starting_at(wall: WallMs) -> Self {
        Self {
            origin: Instant::now(),
            wall_at_origin: AtomicI64::new(wall.0 as i64),
            suspended: AtomicU64::new(UPTIME_AT_ORIGIN),
            boot_id: AtomicU64::new(1),
        }
    }

    /// Steps the wall clock, and only it.
    pub fn step_wall(&self, milliseconds: i64) {
        self.wall_at_origin.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// Suspends the machine: both clocks move on, no timer does.
    pub fn suspend(&self, duration: Duration) {
        let milliseconds = milliseconds(duration);
        self.suspended.fetch_add(milliseconds, Ordering::SeqCst);
        self.wall_at_origin.fetch_add(milliseconds as i64, Ordering::SeqCst);
    }

    /// Starts another boot: from now on the boot id is another one.
    pub fn reboot(&self) {
        self.boot_id.fetch_add(1, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn wall(&self) -> WallMs {
        let wall =
            self.wall_at_origin.load(Ordering::SeqCst).saturating_add(milliseconds(self.origin.elapsed()) as i64);
        WallMs(u64::try_from(wall).unwrap_or(0))
    }

    fn boot(&self) -> BootMs {
        BootMs(self.suspended.load(Ordering::SeqCst).saturating_add(milliseconds(self.origin.elapsed())))
    }

    fn boot_id(&self) -> BootId {
        BootId(self.boot_id.load(Ordering::SeqCst))
    }
}

const UPTIME_AT_ORIGIN: u64 = 3_600_000;

fn system_wall() -> WallMs {
    WallMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds))
}

fn system_boot() -> BootMs {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    BootMs(u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// The first 13 hexadecimal digits: 52 bits, which every language's numbers hold.
fn fold(digest: &Digest) -> u64 {
    u64::from_str_radix(&digest.short(13), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_fires_soon_after_the_machine_wakes_up() {
        let clock = Arc::new(VirtualClock::starting_at(WallMs(1_000_000)));
        let timer: Arc<dyn Clock> = clock.clone();
        let due = clock.boot().plus(Duration::from_secs(3600));
        let asleep = tokio::spawn(timer.sleep_until(due));
        tokio::time::sleep(Duration::from_secs(1)).await;
        clock.suspend(Duration::from_secs(3600));
        asleep.await.unwrap();
        assert!(clock.boot().since(due) <= LONGEST_NAP + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_leaves_the_boot_clock_alone() {
        let clock = VirtualClock::starting_at(WallMs(1_000_000));
        let before = clock.boot();
        clock.step_wall(-500_000);
        assert_eq!((clock.wall(), clock.boot()), (WallMs(500_000), before));
    }

    #[test]
    fn the_system_boot_id_fits_53_bits() {
        assert!(SystemClock::new().boot_id().0 < 1 << 53);
    }
}
