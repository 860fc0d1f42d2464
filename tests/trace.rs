//! The trace: complete, bounded, off the hot path, honest about what is missing, and readable after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;

use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::policy::{DecidedBy, DecisionRecord, DecisionSink, InstanceUse, PolicyComponent};
use cortex_mcp::trace::{Line, Replay, TraceError, TraceReader, limits};
use support::full_disk::FullDisk;
use support::hung_disk::HungDisk;
use support::policies::{contrary_bytes, faulty};
use support::traces::{decisions, dump, lines, replayed, segments, through, writer};
use support::{Rig, seconds};

/// A gateway's life of some variety, recorded; the rig that it ran on.
async fn recorded(prepare: impl FnOnce(&mut Rig)) -> Rig {
    let mut rig = Rig::new(3);
    rig.trace = Some(MemoryDirectory::new());
    prepare(&mut rig);
    rig.refuse(3);
    let served = rig.ready().await;
    for _ in 0..3 {
        served.modern().call("s1__echo", "{}").await;
    }
    tokio::time::sleep(seconds(900)).await;
    rig.revive(3);
    tokio::time::sleep(seconds(60)).await;
    served.gateway.shut_down().await;
    rig
}

#[tokio::test(start_paused = true)]
async fn every_decision_of_a_gateway_is_on_the_record_and_is_made_alike_again() {
    let rig = recorded(|_| {}).await;
    let folder = dump(rig.trace.as_ref().unwrap());
    let written = decisions(folder.path());
    assert_eq!(written, rig.records.records(), "what is written is what was decided, in order");
    let report = replayed(folder.path());
    assert!(report.records > 100, "{report:?}");
    assert_eq!((report.equal, report.different, report.skipped, report.dropped), (report.records, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_trace_is_replayed_anywhere_because_its_components_are_beside_it() {
    let bytes = contrary_bytes("flush-after");
    let component = Arc::new(PolicyComponent::load(&bytes, "elsewhere", InstanceUse::Fresh).unwrap());
    let rig = recorded(|rig| rig.policy = Some(component.clone())).await;
    let folder = dump(rig.trace.as_ref().unwrap());
    let report = replayed(folder.path());
    assert_eq!((report.equal, report.different, report.skipped), (report.records, 0, 0));
    // Through the default it is another matter, and it is told which.
    let embedded = Arc::new(PolicyComponent::embedded().unwrap());
    let report = through(folder.path(), Replay::through(embedded));
    assert!(
        report.different > 0 && report.summary.iter().all(|row| row.function.name() == "flush-after"),
        "{report:?}"
    );
    // Without the component nothing is claimed.
    std::fs::remove_file(folder.path().join(format!("policy-{}.wasm", component.digest()))).unwrap();
    let report = replayed(folder.path());
    assert_eq!((report.equal, report.different), (0, 0));
    assert_eq!((report.skipped, report.missing[0].digest), (report.records, component.digest()));
}

#[tokio::test(start_paused = true)]
async fn faulted_decisions_are_replayed_fault_by_fault() {
    let rig = recorded(|rig| rig.policy = Some(faulty("panic", "refresh"))).await;
    let folder = dump(rig.trace.as_ref().unwrap());
    let faults = decisions(folder.path()).iter().filter(|record| record.faulted.is_some()).count();
    let report = replayed(folder.path());
    assert!(faults > 0);
    assert_eq!(
        (report.equal, report.different, report.skipped),
        (report.records, 0, 0),
        "{:?}",
        report.first_difference
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_record_is_found_and_named_field_by_field() {
    let rig = recorded(|_| {}).await;
    let folder = dump(rig.trace.as_ref().unwrap());
    let file = folder.path().join(&segments(rig.trace.as_ref().unwrap())[0]);
    let text = std::fs::read_to_string(&file).unwrap();
    let line = 1 + text.lines().position(|line| line.contains(r#""wanted":"Blocking""#)).unwrap();
    std::fs::write(&file, text.replacen(r#""wanted":"Blocking""#, r#""wanted":"None""#, 1)).unwrap();
    let report = replayed(folder.path());
    assert_eq!((report.different, report.equal), (1, report.records - 1));
    let first = report.first_difference.unwrap();
    assert_eq!((first.line, first.function.name()), (line as u64, "lookup"));
    assert!(first.subject.ends_with("/cache"), "{first:?}");
    let field = &first.fields[0];
    assert_eq!(
        (field.field.as_str(), field.recorded.as_str(), field.replayed.as_str()),
        ("wanted", Some("None"), Some("Blocking"))
    );
    assert_eq!(report.summary.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_trace_loses_its_oldest_segments_and_the_rest_stands_for_itself() {
    let rig = recorded(|_| {}).await;
    let directory = MemoryDirectory::new();
    let bytes_max = 100_000;
    let trace = writer(Arc::new(directory.clone()), &rig.clock, bytes_max);
    for _ in 0..40 {
        rig.records.shared().into_iter().for_each(|record| trace.record(record));
        trace.flush();
    }
    trace.close().await;
    let status = trace.status();
    assert_eq!(status.dropped, 0);
    let files = segments(&directory);
    let held: u64 = files.iter().map(|name| directory.look(name).unwrap().unwrap().length).sum();
    // What is compressed counts as it is on the disk; the open segment has what is handed to the system at once.
    assert!(held <= bytes_max + limits::WRITE_BYTES as u64, "{held} bytes are held");
    assert!(status.bytes > 5 * held && files.len() > 4 && !files[0].contains("-000000."), "{status:?}: {files:?}");
    let folder = dump(&directory);
    for file in [&files[0], &files[files.len() / 2], &files[files.len() - 1]] {
        let report = replayed(&folder.path().join(file));
        assert_eq!((report.equal, report.different, report.skipped), (report.records, 0, 0), "{file}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_torn_last_line_is_skipped_wherever_the_crash_came() {
    let rig = recorded(|_| {}).await;
    let folder = dump(rig.trace.as_ref().unwrap());
    let file = folder.path().join(&segments(rig.trace.as_ref().unwrap())[0]);
    let bytes = std::fs::read(&file).unwrap();
    let start_of_last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let whole = decisions(folder.path()).len();
    for cut in (start_of_last..bytes.len()).step_by(7).chain([start_of_last + 1, bytes.len() - 2, bytes.len() - 1]) {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let mut reader = TraceReader::open(std::slice::from_ref(&file)).unwrap();
        let mut read = 0;
        while let Some(entry) = reader.next_entry().unwrap() {
            read += usize::from(matches!(entry.line, Line::Decision(_)));
        }
        // Only the end of the line is missing in the last case.
        let torn = u64::from(cut > start_of_last && cut < bytes.len() - 1);
        assert_eq!((reader.torn(), read), (torn, if cut == bytes.len() - 1 { whole } else { whole - 1 }), "{cut}");
    }
    // What a crash of the machine leaves: zeros where data was to be.
    std::fs::write(&file, [&bytes[..start_of_last], &[0; 100]].concat()).unwrap();
    assert_eq!(decisions(folder.path()).len(), whole - 1);
    // A first line that was torn is a segment without decisions.
    std::fs::write(&file, &bytes[..40]).unwrap();
    assert!(lines(folder.path()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_trace_is_refused_with_its_place() {
    let rig = recorded(|_| {}).await;
    let folder = dump(rig.trace.as_ref().unwrap());
    let file = folder.path().join(&segments(rig.trace.as_ref().unwrap())[0]);
    let text = std::fs::read_to_string(&file).unwrap();
    let read = |text: String| {
        std::fs::write(&file, text).unwrap();
        let mut reader = TraceReader::open(std::slice::from_ref(&file)).unwrap();
        loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(reader.unknown()),
                Err(error) => return Err(error),
            }
        }
    };
    let with_line = |number: usize, line: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines[number - 1] = line;
        lines.join("\n") + "\n"
    };
    // A decision, so that nothing refers to what stood there.
    let some = 1 + text.lines().skip(6).position(|line| line.starts_with("{\"decision\":")).unwrap() + 6;
    for broken in ["{\"decision\":{}}", "oops", "{\"value\":[]}", "{\"value\":[\"0badba\",{}]}"] {
        let error = read(with_line(some, broken)).unwrap_err();
        assert!(matches!(error, TraceError::Damaged { line, .. } if line == some as u64), "{error}");
    }
    assert!(matches!(read(with_line(1, "{\"servers\":[]}")), Err(TraceError::NoHeader { .. })));
    assert!(matches!(read(with_line(1, "{\"header\":{\"format\":3}}")), Err(TraceError::Format { format: 3, .. })));
    let header = text.lines().next().unwrap().replace("\"format\":2", "\"format\":1");
    let error = read(with_line(1, &header)).unwrap_err();
    assert!(matches!(error, TraceError::Format { format: 1, .. }), "{error}");
    assert!(error.to_string().contains(env!("CARGO_PKG_VERSION")), "it names the version that wrote it: {error}");
    assert_eq!(read(with_line(some, "{\"later\":{\"x\":1}}")).unwrap(), 1, "kinds of a later version are skipped");
    let unknown =
        read(text.lines().filter(|line| !line.starts_with("{\"value\":")).map(|line| format!("{line}\n")).collect());
    assert!(
        matches!(&unknown, Err(TraceError::Damaged { reason, .. }) if reason.contains("is not defined")),
        "{unknown:?}"
    );
    let empty = tempfile::tempdir().unwrap();
    let error = TraceReader::open(&[empty.path().to_owned()]).unwrap_err();
    assert!(matches!(error, TraceError::Empty { .. }) && error.to_string().contains("--no-trace"), "{error}");
    assert!(matches!(TraceReader::open(&[empty.path().join("x.jsonl")]), Err(TraceError::Read { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_records_and_the_trace_says_how_many_when_it_goes_on() {
    let rig = recorded(|_| {}).await;
    let records = rig.records.shared();
    let disk = Arc::new(FullDisk::default());
    let trace = writer(disk.clone(), &rig.clock, 1 << 20);
    records[..10].iter().for_each(|record| trace.record(record.clone()));
    trace.flush();
    // The file is open: it is appending that fails on a full disk.
    disk.set_full(true);
    records[10..30].iter().for_each(|record| trace.record(record.clone()));
    trace.flush();
    let status = trace.status();
    assert_eq!((status.written, status.dropped), (10, 20));
    assert!(status.failing.is_some(), "{status:?}");
    disk.set_full(false);
    // It is tried again after some seconds by the clock of the decisions.
    let later = |record: &Arc<DecisionRecord>| {
        let mut record = DecisionRecord::clone(record);
        record.moment.boot = record.moment.boot.plus(seconds(3_600));
        Arc::new(record)
    };
    records[30..40].iter().for_each(|record| trace.record(later(record)));
    trace.flush();
    let status = trace.status();
    assert_eq!((status.written, status.dropped, status.failing), (20, 20, None));
    let folder = dump(&disk.inner);
    let missing: Vec<_> = lines(folder.path())
        .into_iter()
        .filter_map(|entry| if let Line::Dropped(note) = entry.line { Some((note.count, note.total)) } else { None })
        .collect();
    assert_eq!(missing, [(20, 20)]);
    assert_eq!(segments(&disk.inner).len(), 2, "it goes on in a new segment");
}

#[tokio::test(start_paused = true)]
async fn a_hung_disk_holds_up_no_decision_and_everything_is_written_or_counted() {
    let mut rig = Rig::new(2);
    let disk = Arc::new(HungDisk::default());
    disk.set_hanging(true);
    rig.trace = Some(MemoryDirectory::new());
    let (_, builder) = rig.builder(&rig.network, &rig.state);
    let gateway = builder.trace_directory(disk.clone()).start().await.unwrap();
    gateway.first_pass().await;
    // More decisions than the queue holds, while not one byte can be written.
    for _ in 0..limits::QUEUE_RECORDS / 2 + 500 {
        gateway.call("s1__echo", None).await.unwrap();
    }
    let status = gateway.status().trace.unwrap();
    let decisions = gateway.status().policy.decisions;
    assert_eq!(status.written, 0);
    assert!(status.dropped > 0 && decisions > limits::QUEUE_RECORDS as u64, "{status:?}");
    assert!(gateway.metrics().contains("mcp_trace_dropped_total"));
    disk.set_hanging(false);
    gateway.shut_down().await;
    let (status, decisions) = (gateway.status().trace.unwrap(), gateway.status().policy.decisions);
    assert_eq!(status.written + status.dropped, decisions, "written or counted");
    let folder = dump(&disk.inner);
    let report = replayed(folder.path());
    assert_eq!((report.records, report.equal, report.dropped), (status.written, status.written, status.dropped));
}

#[tokio::test(start_paused = true)]
async fn the_trace_tells_which_connectors_and_tools_there_were_in_each_of_its_segments() {
    let mut rig = Rig::new(2);
    rig.trace = Some(MemoryDirectory::new());
    rig.document.connectors[1].enabled = false;
    rig.map.serve(&rig.document);
    let served = rig.ready().await;
    served.gateway.shut_down().await;
    let folder = dump(rig.trace.as_ref().unwrap());
    let (mut connectors, mut tools) = (None, Vec::new());
    for entry in lines(folder.path()) {
        match entry.line {
            Line::Connectors(note) => connectors = Some((note.enabled, note.disabled)),
            Line::Tools(note) if !note.names.is_empty() => tools.push((note.connector, note.names)),
            _ => {}
        }
    }
    assert_eq!(connectors, Some((vec!["s1".to_owned()], vec!["s2".to_owned()])));
    assert_eq!(tools.len(), 1);
    assert_eq!((tools[0].0.as_str(), tools[0].1.len()), ("s1", 3));
    assert!(tools[0].1.contains(&"s1__echo".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_a_trace_nothing_is_written_and_nothing_is_claimed() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    assert!(served.gateway.status().trace.is_none() && served.gateway.trace().is_none());
    assert!(!served.gateway.metrics().contains("mcp_trace_"));
    let last = rig.records.records().pop().unwrap();
    assert!(matches!(last.decided_by, DecidedBy::Deployed(_)));
}
