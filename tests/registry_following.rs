//! Following the registry: whoever changes the file, the running gateway serves what it says, and whatever can not be read
//! changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::disk::{Disk, DiskFile, DiskLook, MemoryDisk};
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::policy::{Policy, PolicyComponent, PolicyMetrics};
use cortex_mcp::registry::{MAX_REGISTRY_BYTES, RegistryMetrics, Store, StoreOptions, StoreParts};
use serde_json::json;
use support::policies::faulty;
use support::wire::Wire;
use support::{Rig, Served, seconds, tools_bytes};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

async fn tools(served: &Served) -> String {
    tools_bytes(&served.modern().list().await.body)
}

fn servers(entries: &[(&str, &str)]) -> String {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, endpoint)| json!({ "name": name, "transport": "http", "endpoint": endpoint }))
        .collect();
    json!({ "servers": entries }).to_string()
}

#[tokio::test(start_paused = true)]
async fn entries_of_the_registry_become_connectors_and_are_followed() {
    let mut rig = Rig::new(3);
    rig.environment = [].into();
    let served = rig.start().await;
    assert_eq!(served.tools(), 0);
    let soon = seconds(1);
    rig.write_registry(&servers(&[("one", "https://s1.test/mcp"), ("Two.B", "https://s2.test/mcp")]));
    served.until("the entries", soon, |served| served.tools() == 6).await;
    assert!(tools(&served).await.contains("one__echo"));

    rig.server(3).set_tools(1);
    rig.write_registry(&servers(&[("one", "https://s3.test/mcp"), ("Two.B", "https://s2.test/mcp")]));
    served.until("the edit", soon, |served| served.tools_of("one") == 1).await;
    rig.write_registry(&servers(&[("one", "https://s3.test/mcp")]));
    served.until("the removal", soon, |served| served.tools() == 1).await;

    let text = r#"{"servers":[{"name":"one"},"#;
    rig.write_registry(text);
    served.until("the report", soon, |served| served.gateway.status().registry.error.is_some()).await;
    assert_eq!(served.tools(), 1, "a damaged file changes nothing");
    rig.write_registry(&servers(&[("one", "https://s3.test/mcp"), ("two", "https://s2.test/mcp")]));
    served.until("the repair", soon, |served| served.tools() == 4).await;
    assert_eq!(served.gateway.status().registry.error, None);

    // One entry that can not be read does not hide the others.
    rig.write_registry(
        r#"{"servers":[{"name":"two","transport":"http","endpoint":"https://s2.test/mcp"},
        {"name":"bad","transport":"http"},
        {"name":"local","transport":"ws","endpoint":"wss://x.test/"}]}"#,
    );
    let told = |served: &Served, name: &str, part: &str| {
        let problems = served.gateway.status().registry.problems;
        problems.iter().any(|problem| problem.contains(name) && problem.contains(part))
    };
    served.until("the problem", soon, |served| told(served, "bad", "must have an endpoint")).await;
    served.until("the other one", soon, |served| told(served, "local", "ws, which is not served")).await;
    served.until("the removal", soon, |served| (served.tools(), served.tools_of("one")) == (3, 0)).await;
    // Whoever drops the generation of the file is told what that may have cost.
    assert!(told(&served, "Two.B", "drops \"generation\""));
}

/// A registry's folder that counts how often its file is read, and that can be locked away.
#[derive(Default)]
struct Folder {
    inner: MemoryDisk,
    unreadable: AtomicBool,
    reads: AtomicU64,
}

impl Folder {
    fn opened(&self) -> io::Result<()> {
        match self.unreadable.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Ok(()),
        }
    }
}

impl Disk for Folder {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        self.opened()?;
        if name == "servers.json" {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.opened()?;
        self.inner.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        self.inner.exchange(one, other)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.opened()?;
        self.inner.names()
    }

    fn look(&self, name: &str) -> io::Result<Option<DiskLook>> {
        self.opened()?;
        self.inner.look(name)
    }

    fn look_at_folder(&self) -> io::Result<DiskLook> {
        self.opened()?;
        self.inner.look_at_folder()
    }
}

