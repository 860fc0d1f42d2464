//! A child that ends: who is told what, and when.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::edge::http::HttpError;
use crate::mcp::limits::{DISCARDED_MESSAGES, MAX_MESSAGE_BYTES};
use crate::mcp::{Nobody, ProtocolFault, WireError};

#[tokio::test(start_paused = true)]
async fn every_call_in_flight_fails_at_once_and_later_ones_were_never_sent() {
    let rig = Rig::new(|mut peer| async move {
        peer.open(Era::Legacy).await.unwrap();
        for _ in 0..2 {
            peer.request().await.unwrap();
        }
        Exit::Code(3)
    });
    let session = rig.session(Era::Legacy).await;
    let began = Instant::now();
    let call = || session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody);
    let (one, two, three) = tokio::join!(call(), call(), call());
    for error in [one, two, three].map(Result::unwrap_err) {
        assert_eq!((error.was_not_sent(), error), (false, ProtocolFault::PipeEnded.into()));
    }
    session.ended().await;
    assert!(session.has_ended());
    let error = call().await.unwrap_err();
    assert_eq!((error.was_not_sent(), error), (true, ProtocolFault::NotWritten.into()));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(session.listen(&[], &[], &Nobody).await.unwrap_err(), ProtocolFault::PipeEnded.into());
    settle().await;
    assert_eq!((rig.processes.started(), rig.processes.running()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waited_behind_a_child_that_does_not_read_was_never_sent() {
    let dies = Arc::new(Notify::new());
    let dying = dies.clone();
    let rig = Rig::with(OnTerminate::Ends, move |child| {
        let dying = dying.clone();
        async move {
            let mut peer = Peer::of(child);
            let request = peer.request().await.unwrap();
            peer.answer(&request, INITIALIZED).await;
            peer.next().await.unwrap();
            dying.notified().await;
            Exit::Signal(11)
        }
    });
    let session = rig.session(Era::Legacy).await;
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(300_000));
    let call = |params: RawObject| {
        let session = session.clone();
        tokio::spawn(async move { session.request("tools/call", params, &Nobody).await })
    };
    let (first, second) = (call(object(&large)), call(object(r#"{"name":"t"}"#)));
    settle().await;
    dies.notify_one();
    assert_eq!(first.await.unwrap().unwrap_err(), ProtocolFault::PipeEnded.into(), "it was being written");
    assert_eq!(second.await.unwrap().unwrap_err(), ProtocolFault::NotWritten.into());
}

#[tokio::test(start_paused = true)]
async fn what_a_child_said_last_still_counts() {
    let rig = Rig::new(|mut peer| async move {
        let request = peer.open(Era::Legacy).await.unwrap();
        peer.answer(&request, r#"{"last":"words"}"#).await;
        Exit::Code(0)
    });
    let session = rig.session(Era::Legacy).await;
    let outcome = session.request("tools/call", object("{}"), &Nobody).await.unwrap();
    assert_eq!(text(outcome), r#"{"last":"words"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_never_ends_ends_the_pipe_with_a_typed_fault_and_the_child_with_it() {
    let rig = Rig::new(|mut peer| async move {
        peer.open(Era::Legacy).await.unwrap();
        let piece = vec![b'x'; 1 << 20];
        // More than is ever read.
        for _ in 0..2 * DISCARDED_MESSAGES * MAX_MESSAGE_BYTES / piece.len() {
            if peer.output.write_all(&piece).await.is_err() {
                return Exit::Code(1);
            }
        }
        panic!("it was read to its end");
    });
    let session = rig.session(Era::Legacy).await;
    let error = session.request("tools/call", object("{}"), &Nobody).await.unwrap_err();
    assert_eq!(error, WireError::Http(HttpError::Oversize { cap: MAX_MESSAGE_BYTES }));
    assert!(session.has_ended());
    settle().await;
    assert_eq!(rig.processes.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_closes_one_of_its_streams_is_over() {
    // Its output: nothing will be answered any more.
    let rig = Rig::with(OnTerminate::Ends, |child| async move {
        let mut peer = Peer::of(child);
        peer.open(Era::Legacy).await.unwrap();
        drop(peer.output);
        let mut input = peer.input.into_inner();
        drop(input.read_to_end(&mut Vec::new()).await);
        Exit::Code(0)
    });
    let session = rig.session(Era::Legacy).await;
    let error = session.request("tools/call", object("{}"), &Nobody).await.unwrap_err();
    assert_eq!(error, ProtocolFault::PipeEnded.into());
    settle().await;
    assert_eq!((rig.processes.running(), rig.processes.terminated()), (0, 0));

    // Its input: nothing will be asked any more.
    let rig = Rig::new(|mut peer| async move {
        peer.open(Era::Legacy).await.unwrap();
        drop(peer.input);
        std::future::pending().await
    });
    let session = rig.session(Era::Legacy).await;
    let call = || session.request("tools/call", object("{}"), &Nobody);
    let (one, two) = tokio::join!(call(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        call().await
    });
    assert_eq!(one.unwrap_err(), ProtocolFault::PipeEnded.into());
    assert_eq!(two.unwrap_err(), ProtocolFault::PipeEnded.into());
    settle().await;
    assert_eq!(rig.processes.running(), 0);
}
