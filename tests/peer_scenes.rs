//! The scenes in which the gateway and its peers are compared: one upstream dead and one hung; all of them gone; back with
//! other tools; a late joiner; and a list in pages. Virtual time; ten servers of both eras.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::time::Duration;

use cortex_mcp::demo::mcp_server::ServerOptions;
use cortex_mcp::mcp::protocol::Era;
use support::{Rig, Served, seconds};

/// Ten servers of ten tools.
fn ten() -> Rig {
    Rig::of((1..=10).map(|number| ServerOptions { tools: 10, ..Rig::options(number) }))
}

async fn listed(served: &Served) -> [usize; 2] {
    let (legacy, modern) = (served.client(Era::Legacy).list().await, served.client(Era::Modern).list().await);
    [legacy.tool_names().len(), modern.tool_names().len()]
}

#[tokio::test(start_paused = true)]
async fn scene_a_with_one_dead_and_one_hung_every_healthy_tool_is_listed_at_once_and_the_hung_one_is_reported() {
    let rig = ten();
    rig.refuse(3);
    rig.hang(6);
    let served = rig.start().await;
    served.until("all healthy tools", Duration::from_millis(300), |served| served.tools() == 80).await;
    assert_eq!(listed(&served).await, [80, 80]);
    served.gateway.first_pass().await;
    for (id, class) in [("s3", "refused"), ("s6", "timeout")] {
        let status = served.connector(id).unwrap();
        assert_eq!((status.last_failure.as_ref().unwrap().class.as_str(), status.tools), (class, 0), "{id}");
        let standing = served.modern().list().await.standing(id);
        assert_eq!((standing["tools"].as_u64(), standing["state"].as_str()), (Some(0), Some("empty")), "{standing}");
    }
}

#[tokio::test(start_paused = true)]
async fn scenes_b_and_c_when_all_are_gone_everything_is_listed_with_its_age_and_when_they_return_so_are_their_new_tools()
 {
    let rig = ten();
    let served = rig.ready().await;
    assert_eq!(listed(&served).await, [100, 100]);
    (1..=10).for_each(|number| rig.refuse(number));
    for minutes in [1, 10, 60] {
        tokio::time::sleep(seconds(minutes * 60)).await;
        let answer = served.modern().list().await;
        assert_eq!(answer.tool_names().len(), 100, "after {minutes} minutes");
        for number in 1..=10 {
            let id = format!("s{number}");
            let (standing, status) = (answer.standing(&id), served.connector(&id).unwrap());
            let fetched = standing["fetchedAt"].as_str().unwrap();
            assert!(fetched.starts_with("2026-01-01T00:00:0"), "the age is that of the list: {standing}");
            assert!(standing["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{standing}");
            if minutes > 1 {
                assert_eq!(standing["state"], "stale-error", "{standing}");
                assert_eq!(status.last_failure.as_ref().unwrap().class.as_str(), "refused");
                assert!(status.failures > 0 && status.next_attempt.is_some());
            }
        }
    }

    for number in 1..=10 {
        rig.server(number).set_tools(12);
        rig.revive(number);
    }
    // The cap of the backoff: seventy-five seconds is when the peers were looked at.
    served.until("the new lists", seconds(75), |served| served.tools() == 120).await;
    assert_eq!(listed(&served).await, [120, 120]);
}

#[tokio::test(start_paused = true)]
async fn scene_d_a_late_joiner_is_listed_within_the_cap_of_the_backoff() {
    let rig = ten();
    rig.refuse(3);
    let served = rig.ready().await;
    assert_eq!(listed(&served).await, [90, 90]);
    tokio::time::sleep(seconds(3_600)).await;
    rig.revive(3);
    served.until("the late joiner", seconds(60), |served| served.tools() == 100).await;
    assert_eq!(listed(&served).await, [100, 100]);
}

#[tokio::test(start_paused = true)]
async fn scene_e_a_list_in_pages_is_whole() {
    let rig = Rig::of([
        ServerOptions { tools: 25, page_size: Some(10), ..Rig::options(1) },
        ServerOptions { tools: 1, ..Rig::options(2) },
    ]);
    let served = rig.ready().await;
    assert_eq!(listed(&served).await, [26, 26]);
    assert_eq!(rig.server(1).counts().lists, 3);
}
