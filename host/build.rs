//! Builds the default policy for `wasm32-unknown-unknown`, encodes it as a component, and leaves it for `include_bytes!`.
//!
//! `POLICY_COMPONENT=path` takes that component instead, for packagers who build it elsewhere.

use std::path::{Path, PathBuf};

mod component_build;

fn main() {
    for path in
        ["guest/src", "guest/Cargo.toml", "wit", "Cargo.toml", "Cargo.lock", "host/build.rs", "host/component_build.rs"]
    {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=POLICY_COMPONENT");
    if let Err(message) = run() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("{name} is not set"));
    let out = variable("OUT_DIR")?;
    let workspace = variable("CARGO_MANIFEST_DIR")?;
    let component = match std::env::var_os("POLICY_COMPONENT") {
        Some(path) => std::fs::read(Path::new(&path)).map_err(|error| format!("POLICY_COMPONENT: {error}"))?,
        None => component_build::PolicyCrate {
            package: "cortex-policy-default",
            workspace: &workspace,
            inside_target: &out,
        }
        .build()?,
    };
    let file = out.join("cortex-policy.wasm");
    std::fs::write(&file, component).map_err(|error| format!("{}: {error}", file.display()))
}
