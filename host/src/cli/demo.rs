//! `cortex-mcp demo`: the main job, on this machine, before one's eyes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use cortex_mcp::config::{Environment, Settings, TraceFlag, TraceSettings, limits as config_limits};
use cortex_mcp::connectors::SyncReport;
use cortex_mcp::demo::{Signer, Stage, StageOptions};
use cortex_mcp::edge::entropy::{Entropy, SystemEntropy};
use cortex_mcp::gateway::{Gateway, SyncKind};
use cortex_mcp::mcp::{Era, Outcome, Session};
use cortex_mcp::model::ListKind;
use cortex_mcp::model::raw::{self, RawObject};
use cortex_mcp::model::style::Style;
use cortex_mcp::service_map::signed_document;
use cortex_mcp::telemetry::{LogLevel, init_logs};
use secrecy::SecretString;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::client::RemoteGateway;
use super::common::{TraceFlags, asked_to_end, exit_of, processes, progress_line, spinner};
use super::error::{CommandError, Exit};
use super::output::{Output, Span};
use super::serve::bind;
use super::tools::connector_of;

/// Starts a signing service-map server and MCP servers of alternating eras on loopback sockets, then the real gateway
/// against them; shows the sync as it happens, calls tools over HTTP, and stays up.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp demo
  cortex-mcp demo --connectors 10 --latency-ms 500 --dead 1 --hung 1
  cortex-mcp demo --once --json | jq .round_trips

The record of its decisions stays when the demo ends: in the folder that --trace names, else in a new one in the temporary
directory, which the demo names. --no-trace leaves nothing.

Exit codes: 0 all connectors became ready and all calls were answered, 3 some did not.")]
pub(crate) struct Demo {
    /// How many MCP servers the map names.
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    connectors: u16,

    /// How many tools each has.
    #[arg(long, default_value_t = 10, value_name = "M", value_parser = clap::value_parser!(u16).range(1..=1000))]
    tools: u16,

    /// How long each of their answers takes.
    #[arg(long, default_value_t = 200, value_name = "L", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    latency_ms: u64,

    /// Of the servers, so many refuse connections.
    #[arg(long, default_value_t = 0, value_name = "K")]
    dead: u16,

    /// Of the servers, so many accept connections and never answer.
    #[arg(long, default_value_t = 0, value_name = "H")]
    hung: u16,

    /// A policy component, instead of the embedded default.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    #[command(flatten)]
    trace: TraceFlags,

    /// End after the calls.
    #[arg(long)]
    once: bool,

