//! Where time and randomness come from.
//!
//! Decisions receive an [`Environment`] and nothing else from the outside. In the component it is the two imports; in
//! the native twin it is [`Recorded`], built from what a trace record holds. Both clocks stand still for the length of
//! one decision. Nothing here may read a clock or an entropy source of the machine.

use crate::limits::{ALL_PERMILLE, TIME_MAX_MS};

/// Time and randomness, as the host deals them to one decision.
pub trait Environment {
    /// Milliseconds since the Unix epoch, by the wall clock.
    fn wall_ms(&mut self) -> u64;
    /// Milliseconds of a clock that never steps and counts suspended time, since this boot.
    fn boot_ms(&mut self) -> u64;
    /// Thirty-two uniform bits.
    fn random(&mut self) -> u32;
}

/// SplitMix64 (Steele, Lea and Flood 2014): the generator that the host feeds `random.next` from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator for one decision, from the seed in its record.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64-bit output of the published algorithm.
    pub const fn draw_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// What `random.next` answers: the high 32 bits of the next output.
    pub const fn draw(&mut self) -> u32 {
        (self.draw_u64() >> 32) as u32
    }
}

/// The environment of a recorded decision: two times and a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The wall clock, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// The boot clock, in milliseconds.
    pub boot_ms: u64,
    /// The generator behind [`Environment::random`].
    pub random: SplitMix64,
}

impl Recorded {
    /// The environment that a record with these times and this seed describes.
    #[must_use]
    pub const fn new(wall_ms: u64, boot_ms: u64, seed: u64) -> Self {
        Self { wall_ms, boot_ms, random: SplitMix64::new(seed) }
    }
}

impl Environment for Recorded {
    fn wall_ms(&mut self) -> u64 {
        self.wall_ms
    }
    fn boot_ms(&mut self) -> u64 {
        self.boot_ms
    }
    fn random(&mut self) -> u32 {
        self.random.draw()
    }
}

/// A whole number in `[0, greatest]`, from exactly one draw.
///
/// Widening multiplication of 32 bits. The bias is at most one part in `2^32 / (greatest + 1)`: below 2 % for a day in
/// milliseconds, which spreads a fleet just as well; above `2^32` not every number can come up.
pub fn uniform(environment: &mut dyn Environment, greatest: u64) -> u64 {
    let wide = u128::from(environment.random()) * (u128::from(greatest) + 1);
    // Below 2^64, because the draw is below 2^32.
    (wide >> 32) as u64
}

/// A whole number in `[least, greatest]`, from exactly one draw; `least` if the bounds cross.
pub fn uniform_between(environment: &mut dyn Environment, least: u64, greatest: u64) -> u64 {
    least.saturating_add(uniform(environment, greatest.saturating_sub(least)))
}

/// `value * permille / 1000`, rounded down, at most `u64::MAX`.
#[must_use]
pub fn share(value: u64, permille: u64) -> u64 {
    let wide = u128::from(value) * u128::from(permille) / u128::from(ALL_PERMILLE);
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// A duration of `value` milliseconds, plus or minus `permille` of it (more than 1000 counts as 1000).
pub fn jitter(environment: &mut dyn Environment, value: u64, permille: u32) -> u64 {
    let spread = share(value, u64::from(permille).min(ALL_PERMILLE));
    uniform_between(environment, value.saturating_sub(spread), value.saturating_add(spread))
}

/// A duration from half of `ceiling` to all of it: half fixed, half random ("equal jitter", reliability.md 6.1).
pub fn equal_jitter(environment: &mut dyn Environment, ceiling: u64) -> u64 {
    uniform_between(environment, ceiling / 2, ceiling)
}

/// `first * 2^(count - 1)`, at most `longest`. A count of zero counts as one.
#[must_use]
pub fn exponential(first: u64, longest: u64, count: u32) -> u64 {
    let doublings = count.saturating_sub(1).min(63);
    let wide = u128::from(first) << doublings;
    u64::try_from(wide).unwrap_or(u64::MAX).min(longest)
}

/// The moment `delay` milliseconds after `now`, kept below 2^53 as the contract demands of every time.
#[must_use]
pub fn after(now: u64, delay: u64) -> u64 {
    now.saturating_add(delay).min(TIME_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_generator_gives_the_published_sequence() {
        // Reference outputs of splitmix64.c (Vigna) for seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.draw_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.draw_u64(), 3_203_168_211_198_807_973);
        assert_eq!(SplitMix64::new(1_234_567).draw(), (6_457_827_717_110_365_317_u64 >> 32) as u32);
    }

    #[test]
    fn a_uniform_draw_reaches_both_ends_and_costs_one_draw() {
        let mut environment = Recorded::new(0, 0, 9);
        let mut seen = [false; 4];
        for _ in 0..200 {
            seen[uniform(&mut environment, 3) as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
        let mut once = Recorded::new(0, 0, 5);
        let _ = uniform(&mut once, 0);
        let mut reference = SplitMix64::new(5);
        let _ = reference.draw();
        assert_eq!(once.random, reference);
    }

    #[test]
    fn exponential_backoff_doubles_up_to_its_cap() {
        let steps: Vec<u64> = (0..9).map(|count| exponential(500, 60_000, count)).collect();
        assert_eq!(steps, [500, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
        assert_eq!(exponential(u64::MAX, u64::MAX, u32::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn draws_stay_within_their_bounds(seed: u64, least: u64, greatest: u64, permille: u32) {
            let mut environment = Recorded::new(0, 0, seed);
            prop_assert!(uniform(&mut environment, greatest) <= greatest);
            let between = uniform_between(&mut environment, least, greatest);
            prop_assert!(between >= least && between <= greatest.max(least));
            let halved = equal_jitter(&mut environment, greatest);
            prop_assert!(halved >= greatest / 2 && halved <= greatest);
            let _ = jitter(&mut environment, greatest, permille);
        }

        #[test]
        fn jitter_keeps_to_its_share(seed: u64, value in 0_u64..1 << 53, permille in 0_u32..=1000) {
            let drawn = jitter(&mut Recorded::new(0, 0, seed), value, permille);
            let spread = share(value, u64::from(permille));
            prop_assert!(drawn >= value - spread && drawn <= value + spread);
        }
    }
}
