//! Guests that are refused when they are loaded.

use cortex_mcp::gateway::{Gateway, StartError};
use cortex_mcp::policy::{Fault, InstanceUse, PolicyComponent, PolicyError, limits};

use crate::support::Rig;
use crate::support::hostile::{TextPolicy, tangled_function};

/// What every policy exports, by name only.
const EXPORTS: &str = r#"(instance $none)
    (export "cortex:policy/scheduling@0.1.0" (instance $none))
    (export "cortex:policy/caching@0.1.0" (instance $none))
    (export "cortex:policy/registry@0.1.0" (instance $none))"#;

fn refusal(bytes: &[u8]) -> PolicyError {
    PolicyComponent::load(bytes, "x", InstanceUse::Fresh).unwrap_err()
}

/// It is refused with this fault when its first instance is made, whether instances are to be used again or not.
fn no_instance(policy: &TextPolicy, expected: &Fault) {
    let bytes = policy.bytes();
    for instance_use in [InstanceUse::Fresh, InstanceUse::Reused] {
        let error = PolicyComponent::load(&bytes, "x", instance_use).unwrap_err();
        let PolicyError::Instantiate(fault) = &error else { panic!("{error}") };
        assert_eq!(fault, expected);
        assert_eq!(error.to_string(), format!("the policy can not be instantiated: {expected}"));
    }
}

fn starting(statements: &str) -> TextPolicy {
    TextPolicy::new().fields(&format!("(func $begin {statements}) (start $begin)"))
}

