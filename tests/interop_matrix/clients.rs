//! The clients of the matrix: what each is told, how each is run, and what it says that it saw.
//!
//! An order is the same for all of them, and so is what they saw: `tests/interop/client.py` says what both are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::processes::{Finished, Installation, Serving, interop};
use super::rmcp_peer;
use super::servers::{Installed, Server, script};

/// A client, and how it comes to the gateway.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    kind: Kind,
}

enum Kind {
    /// A script that takes an order: its program, what stands before the order, and where it goes.
    Script { program: PathBuf, arguments: Vec<String>, mode: &'static str, server: Value },
    /// The inspector, one process for every request, in this era.
    Inspector { node: PathBuf, inspector: PathBuf, era: &'static str, url: String },
    /// rmcp, in this very process.
    Rmcp { lifecycle: &'static str, url: String },
}

/// The client that also asks every server itself, without a gateway between: what it sees there is what all must see.
pub(crate) fn reference(installed: &Installed, server: &Server) -> Client {
    let arguments = vec![script("client.py")];
    let kind = Kind::Script { program: installed.python.clone(), arguments, mode: "auto", server: server.direct() };
    Client { name: "reference", kind }
}

/// All clients of a gateway.
pub(crate) fn all(installed: &Installed, installation: &Installation, gateway: &Serving) -> Vec<Client> {
    let over_http = json!({ "transport": "http", "url": gateway.url() });
    let over_stdio = over_stdio(installation);
    let script = |name, program: &Path, arguments: Vec<String>, mode, server: &Value| Client {
        name,
        kind: Kind::Script { program: program.to_owned(), arguments, mode, server: server.clone() },
    };
    let python =
        |name, mode, server| script(name, &installed.python, vec![super::servers::script("client.py")], mode, server);
    let former = vec![super::servers::script("client_mcp_1.py")];
    let typescript = |name, mode, server| {
        let arguments = vec![super::servers::script("client_ts.mjs"), installed.folder.display().to_string()];
        script(name, &installed.node, arguments, mode, server)
    };
    let inspector = |name, era| Client {
        name,
        kind: Kind::Inspector {
            node: installed.node.clone(),
            inspector: installed.inspector(),
            era,
            url: gateway.url(),
        },
    };
    let rmcp = |name, lifecycle| Client { name, kind: Kind::Rmcp { lifecycle, url: gateway.url() } };
    vec![
        // Those that start a gateway of their own take longest.
        typescript("TypeScript 2, stdio, legacy", "legacy", &over_stdio),
        python("Python 2, stdio, modern", "modern", &over_stdio),
        inspector("inspector, legacy", "legacy"),
        inspector("inspector, modern", "modern"),
        script("Python 1", &installed.former_python, former, "legacy", &over_http),
        python("Python 2, legacy", "legacy", &over_http),
        python("Python 2, auto", "auto", &over_http),
        typescript("TypeScript 2, legacy", "legacy", &over_http),
        typescript("TypeScript 2, auto", "auto", &over_http),
        rmcp("rmcp, initialize", "initialize"),
        rmcp("rmcp, discover", "discover"),
    ]
}

/// The command of a gateway that speaks on its own streams, with the installation's home.
fn over_stdio(installation: &Installation) -> Value {
    let command = installation.command(&["serve", "--stdio"]);
    let variables = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
    let environment: serde_json::Map<_, _> =
        variables.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    json!({ "command": command.get_program().to_str().unwrap(), "args": ["serve", "--stdio"], "env": environment })
}

/// The order to do with a server, or with several behind one gateway, all that there is to be done.
pub(crate) struct Order {
    /// How many tools there must be.
    pub(crate) tools: usize,
    /// Tools and their arguments.
    pub(crate) calls: Vec<(String, Value)>,
    /// Prompts and their arguments.
    pub(crate) prompts: Vec<(String, Value)>,
    /// Addresses of resources.
    pub(crate) resources: Vec<String>,
}

impl Order {
    fn named(list: &[(String, Value)]) -> Value {
        list.iter().map(|(name, arguments)| json!({ "name": name, "arguments": arguments })).collect()
    }

    fn told(&self, server: &Value, mode: &str) -> Value {
        json!({
            "server": server, "mode": mode, "tools": self.tools, "calls": Self::named(&self.calls),
            "prompts": Self::named(&self.prompts), "resources": self.resources,
        })
    }
}

/// What came of an order.
pub(crate) struct Obeyed {
    pub(crate) client: &'static str,
    /// What the client saw, or why it saw nothing.
    pub(crate) saw: Result<Value, String>,
    pub(crate) took: Duration,
}

impl Client {
    /// Obeys an order, in a home of its own. A client that does not end is one that saw nothing.
    pub(crate) fn obey(&self, order: &Order, home: &Path) -> Obeyed {
        let began = Instant::now();
        let saw = catch_unwind(AssertUnwindSafe(|| self.see(order, home)));
        let saw = saw.unwrap_or_else(|_| Err("it did not end, or what it printed is no text".into()));
        Obeyed { client: self.name, saw, took: began.elapsed() }
    }

    fn see(&self, order: &Order, home: &Path) -> Result<Value, String> {
        match &self.kind {
            Kind::Script { program, arguments, mode, server } => {
                let told = order.told(server, mode).to_string();
                let arguments: Vec<_> = arguments.iter().map(String::as_str).chain([told.as_str()]).collect();
                said(&interop::run_to_end(home, program, &arguments))
            }
            Kind::Inspector { node, inspector, era, url } => {
                Inspector { home, node, inspector: &inspector.display().to_string(), era, url }.obey(order)
            }
            Kind::Rmcp { lifecycle, url } => {
                rmcp_peer::obey(&order.told(&json!({ "url": url }), ""), rmcp_peer::lifecycle(lifecycle))
            }
        }
    }
}

/// How the inspector ends if a tool's result is an error.
const TOOL_FAILED: i32 = 5;

/// What a client that has ended printed.
fn said(finished: &Finished) -> Result<Value, String> {
    // The inspector ends with 5 where a tool says that it failed, which is an answer like any other.
    let answered = matches!(finished.code, Some(0 | TOOL_FAILED));
    let value = serde_json::from_str(&finished.stdout).ok().filter(|_| answered);
    value.ok_or_else(|| format!("it ended with {:?}, and says: {}{}", finished.code, finished.stdout, finished.stderr))
}

/// The inspector's command line.
struct Inspector<'a> {
    home: &'a Path,
    node: &'a Path,
    inspector: &'a str,
    era: &'a str,
    url: &'a str,
}

impl Inspector<'_> {
    fn ask(&self, arguments: &[&str]) -> Result<Value, String> {
        let common = [self.inspector, "--cli", "--format", "json", "-q", "--protocol-era", self.era, self.url];
        let finished = interop::run_to_end(self.home, self.node, &[&common, &["--method"][..], arguments].concat());
        let mut said = said(&finished).map_err(|error| format!("{arguments:?}: {error}"))?;
        Ok(said["result"].take())
    }

    fn obey(&self, order: &Order) -> Result<Value, String> {
        let mut saw = json!({});
        let lists = [
            ("tools/list", "tools"),
            ("prompts/list", "prompts"),
            ("resources/list", "resources"),
            ("resources/templates/list", "resourceTemplates"),
        ];
        for (method, member) in lists {
            saw[member] = self.ask(&[method])?[member].take();
        }
        let call = |(tool, arguments): &(String, Value)| {
            self.ask(&["tools/call", "--tool-name", tool, "--tool-args-json", &arguments.to_string()])
        };
        saw["called"] = order.calls.iter().map(call).collect::<Result<_, _>>()?;
        let prompt = |(prompt, arguments): &(String, Value)| {
            let pairs = arguments.as_object().unwrap().iter();
            let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
            let pairs = pairs.iter().flat_map(|pair| ["--prompt-args", pair.as_str()]);
            let arguments: Vec<_> = ["prompts/get", "--prompt-name", prompt].into_iter().chain(pairs).collect();
            self.ask(&arguments)
        };
        saw["prompted"] = order.prompts.iter().map(prompt).collect::<Result<_, _>>()?;
        let read = |uri: &String| self.ask(&["resources/read", "--uri", uri]);
        saw["read"] = order.resources.iter().map(read).collect::<Result<_, _>>()?;
        Ok(saw)
    }
}

/// Does all of this on so many threads, and returns what came of it in the order of what was to be done.
pub(crate) fn at_once<T: Sync, R: Send>(threads: usize, work: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(work.iter().enumerate());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((nth, one)) = next.lock().unwrap().next() else { break };
                    let result = act(one);
                    done.lock().unwrap().push((nth, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().map(|(_, result)| result).collect()
}
