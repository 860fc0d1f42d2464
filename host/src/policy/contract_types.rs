//! Whether a component's functions have the types of the contract: told from the component's own description, before
//! anything of it runs. What they are compared with is the embedded default.

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem};

use super::compile::embedded;
use super::component::bare;
use super::engine::engine;
use super::fault::PolicyError;

/// Refuses a component that lacks a function of the contract, or has one of another type.
///
/// # Errors
/// [`PolicyError`], which names the function.
pub(super) fn check(component: &Component) -> Result<(), PolicyError> {
    let engine = engine()?;
    let (contract, own) = (embedded(None)?.component_type(), component.component_type());
    for (interface, item) in contract.exports(engine) {
        let ComponentItem::ComponentInstance(contract) = item.ty else { continue };
        let same = own.exports(engine).find(|(export, _)| bare(export) == bare(interface)).map(|(_, item)| item.ty);
        let Some(ComponentItem::ComponentInstance(own)) = same else {
            return Err(PolicyError::MissingExport { name: bare(interface).to_owned() });
        };
        for (function, item) in contract.exports(engine) {
            let ComponentItem::ComponentFunc(contract) = item.ty else { continue };
            let other = |how: &str| PolicyError::OtherTypes { reason: format!("{interface}#{function} {how}") };
            match own.get_export(engine, function).map(|item| item.ty) {
                None => return Err(other("is missing")),
                Some(ComponentItem::ComponentFunc(own)) if same_type(&contract, &own) => {}
                Some(_) => return Err(other("has other parameters or another result")),
            }
        }
    }
    Ok(())
}

/// Names of parameters may differ.
fn same_type(one: &ComponentFunc, other: &ComponentFunc) -> bool {
    one.async_() == other.async_()
        && one.params().map(|(_, kind)| kind).eq(other.params().map(|(_, kind)| kind))
        && one.results().eq(other.results())
}
