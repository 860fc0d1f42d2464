//! `why`: from a trace alone, the state something is in and the decisions that led there, in sentences.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;
mod support;

use std::path::{Path, PathBuf};

use axum::Router;
use cortex_mcp::edge::files::MemoryDirectory;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::trace::why::{Condition, Kind, Question, WhyError, WhyReport};
use http::StatusCode;
use processes::Installation;
use serde_json::Value;
use support::policies::{contrary, faulty};
use support::traces::dump;
use support::{MapAnswer, Rig, Served, seconds};
use tempfile::TempDir;

/// A rig that records its decisions.
fn recording(servers: usize) -> Rig {
    let mut rig = Rig::new(servers);
    rig.trace = Some(MemoryDirectory::new());
    rig
}

/// A trace that was copied from a rig.
struct Copied(TempDir);

impl Copied {
    fn of(rig: &Rig, served: &Served) -> Self {
        served.gateway.trace().unwrap().flush();
        Self(dump(rig.trace.as_ref().unwrap()))
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The segments in it.
    fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<PathBuf> = files
            .filter(|path| path.to_str().is_some_and(|path| path.trim_end_matches(".gz").ends_with(".jsonl")))
            .collect();
        segments.sort();
        segments
    }

    fn ask(&self, question: &Question) -> Result<WhyReport, WhyError> {
        question.answer(&[self.folder().to_owned()])
    }

    #[track_caller]
    fn why(&self, subject: &str) -> WhyReport {
        self.ask(&Question::about(subject)).unwrap_or_else(|error| panic!("{subject}: {error}"))
    }
}

/// Every part stands in the summary, in this order.
#[track_caller]
fn tells(report: &WhyReport, parts: &[&str]) {
    let text = report.summary.join(" ");
    let mut rest = text.as_str();
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not (there) in: {text}"));
        rest = &rest[at + part.len()..];
    }
}

/// A row of the chain says this.
#[track_caller]
fn chains(report: &WhyReport, about: &str, part: &str) {
    let found = report.chain.iter().any(|row| row.about == about && row.sentence.contains(part));
    let rows: Vec<_> = report.chain.iter().map(|row| format!("{}: {}", row.about, row.sentence)).collect();
    assert!(found, "{about}: {part:?} is not in:\n{}", rows.join("\n"));
}

async fn call(served: &Served, tool: &str, times: usize) {
    for _ in 0..times {
        served.modern().call(tool, "{}").await;
    }
}

