//! What waits for a client: a bounded queue of messages, on which a fast server waits for a slow client.
//!
//! Bounded in messages and in bytes. A client that takes nothing for [`limits::CLIENT_STALL_MAX`] is cut off: from then on
//! nothing is sent to it, and its stream breaks. Nothing here looks into a message.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::gateway::limits;
use crate::gateway::metrics::{RequestRefusal, ServerMetrics};

/// Where messages for a client go in. Cheap to clone; the stream ends when the last one is dropped.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Outlet {
    sender: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    /// Room for large messages, which all clients share.
    large: Arc<Semaphore>,
    cut: CancellationToken,
    metrics: ServerMetrics,
    /// Whether the client can come back for the rest of its stream.
    resumable: bool,
}

/// Where they come out.
#[derive(Debug)]
pub(in crate::gateway) struct Inbox {
    receiver: mpsc::Receiver<Queued>,
    cut: CancellationToken,
}

#[derive(Debug)]
struct Queued {
    item: Item,
    _room: Option<OwnedSemaphorePermit>,
    _large: Option<OwnedSemaphorePermit>,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Item {
    /// A message.
    Message(Bytes),
    /// The stream is to be closed, and its client to come back for the rest after so long.
    Pause(Duration),
}

/// Nobody takes messages there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Gone;

/// An empty queue; `large` is the room for large messages that all queues share, in KiB.
pub(in crate::gateway) fn bounded(metrics: &ServerMetrics, large: &Arc<Semaphore>) -> (Outlet, Inbox) {
    let (sender, receiver) = mpsc::channel(limits::OUTBOX_MESSAGES);
    let room = Arc::new(Semaphore::new(limits::OUTBOX_KIBIBYTES as usize));
    let cut = CancellationToken::new();
    let outlet =
        Outlet { sender, room, large: large.clone(), cut: cut.clone(), metrics: metrics.clone(), resumable: false };
    (outlet, Inbox { receiver, cut })
}

impl Outlet {
    /// The same, to a client that can come back for the rest of its stream.
    pub(in crate::gateway) fn resumable(self) -> Self {
        Self { resumable: true, ..self }
    }

    /// Asks the client to come back after so long, if it can. Whoever has a full queue is not asked.
    pub(super) fn pause(&self, wait: Duration) {
        if self.resumable {
            drop(self.sender.try_send(Queued { item: Item::Pause(wait), _room: None, _large: None }));
        }
    }

    /// Puts a message in, and waits for room. Never longer than [`limits::CLIENT_STALL_MAX`].
    ///
    /// # Errors
    /// [`Gone`], if nobody will take it.
    pub(in crate::gateway) async fn send(&self, message: Bytes) -> Result<(), Gone> {
        if self.cut.is_cancelled() {
            return Err(Gone);
        }
        // No deadline of its own: whoever holds this room is cut off in time.
        let large = self.large_room(&message).await?;
        let sending = async {
            let room = self.room.clone().acquire_many_owned(kibibytes(&message)).await;
            // The semaphore is never closed.
            let queued = Queued { item: Item::Message(message), _room: Some(room.map_err(|_| Gone)?), _large: large };
            self.sender.send(queued).await.map_err(|_| Gone)
        };
        tokio::select! {
            biased;
            sent = sending => sent,
            () = self.cut.cancelled() => Err(Gone),
            () = tokio::time::sleep(limits::CLIENT_STALL_MAX) => {
                if !self.cut.is_cancelled() {
                    self.cut.cancel();
                    if let Some(line) = self.metrics.request_refused(RequestRefusal::SlowClient) {
                        tracing::warn!(left_out = line.left_out, "a client that takes none of its messages is cut off");
                    }
                }
                Err(Gone)
            }
        }
    }

    /// Room for a message that fills a queue by itself; none for others.
    async fn large_room(&self, message: &Bytes) -> Result<Option<OwnedSemaphorePermit>, Gone> {
        let Some(kibibytes) = large_kibibytes(message) else { return Ok(None) };
        tokio::select! {
            biased;
            // The semaphore is never closed.
            room = self.large.clone().acquire_many_owned(kibibytes) => room.map(Some).map_err(|_| Gone),
            () = self.gone() => Err(Gone),
        }
    }

    /// Puts a message in if there is room for it now. Whoever has a full queue does without.
    pub(super) fn offer(&self, message: Bytes) {
        let large = large_kibibytes(&message).map(|kibibytes| self.large.clone().try_acquire_many_owned(kibibytes));
        if let (Ok(_large), Ok(room)) =
            (large.transpose(), self.room.clone().try_acquire_many_owned(kibibytes(&message)))
        {
            drop(self.sender.try_send(Queued { item: Item::Message(message), _room: Some(room), _large }));
        }
    }

    /// Nothing is sent any more: whoever waits for room is told that the client is gone, and its stream breaks.
    pub(in crate::gateway) fn cut(&self) {
        self.cut.cancel();
    }

    /// Returns when the client was cut off, or went away.
    pub(in crate::gateway) async fn gone(&self) {
        tokio::select! {
            () = self.cut.cancelled() => {}
            () = self.sender.closed() => {}
        }
    }