    /// Where the gateway listens; by default on port 8420, or on a free one if that is taken.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// The folder of the demo's state; it goes with the demo.
struct Home(PathBuf);

impl Home {
    fn make() -> Result<Self, CommandError> {
        let path = std::env::temp_dir().join(format!("cortex-mcp-demo-{:x}", SystemEntropy.seed()));
        std::fs::create_dir(&path).map_err(|source| CommandError::File { path: path.display().to_string(), source })?;
        Ok(Self(path))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What is left behind in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How the calls went.
#[derive(Default)]
struct Calls {
    ok: usize,
    failed: usize,
}

impl Demo {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let key = format!("demo-key-{:x}", SystemEntropy.seed());
        let options = StageOptions {
            connectors: self.connectors.into(),
            tools: self.tools.into(),
            latency: Duration::from_millis(self.latency_ms),
            dead: self.dead.into(),
            hung: self.hung.into(),
        };
        let signing_key = SecretString::from(key.as_str());
        let sign: Signer = Arc::new(move |document| signed_document(document, &signing_key).ok());
        let stage = Stage::set_up(options, sign).await?;
        let home = Home::make()?;
        let mut settings = settings(&stage, &key, &home, &self.trace)?;
        settings.policy.file.clone_from(&self.policy);
        let trace = settings.trace.as_ref().map(|trace| trace.directory.clone());
        output.line(format_args!(
            "{} MCP servers on loopback, every answer {} ms late; {} dead, {} hung",
            self.connectors, self.latency_ms, self.dead, self.hung
        ));
        output.line(format_args!("service map {}, signed and verified", stage.map_url()));
        let listener = self.listener().await?;
        let address = listener
            .local_addr()
            .map_err(|source| CommandError::Listen { address: SocketAddr::from(([127, 0, 0, 1], 0)), source })?;
        let gateway = Gateway::builder(settings).processes(processes()).start().await?;
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (gateway, stop) = (gateway.clone(), stop.clone());
            async move { gateway.serve(listener, stop).await }
        });
        let bar = spinner(*output, "syncing");
        let report = gateway.sync(SyncKind::First, |synced| bar.suspend(|| output.spans(progress_line(synced)))).await;
        bar.finish_and_clear();
        let url = format!("http://{address}/mcp");
        let calls = call_tools(*output, &url).await?;
        self.report(*output, &gateway, &stage, &report, &calls, &url);
        if let Some(trace) = &trace {
            let trace = trace.display();
            output.line(format_args!("every decision is on the record in {trace}:"));
            output.line(format_args!("  cortex-mcp replay {trace}"));
            output.line(format_args!("  cortex-mcp why server-01 --trace {trace}"));
            if self.trace.flag() == TraceFlag::AsConfigured {
                output.line("it stays when the demo ends; remove it when you have looked");
            }
        }
        if !self.once {
            invite(*output, &url);
            asked_to_end().await;
        }
        stop.cancel();
        // The listener ends with the token.
        let _ = serving.await;
        gateway.shut_down().await;
        Ok(match exit_of(&report) {
            Exit::Good if calls.failed == 0 => Exit::Good,
            _ => Exit::Partly,
        })
    }

    async fn listener(&self) -> Result<tokio::net::TcpListener, CommandError> {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        match self.listen {
            Some(address) => bind(address).await,
            None if self.once => bind(loopback(0)).await,
            None => match bind(loopback(USUAL_PORT)).await {
                Err(CommandError::Taken { .. }) => bind(loopback(0)).await,
                other => other,
            },
        }
    }

    fn report(&self, output: Output, gateway: &Gateway, stage: &Stage, report: &SyncReport, calls: &Calls, url: &str) {
        let (legacy, modern) = (stage.round_trips(Era::Legacy), stage.round_trips(Era::Modern));
        let healthy_ms = report.connectors.iter().filter(|one| one.ok).map(|one| one.after_ms).max().unwrap_or(0);
        let failures: Vec<_> = report
            .connectors
            .iter()
            .filter(|one| !one.ok)
            .map(|one| json!({ "id": one.id, "reason": one.reason, "message": one.message }))
            .collect();
        let digest = gateway.policy().status().digest;
        let tools = gateway.snapshot().tool_count();
        output.value(&json!({
            "connectors": report.connector_count,
            "ready": report.ready,
            "failed": report.failed,
            "tools": tools,
            "sync_ms": report.duration_ms,
            "healthy_ms": healthy_ms,
            "round_trips": legacy.max(modern),
            "round_trips_legacy": legacy,
            "round_trips_modern": modern,
            "calls_ok": calls.ok,
            "calls_failed": calls.failed,
            "policy_digest": digest,
            "trace": gateway.settings().trace.as_ref().map(|trace| trace.directory.clone()),
            "failures": failures,
            "url": url,
        }));
        output.line(format_args!(
            "{} of {} connectors ready in {} ms ({} and {} requests in sequence), {tools} tools",
            report.ready, report.connector_count, report.duration_ms, legacy, modern
        ));
        let style = if calls.failed == 0 { Style::Success } else { Style::Error };
        let failed = format_args!(" calls over HTTP answered, {} failed", calls.failed);
        output.spans([Span::styled(calls.ok, style), failed.into()]);
        output.line(format_args!("decided by policy {}", digest.short(12)));
    }
}

