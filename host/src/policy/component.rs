//! A policy component, checked and compiled: what the gateway deploys.
//!
//! Checks run in this order: size, form, structure with imports and exports by name, and after compiling the functions of
//! imports and all types. Only then is it instantiated once, under fuel, with every import trapping.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};

use super::compile;
use super::compiled_cache::CacheAccess;
use super::contract::{PolicyPre, clock, random, types};
use super::contract_types;
use super::embedded::{EMBEDDED_COMPONENT, EMBEDDED_FAMILY};
use super::engine::engine;
use super::fault::{Fault, PolicyError};
use super::instance::{HostState, Instance};
use super::limits;
use super::record::{Input, Output};
use crate::model::{Digest, Moment};

/// Whether instances may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceUse {
    /// A fresh instance for each call: the order of a map, and the fuel of a call, can not depend on earlier calls.
    Fresh,
    /// Instances are used again. The embedded default is built for that; another policy has to opt in.
    Reused,
}

/// What `policy inspect` tells about a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: usize,
    /// Imported functions, as `interface#function`, and imported interfaces without functions.
    pub imports: Vec<String>,
    /// Exported functions, as `interface#function`.
    pub exports: Vec<String>,
}

/// A policy that was checked and compiled.
pub struct PolicyComponent {
    inspection: Inspection,
    bytes: Arc<[u8]>,
    family: String,
    instance_use: InstanceUse,
    pre: PolicyPre<HostState>,
    idle: Mutex<Vec<Instance>>,
}

impl PolicyComponent {
    /// The embedded default.
    ///
    /// # Errors
    /// [`PolicyError`] if the gateway was built with a component that is no policy, or the engine does not run here.
    pub fn embedded() -> Result<Self, PolicyError> {
        Self::embedded_from(None)
    }

    /// The embedded default, whose compiled code is kept in a folder between starts: a start that finds it there saves some
    /// hundred milliseconds of CPU. Nothing is taken from a folder or file that other users can write.
    ///
    /// # Errors
    /// As [`Self::embedded`]. A folder that cannot be used is logged, and costs the time of a compilation.
    pub fn embedded_cached(folder: &Path, access: CacheAccess) -> Result<Self, PolicyError> {
        Self::embedded_from(Some((folder, access)))
    }

    fn embedded_from(folder: Option<(&Path, CacheAccess)>) -> Result<Self, PolicyError> {
        check_form(EMBEDDED_COMPONENT)?;
        Self::assemble(EMBEDDED_COMPONENT, compile::embedded(folder)?, EMBEDDED_FAMILY, InstanceUse::Reused)
    }

    /// Reads, checks and compiles a file. Its family is its digest, unless the deployment names one.
    ///
    /// # Errors
    /// [`PolicyError`], whose message says what to do.
    pub fn read(path: &Path, family: Option<&str>, instance_use: InstanceUse) -> Result<Self, PolicyError> {
        let bytes = read_some(path).map_err(|unread| unread.into_policy_error(path))?;
        let digest_family = Digest::of(&bytes).to_string();
        Self::load(&bytes, family.unwrap_or(&digest_family), instance_use)
            .map_err(|reason| PolicyError::File { path: path.display().to_string(), reason: Box::new(reason) })
    }

    /// Checks and compiles a component.
    ///
    /// # Errors
    /// [`PolicyError`], whose message says what to do.
    pub fn load(bytes: &[u8], family: &str, instance_use: InstanceUse) -> Result<Self, PolicyError> {
        Self::load_within(bytes, family, instance_use, limits::COMPILE_TIME_MAX)
    }

    /// The same, with another limit on the time that compiling may take.
    ///
    /// # Errors
    /// [`PolicyError`], whose message says what to do.
    pub fn load_within(
        bytes: &[u8],
        family: &str,
        instance_use: InstanceUse,
        compile_time_max: Duration,
    ) -> Result<Self, PolicyError> {
        check_form(bytes)?;
        let component = compile::compile(bytes, compile_time_max)?;
        Self::assemble(bytes, &component, family, instance_use)
    }

    /// Checks and links what was compiled, and makes one instance to see that it can be made.
    fn assemble(
        bytes: &[u8],
        component: &Component,
        family: &str,
        instance_use: InstanceUse,
    ) -> Result<Self, PolicyError> {
        let inspection = inspect(bytes, component)?;
        contract_types::check(component)?;
        let pre = link(component)?;
        let (family, bytes) = (family.to_owned(), bytes.into());
        let policy = Self { inspection, bytes, family, instance_use, pre, idle: Mutex::new(Vec::new()) };
        Instance::new(&policy.pre).map_err(PolicyError::Instantiate)?;
        Ok(policy)
    }

