//! Real servers of every SDK and transport behind one gateway, and real clients before it: each client lists all tools,
//! prompts and resources, and calls every server, and sees what the server says to one who asks it directly.
//! `tests/interop/install` installs them. Where they are missing the test is skipped with a printed reason, unless
//! `CORTEX_REQUIRE_INTEROP=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

#[path = "interop_matrix/clients.rs"]
mod clients;
#[path = "interop_matrix/compare.rs"]
mod compare;
#[path = "interop_matrix/leftovers.rs"]
mod leftovers;
mod processes;
#[path = "interop_matrix/rmcp_peer.rs"]
mod rmcp_peer;
#[path = "interop_matrix/servers.rs"]
mod servers;

use std::time::{Duration, Instant};

use clients::{Obeyed, Order, at_once};
use compare::{Cell, Offsets};
use leftovers::processes_that_know;
use processes::{Installation, Serving, wait_for_tools};
use serde_json::{Value, json};
use servers::{Installed, Server, Servers};

/// How many clients run at one time: each is a process that computes.
const AT_ONCE: usize = 4;

/// How long the children of a gateway may take to end after it.
const LAST_WORDS: Duration = Duration::from_secs(10);

#[test]
fn every_client_sees_through_the_gateway_what_every_server_says_directly() {
    let Some(installed) = Installed::find() else { return };
    let began = Instant::now();
    let passed = |what: &str| println!("{:>6} ms: {what}", began.elapsed().as_millis());
    let installation = Installation::new();
    let servers = Servers::start(&installed, &installation);
    installation.file("home/mcp/servers.json", servers.registry());
    let gateway = installation.serve();
    passed("the servers are started, and the gateway listens");
    let references: Vec<_> = directly(&installed, &installation, &servers);
    passed("every server was asked directly");
    wait_for_tools(&gateway, servers.tools());
    passed("the gateway lists all tools");
    let children = servers.all.iter().filter(|server| server.is_child()).count();
    assert!(processes_that_know(installation.folder()).len() > children, "the processes of this test are not found");

    let order = through(&gateway, &servers);
    let clients = clients::all(&installed, &installation, &gateway);
    let obeyed = at_once(AT_ONCE, &clients, |client| {
        let home = client.name.replace(", ", "-").replace(' ', "-");
        client.obey(&order, &installation.folder().join("homes").join(home))
    });
    passed("every client has seen every server");
    let (cells, mut faults) = compared(&servers, &references, &obeyed);
    print(&cells, &obeyed);

    assert_eq!(gateway.stop().code, Some(0));
    drop(servers);
    let end = Instant::now() + LAST_WORDS;
    let left = loop {
        let left = processes_that_know(installation.folder());
        if left.is_empty() || Instant::now() > end {
            break left;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    passed("everything has ended");
    faults.extend(left.into_iter().map(|process| format!("it still runs: {process}")));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// What the reference client sees of each server without a gateway between.
fn directly(installed: &Installed, installation: &Installation, servers: &Servers) -> Vec<Value> {
    at_once(AT_ONCE, &servers.all, |server| {
        let named = |list: &[(&'static str, Value)]| {
            list.iter().map(|(name, arguments)| ((*name).to_owned(), arguments.clone())).collect()
        };
        let order = Order {
            tools: server.tools,
            calls: named(&server.calls),
            prompts: named(&server.prompts),
            resources: server.resources.clone(),
        };
        let home = installation.folder().join("homes").join(format!("reference-{}", server.id));
        let obeyed = clients::reference(installed, server).obey(&order, &home);
        let saw = obeyed.saw.unwrap_or_else(|error| panic!("{} does not work without a gateway: {error}", server.id));
        for outcome in ["called", "prompted", "read"].iter().flat_map(|member| saw[*member].as_array().unwrap()) {
            assert_eq!(outcome.get("error"), None, "{} refuses what it is asked", server.id);
        }
        saw
    })
}

/// The same for all servers, by the names and addresses that the gateway gives them.
fn through(gateway: &Serving, servers: &Servers) -> Order {
    let client = gateway.client();
    let list = |method, member: &str| {
        let answer = client.post(method, &json!({})).expect("an answer");
        serde_json::from_str::<Value>(&answer).unwrap()["result"][member].take()
    };
    let named = |listed: &Value, of: fn(&Server) -> &[(&'static str, Value)]| {
        let all = servers.all.iter().flat_map(|server| of(server).iter().map(move |one| (server, one)));
        // What is not listed is asked for nevertheless, and answered with an error.
        let names = all.map(|(server, (name, arguments))| {
            (compare::name(listed, server, name).unwrap_or(name).to_owned(), arguments.clone())
        });
        names.collect()
    };
    let resources = list("resources/list", "resources");
    let wanted = servers.all.iter().flat_map(|server| &server.resources);
    Order {
        tools: servers.tools(),
        calls: named(&list("tools/list", "tools"), |server| &server.calls),
        prompts: named(&list("prompts/list", "prompts"), |server| &server.prompts),
        resources: wanted.map(|uri| compare::address(&resources, uri).unwrap_or(uri).to_owned()).collect(),
    }
}

/// The whole matrix, and everything that is not as it should be.
fn compared(servers: &Servers, references: &[Value], obeyed: &[Obeyed]) -> (Vec<Cell>, Vec<String>) {
    let (mut cells, mut faults) = (Vec::new(), Vec::new());
    for client in obeyed {
        let saw = match &client.saw {
            Ok(saw) => saw,
            Err(error) => {
                faults.push(format!("{}: {error}", client.client));
                continue;
            }
        };
        let mut at = Offsets::default();
        for (server, reference) in servers.all.iter().zip(references) {
            let cell = compare::cell(server, client.client, saw, reference, at);
            at = at.after(server);
            faults.extend(cell.faults.iter().map(|fault| format!("{}, {}: {fault}", cell.client, cell.server)));
            cells.push(cell);
        }
    }
    (cells, faults)
}

fn print(cells: &[Cell], obeyed: &[Obeyed]) {
    println!("{:<17} {:<27} {:>6} {:>6} {:>7} {:>4}", "server", "client", "listed", "called", "prompts", "read");
    for Cell { server, client, listed, called, prompted, read, faults, .. } in cells {
        let verdict = if faults.is_empty() { "" } else { "  !" };
        println!("{server:<17} {client:<27} {listed:>6} {called:>6} {prompted:>7} {read:>4}{verdict}");
    }
    for Obeyed { client, took, .. } in obeyed {
        let of_client = cells.iter().filter(|cell| cell.client == *client);
        let listed: usize = of_client.clone().map(|cell| cell.listed).sum();
        let paged: usize = of_client.clone().filter(|cell| cell.paged).map(|cell| cell.listed).sum();
        let called: usize = of_client.map(|cell| cell.called).sum();
        let took = took.as_millis();
        println!("{client}: {listed} tools listed, {paged} of them from pages, {called} calls answered, {took} ms");
    }
}
