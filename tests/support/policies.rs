//! Policies that decide otherwise than the default, built once for all test binaries.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use cortex_mcp::policy::{InstanceUse, PolicyComponent};

#[path = "../../host/component_build.rs"]
pub(crate) mod component_build;

/// The text in the compiled fixture that names the function which is decided otherwise.
const MARKER: &[u8] = b"CONTRARY-SELECTS:none";

/// The bytes of the contrary policy, which selects nothing yet.
pub(crate) static CONTRARY: LazyLock<Vec<u8>> = LazyLock::new(|| build("contrary-policy", env!("CARGO_MANIFEST_DIR")));

/// Builds a policy crate of a workspace. Test binaries that run at once take turns.
pub(crate) fn build(package: &str, workspace: &str) -> Vec<u8> {
    let inside_target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(inside_target).unwrap();
    let turn = std::fs::File::create(inside_target.join("policy-build.lock")).unwrap();
    turn.lock().unwrap();
    let component = component_build::PolicyCrate { package, workspace: Path::new(workspace), inside_target }.build();
    component.unwrap_or_else(|error| panic!("{error}"))
}

/// The bytes of a policy that decides one function otherwise.
pub(crate) fn contrary_bytes(function: &str) -> Vec<u8> {
    let mut bytes = CONTRARY.clone();
    let found: Vec<usize> = (0..bytes.len() - MARKER.len()).filter(|at| bytes[*at..].starts_with(MARKER)).collect();
    assert_eq!(found.len(), 1, "the marker stands once in the component");
    let name = &mut bytes[found[0] + MARKER.len() - "none".len()..][.."none".len() + 43];
    name.fill(b' ');
    name[..function.len()].copy_from_slice(function.as_bytes());
    bytes
}

/// A policy that decides one function otherwise.
pub(crate) fn contrary(function: &str) -> Arc<PolicyComponent> {
    let component = PolicyComponent::load(&contrary_bytes(function), "contrary", InstanceUse::Fresh);
    Arc::new(component.unwrap_or_else(|error| panic!("{error}")))
}
