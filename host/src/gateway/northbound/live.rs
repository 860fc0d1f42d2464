//! A stream that is being served: where its messages come from, and what is kept of it, shared by the connection that serves
//! it and by its session, so that its client may go on with it on another connection before the first has broken.
//!
//! A message is taken, numbered and remembered in one step: whoever takes the stream over misses none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::event_stream::event;
use super::outlet::{Inbox, Item};
use super::resumable::Resumable;
use crate::model::milliseconds;

/// Where the events of a stream come from.
pub(super) struct Source {
    pub(super) inbox: Inbox,
    /// What is kept for a client that comes back; none if it can not.
    pub(super) resumable: Option<Resumable>,
}

/// A stream that is being served.
pub(super) struct Live {
    /// None once it was taken over.
    source: Mutex<Option<Source>>,
    taken: CancellationToken,
    /// Cancelled when its client was cut off.
    pub(super) cut: CancellationToken,
}

/// An item as it goes out.
pub(super) enum Played {
    Event(Bytes),
    /// The last one on this connection.
    Last(Bytes),
    Nothing,
}

impl Live {
    /// Begins to serve; a client that can come back finds it in its session.
    pub(super) fn begin(source: Source) -> Arc<Self> {
        let cut = source.inbox.cut().clone();
        let place = source.resumable.as_ref().map(Resumable::session_and_number);
        let live = Arc::new(Self { source: Mutex::new(Some(source)), taken: CancellationToken::new(), cut });
        if let Some((session, number)) = place {
            session.streams(|streams| streams.serve(number, &live));
        }
        live
    }

    /// Its connection has ended: it waits for its client, if that can come back and was not cut off.
    pub(super) fn end(&self) {
        let Some(Source { inbox, resumable: Some(resumable) }) = self.lock().take() else { return };
        resumable.keep(inbox);
    }

    /// What goes out next; none at the end, and when another connection has taken the stream over.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Played>> {
        match &mut *self.lock() {
            Some(source) => source.inbox.poll_next(context).map(|item| Some(source.play(item?))),
            None => Poll::Ready(None),
        }
    }

    /// An item that was taken before.
    pub(super) fn play(&self, item: Item) -> Played {
        self.lock().as_mut().map_or(Played::Nothing, |source| source.play(item))
    }

    /// Returns when another connection has taken it over.
    pub(super) async fn was_taken(&self) {
        self.taken.cancelled().await;
    }

    /// Takes its source, if that is wanted.
    pub(super) fn take_if(&self, is_wanted: impl FnOnce(&Source) -> bool) -> Option<Source> {
        let source = self.lock().take_if(|source| is_wanted(source))?;
        self.taken.cancel();
        Some(source)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Source>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn play(&mut self, item: Item) -> Played {
        match (item, &mut self.resumable) {
            (Item::Message(message), None) => Played::Event(event(None, &message)),
            (Item::Message(message), Some(resumable)) => {
                Played::Event(resumable.number(|id| event(Some(id), &message)))
            }
            (Item::Pause(wait), Some(resumable)) => {
                let retry = format!("retry: {}\n", milliseconds(wait));
                Played::Last([retry.as_bytes(), &event(Some(&resumable.place()), b"")].concat().into())
            }
            (Item::Pause(_), None) => Played::Nothing,
        }
    }
}
