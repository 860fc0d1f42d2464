//! Stacking: middleware on a policy makes a policy.
//!
//! A middleware exports some of the three interfaces of a policy, and imports those that it asks the policy below for (the
//! world `middleware` has them all). Stacked, its imports are bound to what is below, what it does not export is taken
//! from there, and what is left to import is what any policy imports. The result is one component like any other: one
//! digest, one family, one set of limits.

use std::path::Path;

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use super::component::{self, EXPORTED_INTERFACES, IMPORTS, PACKAGE, Unread, bare, same_version};
use super::embedded::EMBEDDED_COMPONENT;
use super::{InstanceUse, PolicyComponent, PolicyError};

/// One component of a stack, and what to call it in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    name: String,
    bytes: Vec<u8>,
}

impl Layer {
    /// A component under a name for people.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }

    /// The embedded default, to stack something on.
    pub fn embedded() -> Self {
        Self::new("the embedded default", EMBEDDED_COMPONENT)
    }

    /// Reads a file, under its path's name.
    ///
    /// # Errors
    /// [`StackError::Read`] and [`StackError::NotAFile`].
    pub fn read(path: &Path) -> Result<Self, StackError> {
        let name = path.display().to_string();
        match component::read_some(path) {
            Ok(bytes) => Ok(Self { name, bytes }),
            Err(Unread::Failed(source)) => Err(StackError::Read { layer: name, source }),
            Err(Unread::NotAFile) => Err(StackError::NotAFile { layer: name }),
        }
    }
}

/// Components that can not be stacked. The messages name the layer and say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// There is nothing to stack.
    #[error("there is no middleware to stack")]
    Nothing,
    /// A file can not be read.
    #[error("{layer} can not be read: {source}")]
    Read {
        /// The file.
        layer: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no regular file.
    #[error("{layer} is a folder, a pipe or a device: write the component to a regular file and name that")]
    NotAFile {
        /// What was named.
        layer: String,
    },
    /// A layer is too large, or no component.
    #[error("{layer}: {reason}")]
    Form {
        /// The layer.
        layer: String,
        /// What is wrong with it.
        reason: Box<PolicyError>,
    },
    /// A layer has the form of a component, but is not valid.
    #[error("{layer} is not a valid component: {reason}")]
    Invalid {
        /// The layer.
        layer: String,
        /// What the parser says.
        reason: String,
    },
    /// The base lacks an export.
    #[error(
        "{layer} can not be the base: it does not export {interface}; a policy exports scheduling, caching and registry"
    )]
    MissingExport {
        /// The layer.
        layer: String,
        /// The interface.
        interface: String,
    },
    /// A middleware exports nothing that a gateway asks.
    #[error("{layer} is not a middleware: it exports neither scheduling nor caching nor registry of cortex:policy")]
    DecidesNothing {
        /// The layer.
        layer: String,
    },
    /// A middleware decides everything by itself.
    #[error(
        "{layer} is not a middleware: it exports scheduling, caching and registry and asks the policy below it for none \
         of them; it is a policy, so name it with --on to stack something on it"
    )]
    AsksForNothing {
        /// The layer.
        layer: String,
    },
    /// The base is itself a middleware.
    #[error("{layer} can not be the base: it imports {interface}, as a middleware does; stack it on a policy")]
    BaseIsMiddleware {
        /// The layer.
        layer: String,
        /// What it imports.
        interface: String,
    },
    /// A layer imports something that is not of the contract.
    #[error("{layer} imports {import}; only interfaces of cortex:policy may be imported")]
    ForbiddenImport {
        /// The layer.
        layer: String,
        /// The import.
        import: String,
    },
    /// A layer was built for another version of the contract.
    #[error("{layer} uses {interface}; this gateway speaks cortex:policy@0.1: rebuild it against its WIT")]
    OtherVersion {
        /// The layer.
        layer: String,
        /// The interface.
        interface: String,
    },
    /// A layer's import and the export below it have different types.
    #[error("{layer} can not be bound to what is below it: {reason}")]
    OtherTypes {
        /// The layer.
        layer: String,
        /// What the composer says.
        reason: String,
    },
    /// The stack can not be encoded.
    #[error("the stack can not be encoded: {reason}")]
    Encode {
        /// What the composer says.
        reason: String,
    },
    /// The stack is no usable policy.
    #[error("the stack is no usable policy: {0}")]
    Policy(#[from] PolicyError),
}

