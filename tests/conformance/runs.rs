//! The runs of the suite. Each is made once, for whichever test needs it first; one at a time, because the suite gives
//! a server some hundred milliseconds for some answers.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::driver;
use super::fixture_upstream::{Eras, FixtureGuard, FixtureOptions, FixtureUpstream};
use super::leftovers::processes_that_know;
use super::processes::{Installation, Serving, wait_for_tools};
use super::suite::{Report, Revision, Side, Suite};

/// The tools of the fixture, when none has come or gone.
const FIXTURE_TOOLS: usize = 31;

/// How many scenarios for clients are run at one time: each is a suite, a driver and a gateway.
const CLIENTS_AT_ONCE: usize = 2;

/// Scenarios that are not run begin with this: they are about OAuth, which this gateway does not do. Credentials are
/// given to it; it never asks an authorization server for one.
const NOT_RUN: &str = "auth/";

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// The suite against the fixture of its era.
    Direct(Revision),
    /// The suite, of the client's era, against the gateway before the fixture of the server's era.
    Through { client: Revision, server: Revision },
    /// The gateway as the client of the suite's servers.
    AsClient(Revision),
}

impl Run {
    /// With a client of this revision, and a server of the other.
    pub(crate) const fn across(client: Revision) -> Self {
        Self::Through { client, server: client.other() }
    }

    const fn index(self) -> usize {
        match self {
            Self::Direct(revision) => revision.index(),
            Self::Through { client, server } => 2 + 2 * client.index() + server.index(),
            Self::AsClient(revision) => 6 + revision.index(),
        }
    }
}

/// What the suite finds. None, with the reason printed, if it is not installed.
pub(crate) fn found(run: Run) -> Option<&'static Report> {
    static FOUND: [OnceLock<Option<Report>>; 8] = [const { OnceLock::new() }; 8];
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let make = || {
        let suite = Suite::installed()?;
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (folder, began) = (tempfile::tempdir().unwrap(), Instant::now());
        let report = match run {
            Run::Direct(revision) => directly(&suite, folder.path(), revision),
            Run::Through { client, server } => through(&suite, folder.path(), client, server),
            Run::AsClient(revision) => as_client(&suite, &folder, revision),
        };
        println!("{run:?}: {report}, in {} ms", began.elapsed().as_millis());
        let left = processes_that_know(folder.path());
        assert!(left.is_empty(), "still running: {}", left.join("\n"));
        Some(report)
    };
    FOUND[run.index()].get_or_init(make).as_ref()
}

/// The file of what is expected to fail.
pub(crate) fn expected_failures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/expected_failures.yml")
}

fn directly(suite: &Suite, folder: &Path, revision: Revision) -> Report {
    let fixture = Fixture::start(revision);
    suite.server(folder, &fixture.url, revision, &expected_failures())
}

fn through(suite: &Suite, folder: &Path, client: Revision, server: Revision) -> Report {
    let fixture = Fixture::start(server);
    let installation = Installation::new();
    let gateway = serve(&installation, &fixture.url, "");
    wait_for_tools(&gateway, FIXTURE_TOOLS);
    let report = suite.server(folder, &gateway.url(), client, &expected_failures());
    let finished = gateway.stop();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    report
}

/// A gateway with one server, whose names it leaves as they are.
pub(crate) fn serve(installation: &Installation, url: &str, more: &str) -> Serving {
    let registry = json!({ "servers": [{ "name": "up", "transport": "http", "endpoint": url }] });
    installation.file("home/mcp/servers.json", registry.to_string());
    installation.file("home/mcp/gateway.toml", format!("names = \"plain\"\n{more}"));
    installation.serve()
}

fn as_client(suite: &Suite, folder: &TempDir, revision: Revision) -> Report {
    let all = &suite.scored(revision, Side::Client) | &suite.unscored(revision, Side::Client);
    let (not_run, run): (Vec<_>, Vec<_>) = all.into_iter().partition(|scenario| scenario.starts_with(NOT_RUN));
    println!("{}: {} scenarios {NOT_RUN}* are not run: OAuth is not part of this", revision.name(), not_run.len());
    let next = Mutex::new(run.into_iter());
    let whole = Mutex::new(Report { as_expected: true, ..Report::default() });
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(scenario) = next.lock().unwrap().next() else { break };
                    let folder = folder.path().join(&scenario);
                    let command = driver::command(&folder);
                    let mut report = suite.client(&folder, &command, &scenario, revision, &expected_failures());
                    report.as_expected &= folder.join(driver::DONE).exists();
                    if !report.as_expected {
                        println!("{scenario}:\n{}", Suite::said(&folder));
                    }
                    whole.lock().unwrap().add(report);
                }
            });
        }
    });
    whole.into_inner().unwrap()
}

/// The fixture, served in this process.
struct Fixture {
    url: String,
    guard: Option<FixtureGuard>,
    runtime: Runtime,
}

impl Fixture {
    fn start(revision: Revision) -> Self {
        let eras = match revision {
            Revision::Legacy => Eras::LegacyOnly,
            Revision::Modern => Eras::ModernOnly,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let fixture = FixtureUpstream::with(FixtureOptions { eras, ..FixtureOptions::default() });
        let (url, guard) = runtime.block_on(fixture.serve());
        Self { url, guard: Some(guard), runtime }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // The guard ends what it serves, on the runtime that the task is of.
        let _entered = self.runtime.enter();
        drop(self.guard.take());
    }
}
