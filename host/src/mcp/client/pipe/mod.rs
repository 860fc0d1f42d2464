//! One stream in each direction that all requests of a session share: a child process, or HTTP+SSE of 2024-11-05.
//!
//! A pipe belongs to one session. It ends when the session is closed or dropped, when its child or its stream ends, and
//! with the place that it was opened from, whatever comes first; then every request in flight fails at once. Nothing is
//! ever retried here: what was certainly not written says so ([`ProtocolFault::NotWritten`]), and whoever asked
//! decides.

mod assembly;
mod complaints;
mod desk;
mod inbox;
mod lines;
mod out;
mod report;
mod sse;
mod stdio;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

pub(super) use self::desk::Audience;
use self::desk::{Desk, Place, Wants, refused};
pub(super) use self::inbox::{Inbox, Letter};
use self::out::{Out, Posts};
use self::report::ProcessReport;
use super::tidying::Tidying;
use super::transport::Transport;
use crate::edge::http::HttpError;
use crate::edge::process::ChildSpawner;
use crate::edge::references;
use crate::mcp::envelope::{Message, Outcome, RequestId, notification_bytes, outcome_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::inbound::Inbound;
use crate::mcp::interim::{Interim, Question};
use crate::mcp::protocol::{CANCELLED, INITIALIZE, META_LOG_LEVEL, SERVER_DISCOVER, SUBSCRIPTIONS_LISTEN};
use crate::model::mask::Secrets;
use crate::model::raw::{self, RawObject};
use crate::model::{CommandLine, ConnectorId, Failure};
use crate::telemetry::{LogLimit, limits as log_limits};

/// Where pipes are opened.
pub(super) struct PipePlace {
    road: Road,
    /// Every pipe that was opened from here, and what runs on behind it.
    tidying: Tidying,
    gives_up: AtomicBool,
}

/// Whether a legacy server ends when it is asked the modern question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivesUp {
    /// It does, as it seems.
    Yes,
    /// It does not, as far as anybody knows.
    No,
}

enum Road {
    /// A command.
    Stdio {
        /// Starts its processes.
        spawner: ChildSpawner,
        /// What is started.
        command: CommandLine,
        /// Whose it is.
        id: ConnectorId,
        /// What applies to what it writes.
        inbound: Arc<Inbound>,
        /// Which of its ends are logged.
        exits: Arc<LogLimit<()>>,
        /// Of the process that was started last.
        report: Mutex<Option<Arc<ProcessReport>>>,
    },
    /// A stream of 2024-11-05.
    Sse(Arc<Transport>),
}

impl std::fmt::Debug for PipePlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.road {
            Road::Stdio { command, .. } => command.fmt(formatter),
            Road::Sse(transport) => transport.fmt(formatter),
        }
    }
}

impl PipePlace {
    /// A command. Each pipe is a process of its own. `id` names it in logs.
    pub(super) fn stdio(spawner: ChildSpawner, command: CommandLine, id: ConnectorId, inbound: Arc<Inbound>) -> Self {
        let exits = Arc::new(LogLimit::new(log_limits::EXIT_LINES));
        Self {
            road: Road::Stdio { spawner, command, id, inbound, exits, report: Mutex::default() },
            tidying: Tidying::default(),
            gives_up: AtomicBool::new(false),
        }
    }

    /// A stream of 2024-11-05.
    pub(super) fn sse(transport: Arc<Transport>) -> Self {
        Self { road: Road::Sse(transport), tidying: Tidying::default(), gives_up: AtomicBool::new(false) }
    }

    /// Whether a server that is reached like this can only be of the legacy era.
    pub(super) fn is_legacy_by_definition(&self) -> bool {
        matches!(self.road, Road::Sse(_))
    }

    /// Whether the server was last seen to end when it was asked the modern question.
    pub(super) fn gives_up_on_discovery(&self) -> bool {
        self.gives_up.load(Ordering::Relaxed)
    }

    /// Notes what became of the modern question.
    pub(super) fn note_discovery(&self, gives_up: GivesUp) {
        self.gives_up.store(gives_up == GivesUp::Yes, Ordering::Relaxed);
    }