    /// What it is.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// Its bytes, as they were loaded.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.inspection.digest
    }

    /// The family that its memos belong to.
    pub fn family(&self) -> &str {
        &self.family
    }

    /// Whether its instances are used again.
    pub fn instance_use(&self) -> InstanceUse {
        self.instance_use
    }

    /// Makes one decision, outside of any gateway: nothing is recorded or counted, and no memo is added to `input`.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn decide(&self, input: &Input, moment: Moment, seed: u64) -> Result<Output, Fault> {
        let fuel = limits::call_fuel(input.function(), input.items());
        self.remake(input, moment, seed, fuel).map(|remade| remade.output)
    }

    /// An instance for one call, and whether it was used before.
    pub(super) fn instance(&self) -> Result<(Instance, bool), Fault> {
        if self.instance_use == InstanceUse::Reused
            && let Some(instance) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
        {
            return Ok((instance, true));
        }
        Ok((Instance::new(&self.pre)?, false))
    }

    /// Takes an instance back after a call that did not trap.
    pub(super) fn give_back(&self, instance: Instance) {
        if self.instance_use == InstanceUse::Reused {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < limits::IDLE_INSTANCES_MAX {
                idle.push(instance);
            }
        }
    }
}

impl std::fmt::Debug for PolicyComponent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PolicyComponent").field("digest", &self.inspection.digest).finish_non_exhaustive()
    }
}

pub(super) const PACKAGE: &str = "cortex:policy/";
pub(super) const EXPORTED_INTERFACES: [&str; 3] = ["scheduling", "caching", "registry"];

/// Every import that a policy may have, with the functions it may hold.
pub(super) const IMPORTS: [(&str, &[&str]); 3] =
    [("clock", &["wall-ms", "boot-ms"]), ("random", &["next"]), ("types", &[])];

/// Why a file was not read.
pub(super) enum Unread {
    /// It can not be.
    Failed(std::io::Error),
    /// It is a folder, a pipe or a device.
    NotAFile,
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Unread {
    fn into_policy_error(self, path: &Path) -> PolicyError {
        let path = path.display().to_string();
        match self {
            Self::Failed(source) => PolicyError::Read { path, source },
            Self::NotAFile => PolicyError::NotAFile { path },
        }
    }
}

/// Reads a regular file, but no more of it than shows that it is too large. Opening or reading anything else may wait for
/// ever: a pipe for its writer, a device for its end.
pub(super) fn read_some(path: &Path) -> Result<Vec<u8>, Unread> {
    let most = u64::try_from(limits::COMPONENT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    // Before it is opened, because opening a device may do something.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Unread::NotAFile);
    }
    let file = open_at_once(path)?;
    // And after, because it may be another one by now.
    if !file.metadata()?.is_file() {
        return Err(Unread::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file to read it, without waiting for anybody to write to it.
fn open_at_once(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
}

pub(super) fn check_form(bytes: &[u8]) -> Result<(), PolicyError> {
    if bytes.len() > limits::COMPONENT_BYTES_MAX {
        return Err(PolicyError::TooLarge);
    }
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', ..] => Err(PolicyError::NotAComponent {
            hint: ": it is a core module; encode it with wit-component, or build it with a component toolchain",
        }),
        _ => Err(PolicyError::NotAComponent { hint: "" }),
    }
}

fn inspect(bytes: &[u8], component: &Component) -> Result<Inspection, PolicyError> {
    let engine = engine()?;
    let kind = component.component_type();
    let mut imports = Vec::new();
    for (name, item) in kind.imports(engine) {
        imports.extend(allowed_import(name, &item.ty)?);
    }
    let mut exports = Vec::new();
    for (name, item) in kind.exports(engine) {
        if let ComponentItem::ComponentInstance(interface) = item.ty {
            let functions = interface.exports(engine);
            exports.extend(
                functions
                    .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                    .map(|(function, _)| format!("{name}#{function}")),
            );
        }
    }
    Ok(Inspection { digest: Digest::of(bytes), size_bytes: bytes.len(), imports, exports })
}

/// The functions of an import, as `interface#function`; the interface itself if it has none.
fn allowed_import(name: &str, item: &ComponentItem) -> Result<Vec<String>, PolicyError> {
    let forbidden = |name: String| PolicyError::ForbiddenImport { name };
    let allowed = IMPORTS.iter().find(|(interface, _)| bare(name) == format!("{PACKAGE}{interface}"));
    let (Some((_, functions)), ComponentItem::ComponentInstance(interface)) = (allowed, item) else {
        return Err(forbidden(name.to_owned()));
    };
    if !same_version(name) {
        return Err(PolicyError::OtherVersion { name: name.to_owned() });
    }
    let mut imports = Vec::new();
    for (function, item) in interface.exports(engine()?) {
        match item.ty {
            ComponentItem::Type(_) => {}
            ComponentItem::ComponentFunc(_) if functions.contains(&function) => {
                imports.push(format!("{name}#{function}"));
            }
            _ => return Err(forbidden(format!("{name}#{function}"))),
        }
    }
    if imports.is_empty() {
        imports.push(name.to_owned());
    }
    Ok(imports)
}

pub(super) fn bare(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Interfaces match within 0.1, as the component model's semantic versioning has it.
pub(super) fn same_version(name: &str) -> bool {
    name.split_once('@').is_some_and(|(_, version)| version.starts_with("0.1."))
}

fn link(component: &Component) -> Result<PolicyPre<HostState>, PolicyError> {
    let mut linker = Linker::<HostState>::new(engine()?);
    let linked = clock::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)
        .and_then(|()| random::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state))
        .and_then(|()| types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state));
    linked
        .and_then(|()| linker.instantiate_pre(component))
        .and_then(PolicyPre::new)
        .map_err(|error| PolicyError::OtherTypes { reason: format!("{error:#}") })
}
