//! Programs that edit the registry's file and know nothing of its other writers: they read it, change their own entries,
//! and write it again, each in its own manner.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::acks::{Fate, Write, now_ns};
use super::{Dice, FILE, entry};

/// How a program writes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Another file is put in its place; what is not understood is kept.
    Renames,
    /// Over its bytes; what is not understood is kept.
    InPlace,
    /// Another file is put in its place, and only the old tools' fields are in it.
    Drops,
    /// As the old tools: under their lock, if it is to be had soon; what is not understood is kept.
    Locks,
}

/// A program that edits.
pub(crate) struct Editor {
    pub(crate) folder: PathBuf,
    pub(crate) manner: Manner,
    pub(crate) number: u64,
    pub(crate) dice: Dice,
    pub(crate) names: Vec<String>,
    pub(crate) writes: Vec<Write>,
    /// Odd while the file's bytes are being written over.
    pub(crate) inside: Arc<AtomicU64>,
    /// Edits that were given up, because the lock was not to be had.
    pub(crate) gave_up: u64,
}

impl Editor {
    pub(crate) fn new(folder: &Path, manner: Manner, number: u64, seed: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            manner,
            number,
            dice: Dice::new(seed),
            names: (0..5).map(|index| format!("editor-{number}-{index}")).collect(),
            writes: Vec::new(),
            inside: Arc::default(),
            gave_up: 0,
        }
    }

    /// Edits again and again, until told to stop: once for each step that the others come forward, as far as their notes
    /// in this folder tell. So he is in their way all the time, and never for ever.
    pub(crate) fn start(mut self, notes: &Path, stop: &Arc<AtomicBool>) -> JoinHandle<Self> {
        let (notes, stop) = (notes.to_owned(), stop.clone());
        std::thread::spawn(move || {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                let noted = noted(&notes);
                if noted >= next {
                    next = noted + STEP;
                    self.edit();
                }
                std::thread::sleep(Duration::from_millis(1 + self.dice.below(8)));
            }
            self
        })
    }

    /// Reads, changes, writes.
    pub(crate) fn edit(&mut self) {
        let lock = self.folder.join(format!("{FILE}.lock"));
        if self.manner == Manner::Locks && !take(&lock) {
            self.gave_up += 1;
            return;
        }
        if let Some(document) = self.begin() {
            self.end(document);
        }
        if self.manner == Manner::Locks {
            std::fs::remove_file(&lock).unwrap();
        }
    }

    /// Reads the document; none if it can not be read.
    pub(crate) fn begin(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.path()).ok()?).ok()
    }

    /// Changes what was read, and writes it.
    pub(crate) fn end(&mut self, mut document: Value) {
        let name = self.names[usize::try_from(self.dice.below(self.names.len() as u64)).unwrap()].clone();
        let Some(servers) = document["servers"].as_array_mut() else { return };
        let there = servers.iter().position(|server| server["name"] == name.as_str());
        // Only what the others know of is removed: what is taken back before anyone saw it looks like no edit at all.
        let known = there.is_some_and(|at| self.manner == Manner::Drops || servers[at].get("rev").is_some());
        let value = self.number << 24 | (self.writes.len() as u64 + 1);
        let value = (!known || self.dice.below(100) >= 20).then_some(value);
        match (there, value) {
            (Some(at), Some(value)) => servers[at]["endpoint"] = entry(&name, value)["endpoint"].clone(),
            (None, Some(value)) => servers.push(entry(&name, value)),
            (Some(at), None) => drop(servers.remove(at)),
            (None, None) => return,
        }
        if self.manner == Manner::Drops {
            *document.as_object_mut().unwrap() =
                [("servers".to_owned(), document["servers"].clone())].into_iter().collect();
            for server in document["servers"].as_array_mut().unwrap() {
                server.as_object_mut().unwrap().retain(|field, _| {
                    matches!(field.as_str(), "name" | "transport" | "endpoint" | "command" | "args" | "env" | "headers")
                });
            }
        }
        let begin = now_ns();
        self.write(&serde_json::to_vec_pretty(&document).unwrap());
        self.writes.push(Write { name, value, begin, fate: Fate::Acknowledged(now_ns()) });
    }

    fn write(&self, bytes: &[u8]) {
        if self.manner == Manner::InPlace {
            self.inside.fetch_add(1, Ordering::SeqCst);
            let mut file = OpenOptions::new().write(true).truncate(true).open(self.path()).unwrap();
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            file.write_all(first).unwrap();
            file.write_all(rest).unwrap();
            self.inside.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let name = match self.manner {
            // The name that the old tools give theirs.
            Manner::Locks => format!("{FILE}.tmp-{}-{}", std::process::id(), self.writes.len()),
            _ => format!(".{FILE}.editor-{}", self.number),
        };
        let temporary = self.folder.join(name);
        std::fs::write(&temporary, bytes).unwrap();
        std::fs::rename(&temporary, self.path()).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }
}

/// How many bytes of notes lie between two edits: about ten changes.
const STEP: u64 = 700;

/// How many bytes the others noted so far.
fn noted(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let acks = files.filter(|path| path.extension().is_some_and(|end| end == "acks"));
    acks.map(|path| std::fs::metadata(path).map_or(0, |file| file.len())).sum()
}

/// The old tools' lock: five tries, with 10 to 50 ms between them.
fn take(lock: &Path) -> bool {
    (1..=5).any(|attempt| {
        let made = OpenOptions::new().write(true).create_new(true).open(lock).is_ok();
        if !made {
            std::thread::sleep(Duration::from_millis(attempt * 10));
        }
        made
    })
}
