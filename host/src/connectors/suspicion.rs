//! Sessions that a server may have forgotten: checked by a request that may be repeated, at a pace.
//!
//! Real servers answer a call in an unknown session with 500, 503, 401 or an error at 200, and others answer so although they know
//! the session. Whether such a call was carried out is not known, so it is not made again. The list of the shared session, or a
//! ping of a client's own session, shows which it is (python-sdk#1004, neotoma#1923).

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::handle::Handle;
use super::limits::SUSPICION_BACKOFF;
use super::own_slot::OwnSlot;
use crate::edge::entropy::Entropy;
use crate::mcp::protocol::PING;
use crate::mcp::{Nobody, Session, WireError};
use crate::model::BootMs;
use crate::model::raw::RawObject;

/// When the list of a suspected session is fetched.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// The session that was suspected last.
    session: Weak<Session>,
    /// How often it was checked and stayed, and when it was last.
    checks: u32,
    checked_at: BootMs,
    due: Option<BootMs>,
}

impl Suspicion {
    /// Returns when the check is due, if one is.
    pub(super) fn due(&self) -> Option<BootMs> {
        self.due
    }

    /// Arms a check of the session after `held`, in which the server wants no request. The first check of a session waits for
    /// nothing else; later ones wait ever longer after the one before.
    pub(super) fn raise(&mut self, session: &Arc<Session>, now: BootMs, held: Duration, entropy: &dyn Entropy) {
        if !std::ptr::eq(self.session.as_ptr(), Arc::as_ptr(session)) {
            *self = Self { session: Arc::downgrade(session), ..Self::default() };
        }
        if self.due.is_some() {
            return;
        }
        let paced = match self.checks {
            0 => now,
            checks => self.checked_at.plus(SUSPICION_BACKOFF.wait(checks, entropy)),
        };
        self.due = Some(paced.max(now.plus(held)));
    }

    /// Takes the check that is due. Returns whether the session is still the one in use.
    pub(super) fn take(&mut self, now: BootMs, current: Option<&Arc<Session>>) -> bool {
        self.due = None;
        self.checks = self.checks.saturating_add(1);
        self.checked_at = now;
        current.is_some_and(|current| std::ptr::eq(self.session.as_ptr(), Arc::as_ptr(current)))
    }
}

impl Handle {
    /// Pings the session of one client that its server may have forgotten, in the background and one at a time, and gives it up
    /// if that is refused. Ends by the connector's deadline to connect, or with the connector.
    pub(super) fn check_own_session(self: &Arc<Self>, own: Arc<OwnSlot>, session: Arc<Session>) {
        let Ok(permit) = own.checking.clone().try_acquire_owned() else { return };
        let (handle, ended) = (self.clone(), self.ended.clone());
        let check = async move {
            let clock = &handle.edge.clock;
            clock.sleep_until(clock.boot().plus(handle.held_for())).await;
            let limit = handle.deadlines.get().connect;
            let pinged = tokio::time::timeout(limit, session.request(PING, RawObject::new(), &Nobody)).await;
            if matches!(pinged, Ok(Ok(_) | Err(WireError::Rpc(_)))) {
                handle.note_answered();
            } else if let Ok(Err(error)) = pinged
                && session.is_over_after(&error)
            {
                own.slot.forget(&session, &error);
            }
            clock.sleep_until(clock.boot().plus(SUSPICION_BACKOFF.min)).await;
            drop(permit);
        };
        tokio::spawn(async move {
            tokio::select! { () = ended.cancelled() => {} () = check => {} }
        });
    }
}
