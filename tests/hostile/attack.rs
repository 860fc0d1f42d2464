//! A gateway under attack by its own policy: the same day of work each time, and what has to be so after it.

use std::collections::BTreeSet;
use std::sync::Arc;

use cortex_mcp::policy::{DecidedBy, DecisionRecord, Fault, Function, InstanceUse, PolicyComponent, correct, limits};
use tracing::Level;

use crate::support::hostile::TextPolicy;
use crate::support::log::Log;
use crate::support::{Rig, Served, seconds};

/// How many connectors the gateway has.
pub(crate) const CONNECTORS: usize = 3;

/// How often a tool of each is called in one round.
const CALLS: usize = 8;

/// A policy of text that could be loaded.
pub(crate) fn loaded(policy: &TextPolicy) -> Arc<PolicyComponent> {
    let component = PolicyComponent::load(&policy.bytes(), "text", InstanceUse::Fresh);
    Arc::new(component.unwrap_or_else(|error| panic!("{error}")))
}

/// A gateway that worked under a policy.
pub(crate) struct Attack {
    policy: Arc<PolicyComponent>,
    pub(crate) served: Served,
    pub(crate) records: Vec<DecisionRecord>,
    log: Log,
}

impl Attack {
    /// Lists and calls every tool in turn, a while later again, and everything is there and answered.
    pub(crate) async fn by(policy: Arc<PolicyComponent>) -> Self {
        let (log, _guard) = Log::of_this_thread(Level::WARN);
        let mut rig = Rig::new(CONNECTORS);
        rig.policy = Some(policy.clone());
        // Their runs end one after the other: decisions of one function in a row would suspend a policy that faults in it.
        for number in 1..=CONNECTORS {
            rig.server(number).set_latency_of("tools/list", std::time::Duration::from_millis(number as u64));
        }
        let served = rig.ready().await;
        for round in 1..=2 {
            let client = served.modern();
            assert_eq!(client.list().await.tool_names().len(), 3 * CONNECTORS);
            let mut answered = 0;
            for _ in 0..CALLS {
                for number in 1..=CONNECTORS {
                    let answer = client.call(&format!("s{number}__echo"), "{}").await;
                    answered += usize::from(answer.code().is_none());
                }
            }
            assert_eq!(answered, CALLS * CONNECTORS);
            for number in 1..=CONNECTORS {
                assert_eq!(rig.server(number).counts().calls, (round * CALLS) as u64);
            }
            // Lists and the map are due again.
            tokio::time::sleep(seconds(700)).await;
            assert_eq!(served.tools(), 3 * CONNECTORS);
        }
        Self { policy, served, records: rig.records.records(), log }
    }

    /// The decisions that the policy left to the default.
    pub(crate) fn faulted(&self) -> Vec<&DecisionRecord> {
        self.records.iter().filter(|record| record.faulted.is_some()).collect()
    }

    /// It faulted so, in every decision of that function and in no other one, and was not suspended for it.
    pub(crate) fn faults_only(&self, function: Function, fault: &Fault) {
        let of_function = self.records.iter().filter(|record| record.input.function() == function).count();
        let faulted = self.faulted();
        assert!(of_function >= 2 * CONNECTORS, "{of_function}");
        assert_eq!(faulted.len(), of_function);
        assert!(faulted.iter().all(|record| record.input.function() == function));
        let own = DecidedBy::Deployed(self.policy.digest());
        let others = self.records.iter().filter(|record| record.faulted.is_none());
        assert!(others.clone().all(|record| record.decided_by == own));
        // Of each connector it went on deciding all the rest.
        let subjects: BTreeSet<&str> = others.map(|record| record.subject.as_str()).collect();
        for number in 1..=CONNECTORS {
            assert!(subjects.iter().any(|subject| subject.contains(&format!("/s{number}"))), "{subjects:?}");
        }
        assert!(!self.served.gateway.status().policy.suspended);
        self.told(&[(function, faulted.len())], fault);
    }

    /// It faulted so in each of its first decisions, and then had no more.
    pub(crate) fn faults_until_suspended(&self, fault: &Fault) {
        let most = limits::FAULTS_IN_A_ROW_MAX as usize;
        let faulted = self.faulted();
        assert_eq!(faulted.len(), most);
        assert!(self.records[..most].iter().all(|record| record.faulted.is_some()));
        let suspended = DecidedBy::DefaultWhileSuspended(embedded().digest());
        assert!(self.records[most..].iter().all(|record| record.decided_by == suspended));
        assert!(self.records.len() > 10 * most);
        assert!(self.served.gateway.status().policy.suspended);
        assert_eq!(self.log.lines("policy suspended after faults in a row").len(), 1);
        let counts = Function::ALL
            .map(|function| (function, faulted.iter().filter(|record| record.input.function() == function).count()));
        self.told(&counts, fault);
    }

    /// Each fault was this one, its decision the default's, and it was counted, logged and shown.
    fn told(&self, counts: &[(Function, usize)], fault: &Fault) {
        let total: usize = counts.iter().map(|(_, count)| count).sum();
        for record in self.faulted() {
            self.is_the_defaults(record, fault);
        }
        for (function, count) in counts {
            let series = format!("mcp_policy_faults_total{{function=\"{}\"}}", function.name());
            let counted = self.served.metric(&series).unwrap_or(0.0);
            assert_eq!(counted, *count as f64, "{function:?}");
        }
        let digest = format!("digest={}", self.policy.digest());
        // A gateway of the same test that was dropped may log, too.
        let mut lines = self.log.lines("policy fault; the default decided");
        lines.retain(|line| line.contains(&digest));
        assert_eq!(lines.len(), total);
        for line in &lines {
            assert!(line.contains("WARN") && line.contains(&format!("fault={fault}")), "{line}");
            assert!(line.contains("function=") && line.contains("subject="), "{line}");
        }
        let status = self.served.gateway.status().policy;
        assert_eq!((status.faults, status.last_fault), (total as u64, Some(fault.to_string())));
        assert_eq!(status.digest, self.policy.digest());
    }

    fn is_the_defaults(&self, record: &DecisionRecord, fault: &Fault) {
        let default = embedded();
        let faulted = record.faulted.as_ref().unwrap();
        assert_eq!((&faulted.fault, faulted.digest, &record.default_fault), (fault, self.policy.digest(), &None));
        assert_eq!(record.decided_by, DecidedBy::DefaultAfterFault(default.digest()));
        assert_eq!(record.fuel_budget, limits::call_fuel(record.input.function(), record.input.items()));
        let mut alone = default.decide(&record.input, record.moment, record.seed).unwrap();
        correct(&record.input, &mut alone);
        assert_eq!(record.output, Some(alone));
        // From its record it faults again, and in the same way.
        let given = record.faulted_input().unwrap();
        let again = self.policy.remake(&given, record.moment, record.seed, record.fuel_budget);
        assert_eq!(again.unwrap_err(), *fault);
    }
}

fn embedded() -> &'static PolicyComponent {
    static EMBEDDED: std::sync::LazyLock<PolicyComponent> =
        std::sync::LazyLock::new(|| PolicyComponent::embedded().unwrap());
    &EMBEDDED
}
