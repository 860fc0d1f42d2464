//! The open connections of a listener, bounded in number and in bytes that their clients do not read.
//!
//! A connection is *pending* until the head of its first request has passed authentication; from then on it is *admitted*,
//! and *idle* while it serves no request and no stream. The newcomer is always taken: too many pending connections cost the
//! longest waiting one of the peer address with the most of them, a full table costs the longest idle one, and too many
//! unread bytes cost, of the peer address with the most of them, the connection whose client has taken nothing for the
//! longest time. An admitted connection that serves a request is never closed to make room for another one.
//!
//! Nothing here does I/O: a connection that must close learns it from [`Connection::evicted`].

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits;
use crate::model::milliseconds;

/// How many connections, and how many unread bytes, a table holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableBounds {
    /// All connections.
    pub(super) connections: usize,
    /// Those that are pending.
    pub(super) pending: usize,
    /// Bytes of answers that are handed to connections and not yet taken by their clients.
    pub(super) unread_bytes: u64,
}

impl TableBounds {
    /// The bounds for a process that may have `descriptors` open at once.
    pub(super) fn for_descriptors(descriptors: Option<u64>) -> Self {
        let free = descriptors.map_or(usize::MAX, |descriptors| {
            let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
            // Where there are few, the gateway's own files and upstreams come first, and half is theirs.
            descriptors.saturating_sub(limits::DESCRIPTORS_RESERVED.min(descriptors / 2))
        });
        let connections = limits::CONNECTIONS_MAX.min(free).max(1);
        Self {
            connections,
            pending: limits::PENDING_CONNECTIONS_MAX.min(connections),
            unread_bytes: limits::UNREAD_ANSWER_BYTES_MAX,
        }
    }
}

/// Why a connection is closed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// Too many connections were pending.
    Pending,
    /// The table was full, and it was idle.
    Idle,
    /// Clients left too many bytes unread.
    Unread,
}

/// The table is full of connections that serve requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every connection serves a request")]
pub(super) struct Full;

/// The open connections of a listener.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    bounds: TableBounds,
    inner: Mutex<Inner>,
    /// Of all connections together.
    unread: AtomicU64,
    epoch: Instant,
}

/// Lock order: this is a leaf, nothing is locked under it.
#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// In the order of their arrival.
    pending: BTreeMap<u64, Arc<Connection>>,
    admitted: HashMap<u64, Arc<Connection>>,
}

/// A connection, as its requests see it.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    peer: IpAddr,
    table: Arc<ConnectionTable>,
    is_admitted: AtomicBool,
    /// Requests and streams that are being served. HTTP/1.1 serves one after the other.
    requests: AtomicU32,
    /// When the last request ended, or the last of its answer was taken, in milliseconds after the table's epoch.
    idle_since: AtomicU64,
    /// Bytes that were handed to the connection and not written to its socket.
    unread: AtomicU64,
    /// When its client last took bytes, in milliseconds after the table's epoch.
    taken_at: AtomicU64,
    eviction: OnceLock<Eviction>,
    closing: CancellationToken,
}

/// A place in the table; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct OpenConnection(Arc<Connection>);

impl ConnectionTable {
    /// An empty table.
    pub(super) fn new(bounds: TableBounds) -> Arc<Self> {
        Arc::new(Self { bounds, inner: Mutex::default(), unread: AtomicU64::new(0), epoch: Instant::now() })
    }

    /// Takes a connection in, and says which kind of connection had to make room for it.
    ///
    /// # Errors
    /// [`Full`] if every connection serves a request.
    pub(super) fn open(self: &Arc<Self>, peer: IpAddr) -> Result<(OpenConnection, Option<Eviction>), Full> {
        let peer = peer.to_canonical();
        let mut inner = self.lock();
        let mut eviction = None;
        if inner.pending.len() >= self.bounds.pending && inner.close_pending() {
            eviction = Some(Eviction::Pending);
        }
        if inner.pending.len() + inner.admitted.len() >= self.bounds.connections {
            eviction = Some(match inner.close_idle() {
                true => Eviction::Idle,
                false if inner.close_pending() => Eviction::Pending,
                false => return Err(Full),
            });
        }
        inner.next += 1;
        let (number, now) = (inner.next, self.now());
        let connection = Arc::new(Connection {
            number,
            peer,
            table: self.clone(),
            is_admitted: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            idle_since: AtomicU64::new(now),
            unread: AtomicU64::new(0),
            taken_at: AtomicU64::new(now),
            eviction: OnceLock::new(),
            closing: CancellationToken::new(),
        });
        inner.pending.insert(number, connection.clone());
        Ok((OpenConnection(connection), eviction))
    }

