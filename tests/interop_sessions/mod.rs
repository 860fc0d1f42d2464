//! Real servers with sessions and tokens: killed and started again under load, and refusing a token that has expired.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::processes::interop::{self, installed};
use super::processes::{Client, Installation, PATIENCE, Serving, until, wait_for_tools};

/// How long a token is accepted: a short one for a real server, long enough to be listed under load.
const TOKEN_LIFE: Duration = Duration::from_secs(15);

/// Clients that call while a server is killed. Each sees one call fail, which opens no circuit breaker.
const CALLERS: usize = 3;

const PING: &str = "sessions__echo";

/// A server of an SDK on an address of its own.
struct RealServer {
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    log: PathBuf,
    home: PathBuf,
    child: Option<Child>,
}

impl RealServer {
    fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("HOME", &self.home).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("FASTMCP_CHECK_FOR_UPDATES", "off").env("FASTMCP_SHOW_SERVER_BANNER", "false");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&self.log).unwrap());
        self.child = Some(command.spawn().unwrap());
        until("the server listens", PATIENCE, || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A token that is accepted for [`TOKEN_LIFE`] from `issued` on.
fn token(issued: SystemTime) -> String {
    format!("token-{}\n", issued.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis())
}

/// What `status` shows of the credential.
fn credential(gateway: &Serving) -> Value {
    let (_, status) = gateway.client().get("/status").unwrap();
    serde_json::from_str::<Value>(&status).unwrap()["connectors"][0]["credential"].take()
}

fn call(client: &Client) -> Value {
    client.call(PING, &json!({ "value": "here" }))
}

/// Has a server killed and started again under load, and its token expire and be replaced.
fn forgets_and_refuses(program: PathBuf, arguments: impl Fn(&str, &str) -> Vec<String>) {
    let installation = Installation::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let arguments = arguments(&port.to_string(), &TOKEN_LIFE.as_secs().to_string());
    let (home, log) = (installation.folder().to_owned(), installation.folder().join("server.log"));
    let mut server = RealServer { program, arguments, port, log, home, child: None };
    server.start();
    let issued = SystemTime::now();
    let file = installation.file("token", token(issued));
    let entry = json!({
        "name": "sessions", "transport": "http", "endpoint": format!("http://127.0.0.1:{port}/mcp"),
        "headers": { "Authorization": format!("Bearer ${{file:{file}}}") },
    });
    installation.file("home/mcp/servers.json", json!({ "servers": [entry] }).to_string());
    let gateway = installation.serve();
    wait_for_tools(&gateway, 1);
    let (url, client) = (gateway.url(), gateway.client());
    assert_eq!(call(&client)["result"]["content"][0]["text"], "here");
    assert_eq!(credential(&gateway), Value::Null);

    // The first call after the token's end is refused, and `status` shows it.
    sleep((TOKEN_LIFE + Duration::from_millis(100)).saturating_sub(issued.elapsed().unwrap()));
    assert!(call(&client)["error"].is_object());
    let refused = credential(&gateway);
    assert_eq!((&refused["state"], &refused["httpStatus"]), (&json!("unauthorized"), &json!(401)), "{refused}");
    assert_eq!(refused["challenges"][0]["error"], "invalid_token", "{refused}");
    assert!(refused["action"].as_str().unwrap().contains(&file), "{refused}");
    let shown = installation.run(&["status", "--url", &url]);
    assert_eq!(shown.code, Some(3), "{shown:?}");
    assert!(shown.stdout.contains("unauthorized") && shown.stdout.contains(&file), "{shown:?}");
    // The one that takes its place is used by the next.
    std::fs::write(&file, token(SystemTime::now() + Duration::from_secs(3_600))).unwrap();
    assert_eq!(call(&client)["result"]["content"][0]["text"], "here");
    until("the refusal is cleared", PATIENCE, || credential(&gateway).is_null().then_some(()));

    // Killed while it is called, twice; the first call after its return is served.
    for _ in 0..2 {
        scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let client = Client::new(&url);
                    until("a call fails", PATIENCE, || call(&client)["error"].is_object().then_some(()))
                });
            }
            sleep(Duration::from_millis(500));
            server.kill();
        });
        server.start();
        let first = call(&client);
        assert_eq!(first["result"]["content"][0]["text"], "here", "{first}");
    }
    assert_eq!(gateway.stop().code, Some(0));
}

fn python(environment: &str, kind: &str) {
    let Some(python) = installed(&format!("{environment}/bin/python")) else { return };
    let script = format!("{}/tests/interop/server_sessions.py", env!("CARGO_MANIFEST_DIR"));
    forgets_and_refuses(python, |port, seconds| [&script, kind, port, seconds].map(str::to_owned).to_vec());
}

#[test]
fn the_python_sdk_1_10_forgets_its_sessions_and_refuses_a_token() {
    python("python-mcp-1.10.1", "mcp");
}

#[test]
fn the_python_sdk_1_20_forgets_its_sessions_and_refuses_a_token() {
    python("python-mcp-1.20.0", "mcp");
}

#[test]
fn the_python_sdk_1_26_forgets_its_sessions_and_refuses_a_token() {
    python("python-mcp-1.26.0", "mcp");
}

#[test]
fn fastmcp_forgets_its_sessions_and_refuses_a_token() {
    python("python", "fastmcp");
}

#[test]
fn the_typescript_sdk_forgets_its_sessions_and_refuses_a_token() {
    let (Some(node), Some(_)) = (installed("bin/node"), installed("node_modules/@modelcontextprotocol/sdk")) else {
        return;
    };
    let folder = node.parent().unwrap().parent().unwrap().display().to_string();
    let script = format!("{}/tests/interop/server_sessions.mjs", env!("CARGO_MANIFEST_DIR"));
    forgets_and_refuses(node, |port, seconds| [&script, &folder, port, seconds].map(str::to_owned).to_vec());
}

#[test]
fn the_typescript_client_reports_a_refused_gateway_token_as_that() {
    let (Some(node), Some(_)) = (installed("bin/node"), installed("node_modules/@modelcontextprotocol/sdk")) else {
        return;
    };
    let installation = Installation::new();
    let digest = cortex_mcp::model::Digest::of(b"right");
    installation.file("home/mcp/gateway.toml", format!("[[token]]\nname = \"agent\"\nsha256 = \"{digest}\"\n"));
    let gateway = installation.serve();
    let folder = node.parent().unwrap().parent().unwrap().display().to_string();
    let script = format!("{}/tests/interop/client_auth.mjs", env!("CARGO_MANIFEST_DIR"));
    let home = installation.folder().join("client-home");
    let seen = |token: &str| interop::run(&home, &node, &[&script, &folder, &gateway.url(), token]).json();
    assert_eq!(seen("right")["error"], Value::Null);
    let refused = seen("wrong");
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("401") && error.contains("invalid_token") && error.contains("gateway.toml"), "{refused}");
    assert!(!error.contains("Invalid OAuth error response"), "{refused}");
}
