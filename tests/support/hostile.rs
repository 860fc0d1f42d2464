//! Hostile guests that no compiler would make: policies written in the text format.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{Resolve, SourceMap, UnresolvedPackageGroup, WorldId, WorldItem};

/// A policy whose exports have the right names and, unless the contract is changed, the right types. What its functions
/// do, and what its module holds besides them, is text. Every function traps at first.
#[derive(Clone)]
pub(crate) struct TextPolicy {
    imports: String,
    fields: String,
    memory: String,
    body: String,
    flush_after: Option<String>,
    changes: Vec<(String, String)>,
}

impl TextPolicy {
    pub(crate) fn new() -> Self {
        Self {
            imports: String::new(),
            fields: String::new(),
            memory: "(memory (export \"memory\") 16)".to_owned(),
            body: "unreachable".to_owned(),
            flush_after: None,
            changes: Vec::new(),
        }
    }

    /// Imports of the module.
    pub(crate) fn imports(mut self, text: &str) -> Self {
        self.imports += text;
        self
    }

    /// Fields of the module.
    pub(crate) fn fields(mut self, text: &str) -> Self {
        self.fields += text;
        self
    }

    /// The field that declares its exported memory.
    pub(crate) fn memory(mut self, text: &str) -> Self {
        text.clone_into(&mut self.memory);
        self
    }

    /// What every exported function does. `$result` stands for a result of the right type: for a pointer, 4096.
    pub(crate) fn body(mut self, text: &str) -> Self {
        text.clone_into(&mut self.body);
        self
    }

    /// What `flush-after` does instead: it gives an `i64`.
    pub(crate) fn flush_after(mut self, text: &str) -> Self {
        self.flush_after = Some(text.to_owned());
        self
    }

    /// Changes the contract that it is built for, wherever this text stands in it.
    pub(crate) fn contract(mut self, from: &str, to: &str) -> Self {
        self.changes.push((from.to_owned(), to.to_owned()));
        self
    }

    /// The component.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (resolve, world) = self.world();
        let mut module = wat::parse_str(self.text(&resolve, world)).unwrap_or_else(|error| panic!("{error}"));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
        let mut encoder = ComponentEncoder::default();
        let encoder = encoder.validate(true).module(&module).unwrap();
        encoder.encode().unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn world(&self) -> (Resolve, WorldId) {
        let mut sources = SourceMap::new();
        let mut changed = vec![false; self.changes.len()];
        for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("wit")).unwrap() {
            let path = file.unwrap().path();
            let mut text = std::fs::read_to_string(&path).unwrap();
            for ((from, to), changed) in self.changes.iter().zip(&mut changed) {
                *changed |= text.contains(from);
                text = text.replace(from, to);
            }
            sources.push(&path, text);
        }
        assert!(changed.iter().all(|changed| *changed), "the contract holds what is to be changed: {:?}", self.changes);
        let package: UnresolvedPackageGroup = sources.parse().unwrap_or_else(|(_, error)| panic!("{error}"));
        let mut resolve = Resolve::default();
        let package = resolve.push_group(package).unwrap();
        let world = resolve.select_world(&[package], Some("policy")).unwrap();
        (resolve, world)
    }

    fn text(&self, resolve: &Resolve, world: WorldId) -> String {
        let mut text = format!("(module {} {} {}", self.imports, self.memory, self.fields);
        for (key, export) in &resolve.worlds[world].exports {
            let WorldItem::Interface { id, .. } = export else { panic!("the contract exports interfaces") };
            let interface = resolve.name_world_key(key);
            for (name, function) in &resolve.interfaces[*id].functions {
                let signature = resolve.wasm_signature(AbiVariant::GuestExport, function);
                text += &format!("\n(func (export \"{interface}#{name}\") {}", typed(&signature));
                let result = match signature.results.first() {
                    Some(WasmType::I64) => "(i64.const 7)",
                    _ => "(i32.const 4096)",
                };
                let body = self.flush_after.as_ref().filter(|_| name == "flush-after").unwrap_or(&self.body);
                text += &format!(" {})", body.replace("$result", result));
            }
        }
        text + ALLOCATOR + ")"
    }
}

/// Hands out memory from 64 KiB on, and never takes any back.
const ALLOCATOR: &str = r#"
(global $free (mut i32) (i32.const 65536))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (local $given i32)
  (local.set $given (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
  (global.set $free (i32.add (local.get $given) (local.get 3)))
  (local.get $given))"#;

/// A function that is hard to compile: so many blocks in each other, any of whose ends its first statement may lead to,
/// with one of so many locals assigned after each. All of them are used in the end.
pub(crate) fn tangled_function(locals: usize, blocks: usize) -> String {
    use std::fmt::Write;
    let mut text = format!("(func (param i32) (result i32) (local{})", " i32".repeat(locals));
    text += &"block ".repeat(blocks);
    text += "local.get 0 br_table";
    for label in 0..blocks {
        write!(text, " {label}").unwrap();
    }
    for local in (1..=locals).cycle().take(blocks) {
        write!(text, " end local.get {local} i32.const 3 i32.add local.set {local}").unwrap();
    }
    text += " local.get 0";
    for local in 1..=locals {
        write!(text, " local.get {local} i32.xor").unwrap();
    }
    text + ")\n"
}

fn typed(signature: &WasmSignature) -> String {
    let list = |kind: &str, types: &[WasmType]| {
        let names: Vec<&str> = types
            .iter()
            .map(|one| match one {
                WasmType::I64 | WasmType::PointerOrI64 => "i64",
                WasmType::F32 => "f32",
                WasmType::F64 => "f64",
                WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
            })
            .collect();
        format!("({kind} {})", names.join(" "))
    };
    format!("{} {}", list("param", &signature.params), list("result", &signature.results))
}
