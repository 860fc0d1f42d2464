//! Runs the official conformance suite as a child process, and reads what it found.
//!
//! Two runs are compared by the sets of (check, status) per scenario: what the suite says about a server must be what
//! it says about the gateway in front of it. The suite is never trusted to end: a run has a deadline, and is then
//! killed with everything that it started. Where the suite is not installed a run is skipped with a printed reason,
//! unless `CORTEX_REQUIRE_INTEROP=1`.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::expect_used, reason = "tests may")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::Value;

/// How long a run may take. One of all scenarios takes a few seconds.
const DEADLINE: Duration = Duration::from_secs(180);

/// How long the suite gives one scenario.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(30);

/// How often a run is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// The length of the time that the suite ends the name of a folder with: `-2026-07-28T00-00-00-000Z`.
const TIME_LENGTH: usize = 25;

/// A set of requirements: a revision of the protocol, frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revision {
    /// 2025-11-25, the last one with sessions.
    Legacy,
    /// 2026-07-28, the first one without.
    Modern,
}

impl Revision {
    /// Both, the older first.
    pub(crate) const BOTH: [Self; 2] = [Self::Legacy, Self::Modern];

    /// The one of the other era.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Legacy => Self::Modern,
            Self::Modern => Self::Legacy,
        }
    }

    /// Its place in [`Self::BOTH`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Legacy => 0,
            Self::Modern => 1,
        }
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

/// What is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A server.
    Server,
    /// A client.
    Client,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// As it must.
    Success,
    /// Against a MUST.
    Failure,
    /// Against a SHOULD.
    Warning,
    /// Said, not judged.
    Info,
    /// Not judged for a reason.
    Skipped,
}

impl Status {
    /// The suite's word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Skipped => "SKIPPED",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "WARNING" => Self::Warning,
            "INFO" => Self::Info,
            "SKIPPED" => Self::Skipped,
            other => panic!("the suite has a new status: {other}"),
        }
    }
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Its id. One scenario may have several with the same.
    pub(crate) id: String,
    /// How it came out.
    pub(crate) status: Status,
    /// What is wrong, if something is.
    pub(crate) message: String,
}

/// How many checks came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Scenarios with results.
    pub(crate) scenarios: usize,
    /// Those in which no check failed or has a warning.
    pub(crate) clean: usize,
    /// Checks that passed.
    pub(crate) passed: usize,
    /// Checks that failed.
    pub(crate) failed: usize,
    /// Checks with a warning.
    pub(crate) warnings: usize,
}

/// What the suite found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The checks of every scenario that wrote any.
    pub(crate) scenarios: BTreeMap<String, Vec<Check>>,
    /// What the suite itself says: that everything which counts is as it was told to expect.
    pub(crate) as_expected: bool,
}

impl Report {
    /// The same for those scenarios only.
    pub(crate) fn only(mut self, scenarios: &BTreeSet<String>) -> Self {
        self.scenarios.retain(|scenario, _| scenarios.contains(scenario));
        self
    }

    /// Adds what another run found. No scenario is in both.
    pub(crate) fn add(&mut self, other: Self) {
        self.as_expected &= other.as_expected;
        for (scenario, checks) in other.scenarios {
            assert!(self.scenarios.insert(scenario.clone(), checks).is_none(), "{scenario} ran twice");
        }
    }

    /// How the checks came out.
    pub(crate) fn totals(&self) -> Totals {
        let count = |status| self.scenarios.values().flatten().filter(|check| check.status == status).count();
        let is_clean = |checks: &&Vec<Check>| {
            !checks.iter().any(|check| matches!(check.status, Status::Failure | Status::Warning))
        };
        Totals {
            scenarios: self.scenarios.len(),
            clean: self.scenarios.values().filter(is_clean).count(),
            passed: count(Status::Success),
            failed: count(Status::Failure),
            warnings: count(Status::Warning),
        }
    }

