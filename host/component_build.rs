// Builds a policy crate for wasm32-unknown-unknown and encodes it as a component.
//
// Shared by the build script (the embedded default policy) and by the tests (policies that decide otherwise). It runs a
// nested cargo, which needs care: a target directory of its own (sharing the outer one waits for its lock for ever), none
// of the outer build's flags and wrappers, and no path of this machine in the result.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that policies are built for: no operating system, hence no import but those of the contract.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// One policy crate.
pub(crate) struct PolicyCrate<'a> {
    /// Its package name in the workspace.
    pub(crate) package: &'a str,
    /// The workspace's root.
    pub(crate) workspace: &'a Path,
    /// Any folder below the outer target directory.
    pub(crate) inside_target: &'a Path,
}

impl PolicyCrate<'_> {
    /// Builds and encodes it: the bytes of a component, the same from every checkout.
    pub(crate) fn build(&self) -> Result<Vec<u8>, String> {
        require_target()?;
        let target_directory = outer_target(self.inside_target).join("policy-guest");
        let cargo_home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
        let mut flags = vec![
            // 64 KiB of stack: deep recursion then ends at the same depth whatever the engine does.
            "-Clink-arg=-zstack-size=65536".to_owned(),
            format!("--remap-path-prefix={}=/cortex-mcp", self.workspace.display()),
        ];
        flags.extend(cargo_home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir(self.workspace)
            .args(["rustc", "--quiet", "--lib", "--crate-type=cdylib", "--profile=guest"])
            .args(["--package", self.package, "--target", TARGET])
            .arg("--target-dir")
            .arg(&target_directory)
            .env("CARGO_BUILD_BUILD_DIR", &target_directory)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        for variable in [
            "RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_PROFILE_GUEST_OPT_LEVEL",
        ] {
            cargo.env_remove(variable);
        }
        let output = cargo.output().map_err(|error| format!("cargo can not be run for the policy: {error}"))?;
        if !output.status.success() {
            return Err(format!("the policy does not build:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        let file = format!("{}.wasm", self.package.replace('-', "_"));
        let module = target_directory.join(TARGET).join("guest").join(file);
        let module = std::fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;
        encode(&module)
    }
}

/// Encodes a core module as a component. No adapter is given, so that an import of WASI is an error here.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| format!("the policy can not be encoded as a component: {error:#}"))
}

fn require_target() -> Result<(), String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print=target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("rustc can not be run: {error}"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let has_std = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if has_std {
        Ok(())
    } else {
        Err(format!("the {TARGET} target is not installed; run `rustup target add {TARGET}`"))
    }
}

/// The outer target directory: the nearest folder above that cargo has marked as a cache.
fn outer_target(inside: &Path) -> PathBuf {
    inside.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).unwrap_or(inside).to_path_buf()
}
