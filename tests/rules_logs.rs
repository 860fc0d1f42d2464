//! The log of runs. A test binary of its own: a subscriber of one thread would miss what others logged first.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};

use cortex_mcp::gateway::SyncKind;
use support::{MapAnswer, Rig};
use tracing_subscriber::fmt::MakeWriter;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

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
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
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
