//! Servers that list and hang on calls: missed deadlines open the breaker, also of calls that came in through a queue.

use tokio::time::sleep;

use super::*;
use crate::connectors::{CallError, Caller, OwnSessions};
use crate::demo::mcp_server::{McpServer, ServerEra, ServerOptions};
use crate::mcp::Declared;
use crate::model::raw::{self, RawObject};

/// A listed server whose calls may take so long and are never answered.
async fn hung(call: Duration, toml: &str) -> (Arc<Fleet>, Arc<McpServer>) {
    let server = McpServer::new(ServerOptions { era: ServerEra::Modern, ..ServerOptions::default() });
    server.be_silent_on(&["tools/call"]);
    let network = Arc::new(VirtualNetwork::new());
    network.set(&url(), Host::Serve(server.router()));
    let fleet = fleet(network, Arc::new(VirtualProcesses::new()), settings(toml));
    let timeouts = Timeouts { call: Some(call), ..Timeouts::default() };
    fleet.apply(vec![Connector { timeouts, ..described("1") }]).await;
    while fleet.statuses()[0].runs == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    (fleet, server)
}

async fn call(fleet: &Fleet) -> Result<crate::mcp::Outcome, CallError> {
    let params = RawObject::from_str(r#"{"name":"echo"}"#).unwrap();
    fleet.call(&id(), Caller::default(), "tools/call", params).await
}

/// In real time, where the admission of a call takes a moment and leaves it less than its whole deadline.
#[tokio::test]
async fn calls_that_were_admitted_at_once_open_the_breaker_by_their_deadlines() {
    let (fleet, server) = hung(Duration::from_millis(500), "").await;
    for _ in 0..5 {
        assert_eq!(call(&fleet).await.unwrap_err().reason(), "timeout");
    }
    assert_eq!(server.counts().calls, 5);
    let opened = async {
        while fleet.statuses()[0].breaker == "closed" {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), opened).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn behind_a_queue_that_never_empties_a_hung_server_opens_the_breaker_and_its_open_time_grows() {
    for seconds in [5, 60] {
        let (fleet, server) = hung(Duration::from_secs(seconds), "[connector.live]\ncalls = 1").await;
        let calls = (0..1_200).map(async |number| {
            sleep(Duration::from_millis(500 * number)).await;
            call(&fleet).await.is_ok()
        });
        let opens = async {
            sleep(Duration::from_secs(2 * 60)).await;
            assert_ne!(fleet.statuses()[0].breaker, "closed", "{seconds} s");
        };
        let (answered, ()) = tokio::join!(futures_util::future::join_all(calls), opens);
        assert!(!answered.contains(&true));
        // Ten that open it, of which five are excused, and a probe for each open time in ten minutes.
        let calls = server.counts().calls;
        assert!((10..40).contains(&calls), "{calls} calls of {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_of_a_clients_own_session_lets_the_next_call_pass() {
    let rig = Rig::new(false).await;
    let own = OwnSessions::new(Declared { capabilities: raw::trusted(r#"{"roots":{}}"#.to_owned()), info: None });
    rig.server.fail_calls(Some(500));
    let mut reasons = Vec::new();
    for _ in 0..6 {
        let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
        let caller = Caller { own: Some(&own), ..Caller::default() };
        reasons.push(rig.fleet.call(&id(), caller, "tools/call", params).await.unwrap_err().reason());
        sleep(Duration::from_millis(260)).await;
    }
    // The fifth opens it, and is the second after which the session is pinged.
    assert_eq!(reasons, ["server"; 6]);
}