#[test]
fn a_start_function_that_loops_is_refused_when_its_fuel_is_gone() {
    no_instance(&starting("(loop (br 0))"), &Fault::OutOfFuel);
    no_instance(&starting("(call $begin)"), &Fault::StackOverflow);
    no_instance(&starting("unreachable"), &Fault::Panicked);
    // One that ends may have what it needs to begin.
    let patient = "(local $left i32) (local.set $left (i32.const 1000000))
        (loop (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    PolicyComponent::load(&starting(patient).bytes(), "x", InstanceUse::Fresh).unwrap();
}

#[test]
fn a_start_function_that_asks_the_time_or_draws_is_refused() {
    for (interface, function, result) in
        [("clock", "wall-ms", "i64"), ("clock", "boot-ms", "i64"), ("random", "next", "i32")]
    {
        let import =
            format!("(import \"cortex:policy/{interface}@0.1.0\" \"{function}\" (func $ask (result {result})))");
        no_instance(&starting("(drop (call $ask))").imports(&import), &Fault::ImportOutsideDecision);
    }
}

#[test]
fn a_guest_that_begins_with_more_than_it_may_ever_have_is_refused() {
    let memory = |text: &str| TextPolicy::new().memory(text);
    no_instance(&memory("(memory (export \"memory\") 1025)"), &Fault::OutOfMemory);
    no_instance(&memory("(memory (export \"memory\") 600) (memory 600)"), &Fault::OutOfMemory);
    no_instance(&TextPolicy::new().fields("(table 100001 funcref)"), &Fault::OutOfMemory);
    no_instance(&TextPolicy::new().fields(&"(table 30000 funcref)".repeat(4)), &Fault::OutOfMemory);
    let greatest = memory("(memory (export \"memory\") 1024)").fields("(table 99000 funcref)");
    PolicyComponent::load(&greatest.bytes(), "x", InstanceUse::Fresh).unwrap();
    let many = TextPolicy::new().fields(&"(memory 0)".repeat(limits::INSTANCES_MAX));
    let error = refusal(&many.bytes());
    assert!(matches!(&error, PolicyError::Instantiate(Fault::NoInstance(_))), "{error:?}");
    assert!(error.to_string().contains("memory count too high"), "{error}");
}

/// Compiling it would take many seconds and a gigabyte; nothing is compiled within no time.
#[test]
fn imports_and_exports_are_checked_before_anything_is_compiled() {
    let refusal = |component: &str| {
        let bytes = wat::parse_str(component).unwrap();
        PolicyComponent::load_within(&bytes, "x", InstanceUse::Fresh, std::time::Duration::ZERO).unwrap_err()
    };
    let functions = "(core module (func) (func) (func))".repeat(1_000);
    let none = refusal(&format!("(component {functions})"));
    assert!(matches!(&none, PolicyError::MissingExport { name } if name == "cortex:policy/scheduling"), "{none}");
    let import = r#"(import "wasi:cli/environment@0.2.0" (instance))"#;
    let forbidden = refusal(&format!("(component {import} {functions})"));
    assert!(matches!(&forbidden, PolicyError::ForbiddenImport { name } if name.starts_with("wasi:")), "{forbidden}");
    let other = refusal(&format!(r#"(component (import "cortex:policy/clock@0.9.0" (instance)) {functions})"#));
    assert!(matches!(&other, PolicyError::OtherVersion { .. }), "{other}");
}

#[test]
fn functions_of_other_types_are_refused_and_named() {
    const FLUSH_AFTER: &str = "flush-after: func(pending: pending) -> u64";
    let other = |text: &str| TextPolicy::new().contract(FLUSH_AFTER, text);
    let asks_the_time = r#"(import "cortex:policy/clock@0.1.0" "wall-ms" (func (result i32)))"#;
    for (policy, named) in [
        (other("flush-after: func(pending: string) -> u64"), "flush-after"),
        (other("flush-after: func(pending: pending) -> u32"), "flush-after"),
        (other("flush-after: func(pending: pending)"), "flush-after"),
        (other("flush-after: func() -> u64"), "flush-after"),
        (other("flush-afterwards: func(pending: pending) -> u64"), "flush-after"),
        (TextPolicy::new().contract("closing: bool,", "closing: u32,"), "flush-after"),
        (
            TextPolicy::new().contract("wall-ms: func() -> u64", "wall-ms: func() -> u32").imports(asks_the_time),
            "wall-ms",
        ),
    ] {
        let error = refusal(&policy.bytes());
        assert!(matches!(error, PolicyError::OtherTypes { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with("the policy's interfaces are not those of the contract"), "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn an_import_of_any_other_kind_is_refused_and_named() {
    const CLOCK: &str = "cortex:policy/clock@0.1.0";
    for (import, named) in [
        ("\"escape\" (func)", "escape"),
        ("\"escape\" (core module)", "escape"),
        ("\"escape\" (type (sub resource))", "escape"),
        ("\"escape\" (instance (export \"f\" (func)))", "escape"),
        ("\"wasi:cli/environment@0.2.0\" (instance (export \"get\" (func)))", "wasi:cli/environment@0.2.0"),
        ("\"cortex:policy/clocks@0.1.0\" (instance)", "cortex:policy/clocks@0.1.0"),
        ("\"other:policy/clock@0.1.0\" (instance)", "other:policy/clock@0.1.0"),
        ("\"cortex:policy/scheduling@0.1.0\" (instance)", "cortex:policy/scheduling@0.1.0"),
        ("\"cortex:policy/clock@0.1.0\" (instance (export \"set-ms\" (func)))", "cortex:policy/clock@0.1.0#set-ms"),
        ("\"cortex:policy/clock@0.1.0\" (instance (export \"in\" (instance)))", "cortex:policy/clock@0.1.0#in"),
        ("\"cortex:policy/clock@0.1.0\" (instance (export \"in\" (component)))", "cortex:policy/clock@0.1.0#in"),
        ("\"cortex:policy/random@0.1.0\" (instance (export \"wall-ms\" (func)))", "cortex:policy/random@0.1.0#wall-ms"),
        (
            "\"cortex:policy/types@0.1.0\" (instance (export \"r\" (type (sub resource))))",
            "cortex:policy/types@0.1.0#r",
        ),
    ] {
        let bytes = wat::parse_str(format!("(component (import {import}) {EXPORTS})")).unwrap();
        let error = refusal(&bytes);
        assert!(matches!(&error, PolicyError::ForbiddenImport { name } if name == named), "{import}: {error:?}");
        assert!(error.to_string().contains(&format!("imports {named};")), "{error}");
    }
    // Neither does the engine take components and values from outside.
    for import in ["\"escape\" (component)", "\"escape\" (value string)"] {
        let error = refusal(&wat::parse_str(format!("(component (import {import}))")).unwrap());
        assert!(
            matches!(error, PolicyError::ForbiddenImport { .. } | PolicyError::Compile { .. }),
            "{import}: {error:?}"
        );
    }
    // A whole policy with one import more; its own are in order.
    let whole = TextPolicy::new()
        .contract("import clock;", "import clock; import escape: func();")
        .imports(&format!("(import \"{CLOCK}\" \"wall-ms\" (func (result i64))) (import \"$root\" \"escape\" (func))"));
    let error = refusal(&whole.bytes());
    assert!(matches!(&error, PolicyError::ForbiddenImport { name } if name == "escape"), "{error:?}");
}

#[test]
fn what_a_nested_component_imports_is_refused_where_it_comes_in() {
    let nested = r#"(component
        (import "wasi:cli/environment@0.2.0" (instance $outside (export "get" (func))))
        (component $inside (import "wasi:cli/environment@0.2.0" (instance (export "get" (func)))))
        (instance (instantiate $inside (with "wasi:cli/environment@0.2.0" (instance $outside)))))"#;
    let error = refusal(&wat::parse_str(nested).unwrap());
    assert!(
        matches!(&error, PolicyError::ForbiddenImport { name } if name == "wasi:cli/environment@0.2.0"),
        "{error:?}"
    );
    // One that nobody instantiates gets nothing.
    let idle = r#"(component (component (import "wasi:cli/environment@0.2.0" (instance))))"#;
    assert!(matches!(refusal(&wat::parse_str(idle).unwrap()), PolicyError::MissingExport { .. }));
}

#[test]
fn what_no_compiler_should_be_given_is_refused_before_it_is_compiled() {
    let large = format!("(func {})", "(drop (i32.const 1))".repeat(limits::FUNCTION_BYTES_MAX / 3 + 1));
    let error = refusal(&TextPolicy::new().fields(&large).bytes());
    assert!(
        matches!(error, PolicyError::FunctionTooLarge { bytes } if bytes > limits::FUNCTION_BYTES_MAX),
        "{error:?}"
    );

    // One way to each of many places, and many locals to carry there: 20 KB that take gigabytes to compile.
    let tangled = tangled_function(1_500, 1_500);
    let error = refusal(&TextPolicy::new().fields(&tangled).bytes());
    assert!(matches!(error, PolicyError::FunctionTooTangled), "{error:?}");

    let many = format!("(func (result{}) unreachable)", " i32".repeat(limits::FUNCTION_RESULTS_MAX + 1));
    let error = refusal(&TextPolicy::new().fields(&many).bytes());
    assert!(matches!(error, PolicyError::TooManyResults { results: 17 }), "{error:?}");

    let many = component(&module(limits::FUNCTIONS_MAX + 1));
    assert!(matches!(refusal(&many), PolicyError::TooManyFunctions));

    let mut nested = component(&[]);
    for _ in 0..limits::NESTING_MAX {
        nested = component(&section(4, &nested));
    }
    assert!(matches!(refusal(&nested), PolicyError::MissingExport { .. }));
    for _ in 0..1_000 {
        nested = component(&section(4, &nested));
    }
    assert!(matches!(refusal(&nested), PolicyError::NestedTooDeeply));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_does_not_start_with_a_hostile_policy_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let loops = starting("(loop (br 0))").bytes();
    let other = TextPolicy::new().contract("flush-after: func(pending: pending) -> u64", "flush-after: func() -> u64");
    let tangled = TextPolicy::new().fields(&tangled_function(1_500, 1_500)).bytes();
    let imports = wat::parse_str("(component (import \"escape\" (func)))").unwrap();
    for (name, bytes, words) in [
        ("loops.wasm", loops, "it ran out of fuel"),
        ("other.wasm", other.bytes(), "flush-after"),
        ("tangled.wasm", tangled, "too many local variables"),
        ("imports.wasm", imports, "imports escape;"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let mut rig = Rig::new(1);
        rig.toml = format!("[policy]\nfile = {file:?}");
        let (wire, builder) = rig.builder(&rig.network, &rig.state);
        let error = builder.start().await.map(|_: Gateway| ()).unwrap_err();
        assert!(matches!(error, StartError::Policy(_)), "{error:?}");
        assert!(error.to_string().contains(name) && error.to_string().contains(words), "{error}");
        assert_eq!(wire.count(), 0);
    }
}

/// A module with so many functions that do nothing.
fn module(functions: usize) -> Vec<u8> {
    let count = leb(functions);
    let mut module = vec![0, b'a', b's', b'm', 1, 0, 0, 0];
    module.extend(section(1, &[1, 0x60, 0, 0]));
    module.extend(section(3, &[count.clone(), vec![0; functions]].concat()));
    module.extend(section(10, &[count, [2, 0, 0x0b].repeat(functions)].concat()));
    section(1, &module)
}

fn component(content: &[u8]) -> Vec<u8> {
    [&[0, b'a', b's', b'm', 0x0d, 0, 1, 0], content].concat()
}

fn section(number: u8, content: &[u8]) -> Vec<u8> {
    [vec![number], leb(content.len()), content.to_vec()].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { byte } else { byte | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}
