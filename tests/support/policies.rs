//! Policies that decide otherwise than the default, built once for all test binaries.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use cortex_mcp::policy::{InstanceUse, PolicyComponent};

#[path = "../../host/component_build.rs"]
pub(crate) mod component_build;

/// The length of the text in a compiled fixture that tests write over.
const MARKER_LENGTH: usize = 64;

/// The bytes of the contrary policy, which selects nothing yet.
pub(crate) static CONTRARY: LazyLock<Vec<u8>> = LazyLock::new(|| build("contrary-policy", env!("CARGO_MANIFEST_DIR")));

/// The bytes of the faulty policy, which does not fault yet.
static FAULTY: LazyLock<Vec<u8>> = LazyLock::new(|| build("faulty-policy", env!("CARGO_MANIFEST_DIR")));

/// Builds a policy crate of a workspace. Test binaries that run at once take turns.
pub(crate) fn build(package: &str, workspace: &str) -> Vec<u8> {
    let inside_target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(inside_target).unwrap();
    let turn = std::fs::File::create(inside_target.join("policy-build.lock")).unwrap();
    turn.lock().unwrap();
    let component = component_build::PolicyCrate { package, workspace: Path::new(workspace), inside_target }.build();
    component.unwrap_or_else(|error| panic!("{error}"))
}

/// The whole policy that shows authors where to start.
pub(crate) static CONSERVATIVE: LazyLock<Vec<u8>> =
    LazyLock::new(|| build("conservative-policy", env!("CARGO_MANIFEST_DIR")));

/// The middleware that bounds how often anything is refreshed.
pub(crate) static CAP_REFRESH: LazyLock<Vec<u8>> =
    LazyLock::new(|| build("cap-refresh-middleware", env!("CARGO_MANIFEST_DIR")));

/// The policy that minds floats, the order of hash maps and recursion.
pub(crate) static QUIRKY: LazyLock<Vec<u8>> = LazyLock::new(|| build("quirky-policy", env!("CARGO_MANIFEST_DIR")));

/// Loads a policy as a deployment does.
pub(crate) fn deployed(bytes: &[u8], family: &str) -> Arc<PolicyComponent> {
    let component = PolicyComponent::load(bytes, family, InstanceUse::Fresh);
    Arc::new(component.unwrap_or_else(|error| panic!("{error}")))
}

/// The bytes of a policy that decides one function otherwise.
pub(crate) fn contrary_bytes(function: &str) -> Vec<u8> {
    choose(&CONTRARY, "CONTRARY-SELECTS:", function)
}

/// A policy that faults in this way, in this function or in `any`.
pub(crate) fn faulty(way: &str, function: &str) -> Arc<PolicyComponent> {
    let bytes = choose(&FAULTY, "FAULTY-DOES:", &format!("{way}:{function}"));
    let component = PolicyComponent::load(&bytes, "faulty", InstanceUse::Fresh);
    Arc::new(component.unwrap_or_else(|error| panic!("{error}")))
}

/// Writes a choice over the marker in a compiled fixture.
fn choose(component: &[u8], prefix: &str, choice: &str) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let marker = format!("{prefix}none");
    let found: Vec<usize> =
        (0..bytes.len() - MARKER_LENGTH).filter(|at| bytes[*at..].starts_with(marker.as_bytes())).collect();
    assert_eq!(found.len(), 1, "the marker stands once in the component");
    let place = &mut bytes[found[0]..found[0] + MARKER_LENGTH][prefix.len()..];
    place.fill(b' ');
    place[..choice.len()].copy_from_slice(choice.as_bytes());
    bytes
}

/// A policy that decides one function otherwise.
pub(crate) fn contrary(function: &str) -> Arc<PolicyComponent> {
    let component = PolicyComponent::load(&contrary_bytes(function), "contrary", InstanceUse::Fresh);
    Arc::new(component.unwrap_or_else(|error| panic!("{error}")))
}

/// Copies what the default policy is built of to another folder.
pub(crate) fn copy_of_the_workspace(copy: &Path) {
    for part in ["Cargo.toml", "Cargo.lock", "guest", "wit", "host", "tests", "benches"] {
        copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &copy.join(part));
    }
}

fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy_all(&from.join(&name), &to.join(&name));
        }
    } else if from.exists() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
}
