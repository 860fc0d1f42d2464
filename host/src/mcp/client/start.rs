//! Opening a session with a process: one process, whose era follows from what it answers.
//!
//! A process may need minutes until it reads anything (`npx`, `uvx` and `docker` download first), and it must not be
//! started again because of that. So nothing here has a deadline: both questions may wait in its pipe, and what counts is
//! what it answers, in whichever order. Whoever waits has it asked again in place, with other request identifiers; a late
//! answer to an earlier question counts all the same.
//!
//! A server of both eras may pick one by the first question that it reads, or by the last. One that was asked both and
//! accepted both is asked the modern question once more: what it answers then is what it speaks.

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::discovery::discover;
use super::facts::ServerFacts;
use super::handshake::{Declared, Initialized, initialize};
use super::link::Link;
use super::pipe::{GivesUp, PipePlace};
use super::session::{RequestIds, Session};
use super::upstream::{confirm, pipe, refused_as_modern};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::limits::{LEAST_DISCOVERY_GRACE, PIPE_PROBE_TIMEOUT, PIPE_QUESTIONS_MAX};
use crate::mcp::protocol::Era;

/// What is known of a server's era before it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownEra {
    /// Nothing.
    Unknown,
    /// What it spoke the last time. It is asked about the other one if it refuses this one.
    Remembered(Era),
    /// What the operator says. It is asked nothing of the other one.
    Configured(Era),
}

impl KnownEra {
    /// The era, if there is one.
    pub fn era(self) -> Option<Era> {
        match self {
            Self::Unknown => None,
            Self::Remembered(era) | Self::Configured(era) => Some(era),
        }
    }
}

/// A start under way, for whoever waits for it.
#[derive(Debug, Default)]
pub struct Start {
    began: watch::Sender<Option<Instant>>,
    again: Notify,
}

impl Start {
    /// When the process was started; none: not yet.
    pub fn began(&self) -> watch::Receiver<Option<Instant>> {
        self.began.subscribe()
    }

    /// Whether somebody waits for it.
    pub fn is_watched(&self) -> bool {
        self.began.receiver_count() > 0
    }

    /// Has the process asked again what it has not answered.
    pub fn ask_again(&self) {
        self.again.notify_one();
    }
}

/// Starts a process and opens a session with it.
///
/// # Errors
/// [`WireError`]; nothing is left of the process then.
pub(super) async fn open_process(
    place: &PipePlace,
    known: KnownEra,
    declared: &Declared,
    start: &Start,
) -> Result<Session, WireError> {
    let link = pipe(place, declared).await?;
    start.began.send_replace(Some(Instant::now()));
    let first = match known.era() {
        Some(era) => era,
        None if place.gives_up_on_discovery() => Era::Legacy,
        None => Era::Modern,
    };
    let asking = Asking { link: &link, ids: RequestIds::default(), declared, known, first };
    let opened = asking.run(start).await;
    if let Err(error) = &opened {
        // Some legacy servers end when they are asked what they do not know: the next process is asked the other question
        // first, in turns, since this one may have ended for another reason.
        let gives_up = has_ended(error) && first == Era::Modern;
        place.note_discovery(if gives_up { GivesUp::Yes } else { GivesUp::No });
        // How it ended is known once it is gone, and no other one starts before.
        link.end(&HeaderMap::new()).await;
    }
    opened
}

/// Asks one process.
struct Asking<'a> {
    link: &'a Link,
    ids: RequestIds,
    declared: &'a Declared,
    known: KnownEra,
    /// Which question comes first.
    first: Era,
}

/// What the answers say.
enum Answers {
    Modern(Option<ServerFacts>),
    Legacy(Initialized),
    /// Both questions were accepted.
    Both(Initialized),
    /// The modern question was refused; the operator says that the server speaks that era all the same.
    Unproven,
}