    /// A line for every check that failed or has a warning.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let all =
            self.scenarios.iter().flat_map(|(scenario, checks)| checks.iter().map(move |check| (scenario, check)));
        let bad = all.filter(|(_, check)| matches!(check.status, Status::Failure | Status::Warning));
        bad.map(|(scenario, check)| format!("{scenario}: {} {:?}: {}", check.id, check.status, check.message)).collect()
    }

    /// Every check that was not judged, in order: its scenario, and its id.
    pub(crate) fn skipped(&self) -> Vec<(&str, &str)> {
        let all =
            self.scenarios.iter().flat_map(|(scenario, checks)| checks.iter().map(move |check| (scenario, check)));
        let skipped = all.filter(|(_, check)| check.status == Status::Skipped);
        skipped.map(|(scenario, check)| (scenario.as_str(), check.id.as_str())).collect()
    }

    /// Every check that came out in other ways there: by scenario and id, how it did here, and how there.
    pub(crate) fn differences(&self, other: &Self) -> BTreeMap<(String, String), [BTreeSet<Status>; 2]> {
        let mut ways: BTreeMap<_, [BTreeSet<Status>; 2]> = BTreeMap::new();
        for (side, report) in [self, other].into_iter().enumerate() {
            for (scenario, checks) in &report.scenarios {
                for check in checks {
                    ways.entry((scenario.clone(), check.id.clone())).or_default()[side].insert(check.status);
                }
            }
        }
        ways.retain(|_, [here, there]| here != there);
        ways
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { scenarios, clean, passed, failed, warnings } = self.totals();
        write!(
            formatter,
            "{clean} of {scenarios} scenarios, {passed} checks passed, {failed} failed, {warnings} warnings"
        )
    }
}

/// The suite, installed.
#[derive(Clone, Debug)]
pub(crate) struct Suite {
    node: PathBuf,
    package: PathBuf,
}

impl Suite {
    /// The suite that `tests/interop/install` installed. None, with the reason printed, if it is not there.
    pub(crate) fn installed() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = std::env::var_os("CORTEX_INTEROP_DIR")
            .map_or_else(|| root.join("target/interop"), |folder| root.join(folder));
        let (node, package) = (folder.join("bin/node"), folder.join("node_modules/@modelcontextprotocol/conformance"));
        if node.exists() && package.join("dist/index.js").exists() {
            return Some(Self { node, package });
        }
        let reason = "SKIPPED: the conformance suite is not installed; run tests/interop/install";
        assert!(std::env::var_os("CORTEX_REQUIRE_INTEROP").is_none_or(|value| value != "1"), "{reason}");
        println!("{reason}");
        None
    }

    /// The scenarios that a revision requires of this side. What else a run holds is not scored.
    pub(crate) fn scored(&self, revision: Revision, side: Side) -> BTreeSet<String> {
        let requirements = self.requirements(revision);
        let scored = requirements.lines().skip_while(|line| *line != format!("{}:", side.name())).skip(1);
        let scored = scored.take_while(|line| line.starts_with(' ')).filter_map(|line| line.trim().strip_prefix("- "));
        scored.map(str::to_owned).collect()
    }

    /// The scenarios that are run for this side as well, and never counted.
    pub(crate) fn unscored(&self, revision: Revision, side: Side) -> BTreeSet<String> {
        let requirements = self.requirements(revision);
        let leg = format!("leg: {}", side.name());
        let lines: Vec<&str> = requirements.lines().skip_while(|line| *line != "not_scored:").map(str::trim).collect();
        let of_side = lines.windows(2).filter(|pair| pair[1] == leg);
        of_side.filter_map(|pair| pair[0].strip_prefix("- scenario: ")).map(str::to_owned).collect()
    }

    fn requirements(&self, revision: Revision) -> String {
        let file = self.package.join("requirements").join(format!("{}.yaml", revision.name()));
        std::fs::read_to_string(file).expect("the suite has its requirements")
    }

    /// Runs every scenario for servers against this one. Results go to the folder, which must be new or empty; the
    /// file names the failures that are expected.
    pub(crate) fn server(&self, folder: &Path, url: &str, revision: Revision, expected: &Path) -> Report {
        self.run(folder, &["server", "--url", url, "--requirements", revision.name()], expected)
    }

    /// Runs one scenario for clients: the suite serves, and starts this command in the folder with the address as its
    /// last argument. The command is split at blanks, and finds the scenario's name in `MCP_CONFORMANCE_SCENARIO`.
    pub(crate) fn client(
        &self,
        folder: &Path,
        command: &str,
        scenario: &str,
        revision: Revision,
        expected: &Path,
    ) -> Report {
        let which = ["--scenario", scenario, "--spec-version", revision.name()];
        self.run(folder, &[&["client", "--command", command], &which[..]].concat(), expected)
    }

    /// What it printed in a folder, with what the commands say that ended badly.
    pub(crate) fn said(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("suite.log")).unwrap_or_default()
    }

    /// Runs the suite to its end, with the folder for its home and without the tester's environment.
    fn run(&self, folder: &Path, arguments: &[&str], expected: &Path) -> Report {
        let results = folder.join("results");
        std::fs::create_dir_all(folder).expect("a folder for the results");
        assert!(!results.exists(), "the results of another run are in {}", folder.display());
        std::fs::create_dir(&results).expect("a folder for the results");
        let log = File::create(folder.join("suite.log")).expect("a log in the folder");
        let mut command = Command::new(&self.node);
        command.arg(self.package.join("dist/index.js")).args(arguments).arg("--output-dir").arg(&results);
        command.args(["--timeout", &SCENARIO_DEADLINE.as_millis().to_string()]);
        command.arg("--expected-failures").arg(expected);
        command.env_clear().env("HOME", folder).env("TMPDIR", folder).env("NO_COLOR", "1").current_dir(folder);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log).process_group(0);
        let status = Run(Some(command.spawn().expect("the suite starts"))).wait();
        let report = Report { scenarios: read_results(&results), as_expected: status == Some(0) };
        // It exits with 1 for what is not expected; anything else is a suite that broke.
        assert!(matches!(status, Some(0 | 1)), "the suite ended with {status:?}:\n{}", Self::said(folder));
        assert!(!report.scenarios.is_empty(), "the suite has no results:\n{}", Self::said(folder));
        report
    }
}

