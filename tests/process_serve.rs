//! `cortex-mcp serve` as a process: restarts while nobody answers, late joiners, signals, shared folders, flags.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

mod processes;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cortex_mcp::demo::mcp_server::ServerOptions;
use processes::installation::since;
use processes::{Finished, Listed, PATIENCE, Serving, World, ordinary, until, wait_for_tools};
use serde_json::{Value, json};

/// Serves ten servers, ends, serves the same while everything is down, and follows when everything is back.
fn serve_again_after(end: impl FnOnce(Serving) -> Finished, name: &str) {
    let mut world = World::new(10);
    let installation = world.installation();
    let gateway = installation.serve();
    let before = wait_for_tools(&gateway, 30);
    let fetched: Vec<_> = before.standings().iter().map(|one| one["fetchedAt"].clone()).collect();
    let mut expected: Vec<_> = (1..=10).map(|number| format!("connector-server-{number:02}")).collect();
    expected.push("service-map".to_owned());
    until("ten lists and the map are on disk", PATIENCE, || {
        let kept = installation.kept();
        expected.iter().all(|name| kept.contains(name)).then_some(())
    });
    world.stop();
    end(gateway);
    let asked = world.requests();

    let gateway = installation.serve();
    let client = gateway.client();
    let again = client.list().unwrap();
    println!("{name}: the first list was answered {} ms after the process start", since(gateway.started).as_millis());
    assert!(again.tools == before.tools, "other bytes:\n{}\n{}", before.tools, again.tools);
    assert_eq!(again.standings().len(), 10);
    for (standing, fetched) in again.standings().iter().zip(&fetched) {
        assert!(standing["state"].is_string() && standing["fetchedAt"].is_string(), "{standing}");
        assert_eq!((&standing["fetchedAt"], &standing["tools"]), (fetched, &json!(3)), "{standing}");
    }
    assert_eq!(world.requests(), asked, "nobody could be asked");

    // They return with other tools, after all of them were found down.
    until("every server was found down", PATIENCE, || {
        let status = client.status();
        status["connectors"].as_array().unwrap().iter().all(|one| one["contact"] == "down").then_some(())
    });
    world.upstreams.iter().for_each(|upstream| upstream.server.set_tools(5));
    world.start();
    let back = Instant::now();
    until("the new lists are served", Duration::from_secs(90), || {
        client.list().filter(|listed| listed.names().len() == 50)
    });
    println!("{name}: all new lists were served {} ms after the servers were back", since(back).as_millis());
    for tool in ["server-01__add", "server-10__add"] {
        let answer = client.call(tool, &json!({"a": 40, "b": 2}));
        assert_eq!(answer["result"]["structuredContent"], json!({"sum": 42}), "{answer}");
    }
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn after_sigterm_a_restart_serves_everything_before_anybody_can_be_reached() {
    serve_again_after(
        |gateway| {
            let finished = gateway.stop();
            assert_eq!(finished.code, Some(0), "{finished:?}");
            finished
        },
        "after SIGTERM",
    );
}

#[test]
fn after_sigkill_a_restart_serves_everything_before_anybody_can_be_reached() {
    serve_again_after(
        |gateway| {
            let finished = gateway.kill();
            assert_eq!(finished.code, None, "{finished:?}");
            finished
        },
        "after SIGKILL",
    );
}

#[test]
fn a_server_that_was_down_at_the_start_joins_when_it_comes_up() {
    let mut world = World::new(3);
    world.upstreams[1].service.stop();
    let gateway = world.installation().serve();
    let listed = wait_for_tools(&gateway, 6);
    let standing =
        |listed: &Listed| listed.standings().into_iter().find(|one| one["id"] == "server-02").unwrap()["state"].clone();
    assert_eq!(standing(&listed), "empty");
    world.upstreams[1].service.start();
    let listed = wait_for_tools(&gateway, 9);
    assert_eq!(standing(&listed), "fresh");
    let answer = gateway.client().call("server-02__echo", &json!({"late": true}));
    assert_eq!(answer["result"]["structuredContent"], json!({"late": true}), "{answer}");
}

#[test]
fn a_map_server_that_comes_up_two_seconds_late_is_used() {
    let mut world = World::new(2);
    world.map.stop();
    let gateway = world.installation().serve();
    let client = gateway.client();
    let failure = until("the map was asked for in vain", PATIENCE, || {
        let status = client.status();
        status["serviceMap"]["lastFailure"]["class"].as_str().map(str::to_owned)
    });
    assert_eq!(failure, "transport");
    until("two seconds", PATIENCE, || (since(gateway.started) >= Duration::from_secs(2)).then_some(()));
    world.map.start();
    let up = Instant::now();
    wait_for_tools(&gateway, 6);
    println!("the late map was used {} ms after its server came up", since(up).as_millis());
    assert_eq!(client.status()["serviceMap"]["lastFailure"], Value::Null);
}

#[test]
fn a_call_in_flight_ends_with_its_result_after_sigterm() {
    let world = World::new(2);
    let slow = Duration::from_millis(1500);
    world.upstreams.iter().for_each(|upstream| upstream.server.set_latency_of("tools/call", slow));
    let gateway = world.installation().serve();
    wait_for_tools(&gateway, 6);
    let calls = ["server-01__add", "server-02__add"].map(|tool| {
        let client = gateway.client();
        std::thread::spawn(move || client.call(tool, &json!({"a": 40, "b": 2})))
    });
    until("both calls are at their servers", PATIENCE, || {
        world.upstreams.iter().all(|upstream| upstream.server.counts().calls == 1).then_some(())
    });
    gateway.terminate();
    for call in calls {
        let answer = call.join().unwrap();
        assert_eq!(answer["result"]["structuredContent"], json!({"sum": 42}), "{answer}");
    }
    let finished = gateway.end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 1, "only the address is printed: {finished:?}");
}

