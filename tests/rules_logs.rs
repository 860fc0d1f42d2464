//! The log of runs. A test binary of its own: a subscriber of one thread would miss what others logged first.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::gateway::SyncKind;
use support::log::Log;
use support::{MapAnswer, Rig};

/// S14: each run is logged with how it ended, how long it took, and when the next one is due.
#[tokio::test(start_paused = true)]
async fn every_run_is_logged_with_its_outcome_its_duration_and_the_next_attempt() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(log.clone()).with_ansi(false);
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let rig = Rig::new(2);
    rig.refuse(2);
    let served = rig.ready().await;
    rig.map.answer(MapAnswer::Status(503, String::new()));
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    let text = log.text();
    for (line, also) in [
        (" synced ", "connector=s1"),
        ("sync failed", "connector=s2"),
        ("sync failed", "class=refused"),
        ("sync failed", "failures=1"),
        ("service map run ended", "outcome=Succeeded"),
        ("service map run ended", "outcome=Failed"),
    ] {
        let wanted = |text: &&str| {
            text.contains(line) && ["duration_ms=", "next_ms=", also].iter().all(|field| text.contains(field))
        };
        assert!(text.lines().any(|text| wanted(&text)), "{line} with {also}:\n{text}");
    }
}
