//! What hears a listening stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use crate::connectors::events::EventShare;
use crate::mcp::interim::refusal;
use crate::mcp::protocol::{LOG_MESSAGE, RESOURCES_UPDATED, SUBSCRIPTIONS_ACKNOWLEDGED};
use crate::mcp::{Interim, Notice, Outcome, Question};

/// The ear at one stream.
pub(super) struct Ear {
    pub(super) events: Arc<EventShare>,
    pub(super) announced: Arc<Announcements>,
    pub(super) opened: watch::Sender<bool>,
}

/// Changes of lists that a server announced.
#[derive(Default)]
pub(super) struct Announcements {
    notify: Notify,
    count: AtomicU32,
}

impl Announcements {
    pub(super) fn record(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// Waits for one, and returns how many came since the last time.
    pub(super) async fn next(&self) -> u32 {
        self.notify.notified().await;
        self.count.swap(0, Ordering::Relaxed)
    }
}

/// Whether a method announces another list.
fn announces_a_list(method: &str) -> bool {
    matches!(
        method,
        "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
    )
}

impl Interim for Ear {
    fn opened(&self) {
        self.opened.send_replace(true);
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        match notice.method.as_str() {
            SUBSCRIPTIONS_ACKNOWLEDGED => self.opened(),
            method if announces_a_list(method) => self.announced.record(),
            RESOURCES_UPDATED | LOG_MESSAGE => self.events.tell(notice),
            // Nothing else is said outside of requests.
            _ => {}
        }
        futures_util::future::ready(()).boxed()
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
        futures_util::future::ready(refusal()).boxed()
    }
}
