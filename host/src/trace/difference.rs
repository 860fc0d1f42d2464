//! One recorded decision made again, and the result compared, field by field.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limits;
use crate::policy::{DecisionRecord, Fault, Output, PolicyComponent, Remade, correct, limits as policy_limits};

/// How a decision differs from the recorded one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The fields that differ, at most [`limits::FIELDS_TOLD_MAX`]; at least one.
    pub fields: Vec<FieldDifference>,
}

impl Difference {
    /// Whether it is that the component faulted where there had been another fault or none.
    pub fn is_fault(&self) -> bool {
        self.fields.iter().any(|field| field.field == FAULT && !field.replayed.is_null())
    }
}

/// What stands in a difference for a fault.
const FAULT: &str = "fault";

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldDifference {
    /// Its path: `state.phase.armed.run_at_boot_ms`; `fault` and `fuel` stand beside the result's own fields.
    pub field: String,
    /// What the record says; null if it is not there.
    pub recorded: Value,
    /// What came out now; null if it is not there.
    pub replayed: Value,
}

/// How strictly a decision is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// By the very component that decided: the fuel too, wherever it can not depend on earlier calls.
    Same {
        /// Whether the engine is the one of the record: fuel costs may differ between its versions.
        same_engine: bool,
    },
    /// By another one of the same family: it was given the memo, and its own memo is compared.
    SameFamily,
    /// By one of another family: it was given an empty memo, and memos are not compared.
    OtherFamily,
}

/// Refuses a budget that no gateway gives.
fn bounded(record: &DecisionRecord) -> Result<u64, Difference> {
    let input = &record.input;
    let most =
        policy_limits::call_fuel(input.function(), input.items()).saturating_mul(policy_limits::REPLAY_FUEL_FACTOR);
    if record.fuel_budget <= most {
        Ok(record.fuel_budget)
    } else {
        Err(one("fuel_budget", told(&record.fuel_budget), told(&most)))
    }
}

/// Makes the recorded decision again and compares. The record's arguments are taken as they stand, with the memo that the
/// comparison allows.
pub(super) fn judge(
    component: &PolicyComponent,
    record: &DecisionRecord,
    comparison: Comparison,
) -> Result<(), Difference> {
    let budget = bounded(record)?;
    let made = match comparison {
        Comparison::OtherFamily => {
            let mut input = record.input.clone();
            if let Some(memo) = input.memo_mut() {
                memo.clear();
            }
            component.remake(&input, record.moment, record.seed, budget)
        }
        _ => component.remake(&record.input, record.moment, record.seed, budget),
    };
    let Remade { mut output, fuel, reused_instance } = match (made, &record.output) {
        (Ok(made), _) => made,
        (Err(fault), None) if record.default_fault.as_ref() == Some(&fault) => return Ok(()),
        (Err(fault), _) => return Err(one(FAULT, fault_value(record.default_fault.as_ref()), told(&fault))),
    };
    let corrections = correct(&record.input, &mut output);
    let Some(recorded) = &record.output else {
        return Err(one(FAULT, fault_value(record.default_fault.as_ref()), Value::Null));
    };
    let mut fields = Vec::new();
    if comparison == Comparison::OtherFamily {
        let mut recorded = recorded.clone();
        for output in [&mut recorded, &mut output] {
            if let Some(memo) = output.memo_mut() {
                memo.clear();
            }
        }
        compare_outputs(&recorded, &output, &mut fields);
    } else {
        compare_outputs(recorded, &output, &mut fields);
    }
    if corrections != record.corrections {
        fields.push(field("corrections", told(&record.corrections), told(&corrections)));
    }
    if comparison == (Comparison::Same { same_engine: true })
        && !record.reused_instance
        && !reused_instance
        && fuel != record.fuel
    {
        fields.push(field("fuel", told(&record.fuel), told(&fuel)));
    }
    if fields.is_empty() { Ok(()) } else { Err(Difference { fields }) }
}

/// Lets the component that faulted fault again, and compares.
pub(super) fn judge_fault(component: &PolicyComponent, record: &DecisionRecord) -> Result<(), Difference> {
    let (Some(attempt), Some(input)) = (&record.faulted, record.faulted_input()) else { return Ok(()) };
    match component.remake(&input, record.moment, record.seed, bounded(record)?) {
        Err(fault) if fault == attempt.fault => Ok(()),
        Err(fault) => Err(one(FAULT, told(&attempt.fault), told(&fault))),
        Ok(made) => Err(Difference {
            fields: vec![
                field(FAULT, told(&attempt.fault), Value::Null),
                field("result", Value::Null, told(&made.output)),
            ],
        }),
    }
}

