//! How often the policy is asked for a plan, of how many runs, and which run goes next.

use super::*;
use crate::edge::Edge;
use crate::edge::clock::VirtualClock;
use crate::edge::entropy::VirtualEntropy;
use crate::edge::virtual_network::VirtualNetwork;
use crate::model::WallMs;
use crate::policy::{Input, KeepRecords, PolicyComponent, PolicyMetrics};

struct Rig {
    admission: Admission,
    records: Arc<KeepRecords>,
    opened: CancellationToken,
}

impl Rig {
    /// An admission of at most `fixed` runs at once.
    fn new(fixed: u32) -> Self {
        let edge = Edge {
            clock: Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000))),
            entropy: Arc::new(VirtualEntropy::from_number(7)),
            http: Arc::new(VirtualNetwork::new()),
        };
        let component = Arc::new(PolicyComponent::embedded().unwrap());
        let records = Arc::new(KeepRecords::new(100_000));
        let policy = Policy::new(component.clone(), component, edge, records.clone(), PolicyMetrics::default());
        let (opened, stop) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let signals = (opened.clone(), stop);
        let admission = Admission::start(Arc::new(policy), 32, Some(fixed), Vec::new(), &tasks, signals);
        Self { admission, records, opened }
    }

    /// How many candidates each plan had.
    fn plans(&self) -> Vec<usize> {
        let of = |input: &Input| match input {
            Input::Plan { candidates, .. } => Some(candidates.len()),
            _ => None,
        };
        self.records.shared().iter().filter_map(|record| of(&record.input)).collect()
    }

    /// Runs that ask one after the other, and end as soon as they are admitted. Returns the order in which they were.
    async fn run(&self, candidates: Vec<Candidate>) -> Vec<String> {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut runs = Vec::new();
        for candidate in candidates {
            let (admission, order, id) = (self.admission.clone(), order.clone(), candidate.id.clone());
            runs.push(tokio::spawn(async move {
                let ticket = admission.enter(candidate).await.unwrap();
                order.lock().unwrap().push(id);
                ticket.finish(Ok(())).await;
            }));
            tokio::task::yield_now().await;
        }
        self.opened.cancel();
        for run in runs {
            run.await.unwrap();
        }
        Arc::try_unwrap(order).unwrap().into_inner().unwrap()
    }
}

fn candidate(number: usize, wanted: bool) -> Candidate {
    let id = format!("s-{number:04}");
    Candidate { id, failures: 0, last_class: None, last_duration_ms: None, serving: false, wanted }
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_is_planned_once_for_each_run_and_a_window_at_a_time() {
    let rig = Rig::new(4);
    let order = rig.run((0..1_000).map(|number| candidate(number, false)).collect()).await;
    assert_eq!(order.len(), 1_000);
    let plans = rig.plans();
    assert!(plans.iter().all(|candidates| *candidates <= limits::PLAN_WINDOW), "{plans:?}");
    // Less than a window is left at the end, which late arrivals may join: one more plan or two.
    assert!(plans.len() <= 1_000 / limits::PLAN_WINDOW + 3, "{} plans: {plans:?}", plans.len());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_planned_again_while_no_other_run_has_come() {
    let rig = Rig::new(1);
    rig.run((0..20).map(|number| candidate(number, false)).collect()).await;
    assert_eq!(rig.plans(), [20]);
}

#[tokio::test(start_paused = true)]
async fn runs_that_a_client_waits_for_come_into_the_window_before_the_others() {
    let rig = Rig::new(1);
    let all = 3 * limits::PLAN_WINDOW;
    let order = rig.run((0..all).map(|number| candidate(number, number == all - 1)).collect()).await;
    let place = order.iter().position(|id| *id == candidate(all - 1, true).id).unwrap();
    assert!(place < limits::PLAN_WINDOW, "{place}");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_connector_that_did_not_fail_takes_the_place_of_one_that_did() {
    let rig = Rig::new(1);
    rig.opened.cancel();
    let (order, step) = (Arc::new(std::sync::Mutex::new(Vec::new())), Arc::new(tokio::sync::Semaphore::new(0)));
    let enter = |candidate: Candidate| {
        let (admission, order, step) = (rig.admission.clone(), order.clone(), step.clone());
        tokio::spawn(async move {
            let id = candidate.id.clone();
            let ticket = admission.enter(candidate).await.unwrap();
            order.lock().unwrap().push(id);
            step.acquire().await.unwrap().forget();
            ticket.finish(Err(FailureClass::Timeout)).await;
        })
    };
    // More than a window of runs that clients wait for, of servers that hang.
    let mut runs: Vec<_> = (0..200).map(|number| enter(Candidate { failures: 3, ..candidate(number, true) })).collect();
    let pause = || tokio::time::sleep(Duration::from_secs(1));
    for _ in 0..2 {
        pause().await;
        step.add_permits(1);
    }
    pause().await;
    assert_eq!(order.lock().unwrap().len(), 3, "the window is not empty");
    runs.push(enter(candidate(200, false)));
    pause().await;
    step.add_permits(1);
    pause().await;
    assert_eq!(order.lock().unwrap()[3], candidate(200, false).id);
    step.add_permits(1_000);
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(order.lock().unwrap().len(), 201, "and none is forgotten");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_admitted_before_it_is_opened() {
    let rig = Rig::new(4);
    let entering = rig.admission.enter(candidate(0, true));
    assert!(tokio::time::timeout(Duration::from_secs(60), entering).await.is_err());
    assert_eq!((rig.plans().len(), rig.run(vec![candidate(1, false)]).await.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn runs_that_were_given_up_are_not_planned() {
    let rig = Rig::new(4);
    for number in 0..500 {
        let entering = rig.admission.enter(candidate(number, false));
        assert!(tokio::time::timeout(Duration::from_millis(1), entering).await.is_err());
    }
    assert_eq!(rig.run(vec![candidate(500, false)]).await, [candidate(500, false).id]);
    assert_eq!(rig.plans(), [1]);
}
