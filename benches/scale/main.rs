//! What work costs as connectors become more: `cargo bench --bench scale`.
//!
//! For 10, 100, 300, 1,000 and 3,000 connectors with ten tools each, the release binary is run as a process of its own, in
//! front of servers that answer at once: CPU seconds of a cold sync, CPU milliseconds of one changed list, the time from a
//! restart with everything down to the first full list, resident memory, and bytes of the decision record. Sizes take turns,
//! medians are printed, then how each figure grows from 100 to 3,000 connectors (the exponent: 1 is proportional) and the
//! ratios that are promised.
//!
//! - `-- --rounds N`: how many rounds (3).
//! - `-- --largest N`: no size above this.
//! - `-- --refused N`: instead, two minutes in front of so many endpoints that refuse every connection.

#![allow(clippy::expect_used, reason = "a measurement that cannot run has nothing to report")]

mod gateway;
mod refused;
mod servers;

use std::time::Duration;

use self::gateway::{Gateway, Home};
use self::servers::Servers;

/// Tools of each server.
const TOOLS: usize = 10;

/// Lists that are changed, one after the other, for one figure.
const CHANGES: usize = 50;

const SIZES: [usize; 5] = [10, 100, 300, 1_000, 3_000];

/// What was measured of one size in one round.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// CPU of the gateway from its start until every list is served.
    sync_cpu: Duration,
    /// CPU of the gateway for one changed list, with the call that shows the change.
    change_cpu: Duration,
    /// From the start of the process to the first full list, while every server is down.
    restart: Duration,
    /// Reading the bytes that the restart reads.
    raw_read: Duration,
    resident: u64,
    trace_bytes: u64,
}

struct Options {
    rounds: usize,
    largest: usize,
    refused: Option<usize>,
}

fn main() {
    let options = options();
    if let Some(endpoints) = options.refused {
        refused::report(endpoints);
        return;
    }
    let sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size <= options.largest).collect();
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); sizes.len()];
    for _ in 0..options.rounds {
        for (size, figures) in sizes.iter().zip(&mut rounds) {
            figures.push(measure(*size));
        }
    }
    let medians: Vec<Figures> = rounds.iter().map(|figures| median(figures)).collect();
    print(&format!(
        "{:>10} {:>12} {:>14} {:>14} {:>10} {:>10} {:>12}",
        "connectors", "sync CPU s", "change CPU ms", "restart ms", "raw ms", "RSS MB", "trace kB"
    ));
    for (size, figures) in sizes.iter().zip(&medians) {
        print(&format!(
            "{size:>10} {:>12.3} {:>14.2} {:>14.1} {:>10.2} {:>10.1} {:>12.0}",
            figures.sync_cpu.as_secs_f64(),
            milliseconds(figures.change_cpu),
            milliseconds(figures.restart),
            milliseconds(figures.raw_read),
            figures.resident as f64 / 1e6,
            figures.trace_bytes as f64 / 1e3,
        ));
    }
    let of = |size: usize| sizes.iter().position(|known| *known == size).map(|position| medians[position]);
    if let (Some(small), Some(large)) = (of(100), of(3_000)) {
        let growth = |what: &str, figure: fn(&Figures) -> f64| {
            let exponent = (figure(&large) / figure(&small)).ln() / 30f64.ln();
            bound(&format!("exponent of {what}, 100 to 3,000"), exponent, 1.15);
        };
        growth("sync CPU", |figures| figures.sync_cpu.as_secs_f64());
        growth("change CPU", |figures| figures.change_cpu.as_secs_f64());
        growth("restart", |figures| figures.restart.as_secs_f64());
        growth("memory", |figures| figures.resident as f64);
        growth("trace bytes", |figures| figures.trace_bytes as f64);
    }
    if let (Some(ten), Some(hundred), Some(thousand)) = (of(10), of(100), of(1_000)) {
        let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
        bound("sync CPU, 1,000 / 100 connectors", ratio(thousand.sync_cpu, hundred.sync_cpu), 12.0);
        bound("change CPU, among 10,000 / among 100 tools", ratio(thousand.change_cpu, ten.change_cpu), 3.0);
        let above = milliseconds(hundred.restart) - 2.0 * milliseconds(hundred.raw_read);
        bound("restart with 1,000 tools, ms above twice a raw read", above, 40.0);
        bound("restart, 10,000 / 1,000 tools", ratio(thousand.restart, hundred.restart), 4.0);
    }
}

fn options() -> Options {
    let mut options = Options { rounds: 3, largest: usize::MAX, refused: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().and_then(|value| value.parse().ok()).expect("the option has a number");
        match argument.as_str() {
            "--rounds" => options.rounds = value(),
            "--largest" => options.largest = value(),
            "--refused" => options.refused = Some(value()),
            // What `cargo bench` passes itself.
            "--bench" => {}
            other => panic!("there is no option {other}"),
        }
    }
    options
}

fn measure(connectors: usize) -> Figures {
    let servers = Servers::start(connectors, TOOLS);
    let home = Home::new((0..connectors).map(|number| servers.endpoint(number)));
    let tools = connectors * TOOLS;

    let gateway = Gateway::start(&home);
    gateway.wait_for_tools(tools);
    gateway.settle();
    let (sync_cpu, resident) = (gateway.cpu(), gateway.resident());
    let trace_bytes = home.trace_bytes();

    let before = gateway.cpu_of_threads();
    let changes = CHANGES.min(connectors);
    for change in 0..changes {
        // Each of another connector: one is not asked again and again.
        let connector = change * connectors / changes;
        servers.remove_last_tool(connector);
        gateway.call(&format!("s{connector}__tool-{TOOLS}"));
        servers.wait_for_lists(connector, 2);
    }
    gateway.settle();
    let change_cpu =
        (gateway.cpu_of_threads().saturating_sub(before)) / u32::try_from(changes).expect("a small number");

    gateway.end();
    drop(servers);
    let raw_read = home.read_state();
    let gateway = Gateway::start(&home);
    let restart = gateway.wait_for_full_list(tools - changes);
    gateway.end();
    Figures { sync_cpu, change_cpu, restart, raw_read, resident, trace_bytes }
}

fn median(rounds: &[Figures]) -> Figures {
    fn middle<T: Ord + Copy>(rounds: &[Figures], figure: fn(&Figures) -> T) -> T {
        let mut sorted: Vec<T> = rounds.iter().map(figure).collect();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }
    Figures {
        sync_cpu: middle(rounds, |one| one.sync_cpu),
        change_cpu: middle(rounds, |one| one.change_cpu),
        restart: middle(rounds, |one| one.restart),
        raw_read: middle(rounds, |one| one.raw_read),
        resident: middle(rounds, |one| one.resident),
        trace_bytes: middle(rounds, |one| one.trace_bytes),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn bound(what: &str, figure: f64, most: f64) {
    let result = if figure <= most { "holds" } else { "MISSED" };
    print(&format!("{what:<54} {figure:>8.2}  (at most {most}: {result})"));
}

#[expect(clippy::print_stdout, reason = "the report")]
fn print(line: &str) {
    println!("{line}");
}