    /// The failure that an error stands for; of a process, with how it ended and what it last wrote to its standard error.
    pub(super) fn failure(&self, error: &WireError) -> Failure {
        match (error, self.last_report()) {
            (WireError::Protocol(ProtocolFault::PipeEnded | ProtocolFault::NotWritten), Some(report)) => report.ended(),
            (WireError::Http(HttpError::Timeout), Some(report)) => report.explain(error.failure()),
            _ => error.failure(),
        }
    }

    /// The failure of the process that was started last and has not answered.
    pub(super) fn not_answered(&self) -> Failure {
        match self.last_report() {
            Some(report) => report.not_answered(),
            None => HttpError::Timeout.into(),
        }
    }

    fn last_report(&self) -> Option<Arc<ProcessReport>> {
        let Road::Stdio { report, .. } = &self.road else { return None };
        report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits, for so long, for the pipes that were opened from here, which their sessions have closed; what is late is
    /// killed.
    pub(super) async fn tidied(&self, limit: Duration) {
        let transport = async {
            if let Road::Sse(transport) = &self.road {
                transport.tidied(limit).await;
            }
        };
        tokio::join!(self.tidying.tidied(limit), transport);
    }
}

/// An open pipe. Dropping the last reference to it ends it, in the background.
#[derive(Debug)]
pub(super) struct Pipe {
    desk: Arc<Desk>,
    inbound: Arc<Inbound>,
    out: Out,
    ending: CancellationToken,
    /// Cancelled when nothing is left of it.
    gone: CancellationToken,
    tidying: Tidying,
}

impl Pipe {
    /// Starts a child, or opens a stream. The deadline is the caller's: if this is dropped, nothing stays open.
    ///
    /// # Errors
    /// [`WireError`].
    pub(super) async fn open(place: &PipePlace, audience: Audience) -> Result<Arc<Self>, WireError> {
        let (inbound, secrets) = match &place.road {
            Road::Stdio { inbound, command, .. } => (inbound.clone(), Secrets::of_command(command)),
            Road::Sse(transport) => (transport.inbound().clone(), Secrets::default()),
        };
        let desk = Arc::new(Desk::new(audience, inbound.clone(), secrets));
        let (ending, gone) = (CancellationToken::new(), CancellationToken::new());
        let (tidying, given_up) = (place.tidying.clone(), place.tidying.given_up());
        let is_gone = gone.clone().drop_guard();
        let out = match &place.road {
            Road::Stdio { spawner, command, id, exits, report: last, .. } => {
                let environment = references::resolve(command.environment.clone().into_iter().collect()).await?;
                let command = CommandLine { environment: environment.into_iter().collect(), ..command.clone() };
                let child = spawner.start(&command).await.map_err(ProtocolFault::NotStarted)?;
                let report = Arc::new(ProcessReport::new(&command));
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
                let (out, lines) = stdio::queue();
                let (desk, connector, ending) = (desk.clone(), id.clone(), ending.clone());
                let inbound = inbound.clone();
                let keeper = stdio::Keeper { desk, connector, inbound, exits: exits.clone(), report, ending, given_up };
                let weak = out.downgrade();
                tidying.keep(async move {
                    keeper.keep(child, weak, lines).await;
                    drop(is_gone);
                });
                Out::Lines(out)
            }
            Road::Sse(transport) => {
                transport.resolve().await?;
                let (stream, target) = sse::EventStream::open(transport).await?;
                let out = Out::Posts(Arc::new(Posts::new(transport.clone(), target, tidying.clone())));
                let (reading, answers, ending) = (desk.clone(), out.clone(), ending.clone());
                tidying.keep(async move {
                    stream.read(reading, answers, [ending, given_up]).await;
                    drop(is_gone);
                });
                out
            }
        };
        Ok(Arc::new(Self { desk, inbound, out, ending, gone, tidying }))
    }

