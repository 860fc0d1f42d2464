//! What servers say that belongs to no request: log messages, and updates of resources that somebody subscribed to.
//!
//! One bounded channel for everybody: who does not read loses the oldest, and is told how many. What one connector may say
//! there is bounded too, in size and in rate, so that it can not push out what the others say. An update that comes too fast
//! is told later, the last one of each resource; a log message is lost, and counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::limits::{
    EVENT_BYTES_MAX, EVENT_BYTES_PER_WINDOW, EVENT_WINDOW, EVENTS_HELD, EVENTS_PER_WINDOW, RESOURCE_WISHES_MAX,
};
use crate::mcp::Notice;
use crate::mcp::protocol::RESOURCES_UPDATED;
use crate::model::ConnectorId;
use crate::model::raw::RawObject;

/// Something that a server said.
#[derive(Clone, Debug)]
pub struct ServerEvent {
    /// Whose server.
    pub connector: ConnectorId,
    /// What, as it came.
    pub notice: Notice,
}

/// Where it is told.
#[derive(Clone, Debug)]
pub(super) struct Events(broadcast::Sender<Arc<ServerEvent>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS_HELD))
    }
}

impl Events {
    /// A connector's share.
    pub(super) fn share(&self, connector: &ConnectorId) -> Arc<EventShare> {
        let window = Window { since: Instant::now(), count: 0, bytes: 0, lost: 0, late: BTreeMap::new() };
        let (connector, late) = (connector.clone(), Notify::new());
        Arc::new(EventShare { events: self.clone(), connector, window: Mutex::new(window), late })
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<ServerEvent>> {
        self.0.subscribe()
    }
}

/// What one connector may say.
#[derive(Debug)]
pub(super) struct EventShare {
    events: Events,
    connector: ConnectorId,
    window: Mutex<Window>,
    /// Something is to be told later.
    late: Notify,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    count: usize,
    bytes: usize,
    lost: usize,
    /// Updates that came too fast, by their URI.
    late: BTreeMap<String, Notice>,
}

impl EventShare {
    /// Tells what its server said, within its share.
    pub(super) fn tell(&self, notice: Notice) {
        let size = notice.params.as_ref().map_or(0, |params| params.get().len());
        let mut window = self.lock();
        self.turn(&mut window);
        if window.take(size) {
            return self.send(notice);
        }
        let uri = (size <= EVENT_BYTES_MAX && notice.method == RESOURCES_UPDATED)
            .then(|| RawObject::parse(notice.params.as_ref()?).ok()?.get_str("uri"))
            .flatten();
        match uri.filter(|uri| window.late.len() < RESOURCE_WISHES_MAX || window.late.contains_key(uri)) {
            Some(uri) => {
                window.late.insert(uri, notice);
                self.late.notify_one();
            }
            None => window.lost += 1,
        }
    }

    /// Tells what came too fast, as soon as it may be told; it never returns.
    pub(super) async fn tell_late_ones(&self) {
        loop {
            self.late.notified().await;
            loop {
                let next = self.lock().since + EVENT_WINDOW;
                tokio::time::sleep_until(next).await;
                let mut window = self.lock();
                self.turn(&mut window);
                while let Some((uri, notice)) = window.late.pop_first() {
                    if !window.take(notice.params.as_ref().map_or(0, |params| params.get().len())) {
                        window.late.insert(uri, notice);
                        break;
                    }
                    self.send(notice);
                }
                if window.late.is_empty() {
                    break;
                }
            }
        }
    }

    /// Begins another window when it is time. What was lost is said once for each.
    fn turn(&self, window: &mut Window) {
        if window.since.elapsed() < EVENT_WINDOW {
            return;
        }
        if window.lost > 0 {
            let (connector, lost) = (&self.connector, window.lost);
            tracing::warn!(%connector, lost, "its server says too much, or too much at once: these were dropped");
        }
        (window.since, window.count, window.bytes, window.lost) = (Instant::now(), 0, 0, 0);
    }

    fn send(&self, notice: Notice) {
        // Nobody may be listening.
        drop(self.events.0.send(Arc::new(ServerEvent { connector: self.connector.clone(), notice })));
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Whether a message of such a size may be told now.
    fn take(&mut self, size: usize) -> bool {
        let may = size <= EVENT_BYTES_MAX
            && self.count < EVENTS_PER_WINDOW
            && self.bytes.saturating_add(size) <= EVENT_BYTES_PER_WINDOW;
        if may {
            self.count += 1;
            self.bytes += size;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mcp::protocol::LOG_MESSAGE;
    use crate::model::raw;

    fn log(size: usize) -> Notice {
        let params = format!(r#"{{"data":"{}"}}"#, "x".repeat(size - 11));
        Notice { method: LOG_MESSAGE.to_owned(), params: Some(raw::trusted(params)) }
    }

    fn update(number: usize) -> Notice {
        let params = raw::trusted(format!(r#"{{"uri":"x:{number:04}"}}"#));
        Notice { method: RESOURCES_UPDATED.to_owned(), params: Some(params) }
    }

    fn told(events: &mut broadcast::Receiver<Arc<ServerEvent>>, connector: &str) -> usize {
        let told = std::iter::from_fn(|| match events.try_recv() {
            Ok(event) => Some(event),
            Err(error) => {
                assert_eq!(error, broadcast::error::TryRecvError::Empty, "nobody is pushed out");
                None
            }
        });
        told.filter(|event| event.connector.as_str() == connector).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connector_that_floods_is_cut_to_its_share_and_the_others_are_heard() {
        let events = Events::default();
        let mut heard = events.subscribe();
        let (loud, quiet) = (events.share(&"loud".parse().unwrap()), events.share(&"quiet".parse().unwrap()));
        quiet.tell(log(100));
        (0..100_000).for_each(|_| loud.tell(log(100)));
        assert_eq!((told(&mut heard, "quiet"), loud.lock().lost), (1, 100_000 - EVENTS_PER_WINDOW));
        tokio::time::sleep(EVENT_WINDOW).await;
        (0..1_000).for_each(|_| loud.tell(log(100)));
        assert_eq!(told(&mut heard, "loud"), EVENTS_PER_WINDOW, "anew in each window");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_large_is_dropped_and_large_ones_are_bounded_together() {
        let events = Events::default();
        let mut heard = events.subscribe();
        let share = events.share(&"live".parse().unwrap());
        share.tell(log(EVENT_BYTES_MAX + 1));
        assert_eq!((told(&mut heard, "live"), share.lock().lost), (0, 1));
        (0..100).for_each(|_| share.tell(log(EVENT_BYTES_MAX)));
        assert_eq!(told(&mut heard, "live"), EVENT_BYTES_PER_WINDOW / EVENT_BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_that_comes_too_fast_is_told_later_and_once() {
        let events = Events::default();
        let mut heard = events.subscribe();
        let share = events.share(&"live".parse().unwrap());
        let telling = tokio::spawn({
            let share = share.clone();
            async move { share.tell_late_ones().await }
        });
        (0..300).for_each(|number| share.tell(update(number)));
        (0..300).for_each(|_| share.tell(update(299)));
        assert_eq!(told(&mut heard, "live"), EVENTS_PER_WINDOW);
        tokio::time::sleep(EVENT_WINDOW * 4 + Duration::from_millis(1)).await;
        assert_eq!((told(&mut heard, "live"), share.lock().lost), (300 - EVENTS_PER_WINDOW, 0));
        telling.abort();
    }
}
