//! Children that are slow to start: one process, whose answers say which era it speaks.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::mcp::limits::PIPE_QUESTIONS_MAX;
use crate::mcp::{KnownEra, Start};

/// What a child does with what it finds in its pipe.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Child {
    /// It speaks one era and refuses the other one.
    Speaks(Era),
    /// It is legacy, and ignores what it does not know.
    Ignores,
    /// It is legacy, and refuses the modern question after it was initialized.
    RefusesLate,
    /// It speaks both, request by request.
    Both,
    /// It speaks both, and from then on only that of the first question.
    First,
    /// The same, of the last one.
    Last,
}

impl Child {
    async fn run(self, mut peer: Peer) -> Exit {
        let (mut asked, mut initialized, mut put_off) = (None, false, None);
        while let Some(request) = peer.request().await {
            let era = match request["method"].as_str().unwrap() {
                "initialize" => Era::Legacy,
                "server/discover" => Era::Modern,
                _ if request["params"]["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some() => Era::Modern,
                _ => Era::Legacy,
            };
            let is_first = *asked.get_or_insert(era) == era;
            let serves = match self {
                Self::Speaks(own) => own == era,
                Self::Ignores | Self::RefusesLate => era == Era::Legacy,
                Self::Both => true,
                Self::First => is_first,
                Self::Last => era == Era::Legacy || !initialized,
            };
            initialized |= serves && era == Era::Legacy;
            match (serves, request["method"].as_str().unwrap()) {
                (true, "server/discover") => peer.answer(&request, DISCOVERED).await,
                (true, "initialize") => peer.answer(&request, INITIALIZED).await,
                (true, _) => peer.answer(&request, r#"{"tools":[],"resultType":"complete"}"#).await,
                (false, _) if self == Self::Ignores => {}
                (false, _) if self == Self::RefusesLate && !initialized => put_off = Some(request),
                (false, _) => peer.refuse(&request, -32601).await,
            }
            if initialized && let Some(request) = put_off.take() {
                peer.refuse(&request, -32600).await;
            }
        }
        Exit::Code(0)
    }
}

const MODERN: Child = Child::Speaks(Era::Modern);
const LEGACY: Child = Child::Speaks(Era::Legacy);

#[tokio::test(start_paused = true)]
async fn a_slow_child_of_any_kind_comes_up_in_one_process() {
    let known = [KnownEra::Unknown, KnownEra::Remembered(Era::Modern), KnownEra::Remembered(Era::Legacy)];
    for (child, eras) in [
        (MODERN, [Era::Modern; 3]),
        (LEGACY, [Era::Legacy; 3]),
        (Child::RefusesLate, [Era::Legacy; 3]),
        (Child::Both, [Era::Modern, Era::Modern, Era::Legacy]),
        (Child::First, [Era::Modern, Era::Modern, Era::Legacy]),
        (Child::Last, [Era::Legacy, Era::Modern, Era::Legacy]),
        (Child::Ignores, [Era::Legacy; 3]),
    ] {
        for (known, era) in known.into_iter().zip(eras) {
            for delay in [0, 8, 40, 100].map(Duration::from_secs) {
                let is_silent = matches!(child, Child::Ignores | Child::RefusesLate);
                if is_silent && known == KnownEra::Remembered(Era::Modern) {
                    // It is asked the other question once it is late.
                    continue;
                }
                if delay.is_zero() && child == Child::Last {
                    // Only a slow one is asked both.
                    continue;
                }
                let rig = Rig::new(move |peer| async move {
                    tokio::time::sleep(delay).await;
                    child.run(peer).await
                });
                let began = Instant::now();
                let session = rig.upstream.start(known, &Declared::default(), &Start::default()).await.unwrap();
                assert_eq!(session.era(), era, "{child:?} {known:?} {delay:?}");
                session.list(crate::model::ListKind::Tools).await.unwrap();
                settle().await;
                assert_eq!((rig.processes.started(), rig.processes.running()), (1, 1), "{child:?} {known:?} {delay:?}");
                assert!(began.elapsed() <= delay + Duration::from_secs(70), "{child:?} {known:?} {delay:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_configured_era_is_asked_no_question_of_the_other_one() {
    for era in [Era::Modern, Era::Legacy] {
        let rig = Rig::new(move |mut peer| async move {
            tokio::time::sleep(Duration::from_secs(40)).await;
            while let Some(request) = peer.request().await {
                let foreign = if era == Era::Modern { "initialize" } else { "server/discover" };
                assert_ne!(request["method"], foreign);
                peer.refuse(&request, -32601).await;
            }
            Exit::Code(0)
        });
        let (start, declared) = (Start::default(), Declared::default());
        start.ask_again();
        let opened = rig.upstream.start(KnownEra::Configured(era), &declared, &start).await;
        // A modern server that will not say what it is may serve all the same; a legacy one that refuses does not.
        assert_eq!(opened.is_ok(), era == Era::Modern);
        assert_eq!(rig.processes.started(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_missed_its_first_question_is_asked_again_in_place() {
    for (known, child) in [
        (KnownEra::Unknown, MODERN),
        (KnownEra::Remembered(Era::Modern), Child::Ignores),
        (KnownEra::Remembered(Era::Legacy), LEGACY),
    ] {
        let rig = Rig::new(move |mut peer| async move {
            // Something before it swallowed what was there.
            peer.request().await.unwrap();
            child.run(peer).await
        });
        let (start, declared) = (Start::default(), Declared::default());
        let (opened, ()) = tokio::join!(rig.upstream.start(known, &declared, &start), async {
            tokio::time::sleep(Duration::from_secs(120)).await;
            start.ask_again();
        });
        assert!(opened.is_ok(), "{known:?} {child:?}");
        assert_eq!(rig.processes.started(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_never_reads_is_asked_a_bounded_number_of_times_and_goes_when_nobody_waits() {
    let rig = Rig::new(|mut peer| async move {
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        let mut ids = std::collections::HashSet::new();
        while let Some(request) = peer.request().await {
            assert!(ids.insert(request["id"].to_string()), "an identifier twice");
        }
        assert_eq!(ids.len(), 2 * PIPE_QUESTIONS_MAX);
        Exit::Code(0)
    });
    let start = Start::default();
    let asking = async {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            start.ask_again();
        }
    };
    let declared = Declared::default();
    tokio::select! {
        opened = rig.upstream.start(KnownEra::Unknown, &declared, &start) => panic!("{opened:?}"),
        () = asking => {}
        () = tokio::time::sleep(Duration::from_secs(20_000)) => {}
    }
    settle().await;
    assert_eq!((rig.processes.started(), rig.processes.running()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_failure_names_how_a_child_ended_and_what_it_last_wrote() {
    let rig = Rig::with(OnTerminate::Ends, |mut child| async move {
        child.errors.write_all(b"starting\nno key: ghp_canary123\n \n").await.unwrap();
        Exit::Signal(11)
    });
    let error = rig.upstream.open(None, &Declared::default()).await.unwrap_err();
    let failure = rig.upstream.failure(&error);
    assert_eq!(failure.message, "the server's process has ended with signal 11");
    assert_eq!(failure.stderr.unwrap().as_str(), "no key: ***");
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_child_that_has_not_answered_says_since_when_it_runs() {
    let rig = Rig::with(OnTerminate::Ends, |mut child| async move {
        child.errors.write_all(b"downloading\n").await.unwrap();
        let _open = child;
        std::future::pending().await
    });
    let (start, declared) = (Start::default(), Declared::default());
    let opening = rig.upstream.start(KnownEra::Unknown, &declared, &start);
    assert!(tokio::time::timeout(Duration::from_secs(90), opening).await.is_err());
    let failure = rig.upstream.not_answered();
    assert!(failure.message.contains("was started 90 s ago and has not answered yet"), "{failure}");
    assert_eq!(failure.stderr.unwrap().as_str(), "downloading");
}
