//! Accepting connections, and serving HTTP/1.1 on each until it ends, must make room, or the listener stops.
//!
//! A client that does not send a whole head, or takes nothing of its answer, loses its connection by a deadline. Which
//! connection makes room for another one is decided by [`ConnectionTable`]. Nothing here knows what is served.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::connection_table::{Connection, ConnectionTable, Eviction, Full, OpenConnection, RequestGuard, TableBounds};
use super::limits;
use super::metrics::{RequestRefusal, ServerMetrics};
use crate::telemetry::Label as _;

/// Cancelled when the listener that a request came in by stops: for answers that have no end of their own. Every request
/// bears it.
#[derive(Clone, Debug)]
pub(super) struct Ending(pub(super) CancellationToken);

/// The connection that a request came in by. Every request of a listener bears it.
#[derive(Clone, Debug)]
pub(super) struct CameInBy(Arc<Connection>);

impl CameInBy {
    /// The head of the request passed authentication.
    pub(super) fn admit(&self) {
        self.0.admit();
    }
}

/// A listener and what it serves.
pub(super) struct Connections {
    pub(super) router: Router,
    pub(super) metrics: ServerMetrics,
    /// Cancelled when answers without an end must end.
    pub(super) ending: CancellationToken,
}

impl Connections {
    /// Serves until `stop`; requests in flight then have [`limits::DRAIN_TIMEOUT`] to end, and are cut off.
    pub(super) async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let table = ConnectionTable::new(TableBounds::for_descriptors(descriptor_limit()));
        let open = TaskTracker::new();
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
            let Some(place) = self.place(&table, peer) else { continue };
            // Answers are small: waiting to fill a packet costs tens of milliseconds.
            drop(stream.set_nodelay(true));
            let (router, ending) = (self.router.clone(), self.ending.clone());
            let (metrics, stop, cut) = (self.metrics.clone(), stop.clone(), cut.clone());
            open.spawn(async move {
                tokio::select! {
                    () = cut.cancelled() => {}
                    () = connection(stream, peer, router, Ending(ending), metrics, stop, place) => {}
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

    /// Takes a connection in; none, and it is closed, if all others serve requests.
    fn place(&self, table: &Arc<ConnectionTable>, peer: SocketAddr) -> Option<OpenConnection> {
        let (place, reason) = match table.open(peer.ip()) {
            Ok((place, None)) => return Some(place),
            Ok((place, Some(Eviction::Pending))) => (Some(place), RequestRefusal::PendingConnections),
            Ok((place, Some(Eviction::Idle | Eviction::Unread))) => (Some(place), RequestRefusal::IdleConnections),
            Err(Full) => (None, RequestRefusal::Connections),
        };
        if let Some(line) = self.metrics.request_refused(reason) {
            tracing::warn!(reason = reason.value(), left_out = line.left_out, "too many connections; one is closed");
        }
        place
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

/// How many descriptors this process may have open at once; none if there is no limit.
fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Serves one connection until it ends; after `stop`, to the end of the request that it is at.
async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    ending: Ending,
    metrics: ServerMetrics,
    stop: CancellationToken,
    place: OpenConnection,
) {
    let connection = place.connection();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, ending, guard) = (router.clone(), ending.clone(), connection.begin());
        let (came_in_by, metrics) = (CameInBy(connection.clone()), metrics.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(ending);
            request.extensions_mut().insert(came_in_by);
            let response = router.oneshot(request).await?;
            Ok::<_, std::convert::Infallible>(response.map(|body| ServedBody { body, guard, metrics }))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_READ_TIMEOUT)
        .max_buf_size(limits::CONNECTION_BUFFER_BYTES);
    let stream = ClientStream::new(stream, connection.clone());
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut pending = std::pin::pin!(tokio::time::sleep(limits::PENDING_TIMEOUT));
    let mut is_waiting = true;
    let ended = loop {
        tokio::select! {
            ended = serving.as_mut() => break ended,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                break serving.await;
            }
            eviction = connection.evicted() => {
                if eviction == Eviction::Unread || connection.is_pending() || !connection.serves() {
                    return;
                }
                // A request came while it was chosen: it is answered first, within the time of a drain.
                serving.as_mut().graceful_shutdown();
                match tokio::time::timeout(limits::DRAIN_TIMEOUT, serving).await {
                    Ok(ended) => break ended,
                    Err(_) => return,
                }
            }
            () = &mut pending, if is_waiting => {
                is_waiting = false;
                if connection.is_pending() {
                    if let Some(line) = metrics.request_refused(RequestRefusal::PendingTimeout) {
                        let (seconds, left_out) = (limits::PENDING_TIMEOUT.as_secs(), line.left_out);
                        tracing::warn!(seconds, left_out, "a connection without an authenticated request is closed");
                    }
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        // Clients hang up whenever they like. The error quotes nothing of theirs.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The body of an answer. As long as it is not dropped, its connection serves a request.
struct ServedBody {
    body: Body,
    guard: RequestGuard,
    metrics: ServerMetrics,
}

impl hyper::body::Body for ServedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            for _ in 0..self.guard.connection().handed(data.len()) {
                if let Some(line) = self.metrics.request_refused(RequestRefusal::UnreadAnswers) {
                    let left_out = line.left_out;
                    tracing::warn!(
                        left_out,
                        "too many bytes of answers are unread; the slowest client's connection is closed"
                    );
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The stream of a client, which may not keep its writer waiting for longer than [`limits::CLIENT_STALL_MAX`].
struct ClientStream<S> {
    stream: S,
    connection: Arc<Connection>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> ClientStream<S> {
    fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, waiting: None }
    }

    /// Notes what a client has taken, and gives it up once it has taken nothing for too long.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.taken(bytes);
        }
        self.bounded(context, written)
    }

    fn bounded<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let deadline = || Box::pin(tokio::time::sleep_until(Instant::now() + limits::CLIENT_STALL_MAX));
        ready!(self.waiting.get_or_insert_with(deadline).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = flushed {
            self.connection.flushed();
        }
        self.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn table() -> Arc<ConnectionTable> {
        ConnectionTable::new(TableBounds { connections: 4, pending: 2, unread_bytes: 1 << 20 })
    }

    fn place(table: &Arc<ConnectionTable>) -> OpenConnection {
        table.open([127, 0, 0, 1].into()).unwrap().0
    }

    /// A connection that is served, its client's end of it, and its place.
    fn served(
        router: Router,
        buffer: usize,
    ) -> (tokio::io::DuplexStream, Arc<Connection>, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(buffer);
        let place = place(&table());
        let open = place.connection().clone();
        let peer = SocketAddr::from(([127, 0, 0, 1], 7));
        let (ending, stop) = (Ending(CancellationToken::new()), CancellationToken::new());
        let task = tokio::spawn(connection(near, peer, router, ending, ServerMetrics::default(), stop, place));
        (far, open, task)
    }

    /// A route that passes authentication, as the middleware of guarded routes does, and one that does not.
    fn router() -> Router {
        use axum::routing::get;
        let admitted = |axum::Extension(CameInBy(connection)): axum::Extension<CameInBy>| async move {
            connection.admit();
            vec![b'x'; 1 << 20]
        };
        Router::new().route("/open", get(|| async { "ok" })).route("/guarded", get(admitted))
    }

    async fn ask(client: &mut tokio::io::DuplexStream, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
    }

    mod pending {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn ends_after_its_time_whatever_was_sent() {
            for head in ["", "GET /open HT", "GET /open HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
                let began = Instant::now();
                let (mut client, _open, task) = served(router(), 1 << 16);
                client.write_all(head.as_bytes()).await.unwrap();
                task.await.unwrap();
                assert_eq!(began.elapsed(), limits::PENDING_TIMEOUT, "{head:?}");
            }
        }

        #[tokio::test(start_paused = true)]
        async fn ends_with_a_request_that_passed_authentication() {
            let began = Instant::now();
            let (mut client, open, task) = served(router(), 2 << 20);
            ask(&mut client, "/guarded").await;
            let mut answer = vec![0; 1 << 20];
            client.read_exact(&mut answer).await.unwrap();
            assert!(!open.is_pending());
            task.await.unwrap();
            // From then on it is an idle one, which the timeout of the next head ends.
            assert_eq!(began.elapsed(), limits::HEADER_READ_TIMEOUT);
        }
    }

    mod answer {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn keeps_its_connection_serving_until_it_is_written() {
            let (mut client, open, _task) = served(router(), 1 << 10);
            ask(&mut client, "/guarded").await;
            let mut begin = [0; 512];
            client.read_exact(&mut begin).await.unwrap();
            assert!(open.serves(), "most of the answer is not written yet");
            let mut rest = vec![0; (1 << 20) - begin.len()];
            client.read_exact(&mut rest).await.unwrap();
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(!open.serves());
        }

        #[tokio::test(start_paused = true)]
        async fn of_the_slowest_client_breaks_when_too_much_is_unread() {
            let (mut client, open, task) = served(router(), 1 << 10);
            ask(&mut client, "/guarded").await;
            tokio::task::yield_now().await;
            place(open.table()).connection().handed(1 << 20);
            task.await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert!(answer.len() < 1 << 20);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up_and_one_that_is_slow_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let place = place(&table());
        let mut near = ClientStream::new(near, place.connection().clone());
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
