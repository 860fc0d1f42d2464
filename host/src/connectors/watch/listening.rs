//! Keeping a listening stream open: opened again when it ends, and exchanged when other resources are wished for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ear::Ear;
use super::{Course, Watcher, is_over};
use crate::connectors::handle::Signal;
use crate::connectors::limits;
use crate::connectors::session_slot::SessionSlot;
use crate::connectors::wishes::{Refusal, no_subscriptions};
use crate::mcp::hops::HopsError;
use crate::mcp::protocol::{INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND};
use crate::mcp::{Era, ProtocolFault, Session, WireError};
use crate::model::{About, ListKind};

/// What is listened to.
struct Hearing<'a> {
    session: &'a Arc<Session>,
    /// The kinds of lists whose changes the server announces.
    changes: &'a [ListKind],
    course: &'a Course,
    /// Whether a stream is worth it without any wish.
    always: bool,
}

/// A stream, open or being opened.
struct Stream<'a> {
    work: BoxFuture<'a, Result<(), WireError>>,
    opened: watch::Receiver<bool>,
    uris: BTreeSet<String>,
}

/// What happens while a stream is listened to.
enum News {
    Open,
    NextOpen,
    NextEnded(Result<(), WireError>),
    OtherWishes,
    /// It is time to ask again for what failed.
    Again,
    Ended(Result<(), WireError>),
}

/// How a stream came to its end.
struct End {
    result: Result<(), WireError>,
    /// For how long it was open, if it was.
    lasted: Option<Duration>,
}

impl Watcher {
    /// Keeps a stream open for as long as there is anything to hear; it never returns.
    pub(super) async fn keep_listening(
        &self,
        slot: &SessionSlot,
        session: &Arc<Session>,
        about: &About,
        course: &Course,
        since: Instant,
    ) {
        let changes: Vec<ListKind> = [ListKind::Tools, ListKind::Prompts, ListKind::Resources]
            .into_iter()
            .filter(|kind| about.has_flag(kind.capability(), "listChanged"))
            .collect();
        // What a pipe brings is taken from it, whatever its server said that it has.
        let always = !changes.is_empty()
            || session.is_shared_stream()
            || (session.era() == Era::Legacy && (about.has("logging") || about.has_flag("resources", "subscribe")));
        // Set once something may have been announced while no stream was open.
        let mut missed = false;
        let mut was_refused = false;
        loop {
            self.until_there_is_something_to_hear(always).await;
            let hearing = Hearing { session, changes: &changes, course, always };
            // A change that came after the list was fetched and before the stream was open.
            let is_late = || self.handle.was_listed() && since.elapsed() > limits::LISTEN_LATE;
            let Some(end) = self.listen(&hearing, || missed || is_late()).await else { continue };
            missed |= end.lasted.is_some();
            if let Err(error) = &end.result {
                tracing::debug!(connector = %self.handle.id, %error, "its listening stream ended");
            }
            let is_refused = matches!(end.result, Err(WireError::Status { .. }));
            if is_refused && !was_refused && missed && session.era() == Era::Legacy {
                // A stream that was open is refused now: the server may have forgotten the session.
                self.handle.signals.send(Signal::Suspected);
            }
            was_refused = is_refused;
            let failures = course.ended_after(end.lasted.unwrap_or_default());
            let over = end.result.as_ref().err().filter(|error| is_over(error));
            if matches!(over, Some(WireError::Protocol(_))) {
                // A pipe: the supervisor has heard of its end too, and starts it again.
                return std::future::pending().await;
            }
            let no_more = has_no_stream(&end.result, end.lasted.is_some());
            if no_more {
                self.refuse_wishes(session, &Refusal::Answer(no_subscriptions()));
            }
            // A stream that was refused after one that was open has waited for its turn already.
            if !no_more || (over.is_some() && !missed) {
                self.pause(failures, asked_for_time(&end.result)).await;
            }
            if no_more {
                if missed || over.is_some() {
                    // Another server may stand there now: a run finds that out. It comes after a backoff, so that a server
                    // that goes again and again is not asked again and again.
                    self.handle.signals.send(Signal::MayHaveChanged);
                }
                if let Some(error) = over {
                    slot.forget(session, error);
                }
                return std::future::pending().await;
            }
        }
    }

