//! The engine's settings: everything that determinism and containment rest on, in one function with one test.
//!
//! wasmtime has no single switch for determinism; this list is ours to keep (research: its guide, "Deterministic Wasm
//! execution"). One engine serves the process.

use std::sync::OnceLock;

use wasmtime::{Config, Engine};

use super::fault::PolicyError;

/// The process's engine.
///
/// # Errors
/// [`PolicyError::Engine`] if the machine can not run it.
pub(super) fn engine() -> Result<&'static Engine, PolicyError> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    ENGINE
        .get_or_init(|| Engine::new(&settings()).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|reason| PolicyError::Engine { reason: reason.clone() })
}

fn settings() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // One deterministic limit. Epochs would interrupt at a point that depends on the machine's load.
        .consume_fuel(true)
        .epoch_interruption(false)
        // A NaN's bits differ between processors otherwise.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        // Left on: compiling a stacked policy without it panics in wasmtime 48.
        .wasm_multi_memory(true)
        // A trap is recorded by its code alone.
        .wasm_backtrace_max_frames(None);
    config
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use super::*;

    fn code_hash(config: &Config) -> u64 {
        let mut hasher = DefaultHasher::new();
        Engine::new(config).unwrap().precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn engines_with_these_settings_accept_each_others_code_and_no_others() {
        assert_eq!(code_hash(&settings()), code_hash(&settings()));
        assert_ne!(code_hash(&settings()), code_hash(settings().consume_fuel(false)));
        assert_ne!(code_hash(&settings()), code_hash(settings().cranelift_nan_canonicalization(false)));
        assert_ne!(code_hash(&settings()), code_hash(&Config::new()));
    }
}
