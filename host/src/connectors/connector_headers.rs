//! The headers of one connector's requests: those of its description and its credential, read again when either may have changed.
//! And whether its server takes the credential.
//!
//! A credential is replaced without another session: by a reload, by an edit of the entry, or by a change of the file that it
//! stands in, which is read again when a request is refused. The refused request is made again with what was read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use super::credentials::{CredentialError, CredentialHeaders, Credentials, USED_NEXT};
use super::metrics::ConnectorMetrics;
use crate::edge::clock::Clock;
use crate::edge::references::{ReferenceFault, resolve_value};
use crate::mcp::{Challenge, CredentialEvidence, CredentialRefusal, UpstreamHeaders};
use crate::model::reference::{has_reference, is_reference};
use crate::model::{AuthKind, Connector, Source};

/// A credential that the server refused last, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedCredential {
    /// How.
    pub state: CredentialState,
    /// The HTTP status of the answer.
    pub http_status: u16,
    /// Since when, without an answer to any request in between.
    pub since: String,
    /// What the server asks for. It chose every character.
    pub challenges: Vec<Challenge>,
    /// What to do; it names where the credential comes from, and no value.
    pub action: String,
}

/// How a server refuses a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialState {
    /// 401: the credential is missing, wrong or expired.
    Unauthorized,
    /// 403: the credential is known, and does not suffice.
    Forbidden,
}

/// What became of a connector's credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CredentialReport {
    /// None: it was not refused, or a request was answered since.
    pub(super) refused: Option<Arc<RefusedCredential>>,
    /// How often it was replaced.
    pub(super) replacements: u64,
}

/// The headers of one connector, shared by all of its sessions.
pub(super) struct ConnectorHeaders {
    clock: Arc<dyn Clock>,
    metrics: Arc<ConnectorMetrics>,
    source: Mutex<Versioned>,
    headers: ArcSwap<HeaderMap>,
    /// Whether what the headers are made of changed since they were made.
    is_stale: AtomicBool,
    /// Whether a call was refused, so that only an answered call shows that the credential is accepted: many servers let everybody
    /// list.
    waits_for_call: AtomicBool,
    report: watch::Sender<CredentialReport>,
}

/// What headers are made of.
#[derive(Clone, Debug)]
struct HeadersOf {
    connector: Arc<Connector>,
    credentials: Credentials,
    /// See [`CredentialHeaders::fingerprint`].
    fingerprint: String,
}

/// What headers are made of now, and which reads of it still count. Reads take time and overlap: one that began before a
/// replacement, or before another read that has ended, is not put in force.
#[derive(Debug)]
struct Versioned {
    of: HeadersOf,
    /// Counts reads and replacements, in the order in which they began.
    begun: u64,
    /// The number of the newest replacement.
    replaced: u64,
    /// The number of the read that is in force.
    read: u64,
}

/// What becomes of a read that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadUse {
    /// It is in force.
    InForce,
    /// A read that began later is in force.
    Outdated,
    /// What it read was replaced meanwhile, and is to be read again.
    Replaced,
}