    /// Returns when the client was cut off.
    pub(super) async fn was_cut(&self) {
        self.cut.cancelled().await;
    }

    /// Whether nobody takes messages any more.
    pub(in crate::gateway) fn is_gone(&self) -> bool {
        self.cut.is_cancelled() || self.sender.is_closed()
    }
}

/// The room that a message takes.
fn kibibytes(message: &Bytes) -> u32 {
    u32::try_from(message.len() >> 10).unwrap_or(u32::MAX).saturating_add(1).min(limits::OUTBOX_KIBIBYTES)
}

/// The room that a message takes of what all clients share; none if it is not large.
fn large_kibibytes(message: &Bytes) -> Option<u32> {
    let kibibytes = u32::try_from(message.len() >> 10).unwrap_or(u32::MAX);
    (kibibytes >= limits::OUTBOX_KIBIBYTES).then(|| kibibytes.min(limits::LARGE_MESSAGES_KIBIBYTES))
}

impl Inbox {
    /// What comes next; none once every outlet is gone and everything is taken.
    pub(in crate::gateway) async fn next(&mut self) -> Option<Item> {
        Some(self.receiver.recv().await?.item)
    }

    /// What comes next; none once every outlet is gone and everything is taken.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.receiver.poll_recv(context).map(|queued| Some(queued?.item))
    }

    /// Whether everything is taken, and nothing comes any more.
    pub(super) fn is_done(&self) -> bool {
        self.receiver.is_closed() && self.receiver.is_empty()
    }

    /// What comes next, if it waits.
    pub(in crate::gateway) fn take(&mut self) -> Option<Item> {
        Some(self.receiver.try_recv().ok()?.item)
    }

    /// The next message, for clients that can not be asked to come back.
    pub(in crate::gateway) async fn next_message(&mut self) -> Option<Bytes> {
        loop {
            if let Item::Message(message) = self.next().await? {
                return Some(message);
            }
        }
    }

    /// Cancelled when the client was cut off.
    pub(in crate::gateway) fn cut(&self) -> &CancellationToken {
        &self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{MetricRegistry, MetricsFormat, encode};

    fn large() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(limits::LARGE_MESSAGES_KIBIBYTES as usize))
    }

    #[tokio::test(start_paused = true)]
    async fn large_messages_share_their_room_and_small_ones_pass() {
        let large = Arc::new(Semaphore::new(limits::OUTBOX_KIBIBYTES as usize));
        let message = Bytes::from(vec![b'x'; 1 << 20]);
        let (one, mut inbox) = bounded(&ServerMetrics::default(), &large);
        let (two, mut other) = bounded(&ServerMetrics::default(), &large);
        one.send(message.clone()).await.unwrap();
        let mut waiting = std::pin::pin!(two.send(message.clone()));
        let waits = tokio::time::timeout(10 * limits::CLIENT_STALL_MAX, &mut waiting).await;
        assert!(waits.is_err(), "it is not cut off for what another client does not take");
        two.send(Bytes::from_static(b"{}")).await.unwrap();
        other.next().await.unwrap();
        inbox.next().await.unwrap();
        assert_eq!(waiting.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_server_waits_for_a_slow_client_in_messages_and_in_bytes() {
        for (message, fit) in [(Bytes::from_static(b"{}"), limits::OUTBOX_MESSAGES), (vec![b'x'; 400 << 10].into(), 2)]
        {
            let (outlet, mut inbox) = bounded(&ServerMetrics::default(), &large());
            for _ in 0..fit {
                outlet.send(message.clone()).await.unwrap();
            }
            let waiting = outlet.clone();
            let one_more = message.clone();
            let mut sending = tokio::spawn(async move { waiting.send(one_more).await });
            let waits = tokio::time::timeout(limits::CLIENT_STALL_MAX / 2, &mut sending).await;
            assert!(waits.is_err(), "there is no room for {} more", fit + 1);
            assert_eq!(inbox.next().await, Some(Item::Message(message)));
            assert_eq!(sending.await.unwrap(), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_off_once_and_counted() {
        let mut registry = MetricRegistry::default();
        let metrics = ServerMetrics::new(&mut registry);
        let (outlet, inbox) = bounded(&metrics, &large());
        let huge = Bytes::from(vec![b'x'; 3 << 20]);
        assert_eq!(outlet.send(huge.clone()).await, Ok(()), "one that is larger than the room waits alone");
        assert_eq!(outlet.send(huge.clone()).await, Err(Gone));
        assert!(outlet.is_gone() && inbox.cut().is_cancelled());
        assert_eq!(outlet.send(huge).await, Err(Gone));
        let text = encode(MetricsFormat::Prometheus, [&registry, &MetricRegistry::default()]);
        assert!(text.contains("mcp_requests_refused_total{reason=\"slow-client\"} 1\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_to_a_client_that_went_away() {
        let (outlet, inbox) = bounded(&ServerMetrics::default(), &large());
        drop(inbox);
        outlet.gone().await;
        assert_eq!(outlet.send(Bytes::from_static(b"{}")).await, Err(Gone));
    }
}