/// A gateway whose registry is in this folder.
async fn start_on(rig: &Rig, folder: &Arc<Folder>) -> Served {
    let (wire, builder) = rig.builder(&rig.network, &rig.state);
    let gateway = builder.registry_disk(folder.clone()).start().await.unwrap();
    Served { gateway, wire, started: Instant::now() }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_was_unreadable_for_a_while_is_told_so_no_longer_than_that() {
    let mut rig = Rig::new(1);
    rig.environment = [].into();
    let folder = Arc::new(Folder::default());
    support::rig::edit(&folder.inner, servers(&[("one", "https://s1.test/mcp")]).as_bytes());
    let served = start_on(&rig, &folder).await;
    served.until("the entry", seconds(1), |served| served.tools() == 3).await;
    folder.unreadable.store(true, Ordering::SeqCst);
    served.until("the report", seconds(1), |served| served.gateway.status().registry.error.is_some()).await;
    assert_eq!(served.tools(), 3);
    // The same bytes again; a disk that failed is tried again after a second, then less and less often.
    folder.unreadable.store(false, Ordering::SeqCst);
    served.until("the end of it", seconds(5), |served| served.gateway.status().registry.error.is_none()).await;
    assert_eq!((served.tools(), served.gateway.status().registry.entries), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_change_is_hardly_read_and_a_huge_one_not_at_all() {
    let mut rig = Rig::new(1);
    rig.environment = [].into();
    let folder = Arc::new(Folder::default());
    support::rig::edit(&folder.inner, servers(&[("one", "https://s1.test/mcp")]).as_bytes());
    let served = start_on(&rig, &folder).await;
    let reads = || folder.reads.load(Ordering::SeqCst);
    tokio::time::sleep(seconds(6)).await;
    let (before, written) = (reads(), served.gateway.status().registry.counts.documents);
    tokio::time::sleep(seconds(50)).await;
    // At most every five seconds, however often it is looked at.
    assert!(reads() - before <= 10, "{}", reads() - before);
    assert_eq!(served.gateway.status().registry.counts.documents, written, "and nobody writes it");

    support::rig::edit(&folder.inner, &vec![b' '; MAX_REGISTRY_BYTES + 1]);
    served.until("the report", seconds(1), |served| served.gateway.status().registry.error.is_some()).await;
    assert!(served.gateway.status().registry.error.unwrap().contains("larger"));
    assert_eq!(served.tools(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_vanishes_is_no_edit_that_removes_everything_and_is_written_again() {
    let mut rig = Rig::new(2);
    rig.environment = [].into();
    rig.write_registry(&servers(&[("one", "https://s1.test/mcp"), ("two", "https://s2.test/mcp")]));
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1)).await;
    let registry = rig.registry.clone();
    registry.remove("servers.json").unwrap();
    let back = || registry.look("servers.json").unwrap().is_some();
    served
        .until("the file is back", seconds(1), |served| {
            assert_eq!((served.tools(), served.gateway.status().registry.entries), (6, 2));
            back()
        })
        .await;
    // Somebody who moved it away and puts nothing in its place has removed nothing.
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(served.tools(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_registry_that_the_policy_could_not_judge_is_taken_when_it_can() {
    let rig = Rig::new(1);
    let edge = Edge {
        clock: rig.clock.clone(),
        entropy: Arc::new(VirtualEntropy::from_number(7)),
        http: Wire::new(rig.network.clone()),
    };
    for function in ["adopt", "merge"] {
        let good = Arc::new(PolicyComponent::embedded().unwrap());
        let faulty = faulty("panic", function);
        // Not even the default helps.
        let policy =
            Policy::new(good.clone(), faulty.clone(), edge.clone(), rig.records.clone(), PolicyMetrics::default());
        let policy = Arc::new(policy);
        let disk = MemoryDisk::new();
        let write = |names: [&str; 2]| {
            support::rig::edit(&disk, servers(&names.map(|name| (name, "https://s1.test/mcp"))).as_bytes());
        };
        write(["one", "two"]);
        let stop = CancellationToken::new();
        let parts = StoreParts {
            disk: Arc::new(disk.clone()),
            file: "servers.json".to_owned(),
            policy: policy.clone(),
            writer: format!("w-{function}"),
            metrics: RegistryMetrics::default(),
            options: StoreOptions::default(),
        };
        let (view, task) = cortex_mcp::registry::keep(Store::open(parts).unwrap(), stop.clone());
        let names = || -> Vec<String> { view.borrow().connectors.iter().map(|one| one.name.clone()).collect() };
        assert_eq!(names(), ["one", "two"]);
        tokio::time::sleep(seconds(2)).await;

        policy.swap(faulty);
        write(["two", "three"]);
        tokio::time::sleep(seconds(2)).await;
        assert!(view.borrow().status.error.is_some(), "{function}");
        assert_eq!(names(), ["one", "two"], "{function}: what was read before stands");

        policy.swap(good);
        // What failed is tried again after a second, two, four.
        tokio::time::sleep(seconds(8)).await;
        assert_eq!((view.borrow().status.error.clone(), names()), (None, vec!["three".into(), "two".into()]));
        stop.cancel();
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_is_served_from_the_first_moment_after_a_restart() {
    let mut rig = Rig::new(2);
    rig.environment = [].into();
    rig.write_registry(&servers(&[("one", "https://s1.test/mcp"), ("two", "https://s2.test/mcp")]));
    let served = rig.ready().await;
    let before = tools(&served).await;
    served.gateway.shut_down().await;
    rig.stop_everything();
    let again = rig.start().await;
    assert_eq!((tools(&again).await, again.wire.count(), again.tools()), (before, 0, 6));
}

#[tokio::test(start_paused = true)]
async fn if_map_and_registry_name_one_connector_the_map_wins_and_it_is_told() {
    let rig = Rig::new(2);
    rig.server(2).set_tools(1);
    rig.write_registry(&servers(&[("s1", "https://s2.test/mcp"), ("own", "https://s2.test/mcp")]));
    let served = rig.ready().await;
    served.until("both documents", seconds(1), |served| served.tools() == 5).await;
    assert_eq!((served.tools_of("s1"), served.tools_of("own")), (3, 1));
    let conflicts = served.gateway.status().conflicts;
    assert_eq!((conflicts.len(), conflicts[0].id.as_str(), conflicts[0].hidden.as_str()), (1, "s1", "s1"));
}
