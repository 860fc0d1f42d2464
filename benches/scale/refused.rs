//! A gateway in front of endpoints that all refuse.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::gateway::{Gateway, Home};
use super::{bound, print};

/// Runs a gateway in front of so many endpoints for two minutes, and reports what is promised of that.
pub(crate) fn report(endpoints: usize) {
    // Port 9 is that of the discard service, which no machine offers any more.
    let home = Home::new((0..endpoints).map(|number| format!("http://127.0.0.1:9/{number}")));
    let gateway = Gateway::start(&home);
    while gateway.get("/healthz").is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    bound(&format!("/healthz in front of {endpoints} refused endpoints, ms"), gateway.age().as_secs_f64() * 1e3, 300.0);
    let mut slowest = Duration::ZERO;
    let mut tried_after = None;
    let mut next_look = Duration::from_secs(2);
    let (mut first_minute, mut cpu) = (None, None);
    // The size of each segment that there was, as it was last seen: compressed segments take the place of plain ones.
    let mut segments = BTreeMap::new();
    while gateway.age() < Duration::from_secs(120) {
        let asked = gateway.age();
        assert!(gateway.get("/healthz").is_some(), "it is alive");
        slowest = slowest.max(gateway.age() - asked);
        segments.extend(home.segments());
        if tried_after.is_none() && asked > next_look {
            next_look += Duration::from_secs(2);
            tried_after = (tried(&gateway) == endpoints).then_some(asked);
        }
        if first_minute.is_none() && asked > Duration::from_secs(60) {
            first_minute = Some(segments.values().sum::<u64>());
            cpu = Some((gateway.cpu(), gateway.age()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bound("  /healthz later, ms at most", slowest.as_secs_f64() * 1e3, 300.0);
    bound("  s until every endpoint was tried", tried_after.map_or(f64::INFINITY, |after| after.as_secs_f64()), 60.0);
    let first_minute = first_minute.unwrap_or_default();
    let second_minute = segments.values().sum::<u64>().saturating_sub(first_minute);
    bound("  MB of trace in the first minute", first_minute as f64 / 1e6, 20.0);
    bound("  MB of trace in the second minute", second_minute as f64 / 1e6, 20.0);
    // An attempt of each connector takes a minute of backoff.
    bound("  MB of trace for 20 attempts of each connector", 20.0 * second_minute as f64 / 1e6, 268.0);
    if let Some((before, since)) = cpu {
        let share = (gateway.cpu() - before).as_secs_f64() / (gateway.age() - since).as_secs_f64();
        bound("  CPU s in 10 s, after the first minute", share * 10.0, 1.0);
    }
    let status: Value =
        gateway.get("/status").and_then(|status| serde_json::from_str(&status).ok()).unwrap_or_default();
    let dropped = status["trace"]["dropped"].as_f64().unwrap_or(f64::INFINITY);
    bound("  dropped records", dropped, 0.0);
    print(&format!("  RSS {:.1} MB, CPU {:.1} s", gateway.resident() as f64 / 1e6, gateway.cpu().as_secs_f64()));
    gateway.end();
}

/// How many endpoints were tried.
fn tried(gateway: &Gateway) -> usize {
    let status = gateway.get("/status").and_then(|status| serde_json::from_str::<Value>(&status).ok());
    let connectors = status.as_ref().and_then(|status| status["connectors"].as_array());
    connectors.into_iter().flatten().filter(|one| one["lastFailure"].is_object()).count()
}
