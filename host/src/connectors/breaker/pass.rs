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
        let mut until = match self.ask_breaker() {
            Ok(passage) => return Ok(passage),
            Err(until) => until,
        };
        let Some(_waiting) = self.breaker.wait_permit() else { return Err(until) };
        let give_up = (Instant::now() + PROBE_WAIT.min(time.limit / 2)).min(time.last_start());
        let mut outcomes = self.breaker.outcomes();
        while self.waits_for_probe() && Instant::now() < give_up {
            // Woken by the outcome, or when the probe may be given up.
            let next = (Instant::now() + PROBE_ANSWER_WAIT).min(give_up);
            let _ = timeout_at(next, outcomes.changed()).await;
            match self.ask_breaker() {
                Ok(passage) => return Ok(passage),
                Err(later) => until = later,
            }
        }
        Err(until)
    }

    fn waits_for_probe(&self) -> bool {
        self.contact() == Contact::Up && self.breaker.is_probing()
    }

    /// Asks once. A call that is refused has the connector listed, which shows whether its server answers again.
    fn ask_breaker(&self) -> Result<Passage, BootMs> {
        self.breaker.ask().map_err(|refused| {
            if refused.looks {
                self.signals.send(Signal::Refused);
            }
            refused.until
        })
    }
}
