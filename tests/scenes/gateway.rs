//! Scenes of a gateway and its connectors.

use std::time::Duration;

use cortex_mcp::demo::mcp_server::ServerOptions;
use cortex_mcp::mcp::ListScope;
use http::StatusCode;
use serde_json::json;

use super::{Stage, force};
use crate::support::{Rig, seconds};

/// One of two servers is down at the start; then the other one fails for a while, and both come back.
pub(crate) async fn outage_and_recovery() -> String {
    let mut stage = Stage::new(Rig::new(2));
    stage.rig.refuse(2);
    let served = stage.rig.ready().await;
    tokio::time::sleep(seconds(10)).await;
    stage.rig.revive(2);
    tokio::time::sleep(seconds(300)).await;
    stage.rig.server(1).fail_with(StatusCode::BAD_GATEWAY);
    tokio::time::sleep(seconds(50)).await;
    served.modern().list().await;
    stage.rig.server(1).recover();
    // It comes back slower, with other tools.
    stage.rig.server(1).set_latency(Duration::from_millis(400));
    stage.rig.server(1).set_tools(4);
    tokio::time::sleep(seconds(40)).await;
    force(&served).await;
    stage.end(served).await;
    stage.text()
}

/// A server that is silent and then asks for time, one that refuses its credentials, and a life of a minute.
pub(crate) async fn refusals() -> String {
    let brief = ServerOptions { ttl_ms: Some(60_000), scope: ListScope::Private, ..Rig::options(2) };
    let mut stage = Stage::new(Rig::of([Rig::options(1), brief]));
    stage.rig.hang(1);
    let served = stage.rig.ready().await;
    stage.rig.revive(1);
    stage.rig.server(1).fail_with_retry_after(StatusCode::TOO_MANY_REQUESTS, seconds(200));
    tokio::time::sleep(seconds(100)).await;
    force(&served).await;
    stage.rig.server(2).require_bearer("another key");
    tokio::time::sleep(seconds(120)).await;
    served.modern().call("s2__echo", "{}").await;
    served.legacy().list().await;
    stage.rig.server(1).recover();
    stage.rig.server(2).require_no_bearer();
    tokio::time::sleep(seconds(10)).await;
    force(&served).await;
    stage.end(served).await;
    stage.text()
}

/// The wall clock steps, the machine sleeps, and it is started anew with a clock that is behind.
pub(crate) async fn clocks() -> String {
    let mut stage = Stage::new(Rig::new(1));
    let served = stage.rig.ready().await;
    tokio::time::sleep(seconds(10)).await;
    stage.rig.clock.step_wall(3_600_000);
    tokio::time::sleep(seconds(5)).await;
    stage.rig.clock.step_wall(-7_200_000);
    force(&served).await;
    stage.rig.clock.suspend(seconds(200));
    tokio::time::sleep(seconds(10)).await;
    stage.rig.refuse(1);
    stage.rig.clock.suspend(seconds(4_000));
    tokio::time::sleep(seconds(6)).await;
    served.modern().list().await;
    stage.end(served).await;
    stage.rig.clock.reboot();
    stage.rig.clock.step_wall(-86_400_000);
    let served = stage.rig.start().await;
    tokio::time::sleep(seconds(5)).await;
    stage.rig.revive(1);
    stage.rig.clock.step_wall(86_400_000);
    tokio::time::sleep(seconds(5)).await;
    stage.end(served).await;
    stage.text()
}

/// A breaker opens, lets probes through that fail, are lost and do well; callers go away.
pub(crate) async fn calls() -> String {
    let mut stage = Stage::new(Rig::new(2));
    stage.rig.publish(|map| {
        let patient = map.connectors[0].clone().with(json!({ "timeouts": { "callMs": 5000 } }));
        map.connectors[0] = patient;
    });
    let served = stage.rig.ready().await;
    let client = served.modern();
    client.call("s1__add", r#"{"a":40,"b":2}"#).await;
    let server = stage.rig.server(1).clone();
    server.fail_with(StatusCode::BAD_GATEWAY);
    for _ in 0..7 {
        client.call("s1__echo", "{}").await;
    }
    // A probe that fails, one that its caller gives up, and one that does well while another call waits.
    tokio::time::sleep(seconds(2)).await;
    client.call("s1__echo", "{}").await;
    server.recover();
    tokio::time::sleep(seconds(4)).await;
    server.set_latency_of("tools/call", seconds(3));
    let given_up = tokio::time::timeout(seconds(1), client.call("s1__echo", "{}"));
    assert!(given_up.await.is_err());
    tokio::time::sleep(seconds(1)).await;
    tokio::join!(client.call("s1__echo", "{}"), client.call("s1__echo", "{}"));
    // Half of the last twenty fail, never five in a row; and one ends when the breaker is open already.
    server.set_latency_of("tools/call", Duration::ZERO);
    for number in 0..22 {
        match number % 2 {
            0 => server.fail_with(StatusCode::BAD_GATEWAY),
            _ => server.recover(),
        }
        client.call("s1__echo", "{}").await;
    }
    let other = stage.rig.server(2).clone();
    other.set_latency_of("tools/call", seconds(2));
    let slow = tokio::time::timeout(seconds(9), client.call("s2__echo", "{}"));
    let fail = async {
        tokio::time::sleep(seconds(1)).await;
        other.set_latency_of("tools/call", Duration::ZERO);
        other.fail_with(StatusCode::BAD_GATEWAY);
        for _ in 0..5 {
            client.call("s2__add", "{}").await;
        }
    };
    let _ = tokio::join!(slow, fail);
    stage.end(served).await;
    stage.text()
}

/// An editor adds, changes, removes and restores entries; one stamp is from the future.
pub(crate) async fn registry() -> String {
    let mut stage = Stage::new(Rig::new(2));
    stage.rig.environment = [].into();
    let write = |stage: &Stage, entries: &[(&str, usize)]| {
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, server)| {
                json!({ "name": name, "transport": "http", "endpoint": format!("https://s{server}.test/mcp") })
            })
            .collect();
        stage.rig.write_registry(&json!({ "servers": entries }).to_string());
    };
    let served = stage.rig.start().await;
    // Between two looks at the file, which are a multiple of half a second apart: else it would be a race.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for entries in [
        &[("one", 1), ("two", 2)][..],
        &[("two", 2), ("one", 1)],
        &[("one", 2), ("two", 2), ("größe", 1)],
        &[("two", 2)],
        &[],
        &[("one", 1), ("one", 2)],
    ] {
        write(&stage, entries);
        tokio::time::sleep(seconds(1)).await;
    }
    stage.rig.write_registry(r#"{"servers":[{"name":"one"},"#);
    tokio::time::sleep(seconds(3)).await;
    write(&stage, &[("one", 1), ("Two.B", 2)]);
    tokio::time::sleep(seconds(2)).await;
    stage.end(served).await;
    // The clock has gone back: what was stamped yesterday is from the future, and still counts.
    stage.rig.clock.step_wall(-86_400_000);
    let served = stage.rig.start().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    write(&stage, &[("one", 2), ("Two.B", 2)]);
    tokio::time::sleep(seconds(2)).await;
    stage.end(served).await;
    stage.text()
}

