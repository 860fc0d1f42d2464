//! The contract as data, read from `wit/`: how a record's JSON is to be taken apart by who knows no Rust.
//!
//! A type is the name of a primitive, or an object with one of the keys `record`, `variant`, `enum`, `option`, `list` and
//! `tuple`. Records, variants and enumerations bear their names; their fields and cases are in the order of the contract.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wit_parser::{Resolve, Type, TypeDefKind};

/// The functions of the contract, by name: `{interface, parameters: [[name, type]], result: type}`.
pub(crate) struct Contract {
    functions: BTreeMap<String, Value>,
}

impl Contract {
    /// Reads `wit/`.
    pub(crate) fn read() -> Self {
        let mut resolve = Resolve::default();
        resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wit")).unwrap();
        let mut functions = BTreeMap::new();
        for (_, interface) in &resolve.interfaces {
            let name = interface.name.clone().unwrap();
            if !["scheduling", "caching", "registry"].contains(&name.as_str()) {
                continue;
            }
            for (function, defined) in &interface.functions {
                let parameters = defined.params.iter();
                let parameters: Vec<_> =
                    parameters.map(|parameter| json!([parameter.name, shape(&resolve, &parameter.ty)])).collect();
                let result = shape(&resolve, &defined.result.unwrap());
                let told = json!({ "interface": name, "parameters": parameters, "result": result });
                functions.insert(function.clone(), told);
            }
        }
        Self { functions }
    }

    /// The whole of it.
    pub(crate) fn json(&self) -> Value {
        json!(self.functions)
    }

    /// Every case of every variant and enumeration that a decision can hold: `refresh-reason/steady`.
    pub(crate) fn cases(&self) -> BTreeSet<String> {
        let mut cases = BTreeSet::new();
        for function in self.functions.values() {
            for (_, shape) in parameters(function) {
                all_cases(shape, &mut cases);
            }
            all_cases(&function["result"], &mut cases);
        }
        cases
    }

    /// The cases that a decision holds. `input` and `output` are those of its record.
    pub(crate) fn cases_in(&self, input: &Value, output: &Value, cases: &mut BTreeSet<String>) {
        let function = &self.functions[input["function"].as_str().unwrap()];
        for (name, shape) in parameters(function) {
            cases_of(shape, &input["arguments"][name], cases);
        }
        cases_of(&function["result"], &output["result"], cases);
    }
}

fn parameters(function: &Value) -> impl Iterator<Item = (&str, &Value)> {
    function["parameters"].as_array().unwrap().iter().map(|pair| (pair[0].as_str().unwrap(), &pair[1]))
}

/// A type, spelled out.
fn shape(resolve: &Resolve, kind: &Type) -> Value {
    let id = match kind {
        Type::Bool => return json!("bool"),
        Type::U8 => return json!("u8"),
        Type::U32 => return json!("u32"),
        Type::U64 => return json!("u64"),
        Type::String => return json!("string"),
        Type::Id(id) => *id,
        other => panic!("the contract uses {other:?}, which nothing here knows"),
    };
    let defined = &resolve.types[id];
    let name = || defined.name.clone().unwrap();
    match &defined.kind {
        TypeDefKind::Type(other) => shape(resolve, other),
        TypeDefKind::Option(inner) => json!({ "option": shape(resolve, inner) }),
        TypeDefKind::List(inner) => json!({ "list": shape(resolve, inner) }),
        TypeDefKind::Tuple(tuple) => {
            json!({ "tuple": tuple.types.iter().map(|one| shape(resolve, one)).collect::<Vec<_>>() })
        }
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| json!([field.name, shape(resolve, &field.ty)]));
            json!({ "record": name(), "fields": fields.collect::<Vec<_>>() })
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| {
                json!([case.name, case.ty.as_ref().map(|payload| shape(resolve, payload)).unwrap_or_default()])
            });
            json!({ "variant": name(), "cases": cases.collect::<Vec<_>>() })
        }
        TypeDefKind::Enum(enumeration) => {
            let cases = enumeration.cases.iter().map(|case| json!([case.name, null]));
            json!({ "enum": name(), "cases": cases.collect::<Vec<_>>() })
        }
        other => panic!("the contract uses {other:?}, which nothing here knows"),
    }
}

/// The name and the cases of a variant or an enumeration.
fn choice(shape: &Value) -> Option<(&str, impl Iterator<Item = (&str, &Value)>)> {
    let name = shape.get("variant").or(shape.get("enum"))?.as_str()?;
    let cases = shape["cases"].as_array()?.iter().map(|case| (case[0].as_str().unwrap(), &case[1]));
    Some((name, cases))
}

fn all_cases(shape: &Value, found: &mut BTreeSet<String>) {
    if let Some((name, cases)) = choice(shape) {
        for (case, payload) in cases {
            found.insert(format!("{name}/{case}"));
            all_cases(payload, found);
        }
    }
    if let Some(inner) = shape.get("option").or(shape.get("list")) {
        all_cases(inner, found);
    }
    for field in shape.get("fields").and_then(Value::as_array).into_iter().flatten() {
        all_cases(&field[1], found);
    }
}

fn cases_of(shape: &Value, value: &Value, found: &mut BTreeSet<String>) {
    if let Some((name, mut cases)) = choice(shape) {
        // A case without a payload is its name, another one an object with one member.
        let (said, payload) = match value {
            Value::String(said) => (said, &Value::Null),
            Value::Object(object) => object.iter().next().unwrap(),
            other => panic!("{other} is no {name}"),
        };
        let (case, shape) = cases.find(|(case, _)| spelled(case) == *said).unwrap_or_else(|| panic!("{name}/{said}"));
        found.insert(format!("{name}/{case}"));
        cases_of(shape, payload, found);
    } else if let Some(inner) = shape.get("option") {
        if !value.is_null() {
            cases_of(inner, value, found);
        }
    } else if let Some(inner) = shape.get("list") {
        value.as_array().unwrap().iter().for_each(|one| cases_of(inner, one, found));
    } else if let Some(fields) = shape.get("fields") {
        for field in fields.as_array().unwrap() {
            cases_of(&field[1], &value[field[0].as_str().unwrap().replace('-', "_")], found);
        }
    }
}

/// A case as it is spelled in a trace: `past-ttl` is `PastTtl`.
fn spelled(case: &str) -> String {
    let capital = |part: &str| part[..1].to_uppercase() + &part[1..];
    case.split('-').map(capital).collect()
}