    /// How many connections are pending, and how many are admitted.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.pending.len(), inner.admitted.len())
    }

    /// Closes connections until no more than the bound is unread, but never `newest`, which was handed its bytes just now.
    fn close_unread(&self, newest: &Connection) -> usize {
        let inner = self.lock();
        let mut closed = 0;
        while self.unread.load(Ordering::Relaxed) > self.bounds.unread_bytes {
            let unread = |one: &Connection| one.unread.load(Ordering::Relaxed);
            let candidates = || {
                let open = inner.admitted.values().chain(inner.pending.values());
                open.filter(|one| one.number != newest.number && unread(one) > 0 && !one.closing.is_cancelled())
            };
            let mut by_peer: HashMap<IpAddr, u64> = HashMap::new();
            candidates().for_each(|one| *by_peer.entry(one.peer).or_default() += unread(one));
            let most = by_peer.values().copied().max();
            let of_most = candidates().filter(|one| by_peer.get(&one.peer).copied() == most);
            let Some(slowest) = of_most.min_by_key(|one| one.taken_at.load(Ordering::Relaxed)) else { break };
            slowest.evict(Eviction::Unread);
            slowest.forget_unread();
            closed += 1;
        }
        closed
    }

    fn now(&self) -> u64 {
        milliseconds(self.epoch.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Closes the longest waiting pending connection of the peer address with the most of them; false if there is none. What
    /// it is answered meanwhile needs no authentication, and does not keep it.
    fn close_pending(&mut self) -> bool {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for one in self.pending.values() {
            *counts.entry(one.peer).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let victim = self.pending.values().find(|one| counts.get(&one.peer) == Some(&most));
        let Some(number) = victim.map(|one| one.number) else { return false };
        self.pending.remove(&number).inspect(|one| one.evict(Eviction::Pending)).is_some()
    }

    /// Closes the longest idle admitted connection; false if there is none.
    fn close_idle(&mut self) -> bool {
        let idle = self.admitted.values().filter(|one| !one.serves());
        let victim = idle.min_by_key(|one| one.idle_since.load(Ordering::Relaxed)).map(|one| one.number);
        let Some(number) = victim else { return false };
        self.admitted.remove(&number).inspect(|one| one.evict(Eviction::Idle)).is_some()
    }
}

impl OpenConnection {
    /// The connection, for its requests.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let connection = &self.0;
        let mut inner = connection.table.lock();
        inner.pending.remove(&connection.number);
        inner.admitted.remove(&connection.number);
        drop(inner);
        connection.forget_unread();
    }
}

impl Connection {
    /// Returns when the connection must close to make room, and why.
    pub(super) async fn evicted(&self) -> Eviction {
        self.closing.cancelled().await;
        // It is set before the token is cancelled.
        self.eviction.get().copied().unwrap_or(Eviction::Unread)
    }

    fn evict(&self, eviction: Eviction) {
        self.eviction.get_or_init(|| eviction);
        self.closing.cancel();
    }

    /// The table that it is in.
    #[cfg(test)]
    pub(super) fn table(&self) -> &Arc<ConnectionTable> {
        &self.table
    }

    /// Whether no request of it has passed authentication.
    pub(super) fn is_pending(&self) -> bool {
        !self.is_admitted.load(Ordering::Relaxed)
    }

    /// Whether it serves a request or a stream, or its client has not taken all of an answer.
    pub(super) fn serves(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0 || self.unread.load(Ordering::Relaxed) > 0
    }

    /// The head of a request passed authentication.
    pub(super) fn admit(&self) {
        if self.is_admitted.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut inner = self.table.lock();
        // One that was closed to make room stays closed.
        if let Some(one) = inner.pending.remove(&self.number) {
            inner.admitted.insert(self.number, one);
        }
    }

    /// A request begins; it ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> RequestGuard {
        self.requests.fetch_add(1, Ordering::AcqRel);
        RequestGuard(self.clone())
    }

    /// Bytes of an answer were handed to the connection. Returns how many other connections were closed for that.
    pub(super) fn handed(&self, bytes: usize) -> usize {
        let bytes = bytes as u64;
        if self.unread.fetch_add(bytes, Ordering::Relaxed) == 0 {
            // Nothing waited before: its client is not late with anything.
            self.taken_at.store(self.table.now(), Ordering::Relaxed);
        }
        let unread = self.table.unread.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unread > self.table.bounds.unread_bytes { self.table.close_unread(self) } else { 0 }
    }

    /// Bytes were written to the socket. Heads count too, which nothing handed: until everything is written, at least one
    /// byte stays unread.
    pub(super) fn taken(&self, bytes: usize) {
        if self.unread.load(Ordering::Relaxed) > 0 {
            self.taken_at.store(self.table.now(), Ordering::Relaxed);
            self.give_back(|unread| unread.saturating_sub(bytes as u64).max(unread.min(1)));
        }
    }

    /// Everything that was handed is written to the socket.
    pub(super) fn flushed(&self) {
        if self.unread.load(Ordering::Relaxed) > 0 {
            self.idle_since.store(self.table.now(), Ordering::Relaxed);
            self.forget_unread();
        }
    }

    fn forget_unread(&self) {
        self.give_back(|_| 0);
    }

    fn give_back(&self, left: impl Fn(u64) -> u64) {
        let before = self.unread.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |unread| Some(left(unread)));
        let before = before.unwrap_or_else(|unread| unread);
        self.table.unread.fetch_sub(before - left(before), Ordering::Relaxed);
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Connection>);

