//! Which connector named a resource to a client: results of `tools/call` and `prompts/get` name resources that no list
//! holds, as `resource_link` or as embedded `resource`. Such a resource is requested from that connector alone, because its
//! URI may hold a secret.
//!
//! The memory is that of one client: of a legacy session, of a client on stdio, or of the calls of one token in the modern
//! era, which has no sessions. Nothing is remembered across clients.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::held_bytes::{Held, HeldBytes};
use crate::gateway::limits;
use crate::gateway::visitor::Visitor;
use crate::model::{BootMs, Connector, ConnectorId, Digest};

/// The bytes of the links of all clients. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkBytes {
    held: HeldBytes,
    clients: Arc<Mutex<Vec<Weak<Links>>>>,
}

impl LinkBytes {
    fn add(&self, client: &Arc<Links>) {
        let mut clients = self.lock();
        // Before it grows.
        if clients.len() == clients.capacity() {
            clients.retain(|client| client.strong_count() > 0);
        }
        clients.push(Arc::downgrade(client));
    }

    /// Holds bytes more. If all clients together hold too many, the one with the most loses the older half of its links: no
    /// client takes them from one that holds less. None if nothing is left to be lost.
    fn hold(&self, bytes: usize) -> Option<Held> {
        loop {
            if let Some(held) = self.held.try_hold(bytes) {
                return Some(held);
            }
            let clients: Vec<Arc<Links>> = self.lock().iter().filter_map(Weak::upgrade).collect();
            let largest = clients.iter().max_by_key(|client| client.lock().bytes)?;
            let mut table = largest.lock();
            let half = table.bytes / 2;
            if table.by_uri.is_empty() {
                return None;
            }
            while table.bytes > half {
                table.remove_oldest();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Links>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The resources that were named to one client.
#[derive(Debug)]
pub(in crate::gateway) struct Links {
    held: LinkBytes,
    /// How long each is remembered; none: as long as the client's session lasts.
    lifetime: Option<Duration>,
    table: Mutex<LinkTable>,
}

#[derive(Debug, Default)]
struct LinkTable {
    by_uri: HashMap<Arc<str>, NamedResource>,
    /// The oldest first.
    order: BTreeMap<u64, Arc<str>>,
    /// How many were ever named.
    named: u64,
    bytes: usize,
}

#[derive(Debug)]
struct NamedResource {
    connector: ConnectorId,
    server: Digest,
    number: u64,
    at: BootMs,
    held: Held,
}

impl Links {
    /// The links of a session.
    pub(super) fn of_session(held: LinkBytes) -> Arc<Self> {
        Self::new(held, None)
    }

    /// The links of a token's calls.
    fn of_token(held: LinkBytes) -> Arc<Self> {
        Self::new(held, Some(limits::LINK_LIFETIME))
    }

    fn new(held: LinkBytes, lifetime: Option<Duration>) -> Arc<Self> {
        let links = Arc::new(Self { held: held.clone(), lifetime, table: Mutex::default() });
        held.add(&links);
        links
    }

    /// Notes the resources that a result of a connector names.
    pub(super) fn note(&self, connector: &Connector, result: &RawValue, now: BootMs) {
        let uris = named_resources(result);
        let server = connector.server_digest();
        self.lock().expire(self.lifetime, now);
        // A result may name a million; the last ones would be left of them.
        for uri in uris.iter().skip(uris.len().saturating_sub(limits::LINKS_MAX)) {
            if uri.len() > limits::LINK_URI_BYTES_MAX {
                continue;
            }
            // Not while the table is locked: other clients' tables may be.
            let Some(held) = self.held.hold(uri.len() + limits::LINK_OVERHEAD_BYTES) else { return };
            self.lock().insert(uri, (&connector.id, server), now, held);
        }
    }

    /// Returns the connector whose result named a resource last, and which server it was.
    pub(super) fn named_by(&self, uri: &str, now: BootMs) -> Option<(ConnectorId, Digest)> {
        let table = self.lock();
        let link = table.by_uri.get(uri)?;
        let is_over = self.lifetime.is_some_and(|lifetime| now.since(link.at) >= lifetime);
        (!is_over).then(|| (link.connector.clone(), link.server))
    }

    fn lock(&self) -> MutexGuard<'_, LinkTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkTable {
    fn insert(&mut self, uri: &str, (connector, server): (&ConnectorId, Digest), now: BootMs, held: Held) {
        self.remove(uri);
        let bytes = held.bytes();
        while self.by_uri.len() >= limits::LINKS_MAX || self.bytes + bytes > limits::LINKS_BYTES_MAX {
            self.remove_oldest();
        }
        let (uri, number) = (Arc::<str>::from(uri), self.named);
        self.named += 1;
        self.bytes += bytes;
        self.order.insert(number, uri.clone());
        self.by_uri.insert(uri, NamedResource { connector: connector.clone(), server, number, at: now, held });
    }

    fn remove(&mut self, uri: &str) {
        if let Some(link) = self.by_uri.remove(uri) {
            self.order.remove(&link.number);
            self.bytes -= link.held.bytes();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some(uri) = self.order.first_key_value().map(|(_, uri)| uri.clone()) {
            self.remove(&uri);
        }
    }

    fn expire(&mut self, lifetime: Option<Duration>, now: BootMs) {
        let Some(lifetime) = lifetime else { return };
        let oldest = |table: &Self| {
            let uri = table.order.first_key_value()?.1.clone();
            let is_over = now.since(table.by_uri.get(&uri)?.at) >= lifetime;
            is_over.then_some(uri)
        };
        while let Some(uri) = oldest(self) {
            self.remove(&uri);
        }
    }
}

/// The links of the tokens that call in the modern era.
#[derive(Debug)]
pub(super) struct TokenLinks {
    held: LinkBytes,
    by_token: Mutex<HashMap<Arc<str>, LinksOfToken>>,
}

#[derive(Debug)]
struct LinksOfToken {
    /// Cancelled when the token is taken away or replaced: another one of its name knows nothing of its links.
    grant: CancellationToken,
    links: Arc<Links>,
    used: BootMs,
}

impl TokenLinks {
    pub(super) fn new(held: LinkBytes) -> Self {
        Self { held, by_token: Mutex::default() }
    }

    /// Returns the links of a token; none if nothing was named to it.
    pub(super) fn find(&self, visitor: &Visitor) -> Option<Arc<Links>> {
        let links = self.lock();
        links.get(visitor.token.as_ref()?).filter(|one| !one.grant.is_cancelled()).map(|one| one.links.clone())
    }

    /// Returns the links of a token, to note others; none without a token: the calls of one client cannot
    /// be told from those of another one then.
    pub(super) fn open(&self, visitor: &Visitor, now: BootMs) -> Option<Arc<Links>> {
        let token = visitor.token.clone().filter(|_| !visitor.grant.is_cancelled())?;
        let mut all = self.lock();
        all.retain(|_, one| !one.grant.is_cancelled());
        if all.len() >= limits::LINK_TOKENS_MAX && !all.contains_key(&token) {
            let oldest = all.iter().min_by_key(|(_, one)| one.used).map(|(token, _)| token.clone());
            oldest.and_then(|token| all.remove(&token));
        }
        let one = all.entry(token).or_insert_with(|| LinksOfToken {
            grant: visitor.grant.clone(),
            links: Links::of_token(self.held.clone()),
            used: now,
        });
        one.used = now;
        Some(one.links.clone())
    }

    /// Forgets what is over.
    pub(super) fn expire(&self, now: BootMs) {
        self.lock().retain(|_, one| !one.grant.is_cancelled() && now.since(one.used) < limits::LINK_LIFETIME);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, LinksOfToken>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a result may name resources: searches of its bytes, before anything is parsed. A letter of `"resource"` may be
/// written as an escape; lower-case letters are U+0061 to U+007A.
pub(super) fn may_name_resources(result: &RawValue) -> bool {
    let text = result.get();
    text.contains("\"resource")
        || (text.contains("\\u00") && ["\\u006", "\\u007"].iter().any(|escape| text.contains(escape)))
}

/// What is read of a result. Members that occur twice make it unreadable: the client may read the other one.
#[derive(Deserialize)]
struct NamingResult<'a> {
    /// Of `tools/call`.
    #[serde(borrow, default)]
    content: Vec<ContentBlock<'a>>,
    /// Of `prompts/get`.
    #[serde(borrow, default)]
    messages: Vec<PromptMessage<'a>>,
}

#[derive(Deserialize)]
struct PromptMessage<'a> {
    #[serde(borrow)]
    content: ContentBlocks<'a>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ContentBlocks<'a> {
    #[serde(borrow)]
    One(ContentBlock<'a>),
    #[serde(borrow)]
    Many(Vec<ContentBlock<'a>>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct ContentBlock<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// Of a `resource_link`.
    #[serde(borrow, default)]
    uri: Option<Cow<'a, str>>,
    /// Of a `resource`.
    #[serde(borrow, default)]
    resource: Option<EmbeddedResource<'a>>,
}

#[derive(Deserialize)]
struct EmbeddedResource<'a> {
    #[serde(borrow)]
    uri: Cow<'a, str>,
}

/// The URIs that a result names (2025-11-25, `server/tools`, Resource Links and Embedded Resources).
fn named_resources(result: &RawValue) -> Vec<Cow<'_, str>> {
    let Ok(NamingResult { content, messages }) = serde_json::from_str(result.get()) else { return Vec::new() };
    let in_messages = messages.into_iter().flat_map(|message| match message.content {
        ContentBlocks::One(content) => vec![content],
        ContentBlocks::Many(contents) => contents,
        ContentBlocks::Other(_) => Vec::new(),
    });
    let named = content.into_iter().chain(in_messages).filter_map(|content| match &*content.kind {
        "resource_link" => content.uri,
        "resource" => content.resource.map(|resource| resource.uri),
        _ => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests;
