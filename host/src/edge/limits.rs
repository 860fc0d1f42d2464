//! Bounds of what is read from the outside world.

/// Largest file of a secret: far above any key or token, and far below what could hurt.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;