fn compare_outputs(recorded: &Output, replayed: &Output, fields: &mut Vec<FieldDifference>) {
    if recorded != replayed {
        compare("", &result_of(recorded), &result_of(replayed), fields);
    }
}

/// The result itself, without the name of its function.
fn result_of(output: &Output) -> Value {
    match told(output) {
        Value::Object(mut object) => object.remove("result").unwrap_or(Value::Null),
        other => other,
    }
}

fn compare(path: &str, recorded: &Value, replayed: &Value, fields: &mut Vec<FieldDifference>) {
    if recorded == replayed || fields.len() >= limits::FIELDS_TOLD_MAX {
        return;
    }
    let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (recorded, replayed) {
        (Value::Object(before), Value::Object(after)) => {
            let others = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(others) {
                let (before, after) = (before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null));
                compare(&inside(key), before, after, fields);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for position in 0..before.len().max(after.len()) {
                let (before, after) = (before.get(position), after.get(position));
                let (before, after) = (before.unwrap_or(&Value::Null), after.unwrap_or(&Value::Null));
                compare(&inside(&position.to_string()), before, after, fields);
            }
        }
        _ => {
            let path = if path.is_empty() { "result" } else { path };
            fields.push(field(path, recorded.clone(), replayed.clone()));
        }
    }
}

fn one(name: &str, recorded: Value, replayed: Value) -> Difference {
    Difference { fields: vec![field(name, recorded, replayed)] }
}

fn field(name: &str, recorded: Value, replayed: Value) -> FieldDifference {
    FieldDifference { field: name.to_owned(), recorded, replayed }
}

fn fault_value(fault: Option<&Fault>) -> Value {
    fault.map_or(Value::Null, told)
}

/// What it looks like in a trace.
fn told(value: &impl Serialize) -> Value {
    // Everything that is recorded can be written.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::contract::Pending;
    use crate::policy::{DecidedBy, Input};

    fn record(component: &PolicyComponent, fuel_budget: u64, milliseconds: u64) -> DecisionRecord {
        let pending =
            Pending { changes: 1, bytes: 1, oldest_ms: 0, batch_ms: 5_000, closing: false, write_through: false };
        DecisionRecord {
            sequence: 0,
            subject: "state".into(),
            subject_sequence: 0,
            input: Input::FlushAfter { pending },
            moment: crate::model::Moment::default(),
            seed: 1,
            output: Some(Output::FlushAfter(milliseconds)),
            fuel_budget,
            fuel: 0,
            decided_by: DecidedBy::Deployed(component.digest()),
            reused_instance: true,
            faulted: None,
            default_fault: None,
            corrections: Vec::new(),
        }
    }

    #[test]
    fn a_budget_that_no_gateway_gives_is_not_spent() {
        let component = PolicyComponent::embedded().unwrap();
        let usual = policy_limits::CALL_FUEL_BASE;
        let same = Comparison::Same { same_engine: true };
        assert_eq!(judge(&component, &record(&component, usual, 5_000), same), Ok(()));
        let most = usual * policy_limits::REPLAY_FUEL_FACTOR;
        assert_eq!(judge(&component, &record(&component, most, 5_000), same), Ok(()));
        for comparison in [same, Comparison::SameFamily, Comparison::OtherFamily] {
            let difference = judge(&component, &record(&component, most + 1, 5_000), comparison).unwrap_err();
            assert_eq!((difference.fields.len(), difference.fields[0].field.as_str()), (1, "fuel_budget"));
        }
    }

    #[test]
    fn a_result_without_fields_differs_as_a_whole() {
        let component = PolicyComponent::embedded().unwrap();
        let record = record(&component, policy_limits::CALL_FUEL_BASE, 4_999);
        let difference = judge(&component, &record, Comparison::SameFamily).unwrap_err();
        let [field] = difference.fields.as_slice() else { panic!("{difference:?}") };
        assert_eq!((field.field.as_str(), &field.recorded, &field.replayed), ("result", &4_999.into(), &5_000.into()));
        assert!(!difference.is_fault());
    }
}