/// What was saved is fresh, then stale, then too old; and what another credential fetched is nobody's.
pub(crate) async fn restarts() -> String {
    let private = ServerOptions { scope: ListScope::Private, ..Rig::options(2) };
    let mut stage = Stage::new(Rig::of([private]));
    let served = stage.rig.ready().await;
    stage.end(served).await;
    let served = stage.rig.start().await;
    tokio::time::sleep(seconds(1)).await;
    stage.end(served).await;
    stage.rig.stop_everything();
    stage.rig.clock.suspend(seconds(3_000));
    stage.rig.clock.reboot();
    let served = stage.rig.start().await;
    served.modern().list().await;
    tokio::time::sleep(seconds(1)).await;
    stage.end(served).await;
    stage.rig.clock.suspend(seconds(2 * 86_400));
    stage.rig.clock.reboot();
    let served = stage.rig.start().await;
    tokio::time::sleep(seconds(1)).await;
    stage.rig.revive_everything();
    stage.rig.publish(|map| map.generated_at = map.generated_at.plus(2 * 86_400_000));
    tokio::time::sleep(seconds(2)).await;
    stage.end(served).await;
    stage.text()
}

/// Nothing is refreshed but what somebody reads.
pub(crate) async fn on_demand() -> String {
    let mut stage = Stage::new(Rig::new(2));
    stage.rig.set("MCP_CONNECTOR_REFRESH_SYNC", "true");
    stage.rig.refuse(2);
    let served = stage.rig.ready().await;
    tokio::time::sleep(seconds(100)).await;
    stage.rig.revive(2);
    served.modern().list().await;
    tokio::time::sleep(seconds(1_000)).await;
    served.modern().list().await;
    tokio::time::sleep(seconds(1)).await;
    stage.rig.refuse(2);
    stage.rig.server(1).fail_with_retry_after(StatusCode::SERVICE_UNAVAILABLE, seconds(100));
    tokio::time::sleep(seconds(1_000)).await;
    for _ in 0..2 {
        served.modern().list().await;
        tokio::time::sleep(seconds(20)).await;
    }
    stage.rig.revive(2);
    stage.rig.server(1).recover();
    tokio::time::sleep(seconds(200)).await;
    served.modern().call("s2__echo", "{}").await;
    served.modern().list().await;
    force(&served).await;
    stage.end(served).await;
    stage.text()
}

/// A policy is given options, and the operator fixes the number of runs at once; then other settings come.
pub(crate) async fn options() -> String {
    let mut stage = Stage::new(Rig::new(2));
    stage.rig.toml = "concurrency = 2\n[policy.options]\nmood = \"calm\"\n\"größe\" = \"42 \\\"x\\\"\"\n".to_owned();
    let served = stage.rig.ready().await;
    served.modern().call("s1__echo", "{}").await;
    let quicker = stage.rig.document.connectors[0].clone().with(json!({ "timeouts": { "callMs": 900 } }));
    stage.rig.publish(|map| map.connectors[0] = quicker);
    force(&served).await;
    // Somebody insists while a run is under way, and everything ends in the middle of one.
    stage.rig.servers.iter().for_each(|upstream| upstream.server.set_latency(seconds(5)));
    let joined = async {
        tokio::time::sleep(seconds(2)).await;
        force(&served).await;
    };
    tokio::join!(force(&served), joined);
    let unfinished = tokio::time::timeout(seconds(3), force(&served));
    assert!(unfinished.await.is_err());
    stage.end(served).await;
    stage.text()
}