/// A run, which leaves no process behind.
struct Run(Option<Child>);

impl Run {
    /// Waits until its end, or until the deadline.
    fn wait(mut self) -> Option<i32> {
        let begun = Instant::now();
        let child = self.0.as_ref().expect("it has not been waited for");
        let pid = Pid::from_child(child);
        // It is not reaped yet: its group is to be ended while the number is its own.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), look).expect("the suite is a child").is_none() {
            assert!(begun.elapsed() < DEADLINE, "the suite did not end within {DEADLINE:?}");
            std::thread::sleep(LOOK);
        }
        self.end()
    }

    fn end(&mut self) -> Option<i32> {
        let mut child = self.0.take()?;
        // What it started is in its group; there may be nothing.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait().expect("the suite is a child").code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.end();
    }
}

/// Every `checks.json` below a folder, by the name of its scenario.
fn read_results(folder: &Path) -> BTreeMap<String, Vec<Check>> {
    let mut scenarios = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        let entries = std::fs::read_dir(&next).expect("a folder that the suite made");
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().is_some_and(|name| name == "checks.json") {
                let name = next.strip_prefix(folder).expect("it is below the folder").to_string_lossy();
                let name = &name[..name.len().saturating_sub(TIME_LENGTH)];
                let name = name.strip_prefix("server-").filter(|_| next.parent() == Some(folder)).unwrap_or(name);
                let checks = std::fs::read_to_string(&path).expect("a file that the suite wrote");
                assert!(scenarios.insert(name.to_owned(), parse(&checks)).is_none(), "{name} ran twice");
            }
        }
    }
    scenarios
}

fn parse(checks: &str) -> Vec<Check> {
    let checks: Vec<Value> = serde_json::from_str(checks).expect("the suite writes arrays");
    let text = |check: &Value, member: &str| check[member].as_str().unwrap_or_default().to_owned();
    let check = |check: &Value| Check {
        id: text(check, "id"),
        status: Status::parse(&text(check, "status")),
        message: text(check, "errorMessage"),
    };
    checks.iter().map(check).collect()
}