impl ConnectorHeaders {
    /// Makes the headers, with references unresolved: they are resolved before the first session.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub(super) fn new(
        connector: Arc<Connector>,
        credentials: Credentials,
        clock: Arc<dyn Clock>,
        metrics: Arc<ConnectorMetrics>,
    ) -> Result<Self, CredentialError> {
        let CredentialHeaders { headers, fingerprint } = credentials.headers(&connector)?;
        let of = HeadersOf { connector, credentials, fingerprint };
        let source = Mutex::new(Versioned { of, begun: 0, replaced: 0, read: 0 });
        let (headers, report) = (ArcSwap::from_pointee(headers), watch::Sender::default());
        let (is_stale, waits_for_call) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { clock, metrics, source, headers, is_stale, waits_for_call, report })
    }

    /// Returns what differs between credentials and reveals none; empty for none.
    pub(super) fn fingerprint(&self) -> String {
        self.lock().of.fingerprint.clone()
    }

    /// What becomes of the credential.
    pub(super) fn reports(&self) -> watch::Receiver<CredentialReport> {
        self.report.subscribe()
    }

    /// The credential that the server refused last.
    pub(super) fn refused_credential(&self) -> Option<Arc<RefusedCredential>> {
        self.report.borrow().refused.clone()
    }

    /// Takes another description of the same server; its headers go with the next request.
    pub(super) fn set_connector(&self, connector: Arc<Connector>) {
        self.replace(|of| {
            let is_changed = of.connector.headers != connector.headers;
            of.connector = connector;
            is_changed
        });
    }

    /// Takes the credentials of a reload; that of this connector goes with the next request. One that was removed is sent no more.
    pub(super) fn set_credentials(&self, credentials: &Credentials) {
        self.replace(|of| {
            of.credentials = credentials.clone();
            match of.credentials.headers(&of.connector) {
                Ok(made) => made.fingerprint != of.fingerprint,
                Err(_) => {
                    self.headers.store(Arc::default());
                    true
                }
            }
        });
    }

    /// A call was refused for the credential.
    pub(super) fn call_refused(&self) {
        self.waits_for_call.store(true, Ordering::Relaxed);
    }

    /// A call was answered.
    pub(super) fn call_answered(&self) {
        self.waits_for_call.store(false, Ordering::Relaxed);
        self.accepted();
    }

    /// Replaces what headers are made of; `replacement` returns whether they are to be made again.
    fn replace(&self, replacement: impl FnOnce(&mut HeadersOf) -> bool) {
        let is_changed = {
            let mut source = self.lock();
            source.begun += 1;
            source.replaced = source.begun;
            let is_changed = replacement(&mut source.of);
            self.is_stale.fetch_or(is_changed, Ordering::AcqRel);
            is_changed
        };
        if is_changed {
            self.count_replacement();
        }
    }

    fn count_replacement(&self) {
        self.waits_for_call.store(false, Ordering::Relaxed);
        self.report.send_modify(|report| report.replacements += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Versioned> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<(), ReferenceFault> {
        while let Some((number, source)) = self.begin_read() {
            // Off the async workers: a disk may hang.
            let reading = tokio::task::spawn_blocking(move || source.read());
            let read = reading.await.unwrap_or(Err(ReferenceFault::Interrupted));
            if self.end_read(number, read)? != ReadUse::Replaced {
                break;
            }
        }
        Ok(())
    }

    /// Begins a read; none if there is nothing to read again.
    fn begin_read(&self) -> Option<(u64, HeadersOf)> {
        let mut source = self.lock();
        if !self.is_stale.load(Ordering::Acquire) && !source.of.may_change() {
            return None;
        }
        source.begun += 1;
        Some((source.begun, source.of.clone()))
    }

    /// Puts what was read in force, unless it is out of date by now.
    fn end_read(
        &self,
        number: u64,
        read: Result<(HeadersOf, HeaderMap), ReferenceFault>,
    ) -> Result<ReadUse, ReferenceFault> {
        let is_replacement = {
            let mut source = self.lock();
            if number < source.replaced {
                return Ok(ReadUse::Replaced);
            }
            if number < source.read {
                return Ok(ReadUse::Outdated);
            }
            let (of, headers) = read?;
            (source.of, source.read) = (of, number);
            let was_stale = self.is_stale.swap(false, Ordering::AcqRel);
            let before = self.headers.swap(Arc::new(headers));
            let is_first = before.values().any(|value| has_reference(value.to_str().unwrap_or_default()));
            *before != **self.headers.load() && !was_stale && !is_first
        };
        if is_replacement {
            self.count_replacement();
        }
        Ok(ReadUse::InForce)
    }
}

impl UpstreamHeaders for ConnectorHeaders {
    fn current(&self) -> Arc<HeaderMap> {
        self.headers.load_full()
    }

    fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Acquire)
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), ReferenceFault>> {
        Box::pin(self.read())
    }

    fn refused(&self, refusal: CredentialRefusal) {
        let state = match refusal.status {
            StatusCode::FORBIDDEN => CredentialState::Forbidden,
            _ => CredentialState::Unauthorized,
        };
        self.metrics.credential_refused(state);
        if refusal.evidence == CredentialEvidence::Inconclusive {
            return;
        }
        let source = self.lock().of.clone();
        self.report.send_if_modified(|report| {
            let is_known = report
                .refused
                .as_ref()
                .is_some_and(|known| known.state == state && known.challenges == refusal.challenges);
            if !is_known {
                let since =
                    report.refused.as_ref().filter(|known| known.state == state).map(|known| known.since.clone());
                report.refused = Some(Arc::new(RefusedCredential {
                    state,
                    http_status: refusal.status.as_u16(),
                    since: since.unwrap_or_else(|| self.clock.wall().to_string()),
                    action: source.action(state),
                    challenges: refusal.challenges,
                }));
            }
            !is_known
        });
    }

    fn accepted(&self) {
        // Almost always there is nothing to clear, and nothing is locked for writing.
        if !self.waits_for_call.load(Ordering::Relaxed) && self.report.borrow().refused.is_some() {
            self.report.send_if_modified(|report| report.refused.take().is_some());
        }
    }
}

impl HeadersOf {
    /// The signer of a map names no files or variables of this machine.
    fn resolves_references(&self) -> bool {
        self.connector.source == Source::Registry
    }

    fn may_change(&self) -> bool {
        let refers = self.resolves_references() && self.connector.headers.values().any(|value| has_reference(value));
        refers || (self.connector.auth.kind != AuthKind::None && self.credentials.may_change(&self.connector.id))
    }

