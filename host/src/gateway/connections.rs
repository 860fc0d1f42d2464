//! Connections: accepting them, bounded in number, and serving HTTP/1.1 on each until it ends or the listener stops.
//!
//! Whoever does not send a whole head, and whoever takes nothing of its answer, loses its connection by a deadline. Nothing
//! here knows what is served.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::limits;
use crate::telemetry::Metrics;

/// Cancelled when the listener that a request came in by stops: for answers that have no end of their own. Every request
/// bears it.
#[derive(Clone, Debug)]
pub(super) struct Ending(pub(super) CancellationToken);

/// A listener and what it serves.
pub(super) struct Connections {
    pub(super) router: Router,
    pub(super) metrics: Arc<Metrics>,
    /// Cancelled when answers without an end must end.
    pub(super) ending: CancellationToken,
}

impl Connections {
    /// Serves until `stop`; requests in flight then have [`limits::DRAIN_TIMEOUT`] to end, and are cut off.
    pub(super) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let (places, open) = (Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)), TaskTracker::new());
        // What is still open after the deadline is cut off by this, and everything if nobody waits for this any more.
        let cut = CancellationToken::new();
        let _cut = cut.clone().drop_guard();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.pause(&error, &stop).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                self.metrics.request_refused("connections");
                tracing::warn!("there are too many connections: one is hung up on");
                continue;
            };
            // Answers are small: waiting to fill a packet costs tens of milliseconds (mcp-protocol 0).
            drop(stream.set_nodelay(true));
            let (router, ending) = (self.router.clone(), self.ending.clone());
            let (stop, cut) = (stop.clone(), cut.clone());
            open.spawn(async move {
                tokio::select! {
                    () = cut.cancelled() => {}
                    () = connection(stream, peer, router, Ending(ending), stop, place) => {}
                }
            });
        }
        drop(listener);
        self.ending.cancel();
        open.close();
        if tokio::time::timeout(limits::DRAIN_TIMEOUT, open.wait()).await.is_err() {
            tracing::warn!(connections = open.len(), "requests that did not end in time are cut off");
            cut.cancel();
            open.wait().await;
        }
    }

    /// A connection that broke before it was accepted is nobody's loss; anything else gets better with time, if at all.
    async fn pause(&self, error: &io::Error, stop: &CancellationToken) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        tracing::error!(%error, "no connection can be accepted");
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(limits::ACCEPT_PAUSE) => {}
        }
    }
}

/// Serves one connection until it ends; after `stop`, to the end of the request that it is at.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    ending: Ending,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, ending) = (router.clone(), ending.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(ending);
            router.oneshot(request).await
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits::HEADER_READ_TIMEOUT);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(Patient::new(stream)), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // Clients hang up whenever they like. The error quotes nothing of theirs.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A stream whose reader may not keep its writer waiting for longer than [`limits::CLIENT_STALL_MAX`].
struct Patient<S> {
    stream: S,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self { stream, waiting: None }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let deadline = || Box::pin(tokio::time::sleep_until(Instant::now() + limits::CLIENT_STALL_MAX));
        ready!(self.waiting.get_or_insert_with(deadline).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up_and_one_that_is_slow_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Patient::new(near);
        let slow = tokio::spawn(async move {
            for _ in 0..4 {
                tokio::time::sleep(limits::CLIENT_STALL_MAX / 2).await;
                far.read_exact(&mut [0; 16]).await.unwrap();
            }
            far
        });
        near.write_all(&[b'x'; 80]).await.unwrap();
        let _far = slow.await.unwrap();
        let began = Instant::now();
        let error = near.write_all(b"more").await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, limits::CLIENT_STALL_MAX));
    }
}