#[test]
fn sigterm_ends_a_gateway_while_a_server_hangs_for_ever() {
    let world = World::new(2);
    world.upstreams[1].server.be_silent_on(&["initialize", "server/discover", "tools/list"]);
    let gateway = world.installation().serve();
    wait_for_tools(&gateway, 3);
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn a_second_gateway_on_a_taken_port_says_so_and_ends() {
    let world = World::new(1);
    let gateway = world.installation().serve();
    let address = gateway.address();
    let other = world.installation();
    let refused = other.run(&["serve", "--listen", &address]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.complaint().contains(&address) && refused.complaint().contains("--listen"), "{refused:?}");
    let refused = other.run(&["serve", "--json", "--listen", &address]);
    assert_eq!((refused.code, &refused.json()["error"]["class"]), (Some(1), &json!("listen")), "{refused:?}");
    wait_for_tools(&gateway, 3);
}

#[test]
fn a_home_that_is_mounted_read_only_is_served() {
    let mut world = World::new(2);
    let saved = world.installation();
    let gateway = saved.serve();
    wait_for_tools(&gateway, 6);
    gateway.stop();
    let fresh = world.installation();
    let servers: Vec<_> = world
        .entries()
        .into_iter()
        .map(|(id, url)| json!({"name": id.to_string(), "transport": "http", "endpoint": url.as_str()}))
        .collect();
    std::fs::create_dir_all(fresh.state().parent().unwrap()).unwrap();
    std::fs::write(fresh.state().with_file_name("servers.json"), json!({ "servers": servers }).to_string()).unwrap();
    // Lists that were saved are served without their servers; without any, the configuration is.
    for (installation, is_saved) in [(saved, true), (fresh.without("CONNECTORS_SERVICE_MAP_URL"), false)] {
        if is_saved {
            world.stop()
        } else {
            world.start()
        }
        let Some(installation) = read_only(installation) else { return };
        let gateway = installation.serve();
        wait_for_tools(&gateway, 6);
        let status = gateway.client().status();
        assert_eq!((&status["state"], &status["tools"]), (&json!("read-only"), &json!(6)));
        assert_eq!(gateway.stop().code, Some(0));
    }
}

/// Runs the commands of an installation where its home is mounted read-only; none where mounts need rights that this process
/// has not.
fn read_only(installation: processes::Installation) -> Option<processes::Installation> {
    use std::os::unix::fs::PermissionsExt as _;
    let may_mount = std::process::Command::new("unshare").args(["--mount", "true"]).output();
    if !may_mount.is_ok_and(|mounted| mounted.status.success()) {
        processes::interop::skipped("mounting a home read-only needs root and unshare");
        return None;
    }
    let home = installation.state().parent().unwrap().parent().unwrap().display().to_string();
    let script = format!(
        "#!/bin/sh\nif [ \"$MOUNTED\" ]; then exec '{program}' \"$@\"; fi\nexport MOUNTED=1\nexec unshare --mount sh -c \
         'mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"' '{home}' '{program}' \"$@\"\n",
        program = env!("CARGO_BIN_EXE_cortex-mcp"),
    );
    let program = installation.file("read-only", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(installation.run_by(std::path::Path::new(&program), 0))
}

#[test]
fn two_gateways_share_a_folder_and_the_second_writes_when_the_first_is_killed() {
    let world = World::new(2);
    let installation = world.installation();
    let first = installation.serve();
    let before = wait_for_tools(&first, 6);
    let second = installation.serve();
    let client = second.client();
    assert_eq!(client.list().unwrap().tools, before.tools);
    assert_eq!(
        (first.client().status()["state"].clone(), client.status()["state"].clone()),
        (json!("writer"), json!("follower"))
    );
    first.kill();
    until("the second writes", PATIENCE, || (client.status()["state"] == "writer").then_some(()));

    world.upstreams[0].server.set_tools(4);
    let synced = installation.run(&["sync", "--running", "--url", &second.url(), "--json"]);
    assert_eq!(synced.code, Some(0), "{synced:?}");
    assert_eq!(client.list().unwrap().names().len(), 7);
    until("the new list is on disk", PATIENCE, || {
        let files = std::fs::read_dir(installation.state()).unwrap().map(|file| file.unwrap().path());
        let texts = files.filter_map(|file| std::fs::read(file).ok());
        texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).find(|text| text.contains("tool-4"))
    });
    assert_eq!(second.stop().code, Some(0));
}

#[test]
fn the_rollback_and_the_concurrency_are_honoured_by_the_process() {
    let slow = |_| ServerOptions { latency: Duration::from_millis(30), ..ordinary() };
    let world = World::with(4, slow);
    let gateway = world.installation().serve();
    wait_for_tools(&gateway, 12);
    let configuration = gateway.client().status()["configuration"].clone();
    assert_eq!((&configuration["refreshMode"], &configuration["concurrency"]), (&json!("background"), &Value::Null));
    assert!(world.gauge.most() > 1, "without a limit, servers are asked at the same time");

    for (variable, value, mode) in
        [("MCP_CONNECTOR_CONCURRENCY", "1", "background"), ("MCP_CONNECTOR_REFRESH_SYNC", "true", "on-demand")]
    {
        let world = World::with(4, slow);
        let gateway = world.installation().with(variable, value).serve();
        wait_for_tools(&gateway, 12);
        let configuration = gateway.client().status()["configuration"].clone();
        assert_eq!(
            (&configuration["refreshMode"], &configuration["concurrency"]),
            (&json!(mode), &json!(1)),
            "{variable}"
        );
        assert_eq!(world.gauge.most(), 1, "{variable}: one server at a time");
    }
}

#[test]
fn with_the_rollback_nobody_is_asked_until_somebody_reads() {
    let world = World::new(2);
    let installation = world.installation().with("MCP_CONNECTOR_REFRESH_SYNC", "true");
    let interval = installation.with("MCP_CONNECTOR_REFRESH_INTERVAL_MS", "1000");
    let gateway = interval.serve();
    wait_for_tools(&gateway, 6);
    let status = gateway.client().status();
    assert_eq!(status["configuration"]["refreshIntervalMs"], 1000);
    for connector in status["connectors"].as_array().unwrap() {
        assert_eq!(connector["nextAttempt"], Value::Null, "{connector}");
    }
}

/// Sends bytes to a gateway on a connection of their own.
fn sent(gateway: &Serving, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

/// Reads until the bytes end with `end`; returns all of them.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

mod sigterm {
    use super::*;

    #[test]
    fn ends_idle_streams_properly() {
        let world = World::new(1);
        let gateway = world.installation().serve();
        wait_for_tools(&gateway, 3);
        let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                    accept: application/json, text/event-stream\r\n";
        let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
        let length = initialize.len();
        let mut opened = sent(&gateway, &format!("{head}content-length: {length}\r\n\r\n{initialize}"));
        let opened = read_until(&mut opened, "\r\n\r\n");
        let session = opened.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).unwrap();
        let get = format!(
            "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n"
        );
        let mut idle = sent(&gateway, &get);
        assert!(read_until(&mut idle, "\r\n\r\n").starts_with("HTTP/1.1 200"));
        gateway.terminate();
        // The last chunk of a body that ended as it should (RFC 9112, section 7.1).
        read_until(&mut idle, "0\r\n\r\n");
        let finished = gateway.end();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(!finished.stderr.contains("cut off"), "{}", finished.stderr);
    }
}

mod connections {
    use super::*;

    #[test]
    fn that_ask_nothing_take_no_room_from_clients_that_do() {
        let world = World::new(1);
        let gateway = world.installation().serve();
        wait_for_tools(&gateway, 3);
        let health = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let length = list.len();
        let list = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n\
             {list}"
        );
        let mut client = sent(&gateway, &list);
        read_until(&mut client, "\r\n\r\n");
        let mut idle: Vec<TcpStream> = Vec::new();
        for number in 0..400 {
            idle.push(sent(&gateway, ""));
            if number % 100 == 99 {
                assert!(read_until(&mut sent(&gateway, health), "\r\n\r\n").starts_with("HTTP/1.1 200"));
            }
        }
        until("all but the last of them are closed", PATIENCE, || {
            let mut open = 0;
            for stream in &mut idle {
                stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                open += usize::from(!matches!(stream.read(&mut [0]), Ok(0)));
            }
            (open <= cortex_mcp::gateway::limits::PENDING_CONNECTIONS_MAX).then_some(())
        });
        // The connection of the client that asked something before is still there.
        client.write_all(list.as_bytes()).unwrap();
        let mut rest = Vec::new();
        until("it is answered", PATIENCE, || {
            let mut buffer = [0; 4096];
            client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let read = client.read(&mut buffer).unwrap_or(0);
            rest.extend_from_slice(&buffer[..read]);
            String::from_utf8_lossy(&rest).contains("HTTP/1.1 200").then_some(())
        });
    }
}