    /// Reads files and variables.
    fn read(mut self) -> Result<(Self, HeaderMap), ReferenceFault> {
        self.credentials.reread(&self.connector.id);
        let made = self.credentials.headers(&self.connector);
        let made = made.map_err(|error| ReferenceFault::Credential(error.to_string()))?;
        let CredentialHeaders { mut headers, fingerprint } = made;
        self.fingerprint = fingerprint;
        if self.resolves_references() {
            for (name, value) in self.connector.headers.iter().filter(|(_, value)| has_reference(value)) {
                let resolved = HeaderValue::try_from(resolve_value(value)?);
                let mut resolved =
                    resolved.map_err(|_| ReferenceFault::Header { header: name.to_ascii_lowercase() })?;
                resolved.set_sensitive(true);
                if let Some(header) = headers.get_mut(name.as_str()) {
                    *header = resolved;
                }
            }
        }
        Ok((self, headers))
    }

    /// What to do about a credential that is refused.
    fn action(&self, state: CredentialState) -> String {
        let (id, document) = (
            &self.connector.id,
            match self.connector.source {
                Source::Registry => "the entry in servers.json",
                Source::ServiceMap => "the service map",
            },
        );
        let (from, then) = if self.connector.auth.kind == AuthKind::None {
            let references = |value: &str| self.resolves_references() && is_reference(value);
            let headers = self.connector.headers.iter().map(|(name, value)| match references(value) {
                true => format!("the header {name} ({value})"),
                false => format!("the header {name}"),
            });
            let headers = headers.collect::<Vec<_>>().join(", ");
            if headers.is_empty() {
                return format!("{document} names no credential for {id}; add the header that the server needs");
            }
            (format!("{headers} of {document}"), USED_NEXT.to_owned())
        } else {
            self.credentials.source_of(id)
        };
        match state {
            CredentialState::Unauthorized => format!("replace the credential in {from}; {then}"),
            CredentialState::Forbidden => {
                format!(
                    "the credential in {from} does not suffice; give it the scope that the server asks for, or replace it"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, FileSettings, Flags, Paths, Settings};
    use crate::connectors::metrics::ConnectorsMetrics;
    use crate::connectors::tests::described;
    use crate::edge::clock::VirtualClock;
    use crate::model::WallMs;

    fn credentials(key: &str) -> Credentials {
        let environment = Environment::from([("CORTEX_CONNECTOR_LIVE_KEY", key)]);
        let paths = Paths::below(std::path::Path::new("/virtual"));
        let file = FileSettings::parse("", std::path::Path::new("gateway.toml")).unwrap();
        Credentials::new(&Settings::from_parts(&Flags::default(), &environment, file, paths).unwrap())
    }

    fn headers(key: &str) -> ConnectorHeaders {
        let mut connector = described("1");
        connector.auth.kind = AuthKind::Bearer;
        let metrics = ConnectorsMetrics::default().connector(&connector.id);
        let clock = Arc::new(VirtualClock::starting_at(WallMs(0)));
        ConnectorHeaders::new(Arc::new(connector), credentials(key), clock, metrics).unwrap()
    }

    fn sent(headers: &ConnectorHeaders) -> Option<String> {
        Some(headers.current().get("authorization")?.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_read_that_began_before_a_replacement_is_not_put_in_force() {
        let headers = headers("first");
        headers.set_credentials(&credentials("second"));
        let (number, source) = headers.begin_read().unwrap();
        let read = source.read();
        headers.set_credentials(&credentials("third"));
        assert_eq!(headers.end_read(number, read), Ok(ReadUse::Replaced));
        assert!(headers.is_stale());
        headers.refresh().await.unwrap();
        assert_eq!(sent(&headers).as_deref(), Some("Bearer third"));
        assert!(!headers.is_stale());
        assert_eq!(headers.report.borrow().replacements, 2);
    }

    #[tokio::test]
    async fn a_slow_read_does_not_replace_what_a_later_one_has_read() {
        let headers = headers("first");
        headers.set_credentials(&credentials("second"));
        let (slow, old) = headers.begin_read().unwrap();
        let (fast, source) = headers.begin_read().unwrap();
        let (old, read) = (HeadersOf { credentials: credentials("first"), ..old }.read(), source.read());
        assert_eq!(headers.end_read(fast, read), Ok(ReadUse::InForce));
        assert_eq!(headers.end_read(slow, old), Ok(ReadUse::Outdated));
        assert_eq!(sent(&headers).as_deref(), Some("Bearer second"));
    }

    #[tokio::test]
    async fn a_removed_credential_is_not_sent_any_more() {
        let headers = headers("first");
        let source = headers.lock().of.clone();
        headers.set_credentials(&Credentials::new(&Settings::from_environment(&Environment::default()).unwrap()));
        assert_eq!((sent(&headers), headers.end_read(0, source.read())), (None, Ok(ReadUse::Replaced)));
        assert!(headers.refresh().await.is_err());
        assert_eq!(sent(&headers), None);
    }
}
