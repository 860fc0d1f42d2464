//! The servers of the matrix, each a real process or an rmcp server of this one, with what is asked of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use super::processes::interop::{installed, skipped};
use super::processes::{Installation, PATIENCE, Service};
use super::rmcp_peer;

/// A server, and what every client does with it.
pub(crate) struct Server {
    /// Its name in the registry, and the id of its connector.
    pub(crate) id: &'static str,
    place: Place,
    /// How many tools it has.
    pub(crate) tools: usize,
    /// Whether it gives its lists in pages.
    pub(crate) paged: bool,
    /// Tools, and what they are called with.
    pub(crate) calls: Vec<(&'static str, Value)>,
    /// Prompts, and what they are asked for with.
    pub(crate) prompts: Vec<(&'static str, Value)>,
    /// Addresses of resources to read.
    pub(crate) resources: Vec<String>,
}

/// Where a server is.
enum Place {
    Url { transport: &'static str, url: String },
    Command { command: PathBuf, arguments: Vec<String>, environment: BTreeMap<&'static str, String> },
}

impl Server {
    fn new(id: &'static str, tools: usize, place: Place) -> Self {
        Self { id, place, tools, paged: false, calls: Vec::new(), prompts: Vec::new(), resources: Vec::new() }
    }

    fn call(mut self, tool: &'static str, arguments: Value) -> Self {
        self.calls.push((tool, arguments));
        self
    }

    fn prompt(mut self, prompt: &'static str, arguments: Value) -> Self {
        self.prompts.push((prompt, arguments));
        self
    }

    fn in_pages(self) -> Self {
        Self { paged: true, ..self }
    }

    fn resource(mut self, uri: &str) -> Self {
        self.resources.push(uri.to_owned());
        self
    }

    /// Its entry in the registry.
    pub(crate) fn entry(&self) -> Value {
        match &self.place {
            Place::Url { transport, url } => json!({ "name": self.id, "transport": transport, "endpoint": url }),
            Place::Command { command, arguments, environment } => json!({
                "name": self.id, "transport": "stdio", "command": command, "args": arguments, "env": environment,
            }),
        }
    }

    /// Where a client finds it that goes there itself: the `server` of an order.
    pub(crate) fn direct(&self) -> Value {
        match &self.place {
            Place::Url { transport, url } => json!({ "transport": transport, "url": url }),
            Place::Command { command, arguments, environment } => {
                json!({ "command": command, "args": arguments, "env": environment })
            }
        }
    }

    /// Whether the gateway starts it.
    pub(crate) fn is_child(&self) -> bool {
        matches!(self.place, Place::Command { .. })
    }
}

/// All servers. Those that are not started by a gateway end with this.
pub(crate) struct Servers {
    pub(crate) all: Vec<Server>,
    _processes: Vec<Listening>,
    _services: Vec<Service>,
}

/// The folder of what `tests/interop/install` installed, and the programs in it.
pub(crate) struct Installed {
    pub(crate) folder: PathBuf,
    pub(crate) node: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) former_python: PathBuf,
}

impl Installed {
    /// None, with the reason printed, if something is missing.
    pub(crate) fn find() -> Option<Self> {
        let packages = ["server-everything", "server-filesystem", "server-memory", "client", "inspector"];
        for package in packages {
            installed(&format!("node_modules/@modelcontextprotocol/{package}"))?;
        }
        for server in ["python/bin/mcp-server-time", "python/bin/mcp-server-git", "python/bin/mcp-server-fetch"] {
            installed(server)?;
        }
        installed("python-mcp-1/bin/mcp-server-sqlite")?;
        if Command::new("git").arg("--version").output().is_err() {
            skipped("git is not installed, which the git server calls");
            return None;
        }
        let node = installed("bin/node")?;
        let folder = node.parent()?.parent()?.to_owned();
        let (python, former_python) = (installed("python/bin/python")?, installed("python-mcp-1/bin/python")?);
        Some(Self { folder, node, python, former_python })
    }

    fn package(&self, name: &str) -> String {
        let program = format!("node_modules/@modelcontextprotocol/{name}/dist/index.js");
        self.folder.join(program).display().to_string()
    }

    /// The program of the inspector.
    pub(crate) fn inspector(&self) -> PathBuf {
        self.folder.join("node_modules/.bin/mcp-inspector")
    }
}

/// A file of these tests in another language.
pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/interop/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Servers {
    /// Starts those that are to be there before the gateway, all at once, and lays out what the others need.
    pub(crate) fn start(installed: &Installed, installation: &Installation) -> Self {
        let folder = installation.folder();
        let environment = environment(folder);
        let program = installed.package("server-everything");
        let (loopback, fastmcp) = (script("loopback.mjs"), script("server_fastmcp.py"));
        let commands = [
            (&installed.node, ["--import", &loopback, &program, "streamableHttp"].to_vec()),
            (&installed.node, ["--import", &loopback, &program, "sse"].to_vec()),
            (&installed.python, [&fastmcp, "http", "18"].to_vec()),
            (&installed.python, [&fastmcp, "sse", "8"].to_vec()),
        ];
        let started = commands.iter().enumerate();
        let started: Vec<_> = started.map(|(nth, (program, of))| start(program, of, folder, nth)).collect();
        let services = [rmcp_peer::server(false), rmcp_peer::server(true)].into_iter().collect::<Vec<_>>();

        let files =
            Path::new(&installation.file("files/letter.txt", "Dear all,\nit works.\n")).parent().unwrap().to_owned();
        let ada = json!({"type": "entity", "name": "Ada", "entityType": "person", "observations": ["writes programs"]});
        let memory = installation.file("memory.jsonl", format!("{ada}\n"));
        let database = folder.join("tables.db").display().to_string();
        let repository = repository(folder);
        let command = |program: &Path, arguments: &[&str]| Place::Command {
            command: program.to_owned(),
            arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
            environment: environment.clone(),
        };
        let python =
            |name: &str, arguments: &[&str]| command(&installed.folder.join("python/bin").join(name), arguments);
        let node = |package: &str, arguments: &[&str]| {
            command(&installed.node, &[&[installed.package(package).as_str()], arguments].concat())
        };
        let sqlite = command(&installed.folder.join("python-mcp-1/bin/mcp-server-sqlite"), &["--db-path", &database]);
        let mut remembering = node("server-memory", &[]);
        if let Place::Command { environment, .. } = &mut remembering {
            environment.insert("MEMORY_FILE_PATH", memory);
        }

        let processes: Vec<_> = started.into_iter().map(Starting::listening).collect();
        let url = |port: u16, transport: &'static str| {
            let path = if transport == "sse" { "sse" } else { "mcp" };
            Place::Url { transport, url: format!("http://127.0.0.1:{port}/{path}") }
        };
        let letter = files.join("letter.txt").display().to_string();
        let page = format!("http://{}/page", services[0].address());
        let [everything_http, everything_sse, fastmcp_http, fastmcp_sse] = [0, 1, 2, 3].map(|one| processes[one].port);
        let all = vec![
            everything(Server::new("everything-stdio", 13, node("server-everything", &["stdio"]))),
            everything(Server::new("everything-http", 13, url(everything_http, "http"))),
            everything(Server::new("everything-sse", 13, url(everything_sse, "sse"))),
            Server::new("filesystem", 14, node("server-filesystem", &[&files.display().to_string()]))
                .call("read_text_file", json!({ "path": letter }))
                .call("read_text_file", json!({ "path": "/elsewhere" })),
            Server::new("memory", 9, remembering)
                .call("read_graph", json!({}))
                .call("search_nodes", json!({"query": "programs"})),
            Server::new("time", 2, python("mcp-server-time", &["--local-timezone=UTC"])).call(
                "convert_time",
                json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
            ),
            Server::new("fetch", 1, python("mcp-server-fetch", &["--ignore-robots-txt", "--allow-private-ips"]))
                .call("fetch", json!({ "url": page, "raw": true })),
            Server::new("git", 12, python("mcp-server-git", &["--repository", &repository]))
                .call("git_log", json!({ "repo_path": repository })),
            Server::new("sqlite", 6, sqlite)
                .call("read_query", json!({"query": "SELECT 40 + 2 AS answer"}))
                .prompt("mcp-demo", json!({"topic": "tea"}))
                .resource("memo://insights"),
            Server::new("fastmcp-http", 18, url(fastmcp_http, "http"))
                .in_pages()
                .call("times_18", json!({"value": 3}))
                .prompt("ask", json!({"value": "4"}))
                .resource("multipliers://largest-of-18"),
            Server::new("fastmcp-sse", 8, url(fastmcp_sse, "sse"))
                .in_pages()
                .call("times_8", json!({"value": 3}))
                .prompt("ask", json!({"value": "4"}))
                .resource("multipliers://largest-of-8"),
            rmcp(Server::new("rmcp-legacy", 1, url(services[0].address().port(), "http"))),
            rmcp(Server::new("rmcp-modern", 1, url(services[1].address().port(), "http"))),
        ];
        Self { all, _processes: processes, _services: services }
    }

    /// The registry with all of them.
    pub(crate) fn registry(&self) -> String {
        json!({ "servers": self.all.iter().map(Server::entry).collect::<Vec<_>>() }).to_string()
    }

    /// How many tools they have together.
    pub(crate) fn tools(&self) -> usize {
        self.all.iter().map(|server| server.tools).sum()
    }
}

fn everything(server: Server) -> Server {
    server
        .call("echo", json!({"message": "grüezi ☃"}))
        .call("get-structured-content", json!({"location": "Chicago"}))
        .call("get-tiny-image", json!({}))
        .call("trigger-long-running-operation", json!({"duration": 0.1, "steps": 1}))
        .prompt("args-prompt", json!({"city": "Bern"}))
}

fn rmcp(server: Server) -> Server {
    server.call("echo", json!({"region": "Zürich ☃", "n": 12}))
}

/// What every server finds in its environment. `HOME` is also how the test knows what is left over of it.
fn environment(folder: &Path) -> BTreeMap<&'static str, String> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into());
    let home = folder.display().to_string();
    [
        ("HOME", home.clone()),
        ("TMPDIR", home),
        ("PATH", path),
        ("NO_COLOR", "1".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ("FASTMCP_CHECK_FOR_UPDATES", "off".into()),
        ("FASTMCP_SHOW_SERVER_BANNER", "false".into()),
    ]
    .into_iter()
    .collect()
}

/// A repository with one commit.
fn repository(folder: &Path) -> String {
    let repository = folder.join("repository").display().to_string();
    let commit = ["-c", "user.name=Ada", "-c", "user.email=ada@localhost", "commit", "--quiet", "--allow-empty"];
    let steps = [
        vec!["init", "--quiet", &repository],
        [&["-C", &repository][..], &commit, &["--message", "The first commit"]].concat(),
    ];
    for arguments in steps {
        let date = "2026-01-01T00:00:00Z";
        let mut git = Command::new("git");
        git.args(&arguments).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
        git.env("GIT_AUTHOR_DATE", date).env("GIT_COMMITTER_DATE", date);
        let done = git.output().expect("git is installed");
        assert!(done.status.success(), "{done:?}");
    }
    repository
}

/// A process that has been started, and will say where it listens.
struct Starting(Child, PathBuf);

/// A process that listens.
struct Listening {
    child: Child,
    port: u16,
}

fn start(program: &Path, arguments: &[&str], folder: &Path, nth: usize) -> Starting {
    let log = folder.join(format!("server-{nth}.log"));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment(folder)).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
    Starting(command.spawn().unwrap(), log)
}

impl Starting {
    /// Waits for the port that is its first line.
    fn listening(mut self) -> Listening {
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let (say, said) = channel();
        // It ends with the pipe, that is with the process.
        std::thread::spawn(move || {
            say.send(lines.next()).ok();
            lines.map_while(Result::ok).for_each(drop);
        });
        let mut listening = Listening { child: self.0, port: 0 };
        let Ok(Some(Ok(line))) = said.recv_timeout(PATIENCE) else {
            let log = std::fs::read_to_string(&self.1);
            drop(listening);
            panic!("a server does not say where it listens: {log:?}");
        };
        let said: Value = serde_json::from_str(&line).unwrap();
        listening.port = said["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap();
        listening
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
