//! What applies to every message that is read from one server: its largest size, and where messages are counted that break a
//! rule of the protocol.
//!
//! Such a message is taken where only one reading makes sense, and dropped or made a failure otherwise. Either way the first
//! one of each kind is logged, and all are counted.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

use super::limits::{MAX_MESSAGE_BYTES, MAX_STREAM_BYTES};
use crate::model::ConnectorId;
use crate::telemetry::{ClosedFamily, Label, labels};

labels! {
    /// How a message of a server breaks a rule of the protocol.
    pub enum Irregularity as "reason" {
        /// An answer without `jsonrpc`; taken.
        NoVersion = "no-jsonrpc",
        /// A member that is `null` instead of absent; taken.
        NullMember = "null-member",
        /// An identifier that came back as a string instead of the number that was sent; taken.
        TextId = "text-id",
        /// A byte order mark before a message (RFC 8259, 8.1, lets readers ignore it); taken.
        ByteOrderMark = "byte-order-mark",
        /// A message over several lines, where each line is one message; taken.
        SeveralLines = "several-lines",
        /// An error whose message is no string; taken, with a message of the gateway's.
        NoErrorMessage = "no-error-message",
        /// A list that gives a cursor twice, another cursor for the same items or for none, or an empty cursor that it refuses; it ends
        /// there.
        RepeatedCursor = "repeated-cursor",
        /// An answer without an identifier: taken in the HTTP exchange of one request. On a stream that requests share, only errors
        /// about a request that could not be read are taken, while one request is in flight; the rest is dropped.
        NoId = "no-id",
        /// Text that is no message; the request that it answers fails, where that is known.
        Unreadable = "unreadable",
        /// A message above the largest size; the request that it answers fails, where that is known.
        Oversize = "oversize",
        /// Progress whose token belongs to no request under way; dropped.
        UnknownProgressToken = "unknown-progress-token",
    }
}

impl Irregularity {
    /// Returns the rule that is broken and what becomes of the message, for logs and `status`.
    pub fn description(self) -> &'static str {
        match self {
            Self::NoVersion => "answers have no \"jsonrpc\" member; they are taken",
            Self::NullMember => "members that must be absent are null; they count as absent",
            Self::TextId => "answers repeat identifiers as strings; they are taken",
            Self::ByteOrderMark => "messages begin with a byte order mark; it is ignored",
            Self::SeveralLines => "messages span several lines; they are put together",
            Self::NoErrorMessage => "errors have no message; the gateway adds one",
            Self::RepeatedCursor => "a list does not advance beyond a cursor; what came before it is served",
            Self::NoId => "answers have no identifier; outside of the HTTP exchange of one request they are dropped",
            Self::Unreadable => "texts are no messages; requests that they answer fail",
            Self::Oversize => "messages are larger than max-message-bytes; requests that they answer fail",
            Self::UnknownProgressToken => "progress names no request under way; it is dropped",
        }
    }
}

/// The irregular messages of one server: counted, and the first of each kind logged.
pub struct Irregularities {
    connector: Option<ConnectorId>,
    counts: ClosedFamily<Irregularity, Counter>,
    /// A bit for each kind that was logged.
    logged: AtomicU32,
    /// Permits one wait: the first message of a kind came.
    first: Notify,
}

impl Irregularities {
    fn new(connector: Option<ConnectorId>) -> Self {
        Self {
            connector,
            counts: ClosedFamily::complete(Counter::default),
            logged: AtomicU32::new(0),
            first: Notify::new(),
        }
    }

    /// The connector, where it has a name.
    pub(super) fn connector(&self) -> Option<&ConnectorId> {
        self.connector.as_ref()
    }

    /// Records one message.
    pub fn record(&self, irregularity: Irregularity) {
        self.counts.get(irregularity).inc();
        let bit = 1 << irregularity.index();
        if self.logged.load(Ordering::Relaxed) & bit != 0 || self.logged.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return;
        }
        self.first.notify_one();
        let connector = self.connector.as_ref().map(tracing::field::display);
        let (reason, description) = (irregularity.value(), irregularity.description());
        tracing::warn!(connector, reason, description, "the server breaks a rule of the protocol; logged once");
    }

    /// Waits until the first message of another kind came. One caller at a time; dropping the future loses nothing.
    pub(crate) async fn another_kind(&self) {
        self.first.notified().await;
    }

    /// Returns how many messages were irregular in this way.
    pub fn count(&self, irregularity: Irregularity) -> u64 {
        self.counts.get(irregularity).get()
    }

    /// Returns the kinds that occurred, in the order of [`Irregularity`].
    pub fn seen(&self) -> impl Iterator<Item = Irregularity> {
        Irregularity::ALL.iter().copied().filter(|irregularity| self.count(*irregularity) > 0)
    }

    /// The counters, for the metrics.
    pub(crate) fn counts(&self) -> &ClosedFamily<Irregularity, Counter> {
        &self.counts
    }
}

impl fmt::Debug for Irregularities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.seen()).finish()
    }
}

/// What applies to every message that is read from one server.
#[derive(Debug)]
pub struct Inbound {
    max_message_bytes: AtomicUsize,
    /// Where irregular messages are counted.
    pub irregularities: Irregularities,
}

impl Inbound {
    /// Returns the defaults for a connector, which is named in logs.
    pub fn new(connector: ConnectorId) -> Self {
        Self { irregularities: Irregularities::new(Some(connector)), ..Self::default() }
    }

    /// The largest message that is read, in bytes.
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes.load(Ordering::Relaxed)
    }

    /// The most that is read of one event stream that ends with an answer, in bytes, and of a stream that is listened to in
    /// one window: two of the largest messages.
    pub(super) fn max_stream_bytes(&self) -> usize {
        MAX_STREAM_BYTES.max(self.max_message_bytes().saturating_mul(2))
    }

    /// Sets the largest message that is read from now on, in bytes.
    pub fn set_max_message_bytes(&self, bytes: usize) {
        self.max_message_bytes.store(bytes, Ordering::Relaxed);
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self { max_message_bytes: AtomicUsize::new(MAX_MESSAGE_BYTES), irregularities: Irregularities::new(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_irregularity_is_counted_and_has_a_bit() {
        let inbound = Inbound::default();
        for irregularity in Irregularity::ALL {
            inbound.irregularities.record(*irregularity);
            inbound.irregularities.record(*irregularity);
            assert_eq!(inbound.irregularities.count(*irregularity), 2);
        }
        assert!(inbound.irregularities.seen().eq(Irregularity::ALL.iter().copied()));
        assert!(Irregularity::ALL.len() <= u32::BITS as usize);
    }

    #[test]
    fn streams_hold_at_least_two_messages() {
        let inbound = Inbound::default();
        assert_eq!(inbound.max_stream_bytes(), MAX_STREAM_BYTES);
        inbound.set_max_message_bytes(MAX_STREAM_BYTES);
        assert_eq!(inbound.max_stream_bytes(), 2 * MAX_STREAM_BYTES);
    }
}
