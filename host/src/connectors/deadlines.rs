//! How long a connector may take for each step, as it is in force now. A reload changes that without another session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::limits;
use crate::model::Timeouts;

/// The deadlines of one connector. Cheap to clone; every clone is of the same ones.
#[derive(Clone, Debug)]
pub(super) struct Deadlines(Arc<Mutex<InForce>>);

/// Deadlines, each a time from the beginning of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    /// To open a session. Of a process that is past its start deadline: until an attempt is reported as failed.
    pub(super) connect: Duration,
    /// To list.
    pub(super) list: Duration,
    /// For a call.
    pub(super) call: Duration,
    /// Of a process: from its start to its first answer.
    pub(super) start: Duration,
}

impl InForce {
    /// What `timeouts` say, and the gateway's own where they do not.
    pub(super) fn of(timeouts: Timeouts, call: Duration) -> Self {
        Self {
            connect: timeouts.connect.unwrap_or(limits::CONNECT_TIMEOUT),
            list: timeouts.list.unwrap_or(limits::LIST_TIMEOUT),
            call: timeouts.call.unwrap_or(call),
            start: timeouts.start.unwrap_or(limits::START_TIMEOUT),
        }
    }
}

impl Deadlines {
    pub(super) fn new(in_force: InForce) -> Self {
        Self(Arc::new(Mutex::new(in_force)))
    }

    /// What is in force.
    pub(super) fn get(&self) -> InForce {
        *self.lock()
    }

    /// Others are in force, for steps that begin from now on.
    pub(super) fn set(&self, in_force: InForce) {
        *self.lock() = in_force;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InForce> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
