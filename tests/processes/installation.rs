//! An installation of the binary: a home folder of its own, an environment with nothing else in it, and its processes.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cortex_mcp::edge::files::SystemDirectory;
use cortex_mcp::edge::state;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::{PATIENCE, until};

/// A home folder and an environment.
pub(crate) struct Installation {
    folder: TempDir,
    variables: Vec<(String, String)>,
    /// Another binary than the one that was built, and the user that runs it.
    other: Option<(PathBuf, u32)>,
}

/// What a command that has ended said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// What it printed, as the one JSON value that it is.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Its error, as people are told it; empty if it has none.
    pub(crate) fn complaint(&self) -> &str {
        self.stderr.lines().find(|line| line.starts_with("cortex-mcp: ")).unwrap_or_default()
    }
}

impl Installation {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cortex-mcp-test-").tempdir().unwrap();
        let home = folder.path().join("home").display().to_string();
        Self { folder, variables: Vec::new(), other: None }.with("CORTEX_HOME", &home)
    }

    /// The same with a variable, or with another value for it.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same without a variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// The same with another binary, which another user runs.
    pub(crate) fn run_by(mut self, program: &Path, user: u32) -> Self {
        self.other = Some((program.to_owned(), user));
        self
    }

    /// A folder for the test's own files, beside the home.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the test's own.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Where state is kept.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder().join("home/mcp/state")
    }

    /// The names of the records of state that are on disk.
    pub(crate) fn kept(&self) -> Vec<String> {
        if !self.state().is_dir() {
            return Vec::new();
        }
        let saved = state::read(&SystemDirectory::open(&self.state()).unwrap(), &["service-map"]).unwrap();
        let mut names: Vec<_> = saved.records.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    /// The binary, with nothing but this installation's variables. `CORTEX_TEST_BINARY` names another one, by its
    /// whole path: a release build, to measure.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let built = env!("CARGO_BIN_EXE_cortex-mcp").into();
        let built = std::env::var_os("CORTEX_TEST_BINARY").unwrap_or(built);
        let mut command = match &self.other {
            None => Command::new(built),
            Some((program, user)) => {
                let mut command = Command::new(program);
                command.uid(*user).gid(*user);
                command
            }
        };
        command.args(arguments).env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        finish(self.command(arguments))
    }

    /// Runs a command with one variable more, to its end, which must come.
    pub(crate) fn run_with(&self, name: &str, value: &str, arguments: &[&str]) -> Finished {
        let mut command = self.command(arguments);
        command.env(name, value);
        finish(command)
    }

    /// Starts a gateway on a free port, and waits until it listens.
    pub(crate) fn serve(&self) -> Serving {
        self.serve_with(&["--listen", "127.0.0.1:0"])
    }

    /// Starts a gateway with these flags, and waits until it listens.
    pub(crate) fn serve_with(&self, flags: &[&str]) -> Serving {
        let started = Instant::now();
        let arguments = [&["serve", "--json"], flags].concat();
        Serving::new(self.command(&arguments).spawn().unwrap(), started)
    }
}

/// Runs a command to its end, which must come.
pub(crate) fn finish(mut command: Command) -> Finished {
    let mut child = Running(command.spawn().unwrap());
    let stdout = collect(child.0.stdout.take().unwrap());
    let stderr = collect(child.0.stderr.take().unwrap());
    let code = child.wait();
    Finished { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    })
}

/// A process that does not outlive the test.
struct Running(Child);

impl Running {
    /// Its exit code, once it has ended; none if a signal ended it.
    fn wait(&mut self) -> Option<i32> {
        until("the process ends", PATIENCE, || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process says on stderr, while it says it.
struct Log {
    said: Arc<Mutex<Vec<u8>>>,
    ends: JoinHandle<()>,
}

impl Log {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let said = Arc::new(Mutex::new(Vec::new()));
        let shared = said.clone();
        let ends = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                shared.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { said, ends }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// All of it, once the process has ended.
    fn whole(self) -> String {
        self.ends.join().unwrap();
        String::from_utf8(self.said.lock().unwrap().clone()).unwrap()
    }
}

/// A gateway that serves.
pub(crate) struct Serving {
    child: Running,
    first: String,
    more: Receiver<String>,
    log: Log,
    /// When its process was started.
    pub(crate) started: Instant,
}

impl Serving {
    fn new(mut child: Child, started: Instant) -> Self {
        let (lines, more) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            // It ends with the pipe, or with the test.
            stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let log = Log::of(child.stderr.take().unwrap());
        let mut child = Running(child);
        let Ok(first) = more.recv_timeout(PATIENCE) else {
            let _ = child.0.kill();
            panic!("the gateway does not say where it listens: {}", log.whole());
        };
        Self { child, first, more, log, started }
    }

    /// The lines of its log so far that hold this.
    pub(crate) fn logged(&self, part: &str) -> Vec<String> {
        self.log.so_far().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// Waits until so many lines of its log hold this, and returns the last one.
    pub(crate) fn wait_for_log(&self, part: &str, lines: usize) -> String {
        let what = format!("{lines} lines of the log hold: {part}");
        until(&what, PATIENCE, || self.logged(part).into_iter().nth(lines - 1))
    }

    /// Its endpoint.
    pub(crate) fn url(&self) -> String {
        let said: Value = serde_json::from_str(&self.first).unwrap();
        said["url"].as_str().unwrap_or_else(|| panic!("no url in {said}")).to_owned()
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.0.id()
    }

    /// Its address and port.
    pub(crate) fn address(&self) -> String {
        let said: Value = serde_json::from_str(&self.first).unwrap();
        said["listen"].as_str().unwrap().to_owned()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::TERM).unwrap();
    }

    /// Asks it to read its configuration anew.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::HUP).unwrap();
    }

    /// Waits for its end; nothing is asked of it.
    pub(crate) fn end(mut self) -> Finished {
        let code = self.child.wait();
        let stdout = std::iter::once(self.first).chain(self.more.iter()).collect::<Vec<_>>().join("\n");
        Finished { code, stdout, stderr: self.log.whole() }
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(self) -> Finished {
        self.terminate();
        self.end()
    }

    /// Kills it with SIGKILL, which it does not hear of.
    pub(crate) fn kill(mut self) -> Finished {
        self.child.0.kill().unwrap();
        self.end()
    }
}

/// How long a process has run, for people who read test output.
pub(crate) fn since(started: Instant) -> Duration {
    started.elapsed()
}