/// Stacks middleware on a base, the first one lowest: the last one is asked first. The same layers give the same bytes.
///
/// # Errors
/// [`StackError`], which names the layer that is at fault.
pub fn stack(base: &Layer, middleware: &[Layer]) -> Result<Vec<u8>, StackError> {
    if middleware.is_empty() {
        return Err(StackError::Nothing);
    }
    let mut graph = CompositionGraph::new();
    let package = register(&mut graph, base, 0)?;
    if let Some(interface) = asked_below(&graph, base, package)?.into_iter().next() {
        return Err(StackError::BaseIsMiddleware { layer: base.name.clone(), interface });
    }
    let mut offered = Vec::with_capacity(EXPORTED_INTERFACES.len());
    let instance = graph.instantiate(package);
    for interface in EXPORTED_INTERFACES {
        let missing =
            || StackError::MissingExport { layer: base.name.clone(), interface: format!("{PACKAGE}{interface}") };
        let name = exported(&graph, base, package, interface)?.ok_or_else(missing)?;
        let node = graph.alias_instance_export(instance, &name).map_err(|error| encode_error(&error))?;
        offered.push(Offered { interface, name, node });
    }
    for (layer, position) in middleware.iter().zip(1..) {
        put_on_top(&mut graph, layer, position, &mut offered)?;
    }
    for Offered { name, node, .. } in offered {
        graph.export(node, &name).map_err(|error| encode_error(&error))?;
    }
    let bytes = graph.encode(EncodeOptions::default()).map_err(|error| encode_error(&error))?;
    PolicyComponent::load(&bytes, "", InstanceUse::Fresh)?;
    Ok(bytes)
}

/// An interface as the topmost layer that exports it offers it.
struct Offered {
    interface: &'static str,
    name: String,
    node: NodeId,
}

fn encode_error(error: &dyn std::error::Error) -> StackError {
    StackError::Encode { reason: error.to_string() }
}

/// Checks the form of a layer and makes it known to the graph.
fn register(graph: &mut CompositionGraph, layer: &Layer, position: usize) -> Result<PackageId, StackError> {
    let name = || layer.name.clone();
    component::check_form(&layer.bytes)
        .map_err(|reason| StackError::Form { layer: name(), reason: Box::new(reason) })?;
    // The name tells the packages of a graph apart; the same component may stand in it twice.
    let package = Package::from_bytes(&format!("stack:layer{position}"), None, layer.bytes.clone(), graph.types_mut())
        .map_err(|error| StackError::Invalid { layer: name(), reason: format!("{error:#}") })?;
    graph.register_package(package).map_err(|error| StackError::Invalid { layer: name(), reason: error.to_string() })
}

/// Instantiates a middleware whose imports are what is offered below, and offers what it exports itself instead.
fn put_on_top(
    graph: &mut CompositionGraph,
    layer: &Layer,
    position: usize,
    offered: &mut [Offered],
) -> Result<(), StackError> {
    let package = register(graph, layer, position)?;
    let asked = asked_below(graph, layer, package)?;
    let other_types = |error: &dyn std::error::Error| StackError::OtherTypes {
        layer: layer.name.clone(),
        reason: std::iter::successors(Some(error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": "),
    };
    let instance = graph.instantiate(package);
    for import in &asked {
        for below in offered.iter().filter(|below| bare(&below.name) == bare(import)) {
            graph.set_instantiation_argument(instance, import, below.node).map_err(|error| other_types(&error))?;
        }
    }
    let mut decided = 0;
    for below in offered.iter_mut() {
        if let Some(name) = exported(graph, layer, package, below.interface)? {
            below.node = graph.alias_instance_export(instance, &name).map_err(|error| encode_error(&error))?;
            below.name = name;
            decided += 1;
        }
    }
    match decided {
        0 => Err(StackError::DecidesNothing { layer: layer.name.clone() }),
        _ if decided == offered.len() && asked.is_empty() => {
            Err(StackError::AsksForNothing { layer: layer.name.clone() })
        }
        _ => Ok(()),
    }
}

/// The whole name under which a layer exports an interface of the contract, if it does.
fn exported(
    graph: &CompositionGraph,
    layer: &Layer,
    package: PackageId,
    interface: &str,
) -> Result<Option<String>, StackError> {
    let wanted = format!("{PACKAGE}{interface}");
    let mut exports = graph.types()[graph[package].ty()].exports.keys();
    match exports.find(|export| bare(export) == wanted) {
        Some(name) if !same_version(name) => {
            Err(StackError::OtherVersion { layer: layer.name.clone(), interface: name.clone() })
        }
        name => Ok(name.cloned()),
    }
}

/// What a layer asks the policy below it for, after a check that it imports nothing foreign.
fn asked_below(graph: &CompositionGraph, layer: &Layer, package: PackageId) -> Result<Vec<String>, StackError> {
    let mut asked = Vec::new();
    for import in graph.types()[graph[package].ty()].imports.keys() {
        let layer = || layer.name.clone();
        let interface = bare(import).strip_prefix(PACKAGE).unwrap_or_default();
        let is_asked = EXPORTED_INTERFACES.contains(&interface);
        if !is_asked && !IMPORTS.iter().any(|(allowed, _)| *allowed == interface) {
            return Err(StackError::ForbiddenImport { layer: layer(), import: import.clone() });
        }
        if !same_version(import) {
            return Err(StackError::OtherVersion { layer: layer(), interface: import.clone() });
        }
        if is_asked {
            asked.push(import.clone());
        }
    }
    Ok(asked)
}
