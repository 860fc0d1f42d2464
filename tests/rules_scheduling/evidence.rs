//! What a server answers besides its probe lets the next call pass: the real host in virtual time, both eras.

use std::time::Duration;

use cortex_mcp::edge::clock::Clock;
use cortex_mcp::policy::contract::{
    BreakerEvent, BreakerPhase, BreakerReason, BreakerState, BreakerVerdict, RefreshEvent,
};
use cortex_mcp::policy::{DecisionRecord, Input, Output};
use http::StatusCode;
use serde_json::json;

use crate::support::{Rig, Served, seconds};

/// Every method that the gateway sends.
const ALL: [&str; 5] = ["initialize", "server/discover", "ping", "tools/list", "tools/call"];

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Well,
    /// Every request fails with a status.
    Fails,
    /// No connection.
    Down,
    /// No answer to anything.
    Hangs,
    /// No answer to calls alone.
    HangsOnCalls,
    /// No answer to anything but pings.
    PingsOnly,
    /// No answer to anything once a session is open, and every session of before is forgotten.
    OpensOnly,
    /// As slow as a list may be, or slower.
    Slow,
    /// Well, and every session of before is forgotten.
    Forgets,
}

const MODES: [Mode; 9] = [
    Mode::Well,
    Mode::Fails,
    Mode::Down,
    Mode::Hangs,
    Mode::HangsOnCalls,
    Mode::PingsOnly,
    Mode::OpensOnly,
    Mode::Slow,
    Mode::Forgets,
];

impl Mode {
    fn set(self, rig: &Rig, number: usize) {
        let server = rig.server(number);
        server.recover();
        server.be_silent_on(&[]);
        server.set_latency(Duration::ZERO);
        rig.revive(number);
        match self {
            Self::Well => {}
            Self::Fails => server.fail_with(StatusCode::BAD_GATEWAY),
            Self::Down => rig.refuse(number),
            Self::Hangs => server.be_silent_on(&ALL),
            Self::HangsOnCalls => server.be_silent_on(&["tools/call"]),
            Self::PingsOnly => server.be_silent_on(&["tools/list", "tools/call"]),
            Self::OpensOnly => {
                server.forget_sessions();
                server.be_silent_on(&["ping", "tools/list", "tools/call"]);
            }
            Self::Slow => server.set_latency(seconds(4)),
            Self::Forgets => server.forget_sessions(),
        }
    }
}

/// A legacy and a modern server and a legacy one that takes one call at a time, whose calls may take five seconds.
fn rig() -> Rig {
    let mut rig = Rig::new(3);
    rig.toml = "[connector.s3]\ncalls = 1".to_owned();
    rig.publish(|map| {
        for connector in &mut map.connectors {
            *connector = connector.clone().with(json!({ "timeouts": { "callMs": 5_000 } }));
        }
    });
    rig
}

