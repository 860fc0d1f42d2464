//! The official conformance suite, run against our fixture server directly, against the gateway in front of it, and
//! with the gateway as the client.
//!
//! Between equal eras the suite must find the same things through the gateway, check by check, and none of them may
//! need an excuse. Between different eras it must find what `cannot_cross.toml` says, each with its reason, and nothing
//! else. `tests/interop/install` installs the suite. Where it is missing the tests are skipped with a printed reason,
//! unless `CORTEX_REQUIRE_INTEROP=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

#[path = "conformance/cannot_cross.rs"]
mod cannot_cross;
#[path = "conformance/driver.rs"]
mod driver;
#[path = "support/fixture_upstream/mod.rs"]
mod fixture_upstream;
#[path = "interop_matrix/leftovers.rs"]
mod leftovers;
mod processes;
#[path = "conformance/runs.rs"]
mod runs;
#[path = "support/conformance.rs"]
mod suite;
#[path = "conformance/table.rs"]
mod table;

use cannot_cross::CannotCross;
use runs::{Run, found};
use suite::{Report, Revision, Side, Suite};

/// What the suite does not judge in a client, by era: the headers of a handshake that a modern client does not make,
/// and what it could declare that it can be asked, which the gateway does not by itself.
const NOT_JUDGED: [&[(&str, &str)]; 2] = [
    &[],
    &[
        ("http-standard-headers", "sep-2243-client-includes-standard-headers"),
        ("http-standard-headers", "sep-2243-client-includes-standard-headers"),
        ("request-metadata", "sep-2575-client-declares-roots-capability"),
        ("request-metadata", "sep-2575-client-declares-sampling-capability"),
        ("request-metadata", "sep-2575-client-declares-elicitation-capability"),
    ],
];

/// The gateway, started by the suite and driven as a client of it. It does nothing without the driver's environment.
#[test]
fn child_process_entry() {
    driver::obey();
}

#[test]
fn the_fixture_passes_both_requirement_sets_directly() {
    for revision in Revision::BOTH {
        let Some(direct) = found(Run::Direct(revision)) else { return };
        assert_all_passed(direct, revision, Side::Server);
    }
}

#[test]
fn nothing_is_expected_to_fail() {
    let text = std::fs::read_to_string(runs::expected_failures()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, ["server: []", "client: []"], "what fails is to be mended");
}

#[test]
fn through_the_gateway_the_suite_finds_what_it_finds_directly_where_the_eras_are_equal() {
    let mut faults = Vec::new();
    for revision in Revision::BOTH {
        let Some(direct) = found(Run::Direct(revision)) else { return };
        let Some(through) = found(Run::Through { client: revision, server: revision }) else { return };
        let complaints = through.complaints();
        for ((scenario, check), [directly, through]) in direct.differences(through) {
            faults.push(format!("{} {scenario} {check}: {directly:?} -> {through:?}", revision.name()));
            faults.extend(complaints.iter().filter(|line| line.contains(&check)).cloned());
        }
        if direct.totals() != through.totals() {
            faults.push(format!("{}: {direct} -> {through}", revision.name()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for revision in Revision::BOTH {
        let Some(through) = found(Run::Through { client: revision, server: revision }) else { return };
        assert_all_passed(through, revision, Side::Server);
    }
}

#[test]
fn between_different_eras_only_what_cannot_cross_is_lost() {
    let committed = CannotCross::read();
    let (mut faults, mut complaints) = (Vec::new(), Vec::new());
    for client in Revision::BOTH {
        let Some(direct) = found(Run::Direct(client)) else { return };
        let Some(through) = found(Run::across(client)) else { return };
        faults.extend(committed.compare(client, &direct.differences(through)));
        complaints.extend(through.complaints());
    }
    let complaints = complaints.join("\n");
    assert!(faults.is_empty(), "{}\n\nThe suite's complaints:\n{complaints}", faults.join("\n"));
}

#[test]
fn the_gateway_as_a_client_passes_every_scenario_without_oauth() {
    let mut faults = Vec::new();
    for revision in Revision::BOTH {
        let Some(found) = found(Run::AsClient(revision)) else { return };
        faults.extend(found.complaints().into_iter().map(|line| format!("{}: {line}", revision.name())));
        if !found.as_expected {
            faults.push(format!("{}: the suite or a driver says that something is wrong", revision.name()));
        }
        let (skipped, expected) = (found.skipped(), NOT_JUDGED[revision.index()]);
        if skipped != expected {
            faults.push(format!("{}: not judged is {skipped:?}, and not {expected:?}", revision.name()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_numbers_in_the_readme_are_those_of_this_run() {
    let Some(suite) = Suite::installed() else { return };
    let Some(table) = table::of(&suite) else { return };
    println!("{table}");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let told = readme.split_once(table::MARK).map(|(_, after)| after.trim_start()).unwrap_or_default();
    assert!(told.starts_with(&table), "after the line {:?} the README must say:\n{table}", table::MARK);
}

/// That everything which counts is without a fault, in the eyes of the suite too.
#[track_caller]
fn assert_all_passed(report: &Report, revision: Revision, side: Side) {
    let Some(suite) = Suite::installed() else { return };
    let scored = suite.scored(revision, side);
    let counted = report.clone().only(&scored);
    assert_eq!(counted.complaints(), Vec::<String>::new(), "{}", revision.name());
    assert_eq!(counted.scenarios.len(), scored.len(), "{}: a scenario has no results", revision.name());
    assert!(report.as_expected, "{}: the suite says that something is wrong", revision.name());
}