    /// Sends a request and waits for its answer; what the server says meanwhile that concerns it goes to `interim`. If
    /// this is dropped, the server is told that nobody waits any more (2026-07-28, `basic/transports/stdio`,
    /// Cancellation).
    ///
    /// # Errors
    /// [`WireError`], if there is no answer.
    pub(super) async fn ask(&self, id: &RequestId, body: Bytes, interim: &dyn Interim) -> Result<Outcome, WireError> {
        let Prepared { body, wants, may_be_cancelled } = prepare(body);
        let Place { mut answer, inbox, stage } = self.desk.enter(id, wants)?;
        let mut stay = Stay { pipe: self, id, inbox: &inbox, stage: may_be_cancelled.then(|| stage.clone()) };
        let mut sending = std::pin::pin!(self.out.send(body, Some(stage)));
        let mut is_sent = false;
        let mut answering = FuturesUnordered::new();
        // A client that is slow to take a notice holds up the notices after it, and nothing else.
        let mut telling: Option<BoxFuture<'_, ()>> = None;
        loop {
            tokio::select! {
                biased;
                sent = &mut sending, if !is_sent => {
                    is_sent = true;
                    if let Err(error) = sent {
                        stay.stage = None;
                        return Err(if may_be_cancelled { self.judge(error) } else { error });
                    }
                }
                Some(()) = answering.next() => {}
                () = told(&mut telling) => telling = None,
                letter = inbox.next(), if telling.is_none() => match letter {
                    Letter::Notice(notice) => telling = Some(interim.notify(notice)),
                    Letter::Question { id, question, taken_back } => {
                        answering.push(self.answer(interim, id, question, taken_back));
                    }
                },
                // The desk gives every place an answer, at the latest when it closes.
                answered = &mut answer => {
                    stay.stage = None;
                    let outcome = answered.unwrap_or_else(|_| Err(ProtocolFault::PipeEnded.into()))?;
                    // In order: what came before the answer is told before it.
                    loop {
                        while telling.is_some() {
                            tokio::select! {
                                biased;
                                Some(()) = answering.next() => {}
                                () = told(&mut telling) => telling = None,
                            }
                        }
                        match inbox.try_next() {
                            Some(Letter::Notice(notice)) => telling = Some(interim.notify(notice)),
                            Some(Letter::Question { id, .. }) => self.refuse(&id),
                            None => return Ok(outcome),
                        }
                    }
                }
            }
        }
    }

    /// Sends a message that wants no answer.
    ///
    /// # Errors
    /// [`WireError`], if it can not be sent.
    pub(super) async fn tell(&self, body: Bytes) -> Result<(), WireError> {
        if self.has_ended() {
            return Err(ProtocolFault::NotWritten.into());
        }
        self.out.send(body, None).await
    }

    /// Passes on what a legacy server says that concerns no request, until the pipe ends. One listener at a time.
    ///
    /// # Errors
    /// [`ProtocolFault::PipeEnded`] at its end.
    pub(super) async fn listen(&self, interim: &dyn Interim) -> Result<(), WireError> {
        let listener = self.desk.listen().ok_or(ProtocolFault::TooManyListeners)?;
        interim.opened();
        let mut answering = FuturesUnordered::new();
        let mut telling: Option<BoxFuture<'_, ()>> = None;
        loop {
            tokio::select! {
                biased;
                Some(()) = answering.next() => {}
                () = told(&mut telling) => telling = None,
                letter = listener.inbox().next(), if telling.is_none() => match letter {
                    Letter::Notice(notice) => telling = Some(interim.notify(notice)),
                    Letter::Question { id, question, taken_back } => {
                        answering.push(self.answer(interim, id, question, taken_back));
                    }
                },
                () = self.desk.over().cancelled() => return Err(ProtocolFault::PipeEnded.into()),
            }
        }
    }

    /// What applies to the messages that are read.
    pub(super) fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    /// Ends the pipe, and waits until nothing is left of it.
    pub(super) async fn end(&self) {
        self.ending.cancel();
        self.gone.cancelled().await;
    }

    /// Returns when nothing is left of it: how it ended is known then.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Returns when the pipe has ended, by whatever.
    pub(super) async fn ended(&self) {
        self.desk.over().cancelled().await;
    }

