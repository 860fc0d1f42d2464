//! The places of a call under way. While its client is asked something the call sets its places down: people take minutes to
//! answer, and other calls go on meanwhile. It takes them again if they are free, and goes on without if they are not: it is
//! under way either way, and nothing is won by stopping it.
//!
//! How many calls may be without their places is bounded; beyond that a call keeps them while it asks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use super::gate::{CallGate, Place, Rest};

/// The places of one call.
pub(super) struct Seat<'a> {
    gate: &'a CallGate,
    held: Mutex<Held>,
}

enum Held {
    Place(Place),
    /// In its stead: one of the bounded number that may be without.
    Leave(OwnedSemaphorePermit, Rest),
    /// Between the two.
    Nothing,
}

impl<'a> Seat<'a> {
    /// Of a call that was let in.
    pub(super) fn new(gate: &'a CallGate, place: Place) -> Self {
        Self { gate, held: Mutex::new(Held::Place(place)) }
    }

    /// The client is being asked something.
    pub(super) fn set_down(&self) {
        let mut held = self.lock();
        *held = match std::mem::replace(&mut *held, Held::Nothing) {
            Held::Place(place) => match self.gate.leave() {
                Some(leave) => Held::Leave(leave, place.set_down()),
                None => Held::Place(place),
            },
            other => other,
        };
    }

    /// The client has answered.
    pub(super) fn take_up(&self) {
        let mut held = self.lock();
        *held = match std::mem::replace(&mut *held, Held::Nothing) {
            Held::Leave(leave, rest) => match self.gate.return_to(rest) {
                Ok(place) => Held::Place(place),
                Err(rest) => Held::Leave(leave, rest),
            },
            other => other,
        };
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
