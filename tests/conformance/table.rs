//! The numbers of all runs, as the README has them.

use std::collections::BTreeSet;

use super::runs::{Run, found};
use super::suite::{Report, Revision, Side, Suite};

/// The line before the numbers in the README.
pub(crate) const MARK: &str = "<!-- conformance: what tests/conformance.rs counted -->";

/// The table. None where the suite is not installed.
pub(crate) fn of(suite: &Suite) -> Option<String> {
    let mut table = String::from("| scenarios and checks that pass | 2025-11-25 | 2026-07-28 |\n|---|---|---|\n");
    let runs = |revision: Revision| {
        [
            ("the fixture, directly", Side::Server, Run::Direct(revision)),
            ("through the gateway", Side::Server, Run::Through { client: revision, server: revision }),
            ("through the gateway, the fixture of the other era", Side::Server, Run::across(revision)),
            ("the gateway as the client, without OAuth", Side::Client, Run::AsClient(revision)),
        ]
    };
    let [older, newer] = Revision::BOTH.map(|revision| runs(revision).map(|run| (revision, run)));
    for row in older.into_iter().zip(newer) {
        table.push_str(&format!("| {} |", row.0.1.0));
        for (revision, (name, side, run)) in [row.0, row.1] {
            let report = found(run)?;
            println!("{name}, {}: {report}, scored and unscored", revision.name());
            table.push_str(&format!(" {} |", cell(report, &suite.scored(revision, side))));
        }
        table.push('\n');
    }
    Some(table)
}

/// Scored scenarios without a fault, of all that were run, and their checks.
fn cell(report: &Report, scored: &BTreeSet<String>) -> String {
    let counted = report.clone().only(scored).totals();
    let checks = counted.passed + counted.failed + counted.warnings;
    format!("{} of {}, {} of {checks}", counted.clean, counted.scenarios, counted.passed)
}
