//! The document as it stands in the file, as this process read or wrote it last.
//!
//! The bytes are the truth; what the file looks like from outside only saves reading them, and is believed for a bounded
//! time, as times are coarse. Nothing here decides what a document means.

use std::io;
use std::sync::Arc;

use super::bases;
use super::document::{RegistryDocument, RegistryError, read};
use super::entry::{EntryRule, RegistryEntry};
use super::limits::{LOOKS_ARE_TRUSTED, MAX_REGISTRY_BYTES};
use super::names::FileNames;
use super::round::Kept;
use super::state::State;
use crate::edge::disk::{self, Disk, DiskLook};
use crate::model::BootMs;

/// What stands in the file.
#[derive(Default)]
pub(super) struct FoundFile {
    content: Content,
    bytes: Option<Vec<u8>>,
    /// What it looked like; none if it is not there.
    pub(super) look: Option<DiskLook>,
    read_at: Option<BootMs>,
    kept: Kept,
    problems: Vec<String>,
    absorbed: Vec<String>,
    generation: u64,
    /// Whether this process knows that it is durable: its writer may have died before it was.
    durable: bool,
}

/// What the bytes are.
#[derive(Clone, Default)]
pub(super) enum Content {
    /// There is no file.
    #[default]
    Missing,
    /// A document as a cooperating writer left it.
    Pristine(State),
    /// A document that something else wrote.
    Foreign(Arc<RegistryDocument>),
    /// No document.
    Unreadable(RegistryError),
}

impl FoundFile {
    /// Reads the file, unless it looks as it did a moment ago. Tells whether something else stands there now.
    ///
    /// # Errors
    /// Whatever the file system says; what was known is then still known.
    pub(super) fn read(
        &mut self,
        disk: &dyn Disk,
        names: &FileNames,
        now: BootMs,
        trust_looks: bool,
    ) -> io::Result<bool> {
        let look = disk.look(names.snapshot())?;
        let recent = self.read_at.is_some_and(|at| now.since(at) < LOOKS_ARE_TRUSTED);
        if trust_looks && recent && look == self.look {
            return Ok(false);
        }
        let bytes = match disk::read(disk, names.snapshot(), MAX_REGISTRY_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let changed = self.look != look || self.read_at.is_none();
                let content = Content::Unreadable(RegistryError::TooLarge);
                *self = Self { content, look, read_at: Some(now), ..Self::default() };
                return Ok(changed);
            }
            Err(error) => return Err(error),
        };
        let too_large = matches!(self.content, Content::Unreadable(RegistryError::TooLarge));
        let known = self.read_at.is_some() && !too_large;
        // The look is the older of the two: a change in between shows at the next look.
        (self.look, self.read_at) = (look, Some(now));
        if known && bytes.as_deref() == self.bytes.as_deref() {
            // Another file with the same bytes is the same document.
            return Ok(false);
        }
        let Some(bytes) = bytes else {
            *self = Self { read_at: Some(now), ..Self::default() };
            return Ok(known);
        };
        self.durable = false;
        match read(&bytes) {
            Ok(document) => {
                self.kept = (document.extras.clone(), document.leftovers.clone());
                self.generation = document.generation.unwrap_or(0);
                self.absorbed.clone_from(&document.absorbed);
                self.problems = document.problems.iter().map(ToString::to_string).collect();
                self.content = match State::pristine(&document) {
                    Some(state) => Content::Pristine(state),
                    None => Content::Foreign(Arc::new(document)),
                };
            }
            Err(error) => {
                let content = Content::Unreadable(error);
                *self = Self { content, look, read_at: Some(now), ..Self::default() };
            }
        }
        self.bytes = Some(bytes);
        Ok(true)
    }

    /// Takes note of a document that was put there.
    /// Returns the bytes of the one before.
    pub(super) fn wrote(
        &mut self,
        now: BootMs,
        look: DiskLook,
        bytes: Vec<u8>,
        document: (u64, State, Kept),
    ) -> Option<Vec<u8>> {
        let former = self.bytes.take();
        let (generation, state, kept) = document;
        let problems = written_problems(&state, &kept);
        *self = Self {
            content: Content::Pristine(state),
            bytes: Some(bytes),
            look: Some(look),
            read_at: Some(now),
            kept,
            problems,
            absorbed: Vec::new(),
            generation,
            durable: true,
        };
        former
    }

    /// Whether later documents than this one stood in its place.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn is_outdated(&self, disk: &dyn Disk, names: &FileNames) -> io::Result<bool> {
        // What this process put there itself is the latest.
        let latest = || bases::on_disk(disk, names).map(|bases| bases.last().map_or(0, |base| base.0));
        Ok(!self.durable && self.generation < latest()?)
    }

    /// Makes it durable, if it may not be.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn make_durable(&mut self, disk: &dyn Disk, names: &FileNames) -> io::Result<()> {
        if self.durable || self.bytes.is_none() {
            return Ok(());
        }
        if let Some(file) = disk.open(names.snapshot())? {
            file.sync_all()?;
        }
        disk::sync_names(disk)?;
        self.durable = true;
        Ok(())
    }

    /// What it is.
    pub(super) fn content(&self) -> Content {
        self.content.clone()
    }

    /// Its bytes; none if it is not there.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }

    /// The generation that it carries, or 0.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it says exactly this.
    pub(super) fn holds(&self, state: &State, kept: &Kept) -> bool {
        match &self.content {
            Content::Missing => state.is_empty() && *kept == Kept::default(),
            Content::Pristine(own) => own.digest() == state.digest() && self.kept == *kept,
            Content::Foreign(_) | Content::Unreadable(_) => false,
        }
    }

    /// The foreign documents that it holds.
    pub(super) fn absorbed(&self) -> &[String] {
        &self.absorbed
    }

    /// What in it means nothing here and is kept.
    pub(super) fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// The name that its document has as a base; none if it is not one of ours.
    pub(super) fn base(&self, names: &FileNames) -> Option<String> {
        match &self.content {
            Content::Pristine(state) => Some(names.base(self.generation, &state.digest())),
            _ => None,
        }
    }

    /// What is wrong with it, each a sentence.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        if let Some(look) = self.look
            && look.mode & 0o077 != 0
        {
            problems.push(format!(
                "the file may be read by others (mode {:04o}), and it may hold secrets; `chmod 600` it, or run \
                 `cortex-mcp registry repair`",
                look.mode
            ));
        }
        problems
    }
}

/// What is wrong with a document of ours: what it keeps although it can not be used.
fn written_problems(state: &State, kept: &Kept) -> Vec<String> {
    // Mostly there is none, which is known without looking.
    let looked_at = if state.unusable() > 0 { state.size() } else { 0 };
    let unusable = state.in_force().take(looked_at).filter_map(|entry| {
        let rule = entry.transport.as_ref().err()?;
        Some(format!("the server {} {rule}", entry.name))
    });
    let left = kept.1.iter().map(|text| match RegistryEntry::kept(text) {
        Ok(entry) => format!("one more server {} {}", entry.name, EntryRule::RepeatedName),
        Err(rule) => format!("a server {rule}"),
    });
    unusable.chain(left).collect()
}
