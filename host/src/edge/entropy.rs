//! Where chance comes from: seeds, one for each decision and recorded with it, and names that nobody can guess.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::Digest;

/// A source of seeds.
pub trait Entropy: Send + Sync + 'static {
    /// A seed below 2^53, so that every language's numbers hold it. Seeds are recorded: never use one as a secret.
    fn seed(&self) -> u64;

    /// A name that nobody can guess: 128 bits, as 32 hexadecimal digits. They are made of draws of their own.
    fn unguessable(&self) -> String {
        let drawn: Vec<u8> = (0..3).flat_map(|_| self.seed().to_le_bytes()).collect();
        Digest::of(&drawn).short(32)
    }
}

/// Seeds from the operating system. Each call of a tool needs two: many are drawn at a time, since the system call costs more
/// than the draw.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl SystemEntropy {
    /// Seeds of one system call: the kernel answers requests of up to 256 bytes whole.
    const DRAWN: usize = 256 / size_of::<u64>();
}

/// What was drawn and is not used yet.
static DRAWN: Mutex<Vec<u64>> = Mutex::new(Vec::new());

impl Entropy for SystemEntropy {
    fn seed(&self) -> u64 {
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.is_empty() {
            let mut bytes = [0; Self::DRAWN * size_of::<u64>()];
            // Before the kernel's generator is initialised, zeros would only make jitter predictable, never a decision
            // wrong.
            let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
            drawn.extend(
                bytes.chunks_exact(size_of::<u64>()).filter_map(|seed| Some(u64::from_le_bytes(seed.try_into().ok()?))),
            );
        }
        drawn.pop().unwrap_or_default() & SEED_MASK
    }
}

/// 256 bits that nobody can guess: for a token. There are no virtual ones.
///
/// # Errors
/// If the kernel's generator does not give them all.
pub fn secret() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // It answers short requests whole once it is initialised, and waits until then.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())? {
        32 => Ok(bytes),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Seeds that follow from one number: the same run, again.
#[derive(Debug)]
pub struct VirtualEntropy(AtomicU64);

impl VirtualEntropy {
    /// The sequence that belongs to `number`.
    pub fn from_number(number: u64) -> Self {
        Self(AtomicU64::new(number))
    }
}

impl Entropy for VirtualEntropy {
    fn seed(&self) -> u64 {
        split_mix(self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN)) & SEED_MASK
    }
}

/// The generator that feeds a policy's `random` import: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), of which each
/// draw takes the upper 32 bits.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The draws that belong to a seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(GOLDEN);
        (split_mix(self.0) >> 32) as u32
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED_MASK: u64 = (1 << 53) - 1;

fn split_mix(state: u64) -> u64 {
    let mut value = state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_published_sequence() {
        // The reference implementation's first output for seed 1234567 is 6457827717110365317.
        assert_eq!(Draws::from_seed(1_234_567).next_u32(), (6_457_827_717_110_365_317_u64 >> 32) as u32);
    }

    #[test]
    fn no_two_secrets_are_the_same() {
        assert_ne!(secret().unwrap(), secret().unwrap());
    }

    #[test]
    fn seeds_fit_53_bits_and_differ() {
        let system = SystemEntropy;
        let virtual_seeds = VirtualEntropy::from_number(7);
        assert!(system.seed() < 1 << 53 && virtual_seeds.seed() < 1 << 53);
        assert_ne!(virtual_seeds.seed(), virtual_seeds.seed());
        assert_eq!(VirtualEntropy::from_number(7).seed(), VirtualEntropy::from_number(7).seed());
    }
}
