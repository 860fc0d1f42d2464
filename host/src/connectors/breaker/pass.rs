//! A call at the breaker: it passes, waits beside the probe, or is refused.

use tokio::time::{Instant, timeout_at};

use super::Passage;
use crate::connectors::gate::CallTime;
use crate::connectors::handle::{Handle, Signal};
use crate::connectors::limits::{PROBE_ANSWER_WAIT, PROBE_WAIT};
use crate::model::{BootMs, Contact};

impl Handle {
    /// Asks the breaker to let a call pass. While the probe is under way and the server is known to
    /// answer, the call waits for the probe's outcome, for a bounded time: else all but one of the calls that come together
    /// would be refused by a server that is well.
    ///
    /// # Errors
    /// The time before which no call passes.
    pub(in crate::connectors) async fn pass_breaker(&self, time: CallTime) -> Result<Passage, BootMs> {
        // Before the call asks, so that no outcome is missed.
        let mut outcomes = self.breaker.outcomes();
        let give_up = (Instant::now() + PROBE_WAIT.min(time.limit / 2)).min(time.last_start());
        let mut permit = None;
        loop {
            let refused = match self.breaker.ask() {
                Ok(passage) => return Ok(passage),
                Err(refused) => refused,
            };
            if refused.looks {
                // A list shows whether the server answers again.
                self.signals.send(Signal::Refused);
            }
            let waits = refused.is_beside_probe && self.contact() == Contact::Up && Instant::now() < give_up;
            permit = if waits { permit.or_else(|| self.breaker.wait_permit()) } else { None };
            if permit.is_none() {
                return Err(refused.until);
            }
            // Woken by an outcome, or when the probe may be given up.
            let next = (Instant::now() + PROBE_ANSWER_WAIT).min(give_up);
            let _ = timeout_at(next, outcomes.changed()).await;
        }
    }
}
