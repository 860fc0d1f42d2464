//! Throughput and memory of the release binary under load: `cargo bench --bench load`.
//!
//! - `-- --against BINARY` measures another build beside it, in interleaved rounds, and prints the ratio of their medians.
//! - `-- --preload LIBRARY` (repeated) measures the other build, or this one, with another allocator.
//! - `-- --rounds N`, `-- --seconds N`: how many rounds, and how long each is.
//! - `-- --memory` measures memory too: after 100,000 and after 1,000,000 calls that nobody scrapes, idle with ten
//!   servers, and while and after a gigabyte of unfinished bodies is offered. It takes some minutes.
//!
//! One lean server and 64 clients run in this process, each on one thread; the gateway is a process of its own.

#![allow(clippy::expect_used, reason = "a measurement that can not run has nothing to report")]

mod client;
mod gateway;
mod http;
mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::client::{Until, call, offer_bodies};
use self::gateway::{Gateway, Variant};

/// Calls that are in flight at once.
const CLIENTS: usize = 64;

/// Bytes of bodies that are offered and not finished.
const OFFERED: usize = 1 << 30;

/// How long after its start a gateway counts as idle: what its start took is given back by then.
const IDLE: Duration = Duration::from_secs(30);

/// How long after a peak memory is measured.
const AFTER_PEAK: Duration = Duration::from_secs(60);

struct Options {
    against: Option<PathBuf>,
    preload: Vec<String>,
    rounds: usize,
    seconds: u64,
    memory: bool,
}

fn main() {
    let options = options();
    let this = Path::new(env!("CARGO_BIN_EXE_cortex-mcp"));
    let mut variants = vec![Variant { name: "this build", binary: this, preload: None }];
    if let Some(against) = &options.against {
        variants.push(Variant { name: "other build", binary: against, preload: None });
    }
    let binary = options.against.as_deref().unwrap_or(this);
    for library in &options.preload {
        variants.push(Variant { name: library, binary, preload: Some(library) });
    }
    let upstream = upstream::start();
    throughput(&variants, upstream, &options);
    if options.memory {
        for variant in &variants {
            memory(*variant, upstream);
        }
    }
}

fn options() -> Options {
    let mut options = Options { against: None, preload: Vec::new(), rounds: 5, seconds: 5, memory: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option has a value");
        match argument.as_str() {
            "--against" => options.against = Some(value().into()),
            "--preload" => options.preload.push(value()),
            "--rounds" => options.rounds = value().parse().expect("--rounds is a number"),
            "--seconds" => options.seconds = value().parse().expect("--seconds is a number"),
            "--memory" => options.memory = true,
            // What `cargo bench` passes itself.
            "--bench" => {}
            other => panic!("there is no option {other}"),
        }
    }
    options
}

/// Calls a second of each variant, in rounds that take turns, and the ratios to the second variant.
fn throughput(variants: &[Variant<'_>], upstream: SocketAddr, options: &Options) {
    let gateways: Vec<Gateway> = variants.iter().map(|variant| Gateway::start(*variant, upstream, 1)).collect();
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
    for gateway in &gateways {
        // Not counted: connections, the session, and what is made once.
        call(gateway.address, CLIENTS, Until::Elapsed(Duration::from_secs(1)));
    }
    for round in 0..options.rounds {
        for (gateway, rates) in gateways.iter().zip(&mut rates) {
            rates.push(call(gateway.address, CLIENTS, Until::Elapsed(Duration::from_secs(options.seconds))));
        }
        let row: Vec<String> = rates.iter().map(|rates| format!("{:.0}/s", rates[round])).collect();
        line(&format!("round {}, {CLIENTS} calls in flight", round + 1), &row.join("  "));
    }
    let medians: Vec<f64> = rates.iter().map(|rates| median(rates)).collect();
    for ((variant, rates), own) in variants.iter().zip(&rates).zip(&medians) {
        let (least, most) =
            rates.iter().fold((f64::MAX, 0.0_f64), |(low, high), rate| (low.min(*rate), high.max(*rate)));
        line(variant.name, &format!("median {own:.0}/s ({least:.0} to {most:.0})"));
    }
    if let Some(other) = medians.get(1) {
        line("this build / other build", &format!("{:.2}", medians[0] / other));
    }
}

fn memory(variant: Variant<'_>, upstream: SocketAddr) {
    line(variant.name, "memory");
    let gateway = Gateway::start(variant, upstream, 10);
    std::thread::sleep(IDLE);
    line("  idle with 10 servers", &mebibytes(gateway.resident()));
    drop(gateway);

    let gateway = Gateway::start(variant, upstream, 1);
    call(gateway.address, CLIENTS, Until::Calls(100_000));
    let early = gateway.resident();
    line("  after 100,000 calls", &mebibytes(early));
    call(gateway.address, CLIENTS, Until::Calls(900_000));
    let late = gateway.resident();
    line("  after 1,000,000 calls", &format!("{} ({:+.1} MB)", mebibytes(late), (late as f64 - early as f64) / 1e6));
    drop(gateway);

    let gateway = Gateway::start(variant, upstream, 1);
    call(gateway.address, CLIENTS, Until::Calls(10_000));
    let before = gateway.resident();
    let held = offer_bodies(gateway.address, OFFERED);
    let mut peak = gateway.resident();
    let mut answered = 0;
    for _ in 0..50 {
        answered += u32::from(gateway.is_alive());
        peak = peak.max(gateway.resident());
        std::thread::sleep(Duration::from_millis(100));
    }
    line("  before a peak of bodies", &mebibytes(before));
    line("  while 1 GiB of bodies is offered, at most", &mebibytes(peak));
    line("  /healthz answered meanwhile", &format!("{answered} of 50"));
    drop(held);
    std::thread::sleep(AFTER_PEAK);
    let after = gateway.resident();
    line("  60 s later", &format!("{} ({:+.1} MB)", mebibytes(after), (after as f64 - before as f64) / 1e6));
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[expect(clippy::print_stdout, reason = "the report")]
fn line(what: &str, figure: &str) {
    println!("{what:<54} {figure}");
}