    async fn until_there_is_something_to_hear(&self, always: bool) {
        let mut wishes = self.handle.wishes.changes();
        loop {
            wishes.borrow_and_update();
            if always || !self.handle.wishes.uris().is_empty() {
                return;
            }
            if wishes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Listens until the stream ends; none once there is nothing to hear any more. Where other resources are wished for, a
    /// modern server is asked for another stream, and the former one is left when that is open, so that nothing is missed
    /// between the two.
    ///
    /// A stream has no deadline: one on which nothing is said looks like one that was never answered. It ends with its
    /// session.
    async fn listen(&self, hearing: &Hearing<'_>, missed: impl Fn() -> bool) -> Option<End> {
        let modern = hearing.session.era() == Era::Modern;
        let mut wishes = self.handle.wishes.changes();
        wishes.borrow_and_update();
        let mut open_since = None;
        let mut current = self.open(hearing);
        let mut next: Option<Stream<'_>> = None;
        // Streams in its place that failed, in a row, and when one is asked for again.
        let mut failures = 0;
        let mut again: Option<BoxFuture<'_, ()>> = None;
        loop {
            let news = tokio::select! {
                biased;
                () = is_open(&mut current.opened), if open_since.is_none() => News::Open,
                news = news_of(&mut next) => news,
                Ok(()) = wishes.changed(), if modern => News::OtherWishes,
                () = when_due(&mut again) => News::Again,
                result = &mut current.work => News::Ended(result),
            };
            match news {
                News::Open => {
                    open_since = Some(Instant::now());
                    if missed() && !hearing.changes.is_empty() {
                        self.handle.signals.send(Signal::MayHaveChanged);
                    }
                    self.grant(hearing, &current);
                }
                News::NextOpen => {
                    if let Some(next) = next.take() {
                        self.grant(hearing, &next);
                        open_since = open_since.or_else(|| Some(Instant::now()));
                        current = next;
                        (failures, again) = (0, None);
                    }
                }
                News::NextEnded(result) => {
                    // What the other stream was for is not heard; the one that is open stays.
                    next = None;
                    let has_none = has_no_stream(&result, false);
                    match result {
                        Err(error) if !has_none || is_over(&error) => {
                            // Whoever waits is told, and whoever holds on has it asked for again.
                            let failure = error.failure();
                            tracing::debug!(connector = %self.handle.id, %error, "no stream with other resources yet");
                            let asked = failure.retry_after.unwrap_or_default();
                            self.refuse_wishes(hearing.session, &Refusal::Failed(failure));
                            failures += 1;
                            again = Some(self.pause(failures, asked).boxed());
                        }
                        _ => self.refuse_wishes(hearing.session, &Refusal::Answer(no_subscriptions())),
                    }
                }
                News::OtherWishes | News::Again => {
                    self.sleep(limits::WISH_PACE).await;
                    if matches!(news, News::Again) {
                        again = None;
                        self.handle.wishes.retry_failed();
                    }
                    wishes.borrow_and_update();
                    let wanted = self.handle.wishes.uris();
                    if wanted.is_empty() && !hearing.always {
                        return None;
                    }
                    if wanted == current.uris {
                        next = None;
                        if open_since.is_some() {
                            self.grant(hearing, &current);
                        }
                    } else if next.as_ref().is_none_or(|next| next.uris != wanted) {
                        next = Some(self.open(hearing));
                    }
                }
                News::Ended(result) => {
                    return Some(End { result, lasted: open_since.map(|since| since.elapsed()) });
                }
            }
        }
    }

    fn open<'a>(&self, hearing: &Hearing<'a>) -> Stream<'a> {
        let (sender, opened) = watch::channel(false);
        let announced = hearing.course.announced.clone();
        let ear = Ear { events: self.events.clone(), announced, opened: sender };
        let uris = self.handle.wishes.uris();
        let named: Vec<String> = uris.iter().cloned().collect();
        let (session, changes) = (hearing.session, hearing.changes);
        let work = async move { session.listen(changes, &named, &ear).await };
        Stream { work: work.boxed(), opened, uris }
    }

    /// The wishes that a modern server's stream is open for are carried out. A legacy server subscribes to each.
    fn grant(&self, hearing: &Hearing<'_>, stream: &Stream<'_>) {
        if hearing.session.era() == Era::Modern {
            stream.uris.iter().for_each(|uri| self.handle.wishes.settle(uri, 1, Ok(())));
        }
    }

    fn refuse_wishes(&self, session: &Session, refusal: &Refusal) {
        if session.era() == Era::Modern {
            self.handle.wishes.refuse_all(refusal);
        }
    }
}

/// Returns when a stream is open, or never.
async fn is_open(opened: &mut watch::Receiver<bool>) {
    if opened.wait_for(|open| *open).await.is_err() {
        std::future::pending().await
    }
}

/// What becomes of the stream that is to take the place of another.
async fn news_of(next: &mut Option<Stream<'_>>) -> News {
    match next {
        Some(stream) => tokio::select! {
            biased;
            () = is_open(&mut stream.opened) => News::NextOpen,
            result = &mut stream.work => News::NextEnded(result),
        },
        None => std::future::pending().await,
    }
}

/// Waits for a time, if one is set.
pub(super) async fn when_due(due: &mut Option<BoxFuture<'_, ()>>) {
    match due {
        Some(due) => due.await,
        None => std::future::pending().await,
    }
}

/// Whether a server says with such a status that it has no stream to listen to; any other may be over in a while.
pub(in crate::connectors) fn means_no_stream(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_ACCEPTABLE
            | StatusCode::GONE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::NOT_IMPLEMENTED
    )
}

/// Whether this session will have no (other) stream: its server says that it has none, or the session is over.
fn has_no_stream(result: &Result<(), WireError>, was_open: bool) -> bool {
    match result {
        // Some servers answer what they do not know with an empty result.
        Ok(()) => !was_open,
        Err(WireError::Status { status, .. }) => means_no_stream(*status),
        // A gateway that finds itself in a circle may be connected otherwise later.
        Err(WireError::Rpc(error)) if error.hops == Some(HopsError::TooMany) => false,
        Err(WireError::Rpc(error)) => matches!(error.code, METHOD_NOT_FOUND | INVALID_PARAMS | INVALID_REQUEST),
        Err(WireError::Protocol(ProtocolFault::ContentType(_) | ProtocolFault::NoAnswer)) => true,
        Err(error) => is_over(error),
    }
}

/// For how long a server that refused a stream wants to be left alone.
fn asked_for_time(result: &Result<(), WireError>) -> Duration {
    result.as_ref().err().and_then(|error| error.failure().retry_after).unwrap_or_default()
}
