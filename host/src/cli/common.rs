//! What several commands share: settings from flags, environment and file, logs, signals, and the table of a sync.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use cortex_mcp::config::{ConfigError, Environment, Flags, Paths, Settings, TraceFlag};
use cortex_mcp::connectors::{SyncReport, Synced};
use cortex_mcp::edge::descriptors::raise_descriptor_limit;
use cortex_mcp::edge::file_access::{FileAccess, file_access};
use cortex_mcp::edge::process::SystemProcesses;
use cortex_mcp::model::style::Style;
use cortex_mcp::telemetry::init_logs;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

use super::error::{CommandError, Exit};
use super::output::{Output, Span, shorten};
use crate::DESCRIPTORS_MAX;

/// Flags of every command that runs a gateway.
#[derive(Clone, Debug, Args)]
pub(crate) struct GatewayFlags {
    /// The configuration file, instead of gateway.toml below the home folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The service map, instead of CONNECTORS_SERVICE_MAP_URL.
    #[arg(long, value_name = "URL")]
    // A text, because clap would quote a wrong value, and what a URL holds may be secret.
    pub(crate) service_map_url: Option<String>,

    /// A policy component, instead of the embedded default.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// A policy component that decides beside the deployed one and is never obeyed; its differences are counted.
    #[arg(long, value_name = "FILE")]
    pub(crate) shadow_policy: Option<PathBuf>,

    /// Use gateway.toml and servers.json even if other users can write them, or replace them in a folder above.
    #[arg(long)]
    pub(crate) allow_shared_files: bool,

    #[command(flatten)]
    pub(crate) trace: TraceFlags,
}

/// Flags of every command that records decisions.
#[derive(Clone, Debug, Args)]
pub(crate) struct TraceFlags {
    /// Record every decision in this folder, instead of mcp/trace below the home folder.
    #[arg(long, value_name = "DIR", conflicts_with = "no_trace")]
    pub(crate) trace: Option<PathBuf>,

    /// Record no decisions.
    #[arg(long)]
    pub(crate) no_trace: bool,
}

impl TraceFlags {
    /// What they say.
    pub(crate) fn flag(&self) -> TraceFlag {
        match (&self.trace, self.no_trace) {
            (_, true) => TraceFlag::Off,
            (Some(directory), false) => TraceFlag::Into(directory.clone()),
            (None, false) => TraceFlag::AsConfigured,
        }
    }
}

impl GatewayFlags {
    /// The effective settings; logs are on afterwards.
    pub(crate) fn settings(&self, listen: Option<SocketAddr>) -> Result<Settings, CommandError> {
        let settings = self.resolve(listen)?;
        init_logs(settings.log_level, settings.log_format);
        for (path, access) in self.shared_files(&settings.paths)? {
            match access {
                FileAccess::Private => {}
                FileAccess::Group(exposure) | FileAccess::Others(exposure) => {
                    tracing::warn!(file = %path.display(), %exposure, "other users can write a file of the gateway");
                }
            }
        }
        tracing::info!(configuration = %settings.redacted(), "effective configuration");
        Ok(settings)
    }

    /// The effective settings, read anew.
    pub(crate) fn resolve(&self, listen: Option<SocketAddr>) -> Result<Settings, CommandError> {
        let service_map_url = self.service_map_url.as_deref().map(Url::parse).transpose().map_err(|_| {
            ConfigError::Range { key: "--service-map-url", expected: "write a URL, https or loopback http".into() }
        })?;
        let flags = Flags {
            listen,
            service_map_url,
            policy: self.policy.clone(),
            shadow_policy: self.shadow_policy.clone(),
            trace: self.trace.flag(),
            configuration: self.config.clone(),
        };
        let environment = Environment::of_process();
        // Before anything in them is used.
        self.shared_files(&Paths::of(&environment))?;
        Ok(Settings::resolve(&flags, &environment)?)
    }

    /// Who can write the configuration, the registry, and journals beside it, which are merged into it.
    fn shared_files(&self, paths: &Paths) -> Result<Vec<(PathBuf, FileAccess)>, CommandError> {
        let configuration = self.config.clone().unwrap_or_else(|| paths.configuration());
        let journal = paths.registry().with_extension("json.journal");
        let accessed = [configuration, paths.registry(), journal].into_iter().map(|path| {
            let access =
                file_access(&path).map_err(|source| CommandError::File { path: path.display().to_string(), source })?;
            match access {
                FileAccess::Others(exposure) if !self.allow_shared_files => {
                    Err(CommandError::Shared { path: path.display().to_string(), exposure })
                }
                access => Ok((path, access)),
            }
        });
        accessed.collect()
    }
}

/// The processes of servers: a watcher, which is this binary, ends them with the gateway.
pub(crate) fn processes() -> Arc<SystemProcesses> {
    let original = raise_descriptor_limit(DESCRIPTORS_MAX).original;
    // The binary that runs, even if its file was replaced meanwhile.
    Arc::new(SystemProcesses::new().watched_by("/proc/self/exe".into()).descriptor_limit(original))
}

/// Returns when the process is asked to read its configuration anew: SIGHUP. Never, where that can not be told.
pub(crate) async fn asked_to_reload(signals: &mut Option<Signal>) {
    next(signals).await;
}

/// Returns once the process is asked to end, by SIGTERM or SIGINT.
pub(crate) async fn asked_to_end() {
    EndSignals::listen().asked().await;
}

/// SIGTERM and SIGINT, remembered from the moment on that they are listened to.
pub(crate) struct EndSignals([Option<Signal>; 2]);

impl EndSignals {
    /// Listens to them: they do not end the process any more.
    pub(crate) fn listen() -> Self {
        Self([SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok()))
    }

    /// Returns once there is another one.
    pub(crate) async fn asked(&mut self) {
        let [terminate, interrupt] = &mut self.0;
        tokio::select! {
            () = next(terminate) => {}
            () = next(interrupt) => {}
        }
    }
}

/// The next signal; never, where that can not be told.
async fn next(signals: &mut Option<Signal>) {
    let told = match signals {
        Some(signals) => signals.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending().await
    }
}

/// A spinner on stderr; hidden when machines read or no terminal shows it.
pub(crate) fn spinner(output: Output, message: &'static str) -> ProgressBar {
    let bar = if output.is_json() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

/// One connector's end in a sync, for people.
pub(crate) fn progress_line(synced: &Synced) -> [Span; 3] {
    let (mark, style) = if synced.ok { ("ready ", Style::Success) } else { ("failed", Style::Error) };
    let detail = match (&synced.reason, &synced.message) {
        (Some(reason), Some(message)) => format!("{reason}: {}", shorten(message, 60)),
        (Some(reason), None) => reason.clone(),
        _ => format!("{} tools", synced.tools),
    };
    let rest = format_args!(" {:>6} ms  {:<20} {detail}", synced.after_ms, synced.id.to_string());
    [Span::from("  "), Span::styled(mark, style), rest.into()]
}

/// The exit code of a sync.
pub(crate) fn exit_of(report: &SyncReport) -> Exit {
    match (report.ready, report.failed) {
        (_, 0) => Exit::Good,
        (0, _) => Exit::Failed,
        _ => Exit::Partly,
    }
}
