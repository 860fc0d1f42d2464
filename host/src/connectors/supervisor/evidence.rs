//! What requests beside the runs show: that a session may be forgotten, and what becomes of the credential.

use std::sync::Arc;

use tokio::sync::watch;

use super::Supervisor;
use crate::connectors::connector_headers::CredentialReport;
use crate::mcp::Session;
use crate::model::{BootMs, FailureClass};
use crate::policy::contract::{self, RefreshMode};

impl Supervisor {
    /// The credential was refused, is accepted again, or was replaced.
    pub(super) fn credential_reported(&mut self, report: &CredentialReport) {
        let before = std::mem::replace(&mut self.credential, report.clone());
        let is_accepted = before.refused.is_some() && report.refused.is_none();
        let waits_for_it = self.upkeep.failures().1 == Some(contract::FailureClass::Auth);
        if before.replacements != report.replacements || (is_accepted && waits_for_it) {
            self.upkeep.credentials_changed();
        }
        let state = |report: &CredentialReport| report.refused.as_ref().map(|refused| refused.state);
        if state(&before) == state(report) {
            return;
        }
        let refused_with = report.refused.as_ref().map(|refused| refused.http_status);
        self.with.publisher.credential(&self.handle.id, refused_with);
        let Some(line) = self.with.run.failures.admit(FailureClass::Auth) else { return };
        let (connector, left_out) = (&self.handle.id, line.left_out);
        match &report.refused {
            Some(refused) => tracing::warn!(
                %connector, status = refused.http_status, action = refused.action, left_out, "credential refused"
            ),
            None => tracing::info!(%connector, left_out, "credential accepted again"),
        }
    }

    /// A call was answered as if the server had forgotten the session. Without a session, the next request opens one anyway.
    pub(super) fn suspect_session(&mut self) {
        if let Some(session) = self.open_session() {
            let (now, held) = (self.with.run.clock.boot(), self.handle.held_for());
            self.suspicion.raise(&session, now, held, &*self.with.policy.edge().entropy);
        }
    }

    /// Has the list fetched that shows whether the server knows the session, unless a failure paces the next one already.
    pub(super) fn check_session(&mut self, now: BootMs) {
        let current = self.open_session();
        if !self.suspicion.take(now, current.as_ref()) {
            return;
        }
        match self.upkeep.config().refresh.mode {
            RefreshMode::Background => self.upkeep.may_have_changed(),
            // Changes arm nothing in this mode.
            RefreshMode::OnDemand => self.upkeep.forced(),
        }
    }

    /// Calls are refused: the list that was wanted shows whether the server answers again, or a ping where a failure paces the
    /// list. One at a time.
    pub(super) fn look_if_paced(&mut self) {
        let now = self.with.run.clock.boot();
        let is_listed_now = self.upkeep.due().is_some_and(|due| due <= now);
        let is_looking = self.looking.as_ref().is_some_and(|task| !task.is_finished());
        if !is_listed_now && !is_looking {
            self.looking = Some(tokio::spawn(self.handle.clone().look()));
        }
    }

    fn open_session(&self) -> Option<Arc<Session>> {
        self.handle.slot.as_ref().ok().and_then(|slot| slot.open_session())
    }
}

/// Waits for what becomes of the credential next; for ever if there is none. Cancelling it loses nothing.
pub(super) async fn next_report(reports: &mut Option<watch::Receiver<CredentialReport>>) -> CredentialReport {
    if let Some(reports) = reports
        && reports.changed().await.is_ok()
    {
        return reports.borrow_and_update().clone();
    }
    std::future::pending().await
}
