//! One decision of one component, outside or inside a gateway: the call, its bounds, and what the host makes applicable.
//!
//! A gateway's decision and its replay go through the same two functions here, so that they can not differ by anything
//! but their arguments. Nothing is recorded, counted or kept here.

use super::component::PolicyComponent;
use super::fault::Fault;
use super::limits;
use super::record::{Correction, Input, Output};
use crate::model::Moment;

/// A decision as a component made it, before [`correct`].
#[derive(Clone, Debug, PartialEq)]
pub struct Remade {
    /// The result.
    pub output: Output,
    /// The fuel it took.
    pub fuel: u64,
    /// Whether the instance had been used before: its fuel may then depend on that.
    pub reused_instance: bool,
}

impl PolicyComponent {
    /// Makes one decision from everything that a record holds of it: the arguments as they stand (the memo too), both
    /// clocks, the seed and the fuel budget. Nothing is recorded or counted.
    ///
    /// # Errors
    /// [`Fault`], the same each time.
    pub fn remake(&self, input: &Input, moment: Moment, seed: u64, fuel_budget: u64) -> Result<Remade, Fault> {
        let (mut instance, reused_instance) = self.instance()?;
        let called = instance.call(input, moment, seed, fuel_budget)?;
        if let Some(memo) = called.output.memo()
            && memo.len() > limits::MEMO_BYTES_MAX
        {
            return Err(Fault::MemoTooLarge(memo.len()));
        }
        self.give_back(instance);
        Ok(Remade { output: called.output, fuel: called.fuel, reused_instance })
    }
}

/// Makes a decision applicable, and says what that took.
pub fn correct(input: &Input, output: &mut Output) -> Vec<Correction> {
    let mut corrections = Vec::new();
    match (input, output) {
        (Input::Plan { candidates, .. }, Output::Plan(decision)) => {
            let mut planned = vec![false; candidates.len()];
            let before = decision.order.len();
            decision.order.retain(|position| {
                let place = usize::try_from(*position).ok().and_then(|position| planned.get_mut(position));
                place.is_some_and(|planned| !std::mem::replace(planned, true))
            });
            if decision.order.len() < before {
                corrections.push(Correction::PlanOrderDropped);
            }
            let left_out = (0u32..).zip(&planned).filter(|(_, planned)| !**planned).map(|(position, _)| position);
            let left_out: Vec<u32> = left_out.collect();
            if !left_out.is_empty() {
                decision.order.extend(left_out);
                corrections.push(Correction::PlanOrderCompleted);
            }
            if decision.slow_after_ms == 0 {
                decision.slow_after_ms = 1;
                corrections.push(Correction::PlanSlowAfterRaised);
            }
        }
        (Input::Concurrency { config, .. }, Output::Concurrency(decision)) => {
            if decision.limit == 0 {
                decision.limit = 1;
                corrections.push(Correction::LimitRaised);
            }
            let greatest = config.fixed.unwrap_or(config.maximum).max(1);
            if decision.limit > greatest {
                decision.limit = greatest;
                corrections.push(Correction::LimitLowered);
            }
        }
        _ => {}
    }
    corrections
}

#[cfg(test)]
mod tests {
    use super::super::contract::*;
    use super::*;

    fn limited(maximum: u32, fixed: Option<u32>, limit: u32) -> (u32, Vec<Correction>) {
        let config = ConcurrencyConfig { minimum: 1, maximum, fixed, options: Vec::new() };
        let state = ConcurrencyState::initial();
        let decision = ConcurrencyDecision { state: state.clone(), limit, reason: ConcurrencyReason::Increased };
        let input = Input::Concurrency { config, state, event: ConcurrencyEvent::Began };
        let mut output = Output::Concurrency(decision);
        let corrections = correct(&input, &mut output);
        let Output::Concurrency(decision) = output else { panic!("another function's output") };
        (decision.limit, corrections)
    }

    #[test]
    fn no_policy_raises_the_limit_above_what_is_configured() {
        assert_eq!(limited(16, None, u32::MAX), (16, vec![Correction::LimitLowered]));
        assert_eq!(limited(16, None, 16), (16, vec![]));
        assert_eq!(limited(0, None, 9), (1, vec![Correction::LimitLowered]));
        // A fixed number stands above the maximum, and below it.
        assert_eq!(limited(16, Some(32), 33), (32, vec![Correction::LimitLowered]));
        assert_eq!(limited(16, Some(4), 16), (4, vec![Correction::LimitLowered]));
        assert_eq!(limited(16, None, 0), (1, vec![Correction::LimitRaised]));
    }
}