/// Calls each second for so long.
async fn call_for(served: &Served, number: usize, lasts: u64) {
    let (client, name) = (served.modern(), format!("s{number}__echo"));
    let calls = (0..lasts).map(async |second| {
        tokio::time::sleep(seconds(second)).await;
        client.call(&name, "{}").await
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_of_a_server_that_was_away_lets_the_next_call_pass() {
    for number in [1, 2] {
        for mode in [Mode::Fails, Mode::Down, Mode::Hangs] {
            let rig = rig();
            let served = rig.ready().await;
            mode.set(&rig, number);
            call_for(&served, number, 100).await;
            let id = format!("s{number}");
            assert_ne!(served.connector(&id).unwrap().breaker, "closed", "{mode:?}");
            let lists = rig.server(number).counts().lists;
            Mode::Well.set(&rig, number);
            served.until("a list", seconds(61), |_| rig.server(number).counts().lists > lists).await;
            tokio::time::sleep(seconds(1)).await;
            let answer = served.modern().call(&format!("s{number}__echo"), "{}").await;
            assert_eq!(answer.code(), None, "{mode:?} {id}: {:?}", answer.json());
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(served.connector(&id).unwrap().breaker, "closed", "{mode:?} {id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_dead_for_ten_minutes_is_called_again_within_seconds_of_its_return() {
    for number in [1, 2] {
        for mode in [Mode::Fails, Mode::Down, Mode::Hangs] {
            let rig = rig();
            let served = rig.ready().await;
            mode.set(&rig, number);
            let before = rig.server(number).counts().requests;
            call_for(&served, number, 600).await;
            // A look each five seconds and the lists, each with the requests that open a session.
            let requests = rig.server(number).counts().requests - before;
            assert!(requests < 4 * 600 / 5, "{mode:?} s{number}: {requests} requests");
            Mode::Well.set(&rig, number);
            let (client, returned) = (served.modern(), rig.clock.boot());
            while client.call(&format!("s{number}__echo"), "{}").await.code().is_some() {
                tokio::time::sleep(seconds(1)).await;
            }
            let took = rig.clock.boot().since(returned);
            // One look that began before the server returned ends by its deadline; the next one finds it there.
            assert!(took <= seconds(7), "{mode:?} s{number}: {took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_all_but_calls_costs_one_call_its_deadline_for_each_open_time() {
    for number in [1, 2] {
        for mode in [Mode::HangsOnCalls, Mode::PingsOnly, Mode::OpensOnly] {
            let rig = rig();
            let served = rig.ready().await;
            mode.set(&rig, number);
            let before = rig.server(number).counts();
            call_for(&served, number, 600).await;
            let records = rig.records.records();
            let openings = decisions(&records, number).filter(|(_, _, reason, _)| opens(*reason)).count();
            let after = rig.server(number).counts();
            let (calls, lists) = (after.calls - before.calls, after.lists - before.lists);
            // Those that were under way when it opened, and one for each opening.
            let of = format!("{mode:?} s{number}: {openings} openings");
            assert!(openings > 5 && calls as usize <= 10 + openings, "{of}, {calls} calls");
            assert!(lists as usize <= 20 + 2 * openings, "{of}, {lists} lists");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_any_schedule_no_call_is_refused_for_longer_than_a_second_after_an_answer() {
    for seed in 0..seeds() {
        let rig = rig();
        let served = rig.ready().await;
        // One for all calls: its routes take longer to build than a call.
        let client = served.modern();
        let schedule = async {
            let mut dice = Dice(seed);
            for _ in 0..12 {
                for number in [1, 2, 3] {
                    MODES[dice.below(MODES.len())].set(&rig, number);
                }
                tokio::time::sleep(Duration::from_millis(1_000 + dice.below(25_000) as u64)).await;
            }
        };
        let calls = [1, 2, 3].map(async |number| {
            let mut dice = Dice(seed * 2 + number as u64);
            let name = format!("s{number}__echo");
            let mut waits = Duration::ZERO;
            let calls = (0..150).map(|_| {
                waits += Duration::from_millis(dice.below(2_000) as u64);
                (waits, &name)
            });
            let calls = calls.collect::<Vec<_>>().into_iter().map(async |(wait, name)| {
                tokio::time::sleep(wait).await;
                let answer = client.call(name, "{}").await;
                let is_refused = answer.json()["error"]["data"]["reason"] == "breaker-open";
                is_refused.then(|| rig.clock.boot().0)
            });
            let refused = futures_util::future::join_all(calls).await;
            (number, refused.into_iter().flatten().collect::<Vec<u64>>())
        });
        let (_, calls) = tokio::join!(schedule, futures_util::future::join_all(calls));
        let records = rig.records.records();
        for (number, refused) in calls {
            for at in refused {
                let wrong = refused_in_spite_of_an_answer(&records, number, at);
                assert_eq!(wrong, None, "seed {seed}, s{number}, at {at}");
            }
            assert_eq!(passed_too_often(&records, number), None, "seed {seed}, s{number}");
        }
    }
}

/// So many schedules play through the real host, half a second each, unless `CORTEX_EVIDENCE_SEEDS` says otherwise; ten
/// thousand play through the policy alone.
fn seeds() -> u64 {
    std::env::var("CORTEX_EVIDENCE_SEEDS").map_or(40, |seeds| seeds.parse().unwrap())
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

fn opens(reason: BreakerReason) -> bool {
    matches!(reason, BreakerReason::ConsecutiveFailures | BreakerReason::FailureRate | BreakerReason::ProbeFailed)
}

/// The decisions of a server's breaker: when, what happened, why, and what came of it.
fn decisions(
    records: &[DecisionRecord],
    number: usize,
) -> impl Iterator<Item = (u64, BreakerEvent, BreakerReason, (BreakerVerdict, &BreakerState))> {
    let subject = format!("connector/s{number}/breaker");
    records.iter().filter(move |record| record.subject == subject).filter_map(|record| {
        match (&record.input, &record.output) {
            (Input::Breaker { event, .. }, Some(Output::Breaker(decision))) => {
                Some((record.moment.boot.0, *event, decision.reason, (decision.verdict, &decision.state)))
            }
            _ => None,
        }
    })
}

/// What is wrong with a call that was refused then, if anything is.
fn refused_in_spite_of_an_answer(records: &[DecisionRecord], number: usize, at: u64) -> Option<String> {
    let refreshes = format!("connector/s{number}/refresh");
    let breaker = format!("connector/s{number}/breaker");
    let mut answered_since = None;
    for record in records.iter().filter(|record| record.moment.boot.0 <= at) {
        let answered = match &record.input {
            Input::Refresh { event: RefreshEvent::Succeeded(_), .. } if record.subject == refreshes => true,
            Input::Refresh { event: RefreshEvent::Failed(_), .. } if record.subject == refreshes => false,
            Input::Breaker { event: BreakerEvent::Succeeded(_), .. } if record.subject == breaker => true,
            Input::Breaker { event: BreakerEvent::Failed(_), .. } if record.subject == breaker => false,
            _ => continue,
        };
        answered_since = answered.then(|| answered_since.unwrap_or(record.moment.boot.0));
    }
    let since = answered_since.filter(|since| since + 1_000 < at)?;
    let (_, _, _, (_, state)) = decisions(records, number).take_while(|(decided, ..)| *decided <= at).last()?;
    let is_excused = match state.phase {
        // The last probe failed though something was answered: only the open time counts.
        BreakerPhase::Open(_) => state.memo.starts_with(b"doubted"),
        // The call that passed because of an answer is under way for longer than others wait for it.
        BreakerPhase::HalfOpen(_) => state.memo.ends_with(b"answered"),
        BreakerPhase::Closed => false,
    };
    (!is_excused).then(|| format!("everything was answered since {since}: {state:?}"))
}

/// What is wrong with the calls that passed between two openings, if anything is.
fn passed_too_often(records: &[DecisionRecord], number: usize) -> Option<String> {
    let (mut passed, mut given_up) = (0, 0);
    for (at, event, reason, (verdict, _)) in decisions(records, number) {
        if opens(reason) || reason == BreakerReason::ProbeSucceeded {
            (passed, given_up) = (0, 0);
        }
        given_up += u32::from(reason == BreakerReason::ProbeLost);
        passed += u32::from(event == BreakerEvent::Asked && matches!(verdict, BreakerVerdict::Probe(_)));
        if passed > 1 + given_up {
            return Some(format!("{passed} calls passed in one opening at {at}"));
        }
    }
    None
}
