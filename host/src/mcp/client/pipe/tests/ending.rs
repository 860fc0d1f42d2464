//! How a child is ended: its input is closed, then it is asked, then it is killed.

use std::time::Duration;

use super::*;

/// A legacy server that goes on after its input was closed.
async fn deaf(child: VirtualChild) -> Exit {
    let mut peer = Peer::of(child);
    peer.open(Era::Legacy).await;
    std::future::pending().await
}

async fn counts(rig: &Rig) -> [usize; 3] {
    settle().await;
    [rig.processes.running(), rig.processes.terminated(), rig.processes.killed()]
}

#[tokio::test(start_paused = true)]
async fn a_child_ends_by_the_least_that_it_takes() {
    let obedient = Rig::new(|mut peer| async move {
        peer.open(Era::Legacy).await;
        peer.rest().await
    });
    obedient.session(Era::Legacy).await.close().await;
    assert_eq!(counts(&obedient).await, [0, 0, 0]);

    let hard_of_hearing = Rig::with(OnTerminate::Ends, deaf);
    hard_of_hearing.session(Era::Legacy).await.close().await;
    assert_eq!(counts(&hard_of_hearing).await, [0, 1, 0]);

    let stubborn = Rig::with(OnTerminate::IsHandled, deaf);
    let session = stubborn.session(Era::Legacy).await;
    session.close().await;
    // Whoever closed it waited for that.
    assert_eq!(stubborn.processes.running(), 0);
    assert_eq!(counts(&stubborn).await, [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_session_of_either_era_that_is_dropped_ends_its_child() {
    for era in [Era::Legacy, Era::Modern] {
        let rig = Rig::new(move |mut peer| async move {
            peer.open(era).await;
            peer.rest().await
        });
        let session = rig.session(era).await;
        assert_eq!(rig.processes.running(), 1);
        drop(session);
        assert_eq!(counts(&rig).await, [0, 0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_opening_is_cut_off_leaves_no_child() {
    for remembered in [None, Some(Era::Legacy)] {
        let silent = Rig::with(OnTerminate::Ends, |child| async move {
            let _open = child;
            std::future::pending().await
        });
        let declared = Declared::default();
        let opening = silent.upstream.open(remembered, &declared);
        assert!(tokio::time::timeout(Duration::from_secs(30), opening).await.is_err());
        assert_eq!(silent.processes.started(), 1);
        assert_eq!(counts(&silent).await[0], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_upstream_is_the_end_of_every_child_even_without_time_for_it() {
    let rig = Rig::with(OnTerminate::IsHandled, deaf);
    let (one, _two) = (rig.session(Era::Legacy).await, rig.session(Era::Legacy).await);
    assert_eq!((rig.processes.started(), rig.processes.running()), (2, 2), "sessions never share a process");
    one.close().await;
    assert_eq!(rig.processes.running(), 1);
    rig.upstream.close(Duration::ZERO).await;
    assert_eq!((rig.processes.running(), rig.processes.killed()), (0, 2));
    // Nothing stays that is opened after that.
    let late = rig.upstream.open(Some(Era::Modern), &Declared::default()).await;
    settle().await;
    assert_eq!((late.is_err(), rig.processes.running()), (true, 0));
}
