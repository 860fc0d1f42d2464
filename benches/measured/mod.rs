//! What the benchmarks of the registry share: figures, the raw loop that they are compared with, and a registry to measure.

pub(crate) mod figures;
pub(crate) mod raw;
pub(crate) mod rig;
