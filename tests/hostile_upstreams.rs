//! Hostile servers behind a gateway: whatever one of them sends ends in a typed error within its deadline, and the other
//! connectors are listed and called meanwhile as if it were not there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

#[path = "hostile_upstreams/attack.rs"]
mod attack;
#[path = "hostile_upstreams/sockets.rs"]
mod sockets;

use attack::{ATTACKS, Attack};
use cortex_mcp::connectors::Contact;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::model::FailureClass;
use serde_json::Value;
use support::{Rig, Served, seconds};
use tokio::time::Instant;

/// What a listing may take that ends with its deadline: connecting and listing.
const LISTING_SECONDS: u64 = 11;

/// What a call may take that ends with its deadline.
const CALL_SECONDS: u64 = 61;

/// A rig of two servers of each era, of which the last two answer `method` as `attack` says.
fn attacked(attack: &'static Attack, method: &'static str) -> Rig {
    let rig = Rig::new(4);
    for upstream in &rig.servers[2..] {
        rig.network.set(&upstream.url, Host::Serve(attack.on(method, upstream.server.router())));
    }
    rig
}

async fn the_others_answer(served: &Served) {
    let client = served.modern();
    for number in [1, 2] {
        let answer = client.call(&format!("s{number}__echo"), "{}").await;
        assert_eq!(answer.code(), None, "{}", answer.body);
    }
    let listed = client.list().await.tool_names();
    for number in [1, 2] {
        assert_eq!(listed.iter().filter(|name| name.starts_with(&format!("s{number}__"))).count(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_an_attack_fails_by_its_name_and_delays_hides_and_empties_no_other() {
    for attack in &ATTACKS {
        let rig = attacked(attack, "tools/list");
        let began = Instant::now();
        let served = rig.start().await;
        served
            .until("the good ones are there", seconds(1), |served| {
                [1, 2].iter().all(|number| served.tools_of(&format!("s{number}")) == 3)
            })
            .await;
        the_others_answer(&served).await;
        let report = served.gateway.first_pass().await;
        assert!(began.elapsed() <= seconds(LISTING_SECONDS), "{}: {:?}", attack.name, began.elapsed());
        assert_eq!((report.ready, report.failed), (2, 2), "{}", attack.name);
        for number in [3, 4] {
            let status = served.connector(&format!("s{number}")).unwrap();
            assert_eq!(status.last_failure.as_ref().unwrap().class, attack.class, "{} on s{number}", attack.name);
            assert_eq!((status.tools, status.contact), (0, Contact::Down), "{}", attack.name);
        }
        the_others_answer(&served).await;
        served.gateway.shut_down().await;
        attack.was_bounded();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_with_an_attack_fails_by_its_name_and_costs_no_other_call() {
    for attack in &ATTACKS {
        let rig = attacked(attack, "tools/call");
        let served = rig.ready().await;
        for number in [3, 4] {
            let began = Instant::now();
            let client = served.modern();
            let calling = tokio::spawn(async move { client.call(&format!("s{number}__echo"), "{}").await });
            the_others_answer(&served).await;
            let answer = calling.await.unwrap();
            // What came before may have been passed on: then the answer is the last event.
            let last = answer.body.lines().rfind(|line| !line.is_empty()).unwrap();
            let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap_or(last)).unwrap();
            assert_eq!(last["error"]["data"]["reason"], attack.class.as_str(), "{} on s{number}: {last}", attack.name);
            assert!(began.elapsed() <= seconds(CALL_SECONDS), "{}: {:?}", attack.name, began.elapsed());
        }
        the_others_answer(&served).await;
        // Its list was sound and stays.
        assert_eq!(served.tools(), 12, "{}", attack.name);
        served.gateway.shut_down().await;
        attack.was_bounded();
    }
}

#[tokio::test(start_paused = true)]
async fn tools_that_nest_deeper_than_readers_go_are_left_out_and_the_rest_is_listed_and_saved() {
    let rig = Rig::new(2);
    let deep = format!("{}{{}}{}", "{\"not\":".repeat(100_000), "}".repeat(100_000));
    let tools = [
        format!(r#"{{"name":"deep","inputSchema":{deep}}}"#),
        format!(r#"{{"name":"annotated","inputSchema":{{"x-mcp-header":"A","not":{deep}}}}}"#),
        r#"{"name":"sound","inputSchema":{"type":"object"}}"#.to_owned(),
    ];
    let tools = tools.map(|tool| serde_json::value::RawValue::from_string(tool).unwrap());
    for number in [1, 2] {
        rig.server(number).set_tools(tools.to_vec());
    }
    let served = rig.ready().await;
    for client in [served.modern(), served.legacy()] {
        assert_eq!(client.list().await.tool_names(), ["s1__sound", "s2__sound"]);
    }
    served.gateway.shut_down().await;
    rig.stop_everything();
    let again = rig.start().await;
    assert_eq!(again.modern().list().await.tool_names(), ["s1__sound", "s2__sound"]);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_nests_deeper_than_any_stack_passes_to_the_byte() {
    let rig = attacked(&attack::DEEP_RESULT, "tools/call");
    let served = rig.ready().await;
    for client in [served.modern(), served.legacy()] {
        for number in [3, 4] {
            let answer = client.call(&format!("s{number}__echo"), "{}").await;
            assert!(answer.raw_result().contains(&attack::deep()), "{} bytes", answer.body.len());
        }
    }
    the_others_answer(&served).await;
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_a_metadata_address_reaches_nobody() {
    let attack = ATTACKS.iter().find(|attack| attack.class == FailureClass::Redirect).unwrap();
    let rig = attacked(attack, "tools/list");
    let metadata = attack::Witness::default();
    rig.network.set(&"http://169.254.169.254/".parse().unwrap(), Host::Serve(metadata.router()));
    let served = rig.ready().await;
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(metadata.requests(), 0);
    assert!(served.wire.sent().iter().all(|sent| sent.request.url.host_str() != Some("169.254.169.254")));
    let asked = served.wire.sent().iter().filter(|sent| sent.body().contains("tools/list")).count();
    assert!(asked > 4, "it was asked again and again: {asked}");
}
