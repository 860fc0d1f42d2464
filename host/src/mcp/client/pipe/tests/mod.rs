//! Pipes to children that behave by script, under virtual time.

mod death;
mod ending;
mod eras;
mod irregular;
mod messages;
mod routes;
mod starts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};

use crate::edge::process::{ChildSpawner, Exit};
use crate::edge::virtual_network::VirtualNetwork;
use crate::edge::virtual_processes::{OnTerminate, VirtualChild, VirtualProcesses};
use crate::mcp::{Declared, Era, Inbound, Interim, Notice, Outcome, Question, RawObject, Session, Upstream};
use crate::model::{CommandLine, Reach, raw};

/// A server's side of its streams.
struct Peer {
    input: Lines<BufReader<DuplexStream>>,
    output: DuplexStream,
}

impl Peer {
    fn of(child: VirtualChild) -> Self {
        let VirtualChild { input, output, .. } = child;
        Self { input: BufReader::new(input).lines(), output }
    }

    /// The next message; none once its input is closed.
    async fn next(&mut self) -> Option<Value> {
        let line = self.input.next_line().await.ok()??;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The next request, whatever notifications come before it.
    async fn request(&mut self) -> Option<Value> {
        loop {
            let message = self.next().await?;
            if message.get("id").is_some() && message.get("method").is_some() {
                return Some(message);
            }
        }
    }

    async fn say(&mut self, text: &str) {
        // Whoever does not read any more misses it.
        drop(self.output.write_all(format!("{text}\n").as_bytes()).await);
    }

    async fn answer(&mut self, request: &Value, result: &str) {
        self.say(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request["id"])).await;
    }

    async fn refuse(&mut self, request: &Value, code: i64) {
        let id = &request["id"];
        self.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#)).await;
    }

    /// Answers what a session is opened with, as a server of an era does, and returns the first request after that.
    async fn open(&mut self, era: Era) -> Option<Value> {
        loop {
            let request = self.request().await?;
            match (request["method"].as_str()?, era) {
                ("server/discover", Era::Modern) => self.answer(&request, DISCOVERED).await,
                ("server/discover", Era::Legacy) => self.refuse(&request, -32601).await,
                ("initialize", Era::Legacy) => self.answer(&request, INITIALIZED).await,
                ("initialize", Era::Modern) => self.refuse(&request, -32601).await,
                _ => return Some(request),
            }
        }
    }

    /// Waits until its input is closed.
    async fn rest(&mut self) -> Exit {
        while self.next().await.is_some() {}
        Exit::Code(0)
    }
}

const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#;
const INITIALIZED: &str =
    r#"{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}"#;

/// A server that is a script.
struct Rig {
    processes: Arc<VirtualProcesses>,
    upstream: Upstream,
    inbound: Arc<Inbound>,
}

impl Drop for Rig {
    /// What a server asserts holds too.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.processes.panicked(), 0, "a server panicked");
        }
    }
}

impl Rig {
    fn new<F, R>(script: F) -> Self
    where
        F: Fn(Peer) -> R + Send + Sync + 'static,
        R: Future<Output = Exit> + Send + 'static,
    {
        Self::with(OnTerminate::Ends, move |child| script(Peer::of(child)))
    }

    fn with<F, R>(on_terminate: OnTerminate, program: F) -> Self
    where
        F: Fn(VirtualChild) -> R + Send + Sync + 'static,
        R: Future<Output = Exit> + Send + 'static,
    {
        let processes = Arc::new(VirtualProcesses::new());
        processes.set("server", on_terminate, program);
        let command = CommandLine { program: "server".into(), arguments: vec![], environment: BTreeMap::new() };
        let network = Arc::new(VirtualNetwork::new());
        let id = "scripted".parse().unwrap();
        let inbound = Arc::<Inbound>::default();
        let upstream = Upstream::reached(
            &Reach::Stdio(command),
            crate::mcp::FixedHeaders::new(HeaderMap::new()),
            network,
            ChildSpawner::new(processes.clone()),
            &id,
            inbound.clone(),
        );
        Self { processes, upstream, inbound }
    }

    async fn session(&self, era: Era) -> Arc<Session> {
        Arc::new(self.upstream.open(Some(era), &Declared::default()).await.unwrap())
    }
}

/// Keeps what it is told, and answers every question with `{}`.
#[derive(Default)]
struct Keeps {
    told: Mutex<Vec<String>>,
}

impl Keeps {
    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

impl Interim for Keeps {
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        let params = notice.params.map(|params| params.get().to_owned()).unwrap_or_default();
        self.told.lock().unwrap().push(format!("{} {params}", notice.method));
        futures_util::future::ready(()).boxed()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        self.told.lock().unwrap().push(format!("asked {}", question.method));
        futures_util::future::ready(Outcome::Result(raw::empty_object())).boxed()
    }
}

fn object(text: &str) -> RawObject {
    RawObject::from_str(text).unwrap()
}

fn text(outcome: Outcome) -> String {
    match outcome {
        Outcome::Result(result) => result.get().to_owned(),
        Outcome::Error(error) => panic!("{error}"),
    }
}

/// Lets everything that is under way come to a rest.
async fn settle() {
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
}
