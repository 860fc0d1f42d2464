//! What `/metrics` says: both formats by their rules, which series exist and for how long, and that neither they nor the
//! log grow with what clients do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cortex_mcp::gateway::SyncKind;
use cortex_mcp::telemetry::{MetricsFormat, limits};
use support::log::Log;
use support::{Rig, Served, seconds};
use tracing::Level;

/// A family of an exposition, read by the rules of its format.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    /// By name and labels, as they stand there.
    samples: BTreeMap<String, f64>,
}

/// Reads an exposition, and refuses what breaks a rule: metadata once and before the samples, the samples of a family
/// together and named by its type, no series twice, buckets that add up.
fn read(text: &str, format: MetricsFormat) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut body = text;
    if format == MetricsFormat::OpenMetrics {
        body = text.strip_suffix("# EOF\n").expect("the end is marked");
    }
    assert!(!body.contains("# EOF") && body.ends_with('\n') && !body.contains("\n\n"));
    for line in body.lines() {
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
            match what {
                "HELP" => {
                    assert!(families.insert(name.to_owned(), Family::default()).is_none(), "twice: {line}");
                    assert!(rest.ends_with('.') && !rest.ends_with(".."), "{line}");
                    current = name.to_owned();
                }
                "TYPE" => {
                    assert_eq!(name, current, "{line}");
                    let family = families.get_mut(name).unwrap();
                    assert!(family.kind.is_empty(), "twice: {line}");
                    family.kind = rest.to_owned();
                    assert_eq!(
                        name.ends_with("_total"),
                        rest == "counter" && format == MetricsFormat::Prometheus,
                        "{line}"
                    );
                }
                "UNIT" => {
                    assert_eq!((name, format), (current.as_str(), MetricsFormat::OpenMetrics), "{line}");
                    assert!(name.ends_with(&format!("_{rest}")), "{line}");
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let family = families.get_mut(&current).unwrap();
        let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} among those of {current}"));
        let allowed: &[&str] = match (family.kind.as_str(), format) {
            ("counter", MetricsFormat::OpenMetrics) => &["_total"],
            ("counter", MetricsFormat::Prometheus) | ("gauge", _) => &[""],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            ("info", MetricsFormat::OpenMetrics) => &["_info"],
            _ => panic!("{line}: {family:?}"),
        };
        assert!(allowed.contains(&suffix), "{line}");
        assert!(family.samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    for (name, family) in &families {
        assert!(!family.samples.is_empty(), "{name} has no sample");
        if family.kind == "histogram" {
            adds_up(name, family);
        }
    }
    families
}

/// The greatest bucket of each series of a histogram holds as many as the series counts.
fn adds_up(name: &str, family: &Family) {
    let mut series = 0;
    for (sample, value) in &family.samples {
        let Some(labels) = sample.strip_prefix(&format!("{name}_count")) else { continue };
        series += 1;
        let own: Vec<&str> = labels.trim_matches(['{', '}']).split(',').filter(|label| !label.is_empty()).collect();
        let buckets: Vec<(f64, f64)> = family
            .samples
            .iter()
            .filter_map(|(sample, value)| {
                let labels = sample.strip_prefix(&format!("{name}_bucket{{"))?.trim_end_matches('}');
                let mut labels: Vec<&str> = labels.split(',').collect();
                let bound = labels.iter().position(|label| label.starts_with("le=\"")).unwrap();
                let bound = labels.remove(bound).trim_start_matches("le=\"").trim_end_matches('"').to_owned();
                (labels == own).then(|| (bound.parse().unwrap(), *value))
            })
            .collect();
        let mut buckets = buckets;
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.len() > 10 && buckets.is_sorted_by(|one, other| one.1 <= other.1), "{sample}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *value)), "{sample}");
    }
    assert!(series > 0, "{name}");
}

/// The names and labels of every sample.
fn series(served: &Served, prefix: &str) -> BTreeSet<String> {
    let families = read(&served.gateway.metrics(), MetricsFormat::Prometheus);
    families.into_values().flat_map(|family| family.samples.into_keys()).filter(|one| one.starts_with(prefix)).collect()
}

mod exposition {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_the_rules_of_the_format_that_is_asked_for() {
        let rig = Rig::new(3);
        rig.refuse(3);
        let served = rig.ready().await;
        let client = served.modern();
        client.call("s1__echo", r#"{"text":"x"}"#).await;
        client.call("s9__unknown", "{}").await;
        for (accept, format, kind) in [
            ("*/*", MetricsFormat::Prometheus, "text/plain; version=0.0.4; charset=utf-8"),
            (
                "application/openmetrics-text;version=1.0.0;q=0.7,text/plain;version=0.0.4;q=0.3",
                MetricsFormat::OpenMetrics,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
        ] {
            let answer = client.with_header("accept", accept).get("/metrics").await;
            assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, kind));
            let families = read(&answer.body, format);
            assert!(families.len() > 30, "{}", answer.body);
            let info = families.keys().filter(|name| name.starts_with("cortex_build")).count();
            assert_eq!(info, 1, "{}", answer.body);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn has_the_build_and_the_process() {
        let served = Rig::new(1).ready().await;
        let build = series(&served, "cortex_build_info{");
        let build = build.first().unwrap();
        for label in [concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), "contract=\"0.1.0\""] {
            assert!(build.contains(label), "{build}");
        }
        assert!(served.metric("process_cpu_seconds_total").unwrap() > 0.0);
        assert!(served.metric("process_open_fds").unwrap() >= 3.0);
        #[cfg(target_os = "linux")]
        for name in ["resident_memory_bytes", "virtual_memory_bytes", "max_fds", "start_time_seconds", "threads"] {
            assert!(served.metric(&format!("process_{name}")).unwrap() >= 1.0, "{name}");
        }
    }
}

mod series_of {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counters_exist_before_anything_happened() {
        let served = Rig::new(1).ready().await;
        for series in [
            r#"mcp_policy_faults_total{function="merge"}"#,
            r#"mcp_service_map_rejected_total{class="rollback"}"#,
            r#"mcp_service_map_unreachable_total{class="transport"}"#,
            r#"mcp_service_map_frozen_total{reason="confirmed-other"}"#,
            r#"mcp_requests_refused_total{reason="token"}"#,
            r#"mcp_refreshes_total{subject="connector",outcome="failed"}"#,
            r#"mcp_calls_refused_total{connector="s1",reason="busy"}"#,
            r#"mcp_tool_definition_changes_total{connector="s1",kind="tools"}"#,
            r#"mcp_upstream_irregularities_total{connector="s1",reason="unreadable"}"#,
            r#"mcp_credential_refusals_total{connector="s1",status="401"}"#,
            r#"mcp_credential_refusals_total{connector="s1",status="403"}"#,
        ] {
            assert_eq!(served.metric(series), Some(0.0), "{series}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_goes_stale_are_the_same_as_before() {
        let rig = Rig::new(1);
        let served = rig.ready().await;
        let state = |state: &str| served.metric(&format!("mcp_catalog_state{{connector=\"s1\",state=\"{state}\"}}"));
        let before = series(&served, "mcp_catalog_");
        assert_eq!((state("fresh"), state("stale-error")), (Some(1.0), Some(0.0)));
        rig.refuse(1);
        let mut minutes = 0;
        while state("fresh") == Some(1.0) || state("soft") == Some(1.0) {
            minutes += 1;
            assert!(minutes < 60, "it does not go stale");
            tokio::time::sleep(seconds(60)).await;
        }
        assert_eq!(series(&served, "mcp_catalog_"), before);
        assert!(served.metric("mcp_catalog_age_seconds{connector=\"s1\"}").unwrap() > 60.0);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_do_not_grow_with_them() {
        let served = Rig::new(2).ready().await;
        let client = served.modern();
        let call = async |round: usize| {
            client.call("s1__echo", r#"{"text":"x"}"#).await;
            client.call(&format!("s2__made_up_{round}"), "{}").await;
            client.ask(&format!("made/up/{round}"), "").await;
        };
        call(0).await;
        let before = series(&served, "");
        for round in 1..300 {
            call(round).await;
        }
        assert_eq!(series(&served, ""), before);
        assert_eq!(served.metric("mcp_tool_call_duration_seconds_count{connector=\"s1\"}"), Some(300.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connector_that_returns_while_it_drains_are_kept() {
        let mut rig = Rig::new(2);
        let served = rig.ready().await;
        rig.server(1).set_latency_of("tools/call", seconds(5));
        let client = served.modern();
        let call = tokio::spawn(async move { client.call("s1__echo", r#"{"text":"x"}"#).await.status });
        tokio::time::sleep(seconds(1)).await;
        let leaving = rig.document.connectors[0].clone();
        rig.publish(|map| drop(map.connectors.remove(0)));
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        assert!(served.connector("s1").is_none());
        rig.publish(|map| map.connectors.insert(0, leaving));
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        call.await.unwrap();
        tokio::time::sleep(seconds(30)).await;
        assert_eq!(served.metric("mcp_tool_call_duration_seconds_count{connector=\"s1\"}"), Some(1.0));
        assert_eq!(served.metric("mcp_tool_definition_changes_total{connector=\"s1\",kind=\"tools\"}"), Some(0.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connector_that_left_vanish_once_it_has_drained() {
        let mut rig = Rig::new(2);
        let served = rig.ready().await;
        rig.publish(|map| drop(map.connectors.remove(0)));
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        tokio::time::sleep(seconds(30)).await;
        let left: Vec<_> =
            series(&served, "").into_iter().filter(|series| series.contains("connector=\"s1\"")).collect();
        assert_eq!(left, Vec::<String>::new());
    }
}

mod lines_of {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refused_requests_are_limited_and_what_was_left_out_is_told() {
        let (log, _guard) = Log::of_this_thread(Level::WARN);
        let served = Rig::new(1).ready().await;
        let page = served.modern().with_header("host", "evil.example");
        for _ in 0..500 {
            assert_eq!(page.list().await.status, 403);
        }
        let most = limits::REFUSAL_LINES as usize;
        assert_eq!(log.lines("request refused at the door").len(), most);
        assert_eq!(served.metric(r#"mcp_requests_refused_total{reason="host"}"#), Some(500.0));
        tokio::time::sleep(limits::LOG_WINDOW).await;
        page.list().await;
        let lines = log.lines("request refused at the door");
        assert_eq!(lines.len(), most + 1);
        assert!(lines[most].contains(&format!("left_out={}", 500 - most)), "{}", lines[most]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connector_that_keeps_failing_are_written_when_the_class_changes() {
        let (log, _guard) = Log::of_this_thread(Level::WARN);
        let rig = Rig::new(2);
        rig.refuse(2);
        let served = rig.ready().await;
        let failed = || log.lines("sync failed").len();
        for _ in 0..20 {
            served.gateway.sync(SyncKind::Force, |_| {}).await;
        }
        assert_eq!(failed(), 1, "{}", log.text());
        rig.hang(2);
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        assert_eq!(failed(), 2, "{}", log.text());
        rig.revive(2);
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        rig.refuse(2);
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        assert_eq!(failed(), 3, "{}", log.text());
        assert!(log.lines("sync failed")[2].contains("left_out="), "{}", log.text());
    }
}