    /// Whether it has.
    pub(super) fn has_ended(&self) -> bool {
        self.desk.over().is_cancelled()
    }

    pub(super) fn in_background<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) {
        self.tidying.in_background(work);
    }

    /// Has a question answered, unless the server takes it back. If this is dropped, the question is refused.
    async fn answer(&self, interim: &dyn Interim, id: RequestId, question: Question, taken_back: CancellationToken) {
        let mut open = OpenQuestion { pipe: self, id: &id, is_settled: false };
        let outcome = tokio::select! {
            biased;
            () = taken_back.cancelled() => None,
            outcome = interim.ask(question) => Some(outcome),
        };
        open.is_settled = true;
        self.desk.settle(&id);
        if let Some(outcome) = outcome {
            // A server that does not take it will not go on either, which is its own affair.
            drop(self.out.send(outcome_bytes(&id, &outcome), None).await);
        }
    }

    /// What a failure to send means for the pipe: where there is nothing to post to any more, the server has forgotten
    /// the session, whatever becomes of the stream.
    fn judge(&self, error: WireError) -> WireError {
        match error {
            WireError::Status { status: StatusCode::NOT_FOUND | StatusCode::GONE, .. } => {
                self.ending.cancel();
                WireError::SessionLost
            }
            other => other,
        }
    }

    fn refuse(&self, question: &RequestId) {
        self.desk.settle(question);
        self.out.send_soon(refused(question));
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// Waits until a notice is taken; for ever, where none is on its way.
async fn told(telling: &mut Option<BoxFuture<'_, ()>>) {
    match telling {
        Some(telling) => telling.await,
        None => std::future::pending().await,
    }
}

/// A request's stay at the desk.
struct Stay<'a> {
    pipe: &'a Pipe,
    id: &'a RequestId,
    inbox: &'a Inbox,
    /// Set while leaving means giving up.
    stage: Option<Arc<desk::Stage>>,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let Self { pipe, id, inbox, stage } = self;
        pipe.desk.leave(id);
        while let Some(letter) = inbox.try_next() {
            if let Letter::Question { id, .. } = letter {
                pipe.refuse(&id);
            }
        }
        // What was not written is not written any more, and needs no taking back.
        if stage.take().is_some_and(|stage| !stage.withdraw()) && !pipe.has_ended() {
            let params = raw::trusted(format!("{{\"requestId\":{}}}", id.as_json()));
            let (out, body) = (pipe.out.clone(), notification_bytes(CANCELLED, Some(&params)));
            pipe.in_background(async move { out.send(body, None).await });
        }
    }
}

/// A question that is being answered.
struct OpenQuestion<'a> {
    pipe: &'a Pipe,
    id: &'a RequestId,
    is_settled: bool,
}

impl Drop for OpenQuestion<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.pipe.refuse(self.id);
        }
    }
}

/// A request as it goes out.
struct Prepared {
    body: Bytes,
    wants: Wants,
    may_be_cancelled: bool,
}

fn prepare(body: Bytes) -> Prepared {
    // What is sent was written here.
    let Ok(Message::Request { method, params, .. }) = Message::parse(&body) else {
        return Prepared { body, wants: Wants::default(), may_be_cancelled: false };
    };
    // `initialize` must not be cancelled, and who does not know `server/discover` knows no cancellation of it either.
    let may_be_cancelled = !matches!(method.as_str(), INITIALIZE | SERVER_DISCOVER);
    let logs = params.as_ref().is_some_and(|params| wants_logs(params));
    let wants = Wants { logs, subscribes: method == SUBSCRIPTIONS_LISTEN };
    Prepared { body, wants, may_be_cancelled }
}

fn wants_logs(params: &serde_json::value::RawValue) -> bool {
    let meta = |params: RawObject| RawObject::parse(params.get("_meta")?).ok();
    params.get().contains(META_LOG_LEVEL)
        && RawObject::parse(params).ok().and_then(meta).is_some_and(|meta| meta.get(META_LOG_LEVEL).is_some())
}
