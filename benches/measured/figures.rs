//! Medians, percentiles and the table in which they are reported.

use std::time::{Duration, Instant};

use serde::Serialize;

/// One line of the report.
#[derive(Serialize)]
struct Row {
    what: String,
    figure: String,
    value: Option<f64>,
    target: Option<String>,
    met: Option<bool>,
}

/// What was measured.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// What a value is to be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// Takes note of something that has no target.
    pub(crate) fn note(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.rows.push(Row { what: what.into(), figure: figure.into(), value: None, target: None, met: None });
    }

    /// Takes note of a value that has one.
    pub(crate) fn judge(&mut self, what: impl Into<String>, value: f64, unit: &str, target: Target) {
        let (met, told) = match target {
            Target::AtMost(most) => (value <= most, format!("at most {most}{unit}")),
            Target::AtLeast(least) => (value >= least, format!("at least {least}{unit}")),
        };
        let figure = format!("{value:.2}{unit}");
        self.rows.push(Row { what: what.into(), figure, value: Some(value), target: Some(told), met: Some(met) });
    }

    /// Prints it, for people or for programs.
    #[expect(clippy::print_stdout, reason = "the report")]
    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string_pretty(self).expect("a report has a JSON form"));
            return;
        }
        for row in &self.rows {
            let verdict = match (&row.target, row.met) {
                (Some(target), Some(true)) => format!("  ({target}: met)"),
                (Some(target), _) => format!("  ({target}: MISSED)"),
                (None, _) => String::new(),
            };
            println!("{:<54} {}{verdict}", row.what, row.figure);
        }
    }
}

/// Times of one round, or values of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(Vec<f64>);

impl Values {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Times something, in seconds.
    pub(crate) fn time<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = run();
        self.push(started.elapsed().as_secs_f64());
        done
    }

    /// The latest.
    pub(crate) fn last(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// The value that this share of all is below.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (share * sorted.len() as f64) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(0.5)
    }
}

/// A time as people read it.
pub(crate) fn shown(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "-".to_owned();
    }
    let time = Duration::from_secs_f64(seconds);
    if seconds < 0.001 { format!("{:.1} µs", seconds * 1e6) } else { format!("{time:.2?}") }
}
