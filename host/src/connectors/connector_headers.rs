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
use crate::mcp::{Challenge, CredentialRefusal, UpstreamHeaders};
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
    source: Mutex<HeadersOf>,
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
        let source = Mutex::new(HeadersOf { connector, credentials, fingerprint });
        let (headers, report) = (ArcSwap::from_pointee(headers), watch::Sender::default());
        let (is_stale, waits_for_call) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { clock, metrics, source, headers, is_stale, waits_for_call, report })
    }

    /// Returns what distinguishes the credential from others without exposing it; empty for none.
    pub(super) fn fingerprint(&self) -> String {
        self.lock().fingerprint.clone()
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
        let is_changed = {
            let mut source = self.lock();
            let is_changed = source.connector.headers != connector.headers;
            source.connector = connector;
            is_changed
        };
        if is_changed {
            self.replaced();
        }
    }

    /// Takes the credentials of a reload; that of this connector goes with the next request.
    pub(super) fn set_credentials(&self, credentials: &Credentials) {
        let is_changed = {
            let mut source = self.lock();
            source.credentials = credentials.clone();
            let made = source.credentials.headers(&source.connector);
            made.is_ok_and(|made| made.fingerprint != source.fingerprint)
        };
        if is_changed {
            self.replaced();
        }
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

    fn replaced(&self) {
        self.is_stale.store(true, Ordering::Release);
        self.count_replacement();
    }

    fn count_replacement(&self) {
        self.waits_for_call.store(false, Ordering::Relaxed);
        self.report.send_modify(|report| report.replacements += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HeadersOf> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<(), ReferenceFault> {
        let was_stale = self.is_stale.swap(false, Ordering::AcqRel);
        let source = self.lock().clone();
        if !was_stale && !source.may_change() {
            return Ok(());
        }
        // Off the async workers: a disk may hang.
        let reading = tokio::task::spawn_blocking(move || source.read());
        let (source, headers) = match reading.await.unwrap_or(Err(ReferenceFault::Interrupted)) {
            Ok(read) => read,
            Err(fault) => {
                self.is_stale.fetch_or(was_stale, Ordering::AcqRel);
                return Err(fault);
            }
        };
        {
            let mut current = self.lock();
            // What was replaced meanwhile is read again with the next request.
            if Arc::ptr_eq(&current.connector, &source.connector) {
                *current = source;
            }
        }
        let before = self.headers.swap(Arc::new(headers));
        let is_first = before.values().any(|value| has_reference(value.to_str().unwrap_or_default()));
        if *before != **self.headers.load() && !was_stale && !is_first {
            self.count_replacement();
        }
        Ok(())
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
        let source = self.lock().clone();
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