/// The port of the README's examples.
const USUAL_PORT: u16 = 8420;

/// The settings of the demo: its own home, map and keys; everything else as the environment says.
fn settings(stage: &Stage, key: &str, home: &Home, trace: &TraceFlags) -> Result<Settings, CommandError> {
    let environment = Environment::of_process()
        .plus("CORTEX_HOME", &home.0.display().to_string())
        .plus("CONNECTORS_SERVICE_MAP_URL", stage.map_url().as_str())
        .plus("CONNECTORS_SERVICE_MAP_TOKEN", stage.token())
        .plus("CONNECTORS_SIGNATURE_KEY", key)
        .plus("CONNECTORS_SIGNATURE_KEYS", "");
    let mut settings = Settings::from_environment(&environment)?;
    // The demo's home goes with it; what it leaves is its record.
    let left = || std::env::temp_dir().join(format!("cortex-mcp-demo-trace-{:x}", SystemEntropy.seed()));
    settings.trace = match trace.flag() {
        TraceFlag::Off => None,
        TraceFlag::Into(directory) => Some(directory),
        TraceFlag::AsConfigured => Some(left()),
    }
    .map(|directory| TraceSettings { directory, mebibytes: config_limits::TRACE_MIB_DEFAULT });
    // The demo tells people itself what happens; logs on top are for those who ask for them.
    let level = environment.get("MCP_LOG_LEVEL").map_or(LogLevel::Off, |_| settings.log_level);
    init_logs(level, settings.log_format);
    Ok(settings)
}

/// Calls the first tool of every connector that has some, as a client over HTTP.
async fn call_tools(output: Output, url: &str) -> Result<Calls, CommandError> {
    let no_gateway = |reason: String| CommandError::NoGateway { url: url.to_owned(), reason };
    let endpoint = url.parse().map_err(|_| no_gateway("its address is not usable".into()))?;
    let gateway = RemoteGateway::at(endpoint)?;
    let session = gateway.session().await?;
    let list = gateway.list(&session, ListKind::Tools).await?;
    let mut called = std::collections::BTreeSet::new();
    let mut calls = Calls::default();
    for tool in &list.items {
        let Ok(definition) = RawObject::parse(tool) else { continue };
        let (Some(name), Some(connector)) = (definition.get_str("name"), connector_of(&definition)) else { continue };
        if called.insert(connector) {
            match call(&gateway, &session, &name).await {
                Ok(()) => calls.ok += 1,
                Err(reason) => {
                    calls.failed += 1;
                    output.line(format_args!("{name}: {reason}"));
                }
            }
        }
    }
    Ok(calls)
}

async fn call(gateway: &RemoteGateway, session: &Session, name: &str) -> Result<(), String> {
    let mut arguments = RawObject::new();
    arguments.set("text", raw::string("hello"));
    let mut params = RawObject::new();
    params.set("name", raw::string(name));
    params.set("arguments", arguments.to_raw());
    match gateway.call(session, params).await {
        Ok(Outcome::Result(result)) => {
            let is_error =
                RawObject::parse(&result).is_ok_and(|it| it.get("isError").is_some_and(|v| v.get() == "true"));
            if is_error { Err("the tool reports an error".into()) } else { Ok(()) }
        }
        Ok(Outcome::Error(error)) => Err(error.get().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn invite(output: Output, url: &str) {
    let snippet = json!({ "mcpServers": { "cortex": { "type": "http", "url": url } } });
    output.line("");
    output.line(format_args!("The gateway listens on {url}. For an MCP client:"));
    output.line("");
    output.text(format_args!("{snippet:#}"));
    output.line("");
    output.line("From another terminal:");
    output.line(format_args!("  cortex-mcp status --url {url}"));
    output.line(format_args!("  cortex-mcp call server-01__echo text=hello --url {url}"));
    output.line("Ctrl-C ends it.");
}
