//! Collecting what a server offers: its tools, and whatever else it says it has.
//!
//! Tools decide: they show that the server is there. What it has besides them never takes them away: a list that it fails
//! to give stays as it was, and is asked for again with the next run. In the fewest round trips: a server that has said
//! what it has is asked for all of it at once, one that was only remembered says it while its tools are listed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::edge::http::HttpError;
use crate::mcp::protocol::METHOD_NOT_FOUND;
use crate::mcp::{LeftOut, ListScope, Listed, ProtocolFault, Session, WireError};
use crate::model::raw::RawObject;
use crate::model::{About, ConnectorId, ItemList, ListKind, Offer};

/// All lists of a server.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) offer: Offer,
    /// The shortest time that any of them is fresh, in milliseconds.
    pub(super) ttl_ms: Option<u64>,
    pub(super) scope: Option<ListScope>,
}

/// Lists everything that a server says it has. `kept` is what it had; `limit` is given to the tools, and to everything else
/// together.
pub(super) async fn collect(
    session: &Session,
    kept: Option<&Offer>,
    id: &ConnectorId,
    limit: Duration,
) -> Result<Collected, WireError> {
    let collecting =
        Collecting { session, kept, id, limit, answered: AtomicBool::new(false), refused: OnceLock::new() };
    let known = session.facts().map(|facts| facts.about.clone());
    let (tools, more, about) = match known {
        Some(about) => {
            let (tools, more) = tokio::try_join!(collecting.tools(Some(&about)), collecting.more(&about))?;
            (tools, more, about)
        }
        None => {
            let (tools, learned) = tokio::join!(collecting.tools(None), collecting.learn());
            learned?;
            // A server that will not say what it has had its say before.
            let about = session.facts().map(|facts| facts.about.clone());
            let about = about.or_else(|| kept.map(|kept| kept.about().clone())).unwrap_or_default();
            let tools = match tools {
                Err(error) if is_unknown_method(&error) && lacks_tools(&about) => List::empty(),
                tools => tools?,
            };
            let more = collecting.more(&about).await?;
            (tools, more, about)
        }
    };
    let hints = [&tools].into_iter().chain(&more).fold(Hints::default(), Hints::and);
    let [prompts, resources, templates] = more;
    let offer = Offer::new([tools.items, prompts.items, resources.items, templates.items], about);
    Ok(Collected { offer, ttl_ms: hints.ttl_ms, scope: hints.scope() })
}

struct Collecting<'a> {
    session: &'a Session,
    kept: Option<&'a Offer>,
    id: &'a ConnectorId,
    limit: Duration,
    /// Whether any list but the tools was answered.
    answered: AtomicBool,
    /// How one of them was refused by a server that may have forgotten the session.
    refused: OnceLock<WireError>,
}

/// One list, and what its server hints about it, if it was fetched or kept.
struct List {
    items: ItemList,
    hints: Option<(Option<u64>, Option<ListScope>)>,
}

impl List {
    fn empty() -> Self {
        Self { items: ItemList::empty(), hints: None }
    }

    fn of(kind: ListKind, listed: Listed) -> Result<Self, WireError> {
        let hints = Some((listed.ttl_ms, listed.scope));
        let items = ItemList::new(kind, listed.items).map_err(|_| ProtocolFault::NamelessItem(kind))?;
        Ok(Self { items, hints })
    }
}

