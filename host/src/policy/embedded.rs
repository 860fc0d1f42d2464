//! The default policy as it was embedded when the gateway was built.

/// Its component.
pub const EMBEDDED_COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cortex-policy.wasm"));

/// Its family.
pub const EMBEDDED_FAMILY: &str = "cortex-default";