impl Asking<'_> {
    async fn run(self, start: &Start) -> Result<Session, WireError> {
        let answers = self.answers(start).await?;
        let link = self.link.clone();
        match answers {
            Answers::Modern(facts) => Ok(Session::modern(link, self.ids, true, facts)),
            Answers::Unproven => Ok(Session::modern(link, self.ids, false, None)),
            Answers::Legacy(initialized) => confirm(link, self.ids, initialized).await,
            Answers::Both(initialized) => match timeout(PIPE_PROBE_TIMEOUT, self.discover()).await {
                Ok(Ok(facts)) => {
                    // Dropping it must not end the process, which goes on.
                    initialized.session.lost();
                    Ok(Session::modern(link, self.ids, true, facts))
                }
                _ => confirm(link, self.ids, initialized).await,
            },
        }
    }

    /// Asks until the answers say which era the server speaks.
    async fn answers(&self, start: &Start) -> Result<Answers, WireError> {
        let (mut modern, mut legacy) = (FuturesUnordered::new(), FuturesUnordered::new());
        match self.first {
            Era::Modern => modern.push(self.discover()),
            Era::Legacy => legacy.push(self.initialize()),
        }
        let (mut modern_refused, mut legacy_refused) = (false, None);
        let both_at = Instant::now() + PIPE_PROBE_TIMEOUT;
        let mut asks_both = (self.known, self.first) == (KnownEra::Unknown, Era::Modern);
        // A server that refused one question has read the other one too.
        let mut until = None;
        loop {
            tokio::select! {
                biased;
                Some(answer) = modern.next() => match answer {
                    Ok(facts) => return Ok(accepted_modern(facts, &mut legacy).await),
                    Err(error) if has_ended(&error) || is_of_another_version(&error) => return Err(error),
                    Err(_) if self.known == KnownEra::Configured(Era::Modern) => return Ok(Answers::Unproven),
                    Err(_) => {
                        if let Some(refused) = legacy_refused {
                            return Err(refused);
                        }
                        // Any other error means a legacy server (2026-07-28, `basic/transports/stdio`, Backward
                        // Compatibility).
                        (modern_refused, asks_both) = (true, false);
                        modern.clear();
                        if legacy.is_empty() {
                            legacy.push(self.initialize());
                        }
                    }
                },
                Some(answer) = legacy.next() => match answer {
                    Ok(initialized) => return Ok(accepted_legacy(initialized, &mut modern).await),
                    Err(error) if has_ended(&error) || modern_refused => return Err(error),
                    Err(error) if modern.is_empty() && !self.may_be_modern(&error) => return Err(error),
                    Err(error) => {
                        legacy.clear();
                        // Where it is asked already, it is lost: the server has read what came after it.
                        modern.push(self.discover());
                        (legacy_refused, asks_both) = (Some(error), false);
                        until = Some(Instant::now() + PIPE_PROBE_TIMEOUT);
                    }
                },
                () = sleep_until(both_at), if asks_both => {
                    asks_both = false;
                    legacy.push(self.initialize());
                }
                () = start.again.notified() => {
                    if (1..PIPE_QUESTIONS_MAX).contains(&modern.len()) {
                        modern.push(self.discover());
                    }
                    // After so long a remembered era may hold no more.
                    let may_be_legacy = !legacy.is_empty()
                        || (legacy_refused.is_none() && self.known == KnownEra::Remembered(Era::Modern));
                    if may_be_legacy && legacy.len() < PIPE_QUESTIONS_MAX {
                        legacy.push(self.initialize());
                    }
                }
                () = sleep_until(until.unwrap_or(both_at)), if until.is_some() => {
                    return Err(legacy_refused.unwrap_or(ProtocolFault::NoAnswer.into()));
                }
            }
        }
    }

    async fn discover(&self) -> Result<Option<ServerFacts>, WireError> {
        discover(self.link, &self.ids).await
    }

    async fn initialize(&self) -> Result<Initialized, WireError> {
        initialize(self.link.clone(), self.ids.next(), self.declared).await
    }

    /// Whether a server that refuses `initialize` like this may be asked the modern question.
    fn may_be_modern(&self, error: &WireError) -> bool {
        self.known != KnownEra::Configured(Era::Legacy) && refused_as_modern(error)
    }
}

/// The modern question was accepted. Where the legacy one is on its way too, its answer is the next.
async fn accepted_modern(
    facts: Option<ServerFacts>,
    legacy: &mut (impl Stream<Item = Result<Initialized, WireError>> + Unpin),
) -> Answers {
    match timeout(PIPE_PROBE_TIMEOUT, legacy.next()).await {
        Ok(Some(Ok(initialized))) => Answers::Both(initialized),
        _ => Answers::Modern(facts),
    }
}

/// The legacy question was accepted. Where the modern one is on its way too, the server ignores it, or answers out of order.
async fn accepted_legacy(
    initialized: Initialized,
    modern: &mut (impl Stream<Item = Result<Option<ServerFacts>, WireError>> + Unpin),
) -> Answers {
    match timeout(LEAST_DISCOVERY_GRACE, modern.next()).await {
        Ok(Some(Ok(_))) => Answers::Both(initialized),
        _ => Answers::Legacy(initialized),
    }
}

/// Whether the process has ended, or is ended for what it wrote.
fn has_ended(error: &WireError) -> bool {
    use ProtocolFault::{EventFlood, NotWritten, PipeEnded};
    matches!(error, WireError::Http(_) | WireError::Protocol(PipeEnded | NotWritten | EventFlood))
}

fn is_of_another_version(error: &WireError) -> bool {
    matches!(error, WireError::Protocol(ProtocolFault::UnsupportedVersion))
}