async fn force(served: &Served) {
    served.gateway.sync(SyncKind::Force, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_connector_is_told_with_its_times_and_calls_that_went_well_are_counted() {
    let rig = recording(2);
    let served = rig.ready().await;
    call(&served, "s1__echo", 41).await;
    let copied = Copied::of(&rig, &served);
    let report = copied.why("s1");
    assert_eq!((report.kind, report.headline.as_str(), report.condition), (Kind::Connector, "fresh", Condition::Good));
    tells(
        &report,
        &[
            "s1 is fresh: its list was fetched or last confirmed at 2026-01-01T00:00:01Z (",
            "and is fresh until 2026-01-01T00:0",
            "The next attempt is due at 2026-01-01T00:0",
            "because that is its steady interval",
            "Calls pass: its breaker is closed.",
        ],
    );
    chains(
        &report,
        "refresh",
        "it started with no list to serve: the next run is now, because there is nothing to serve yet",
    );
    chains(&report, "advance", "a list arrived: it was stored, because there was none before");
    chains(&report, "breaker", "41 calls passed, all succeeded");
    let state = &report.state;
    assert_eq!((state.freshness.as_deref(), state.serve, state.tools), (Some("fresh"), Some(true), Some(3)));
    assert_eq!((state.described, state.breaker, state.failures), (Some("enabled"), Some("closed"), Some(0)));
    assert_eq!(report.policy.unwrap().family, "cortex-default");
    // Machines get them one by one.
    let all = copied.ask(&Question { limit: 1_000, ..Question::about("s1") }).unwrap();
    assert_eq!(all.decisions.iter().filter(|one| one.function.name() == "breaker").count(), 82);
    assert_eq!((all.total, all.decisions.len()), (u64::try_from(all.shown).unwrap(), all.shown));
    assert_eq!((report.total, report.shown), (all.total, 20));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_with_what_fails_what_is_served_and_when_it_is_tried_again() {
    let rig = recording(3);
    let served = rig.ready().await;
    rig.hang(3);
    rig.refuse(2);
    tokio::time::sleep(seconds(900)).await;
    call(&served, "s2__echo", 7).await;
    let copied = Copied::of(&rig, &served);

    let hung = copied.why("s3");
    assert_eq!((hung.headline.as_str(), hung.condition), ("stale", Condition::Doubtful));
    tells(
        &hung,
        &[
            "s3 is stale, because refreshing it fails: its list was fetched or last confirmed at 2026-01-01T00:0",
            " min ago), and is served all the same; it may be served until 2026-01-02T00:",
            "attempts failed, the last of them at 2026-01-01T00:1",
            "timeout (a deadline passed)",
            "The next attempt is due at 2026-01-01T00:1",
            "(in ",
            "because it backs off after failures, longer after each.",
        ],
    );
    chains(&hung, "refresh", "a run failed (timeout) after 5 s while the old list was served: the next run is at 00:1");
    assert_eq!((hung.state.last_class, hung.state.freshness.as_deref()), (Some("timeout"), Some("stale-error")));
    assert!(hung.state.failures > Some(3) && hung.state.next_run_at.as_ref() > Some(&hung.as_of), "{:?}", hung.state);

    let refused = copied.why("s2");
    assert_eq!((refused.headline.as_str(), refused.condition), ("stale, calls refused", Condition::Bad));
    tells(
        &refused,
        &[
            "refused (no connection, or one that broke)",
            "Calls are refused until 2026-01-01T00:15:0",
            "because its breaker opened at 2026-01-01T00:15:01Z (",
            "after 5 failures in a row.",
        ],
    );
    chains(&refused, "breaker", "the breaker is closed: it opens at 5 in a row, and this was 4");
    chains(&refused, "breaker", "2 times: a call asked to pass: it was refused, because the breaker is open");
    assert_eq!(refused.state.breaker, Some("open"));

    let tool = copied.why("s2__echo");
    assert_eq!((tool.kind, tool.connector.as_deref(), tool.condition), (Kind::Tool, Some("s2"), Condition::Bad));
    assert_eq!(tool.headline, "served, but s2 is stale, calls refused");
    tells(&tool, &["s2__echo is served: s2 lists it since 2026-01-01T00:00:01Z (15 min ago).", "Calls are refused"]);
    let path = copied.why("connector/s2/breaker");
    assert!(path.decisions.iter().all(|one| one.subject == "connector/s2/breaker"), "{path:?}");
    assert_eq!(path.total, 12);
}

#[tokio::test(start_paused = true)]
async fn an_opened_breaker_whose_time_is_over_lets_a_probe_pass_and_a_recovery_closes_it() {
    let rig = recording(2);
    let served = rig.ready().await;
    rig.refuse(2);
    call(&served, "s2__echo", 5).await;
    tokio::time::sleep(seconds(400)).await;
    // The list is fetched in between, which moves the trace's last moment.
    tells(&Copied::of(&rig, &served).why("s2"), &["The next call passes as a probe: its breaker opened at"]);
    rig.revive(2);
    call(&served, "s2__echo", 1).await;
    let report = Copied::of(&rig, &served).why("connector/s2/breaker");
    tells(&report, &["Calls pass: its breaker is closed."]);
    chains(&report, "breaker", "the probe was answered: calls pass, because the probe did well: the breaker closes");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_answered_while_calls_are_refused_ends_the_open_time_and_that_is_explained() {
    let rig = recording(2);
    let served = rig.ready().await;
    rig.refuse(2);
    for _ in 0..100 {
        call(&served, "s2__echo", 1).await;
        tokio::time::sleep(seconds(1)).await;
    }
    rig.revive(2);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    let report = Copied::of(&rig, &served).why("s2");
    tells(&report, &["The next call passes as a probe: its breaker opened at", "ended its open time at"]);
    chains(
        &report,
        "breaker",
        "the server answered (a list, a session, a ping or an earlier call): the next call is the probe, because that ends \
         the breaker's open time",
    );
    call(&served, "s2__echo", 1).await;
    tells(&Copied::of(&rig, &served).why("connector/s2/breaker"), &["Calls pass: its breaker is closed."]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_explained_with_its_status_and_what_to_do_until_it_is_accepted() {
    for (status, headline, action) in [
        (StatusCode::UNAUTHORIZED, "unauthorized", "replace it"),
        (StatusCode::FORBIDDEN, "forbidden", "give it the scope"),
    ] {
        let rig = recording(2);
        let served = rig.ready().await;
        rig.network.set(&rig.servers[1].url, Host::Serve(Router::new().fallback(move || async move { status })));
        call(&served, "s2__echo", 1).await;
        tokio::time::sleep(seconds(1)).await;
        let code = status.as_u16();
        for subject in ["s2", "s2__echo"] {
            let report = Copied::of(&rig, &served).why(subject);
            assert!(report.headline.contains(headline) && report.condition == Condition::Bad, "{}", report.headline);
            let cause = format!("The server of s2 refuses the credential with {code} since 2026-01-01T00:0");
            tells(&report, &[cause.as_str(), action]);
            chains(&report, "credential", &format!("the server refused the credential with {code}"));
            assert_eq!(report.state.credential_refused_with, Some(code));
        }
        rig.revive(2);
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        call(&served, "s2__echo", 1).await;
        tokio::time::sleep(seconds(1)).await;
        let report = Copied::of(&rig, &served).why("s2");
        assert_eq!((report.headline.as_str(), report.state.credential_refused_with), ("fresh", None));
        chains(&report, "credential", "the credential is not refused any more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_not_served_is_told_since_when_or_that_it_never_was() {
    let rig = recording(2);
    rig.server(1).set_tools(5);
    let served = rig.ready().await;
    let before = Copied::of(&rig, &served).why("s1");
    assert_eq!(before.state.tools, Some(5));
    let text = String::from_utf8(served.gateway.snapshot().tools().to_vec()).unwrap();
    let last = text.split('"').rfind(|text| text.starts_with("s1__")).unwrap().to_owned();
    rig.server(1).set_tools(2);
    tokio::time::sleep(seconds(60)).await;
    force(&served).await;
    let copied = Copied::of(&rig, &served);
    let gone = copied.why(&last);
    assert_eq!((gone.headline.as_str(), gone.condition), ("not served", Condition::Bad));
    tells(&gone, &["is not served: s1 does not list it any more since 2026-01-01T00:01:01Z (", "though 2 others."]);
    chains(&gone, "tools", "the tool is not served any more");
    assert_eq!(gone.state.tool_last_served.as_deref().map(|at| &at[..19]), Some("2026-01-01T00:01:01"));
    let never = copied.why("s2__never");
    assert_eq!((never.state.tool_served, never.state.tool_last_served.as_ref()), (Some(false), None));
    tells(
        &never,
        &["s2__never is not served: s2 lists no such tool, and never did in this trace;", "s2__echo", "s2 is fresh"],
    );
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_was_disabled_or_taken_away_says_so_first() {
    let mut rig = recording(3);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(60)).await;
    rig.publish(|map| map.connectors[0].enabled = false);
    force(&served).await;
    rig.publish(|map| drop(map.connectors.remove(1)));
    force(&served).await;
    let copied = Copied::of(&rig, &served);
    let disabled = copied.why("s1");
    assert_eq!((disabled.headline.as_str(), disabled.state.described), ("disabled", Some("disabled")));
    assert!(disabled.summary[0].starts_with("s1 is disabled by the service map since 2026-01-01T00:01:01Z ("));
    chains(&disabled, "catalog", "it is described as disabled");
    let absent = copied.why("s2");
    assert_eq!((absent.headline.as_str(), absent.condition), ("not described", Condition::Bad));
    assert!(absent.summary[0].starts_with("s2 is described by neither the service map nor the registry since 2026-"));
    let tool = copied.why("s1__echo");
    assert_eq!(tool.headline, "not served: s1 is disabled");
}

#[tokio::test(start_paused = true)]
async fn the_service_map_is_told_fresh_refused_unreachable_frozen_and_too_old() {
    let mut rig = recording(1);
    rig.publish(|_| {});
    let served = rig.ready().await;
    let fresh = Copied::of(&rig, &served).why("map");
    assert_eq!((fresh.kind, fresh.headline.as_str(), fresh.condition), (Kind::ServiceMap, "fresh", Condition::Good));
    tells(
        &fresh,
        &[
            "The service map is fresh: it (generated at 2026-01-01T00:00:01Z, signed until 2026-01-01T01:00:01Z (in 59 min))",
        ],
    );
    assert_eq!(fresh.state.generated_at.as_deref(), Some("2026-01-01T00:00:01Z"));

    let mut older = rig.document.clone();
    older.generated_at = support::rig::START;
    rig.map.answer(MapAnswer::Document(older.signed()));
    force(&served).await;
    let refused = Copied::of(&rig, &served).why("service-map");
    assert_eq!((refused.headline.as_str(), refused.condition), ("fresh", Condition::Doubtful));
    assert_eq!(refused.state.rejected.as_deref(), Some("rollback"));
    tells(&refused, &["was refused, because it is older than one that was accepted before; the one before stays."]);
    chains(&refused, "advance", "a map of 2026-01-01T00:00:00Z arrived");

    rig.map_host(Host::Refuse);
    tokio::time::sleep(seconds(2 * 3_600)).await;
    let unreachable = Copied::of(&rig, &served).why("map");
    assert_eq!((unreachable.headline.as_str(), unreachable.state.last_class), ("stale", Some("refused")));
    tells(
        &unreachable,
        &["because refreshing it fails", "and is served all the same; it may be served until 2026-01-02T01:00:0"],
    );
    chains(
        &unreachable,
        "refresh",
        "because it failed again while something is served: in the later half of the interval",
    );

    rig.revive_map();
    rig.map.serve(&rig.document);
    force(&served).await;
    let frozen = Copied::of(&rig, &served).why("map");
    assert_eq!((frozen.headline.as_str(), frozen.condition), ("frozen", Condition::Doubtful));
    tells(&frozen, &["The service map is frozen, because its origin confirms only what is past its signed expiry"]);

    tokio::time::sleep(seconds(86_400)).await;
    let copied = Copied::of(&rig, &served);
    assert_eq!(copied.why("map").headline, "too old to be served");
    tells(&copied.why("s1"), &["The service map may not be served, because it is past the greatest staleness"]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_entry_is_told_with_who_changed_it_and_how() {
    let rig = recording(1);
    let entry =
        |port: u16| format!(r#"{{"name":"Wiki.Data","transport":"http","endpoint":"http://127.0.0.1:{port}/mcp"}}"#);
    rig.write_registry(&format!(r#"{{"servers":[{}]}}"#, entry(1)));
    let served = rig.ready().await;
    tokio::time::sleep(seconds(30)).await;
    rig.write_registry(&format!(r#"{{"servers":[{}]}}"#, entry(2)));
    tokio::time::sleep(seconds(30)).await;
    let changed = Copied::of(&rig, &served).why("Wiki.Data");
    assert_eq!((changed.kind, changed.headline.as_str()), (Kind::RegistryEntry, "in force"));
    tells(
        &changed,
        &["The registry entry Wiki.Data is in force: its last change is that of gateway-", "2026-01-01T00:00:3"],
    );
    chains(&changed, "adopt", "servers.json was read, and its entry was added");
    chains(&changed, "adopt", "servers.json was read, and its entry was changed");
    rig.write_registry(r#"{"servers":[]}"#);
    tokio::time::sleep(seconds(30)).await;
    let copied = Copied::of(&rig, &served);
    let removed = copied.why("registry/Wiki.Data");
    assert_eq!((removed.headline.as_str(), removed.state.removed), ("removed", Some(true)));
    tells(&copied.why("registry"), &["The registry has 0 entries in force, and 1 more that were removed"]);
}

#[tokio::test(start_paused = true)]
async fn faults_suspensions_and_swaps_of_the_policy_stand_in_the_chain() {
    let mut rig = recording(1);
    rig.policy = Some(faulty("panic", "refresh"));
    let served = rig.ready().await;
    let report = Copied::of(&rig, &served).why("s1");
    tells(&report, &["The deployed policy faulted in", "(it panicked); the embedded default decided."]);
    chains(&report, "refresh", "[the deployed policy faulted (it panicked), so the embedded default decided]");
    assert!(report.decisions.iter().any(|one| one.decided_by.by == "default-after-fault"), "{report:?}");

    served.gateway.policy().swap(contrary("lookup"));
    tokio::time::sleep(seconds(5)).await;
    let report = Copied::of(&rig, &served).why("map");
    chains(&report, "policy", "policy swapped: the policy ");
    assert_eq!(report.headline, "too old to be served");
    assert_eq!(report.policy.unwrap().family, "contrary");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_policy_is_told_and_so_is_what_the_shadow_would_have_decided_otherwise() {
    let mut rig = recording(1);
    rig.policy = Some(faulty("panic", "any"));
    rig.shadow = Some(contrary("refresh"));
    let served = rig.ready().await;
    tokio::time::sleep(seconds(400)).await;
    served.gateway.shut_down().await;
    let copied = Copied(dump(rig.trace.as_ref().unwrap()));
    let report = copied.why("s1");
    tells(
        &report,
        &["The deployed policy is suspended after faults in a row: the embedded default decides until a swap."],
    );
    chains(
        &report,
        "refresh",
        "[the deployed policy is suspended after faults in a row, so the embedded default decided]",
    );
    chains(&report, "refresh", "[the shadow policy ");
    assert!(report.policy.as_ref().is_some_and(|policy| policy.suspended), "{report:?}");

    let segment = copied.segments().pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend_from_slice(b"{\"dropped\":{\"count\":3,\"total\":3}}\n");
    std::fs::write(&segment, &bytes).unwrap();
    let lacking = copied.why("s1");
    chains(&lacking, "trace", "3 decisions are missing here");
    tells(&lacking, &["3 decisions are missing in this trace."]);
    assert_eq!(lacking.missing, 3);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_answered_with_close_ones() {
    let rig = recording(2);
    let served = rig.ready().await;
    call(&served, "s1__echo", 1).await;
    let copied = Copied::of(&rig, &served);
    for (subject, close) in [
        ("s9", "s1, s2"),
        ("echo", "s1__echo"),
        ("servicemap", "service-map"),
        ("connector/s1/braker", "connector/s1/breaker"),
    ] {
        let error = copied.ask(&Question::about(subject)).unwrap_err();
        assert!(matches!(error, WhyError::Unknown { .. }) && error.to_string().contains(close), "{subject}: {error}");
    }
    let error = copied.ask(&Question::about("something-else-altogether")).unwrap_err().to_string();
    assert!(error.contains("it knows the connectors s1, s2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_in_the_chain_and_the_state_is_that_of_the_run_that_ended_last() {
    let rig = recording(2);
    let served = rig.ready().await;
    served.gateway.shut_down().await;
    tokio::time::sleep(seconds(60)).await;
    rig.refuse(1);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(5)).await;
    let report = Copied::of(&rig, &served).why("s1");
    assert_eq!(report.chain.iter().filter(|row| row.about == "gateway").count(), 2);
    chains(&report, "refresh", "it was stopped: no run is armed");
    chains(&report, "refresh", "it started with a saved list, still fresh");
    assert_eq!((report.state.described, report.state.serve), (Some("enabled"), Some(true)));
}

#[tokio::test(start_paused = true)]
async fn only_decisions_since_then_are_told_and_a_torn_last_line_is_skipped() {
    let rig = recording(1);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(3_600)).await;
    let copied = Copied::of(&rig, &served);
    let whole = copied.why("s1");
    let span = copied.ask(&Question { since: Some("10m".parse().unwrap()), ..Question::about("s1") }).unwrap();
    let at = span.since.clone().unwrap().parse().unwrap();
    let exact = copied.ask(&Question { since: Some(at), ..Question::about("s1") }).unwrap();
    assert!(0 < span.total && span.total < whole.total, "{} of {}", span.total, whole.total);
    assert_eq!((&span.decisions, &span.summary), (&exact.decisions, &whole.summary));
    assert!(span.decisions.iter().all(|one| Some(&one.at) >= span.since.as_ref()), "{span:?}");

    let segment = copied.segments().pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend_from_slice(b"{\"decision\":{\"sequ");
    std::fs::write(&segment, &bytes).unwrap();
    let torn = copied.why("s1");
    assert_eq!((torn.torn, torn.summary), (1, whole.summary));
    assert!(matches!(copied.ask(&Question::about("nobody")), Err(WhyError::Unknown { .. })));
    std::fs::write(&segment, b"no trace\n").unwrap();
    assert!(matches!(copied.ask(&Question::about("s1")), Err(WhyError::Trace(_))));
}

#[tokio::test(start_paused = true)]
async fn no_option_and_no_credential_is_ever_told() {
    let mut rig = recording(2);
    rig.toml = "[policy]\noptions = { secret = \"canary\" }\n".to_owned();
    rig.set("CORTEX_CONNECTOR_S1_KEY", "canary");
    let entry = r#"{"name":"own","transport":"http","endpoint":"http://127.0.0.1:1/mcp","headers":{"X-Key":"canary"}}"#;
    rig.write_registry(&format!(r#"{{"servers":[{entry}]}}"#));
    let served = rig.ready().await;
    rig.refuse(2);
    tokio::time::sleep(seconds(700)).await;
    call(&served, "s2__echo", 6).await;
    let copied = Copied::of(&rig, &served);
    for subject in ["s1", "s2", "s1__echo", "map", "registry", "admission/plan", "admission/concurrency", "state"] {
        let report = copied.ask(&Question { limit: 100_000, ..Question::about(subject) }).unwrap();
        let text = format!("{} {:?}", serde_json::to_string(&report).unwrap(), report.chain);
        assert!(!text.contains("canary") && report.total > 0, "{subject}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_command_answers_from_a_trace_that_was_copied_elsewhere() {
    let rig = recording(2);
    let served = rig.ready().await;
    rig.refuse(2);
    tokio::time::sleep(seconds(900)).await;
    call(&served, "s2__echo", 7).await;
    let copied = Copied::of(&rig, &served);
    let installation = Installation::new();
    let segment =
        installation.file("elsewhere/incident.jsonl", std::fs::read(copied.segments().pop().unwrap()).unwrap());

    let told = installation.run(&["why", "s2__echo", "--trace", &segment]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{told:?}");
    assert!(told.stdout.starts_with("s2__echo: served, but s2 is stale, calls refused\n"), "{}", told.stdout);
    for part in
        ["  Calls are refused until", "the newest of ", "  2026-01-01\n", "breaker     2 times: a call asked to pass"]
    {
        assert!(told.stdout.contains(part), "{part:?} in {}", told.stdout);
    }
    assert!(!told.stdout.contains('\x1b'));
    let json = installation.run(&["why", "s2", "--trace", &segment, "--since", "5m", "--limit", "3", "--json"]).json();
    assert_eq!(
        (&json["subject"], &json["kind"], &json["state"]["breaker"]),
        (&"s2".into(), &"connector".into(), &"open".into())
    );
    assert_eq!((json["decisions"].as_array().map(Vec::len), &json["shown"]), (Some(3), &Value::from(3)));
    let all = installation.run(&["why", "s2", "--trace", &segment, "--all", "--json"]).json();
    assert_eq!(all["total"], all["shown"]);

    let unknown = installation.run(&["why", "s7", "--trace", &segment]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""), "{unknown:?}");
    assert_eq!(unknown.complaint(), "cortex-mcp: the trace knows no s7; did you mean s1, s2?");
    assert_eq!(installation.run(&["why", "s7", "--trace", &segment, "--json"]).json()["error"]["class"], "subject");
    assert_eq!(installation.run(&["why", "s1", "--trace", "missing.jsonl"]).code, Some(1));
    for wrong in [
        &["why"][..],
        &["why", "s1", "--since", "yesterday"],
        &["why", "s1", "--limit", "0"],
        &["why", "s1", "--all", "--limit", "3"],
    ] {
        assert_eq!(installation.run(wrong).code, Some(2), "{wrong:?}");
    }
    // Nobody answers at that address, and no trace is where one would be.
    let nowhere = installation.run(&["why", "s1", "--url", "http://127.0.0.1:9/mcp"]);
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    assert!(nowhere.complaint().contains("name a trace with --trace"), "{nowhere:?}");
    // Where the gateway of this machine writes, none has to be named.
    let usual = installation.folder().join("home/mcp/trace");
    std::fs::create_dir_all(&usual).unwrap();
    let named = copied.segments().pop().unwrap();
    std::fs::copy(&segment, usual.join(named.file_name().unwrap())).unwrap();
    assert_eq!(installation.run(&["why", "s2", "--json"]).json()["headline"], "stale, calls refused");
    let help = installation.run(&["why", "--help"]);
    assert!(
        help.stdout.contains("Examples:") && help.stdout.lines().all(|line| line.chars().count() <= 120),
        "{help:?}"
    );
}