impl RequestGuard {
    /// The connection that it came in by.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.table.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn table(connections: usize, pending: usize, unread_bytes: u64) -> Arc<ConnectionTable> {
        ConnectionTable::new(TableBounds { connections, pending, unread_bytes })
    }

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn open(table: &Arc<ConnectionTable>, last: u8) -> (OpenConnection, Option<Eviction>) {
        table.open(peer(last)).unwrap()
    }

    fn is_closed(connection: &OpenConnection) -> bool {
        connection.connection().closing.is_cancelled()
    }

    mod bounds {
        use super::*;

        #[test]
        fn follow_the_descriptors_and_keep_a_reserve() {
            for (descriptors, connections) in [
                (None, 4_096),
                (Some(65_536), 4_096),
                (Some(1_024), 1_024 - limits::DESCRIPTORS_RESERVED),
                (Some(64), 32),
                (Some(1), 1),
            ] {
                let bounds = TableBounds::for_descriptors(descriptors);
                assert_eq!(bounds.connections, connections, "{descriptors:?}");
                assert!(bounds.pending <= connections);
            }
        }
    }

    mod pending {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn the_longest_waiting_of_the_busiest_peer_makes_room() {
            let table = table(100, 4, 1 << 20);
            let (lone, _) = open(&table, 9);
            let first = open(&table, 1).0;
            let others: Vec<_> = (0..2).map(|_| open(&table, 1).0).collect();
            let (newcomer, evicted) = open(&table, 2);
            assert_eq!(evicted, Some(Eviction::Pending));
            assert!(is_closed(&first) && !is_closed(&lone) && !is_closed(&newcomer));
            assert!(others.iter().all(|one| !is_closed(one)));
            assert_eq!(table.counts(), (4, 0));
        }

        #[tokio::test(start_paused = true)]
        async fn one_that_is_answered_without_authentication_makes_room_too() {
            let table = table(100, 1, 1 << 20);
            let (answered, _) = open(&table, 1);
            let _request = answered.connection().begin();
            answered.connection().handed(1_000);
            let (newcomer, evicted) = open(&table, 1);
            assert_eq!((evicted, table.counts()), (Some(Eviction::Pending), (1, 0)));
            assert!(is_closed(&answered) && !is_closed(&newcomer));
        }

        #[tokio::test(start_paused = true)]
        async fn two_thousand_newcomers_leave_the_admitted_alone() {
            let table = table(100, 8, 1 << 20);
            let admitted = (0..50).map(|_| open(&table, 1).0).inspect(|one| one.connection().admit());
            let admitted: Vec<_> = admitted.collect();
            let flood: Vec<_> = (0..2_000).map(|_| open(&table, 2).0).collect();
            assert!(admitted.iter().all(|one| !is_closed(one)));
            assert_eq!(flood.iter().filter(|one| !is_closed(one)).count(), 8);
            assert_eq!(table.counts(), (8, 50));
        }
    }

    mod full {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn the_longest_idle_makes_room_and_a_serving_one_never() {
            let table = table(3, 3, 1 << 20);
            let (serving, idle, later) = (open(&table, 1).0, open(&table, 1).0, open(&table, 1).0);
            for one in [&serving, &idle, &later] {
                one.connection().admit();
            }
            let request = serving.connection().begin();
            for one in [&idle, &later] {
                tokio::time::advance(Duration::from_secs(1)).await;
                drop(one.connection().begin());
            }
            let (newcomer, evicted) = open(&table, 2);
            assert_eq!(evicted, Some(Eviction::Idle));
            assert!(is_closed(&idle) && !is_closed(&serving) && !is_closed(&later));
            newcomer.connection().admit();
            let requests = (later.connection().begin(), newcomer.connection().begin());
            assert_eq!(table.open(peer(1)).map(|_| ()), Err(Full));
            drop((request, requests));
        }

        #[tokio::test(start_paused = true)]
        async fn a_closed_connection_gives_its_place_back() {
            let table = table(1, 1, 1 << 20);
            let (one, _) = open(&table, 1);
            one.connection().admit();
            drop(one);
            assert_eq!(table.counts(), (0, 0));
            assert_eq!(open(&table, 1).1, None);
        }
    }

    mod unread {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn the_client_that_took_nothing_for_longest_is_closed() {
            let table = table(10, 10, 100);
            let (stalled, reading, newest) = (open(&table, 1).0, open(&table, 1).0, open(&table, 1).0);
            for one in [&stalled, &reading] {
                assert_eq!(one.connection().handed(50), 0);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            reading.connection().taken(1);
            assert_eq!(newest.connection().handed(50), 1);
            assert!(is_closed(&stalled) && !is_closed(&reading) && !is_closed(&newest));
            assert_eq!(table.unread.load(Ordering::Relaxed), 99);
        }

        #[tokio::test(start_paused = true)]
        async fn the_peer_with_the_most_makes_room_however_steadily_it_reads() {
            let table = table(10, 10, 100);
            let (honest, trickling, more, newest) =
                (open(&table, 1).0, open(&table, 2).0, open(&table, 2).0, open(&table, 3).0);
            honest.connection().handed(20);
            for one in [&trickling, &more] {
                one.connection().handed(40);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            trickling.connection().taken(1);
            more.connection().taken(1);
            assert_eq!(newest.connection().handed(30), 1);
            assert!(is_closed(&trickling) != is_closed(&more) && !is_closed(&honest));
        }

        #[tokio::test(start_paused = true)]
        async fn heads_and_ended_connections_leave_nothing_behind() {
            let table = table(10, 10, 100);
            let (one, two) = (open(&table, 1).0, open(&table, 1).0);
            one.connection().handed(30);
            one.connection().taken(200);
            assert!(one.connection().serves(), "the head was written, and the end of the body not yet");
            one.connection().flushed();
            assert!(!one.connection().serves());
            two.connection().handed(40);
            drop(two);
            assert_eq!(table.unread.load(Ordering::Relaxed), 0);
        }

        #[tokio::test(start_paused = true)]
        async fn a_single_large_answer_is_sent() {
            let table = table(10, 10, 100);
            let (one, _) = open(&table, 1);
            assert_eq!((one.connection().handed(1_000), is_closed(&one)), (0, false));
        }
    }
}