impl Collecting<'_> {
    /// The tools. A server that says what it has, and tools are not among it, is not asked.
    async fn tools(&self, about: Option<&About>) -> Result<List, WireError> {
        if about.is_some_and(lacks_tools) {
            return Ok(List::empty());
        }
        self.list(ListKind::Tools, self.within(self.session.list(ListKind::Tools)).await?)
    }

    /// Asks a remembered server what it has. Only the wrong era is an error: who does not say it may serve all the same.
    async fn learn(&self) -> Result<(), WireError> {
        match self.within(self.session.learn()).await {
            Err(WireError::WrongEra) => Err(WireError::WrongEra),
            _ => Ok(()),
        }
    }

    /// Everything but the tools.
    async fn more(&self, about: &About) -> Result<[List; 3], WireError> {
        let (prompts, resources, templates) = tokio::try_join!(
            self.lenient(about, ListKind::Prompts),
            self.lenient(about, ListKind::Resources),
            self.lenient(about, ListKind::Templates),
        )?;
        // Where there are no tools, these show whether the server knows the session.
        match self.refused.get() {
            Some(refused) if lacks_tools(about) && !self.answered.load(Ordering::Relaxed) => Err(refused.clone()),
            _ => Ok([prompts, resources, templates]),
        }
    }

    /// A list that a server has if it says so; one that it does not know after all is empty.
    async fn lenient(&self, about: &About, kind: ListKind) -> Result<List, WireError> {
        if !about.has(kind.capability()) {
            return Ok(List::empty());
        }
        let listed = self.within(self.session.list(kind)).await;
        match listed.and_then(|listed| self.list(kind, listed)) {
            Err(error) if is_unknown_method(&error) => Ok(List::empty()),
            Err(error) if !says_that_nobody_is_there(&error) => {
                tracing::warn!(connector = %self.id, list = kind.method(), %error, "this list stays as it was");
                if self.session.is_given_up_after(&error) {
                    let _ = self.refused.set(error);
                }
                let items = self.kept.map_or_else(ItemList::empty, |kept| kept.list(kind).clone());
                // Nobody said whom this one is for: whoever asked for it then may have been somebody else.
                let hints = (!items.items().is_empty()).then_some((None, Some(ListScope::Private)));
                Ok(List { items, hints })
            }
            list => {
                self.answered.store(true, Ordering::Relaxed);
                list
            }
        }
    }

    fn list(&self, kind: ListKind, listed: Listed) -> Result<List, WireError> {
        let LeftOut { count, first } = &listed.left_out;
        if *count > 0 {
            let list = kind.method();
            tracing::warn!(connector = %self.id, list, count, ?first, "items that break a rule are left out");
        }
        List::of(kind, listed)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, WireError>>) -> Result<T, WireError> {
        tokio::time::timeout(self.limit, work).await.unwrap_or(Err(WireError::Http(HttpError::Timeout)))
    }
}

/// Whether a server says what it has, and tools are not among it. One that says nothing at all may have tools.
fn lacks_tools(about: &About) -> bool {
    !RawObject::parse(&about.capabilities).unwrap_or_default().is_empty() && !about.has("tools")
}

fn is_unknown_method(error: &WireError) -> bool {
    matches!(error, WireError::Rpc(error) if error.code == METHOD_NOT_FOUND)
}

/// Whether an error is about the server as a whole, and not about one of its lists.
fn says_that_nobody_is_there(error: &WireError) -> bool {
    matches!(
        error,
        WireError::SessionLost
            | WireError::WrongEra
            | WireError::Http(HttpError::Connect | HttpError::Dns | HttpError::Broken)
            | WireError::Protocol(ProtocolFault::PipeEnded | ProtocolFault::NotWritten)
    )
}

/// The caching hints of several lists, as those of one.
#[derive(Default)]
struct Hints {
    ttl_ms: Option<u64>,
    lists: usize,
    public: usize,
    private: usize,
}

impl Hints {
    fn and(mut self, list: &List) -> Self {
        let Some((ttl_ms, scope)) = list.hints else { return self };
        self.ttl_ms = self.ttl_ms.into_iter().chain(ttl_ms).min();
        self.lists += 1;
        match scope {
            Some(ListScope::Public) => self.public += 1,
            Some(ListScope::Private) => self.private += 1,
            None => {}
        }
        self
    }

    /// Public only if every list is.
    fn scope(&self) -> Option<ListScope> {
        match self {
            Self { public: 0, private: 0, .. } => None,
            Self { public, lists, .. } if public == lists => Some(ListScope::Public),
            _ => Some(ListScope::Private),
        }
    }
}

#[cfg(test)]
mod tests;
