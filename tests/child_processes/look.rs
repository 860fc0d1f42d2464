//! What a server can see of other processes: it looks everywhere for some texts, as a hostile one would.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::table;

/// How much of a process's memory is read at once.
const CHUNK: usize = 1 << 20;

/// Looks for texts, which are given backwards, in the environment, arguments, descriptors and memory of every process
/// that this one sees. The test itself is left out: it has made the texts. Of processes that are not of the gateway only
/// the environment, the arguments and the descriptors are read: there may be many large ones. Returns where texts were
/// found, and how many processes were looked at.
pub(crate) fn for_texts(backwards: &[&str], gateway: u32, test: u32) -> (Vec<Value>, usize) {
    let of_gateway: BTreeSet<u32> =
        table::descendants(gateway).iter().map(table::Process::pid).chain([gateway]).collect();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let processes: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let mut found = Vec::new();
    let mut looked = 0;
    for process in processes.into_iter().filter(|process| *process != test) {
        looked += 1;
        let mut note = |place: &str| found.push(json!({ "process": process, "in": place }));
        for file in ["environ", "cmdline"] {
            if std::fs::read(format!("/proc/{process}/{file}")).is_ok_and(|bytes| holds(&bytes, backwards)) {
                note(file);
            }
        }
        if descriptors(process).iter().any(|number| descriptor_holds(process, *number, backwards)) {
            note("fd");
        }
        if of_gateway.contains(&process) && process != std::process::id() && memory_holds(process, backwards) {
            note("mem");
        }
    }
    (found, looked)
}

/// The open descriptors of a process; none, if they cannot be seen.
pub(crate) fn descriptors(process: u32) -> Vec<u32> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd"));
    let numbers = entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

fn descriptor_holds(process: u32, number: u32, backwards: &[&str]) -> bool {
    let path = PathBuf::from(format!("/proc/{process}/fd/{number}"));
    // Files and memory only: a pipe or a terminal might make it wait.
    let Ok(metadata) = std::fs::metadata(&path) else { return false };
    let Ok(file) =
        std::fs::File::open(path).map_err(drop).and_then(|file| metadata.is_file().then_some(file).ok_or(()))
    else {
        return false;
    };
    let mut bytes = Vec::new();
    file.take(CHUNK as u64).read_to_end(&mut bytes).is_ok() && holds(&bytes, backwards)
}

/// Whether what a process may write of its memory holds a text.
fn memory_holds(process: u32, backwards: &[&str]) -> bool {
    let Ok(maps) = std::fs::read_to_string(format!("/proc/{process}/maps")) else { return false };
    let Ok(mut memory) = std::fs::File::open(format!("/proc/{process}/mem")) else { return false };
    let mut chunk = vec![0; CHUNK];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-')) else { continue };
        let [mut at, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        while at < end {
            let length = (end - at).min(CHUNK as u64);
            let part = &mut chunk[..usize::try_from(length).unwrap()];
            if memory.seek(SeekFrom::Start(at)).is_ok() && memory.read_exact(part).is_ok() && holds(part, backwards) {
                return true;
            }
            at += length;
        }
    }
    false
}

/// Whether bytes hold a text that is given backwards, so that nothing here holds it the right way round.
fn holds(bytes: &[u8], backwards: &[&str]) -> bool {
    backwards.iter().any(|backwards| {
        let last = *backwards.as_bytes().last().unwrap();
        let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == last).map(|(at, _)| at);
        starts.into_iter().any(|at| {
            let text = bytes.get(at..at + backwards.len());
            text.is_some_and(|text| text.iter().eq(backwards.as_bytes().iter().rev()))
        })
    })
}
