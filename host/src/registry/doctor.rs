//! What is wrong with a registry, and what to do about each. Nothing is written unless probes are asked for.
//!
//! Every finding has a stable `check`, a sentence, and a remedy unless all is well. Nothing is quoted of what files say
//! besides well-formed names: they hold secrets. Locks are tried and given back at once.

mod journals;
mod probe;

#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::time::Duration;

use serde::Serialize;

use super::bases;
use super::document::{self, RegistryDocument, RegistryError};
use super::formats::literal_secrets;
use super::limits::{MAX_REGISTRY_BYTES, TEMPORARY_KEPT};
use super::lock::is_forgotten;
use super::names::{FileKind, FileNames};
use super::state::State;
use crate::edge::disk::{self, Disk, DiskFile, DiskLook};
use crate::model::WallMs;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// The registry works, and something should be done.
    Warning,
    /// The registry does not work, or acknowledged changes are lost.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at: a stable name in kebab case.
    pub check: &'static str,
    /// How it stands.
    pub severity: Severity,
    /// The file of the registry's folder that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What was found, as a sentence.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether `cortex-mcp registry repair` does it.
    pub mendable: bool,
}

impl Finding {
    /// Something that is as it should be.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, file: None, message: message.into(), remedy: None, mendable: false }
    }

    /// Something that should be seen to.
    pub fn warning(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, remedy: Some(remedy.into()), ..Self::ok(check, message) }
    }

    /// Something that must be seen to.
    pub fn error(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::warning(check, message, remedy) }
    }

    /// The same, which `repair` mends.
    #[must_use]
    pub fn mendable(mut self) -> Self {
        self.mendable = true;
        self
    }

    /// The same, about a file.
    #[must_use]
    pub fn of(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }
}

/// How an examination is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Examination {
    /// The time.
    pub now: WallMs,
    /// Whose process this is: its user id. Whose the files are is not looked at without it.
    pub user: Option<u32>,
    /// Whether the file system is tried out, with temporary files: the only thing that writes.
    pub probe: bool,
}

/// The command that mends things.
pub(super) const REPAIR: &str = "run `cortex-mcp registry repair`";

/// Examines a registry.
pub fn examine(disk: &dyn Disk, file: &str, how: Examination) -> Vec<Finding> {
    let mut examining = Examining { disk, names: FileNames::of(file), how, findings: Vec::new() };
    match examining.all() {
        Ok(()) => {}
        Err(error) => examining.found(Finding::error(
            "folder",
            format!("the registry's folder can not be read: {error}"),
            "check that it is there, that you may read it, and that the disk is sound",
        )),
    }
    examining.findings
}

/// An examination under way.
struct Examining<'a> {
    disk: &'a dyn Disk,
    names: FileNames,
    how: Examination,
    findings: Vec<Finding>,
}

impl Examining<'_> {
    fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn all(&mut self) -> io::Result<()> {
        self.folder()?;
        self.document();
        self.permissions()?;
        self.locks()?;
        self.journals()?;
        self.temporaries()?;
        self.copies()?;
        self.bases()?;
        if self.how.probe {
            self.probe();
        } else {
            for check in probe::CHECKS {
                self.found(Finding::ok(check, "not probed: that writes temporary files (`--probe`)"));
            }
        }
        Ok(())
    }

    fn folder(&mut self) -> io::Result<()> {
        let look = self.disk.look_at_folder()?;
        if look.mode & 0o077 == 0 {
            self.found(Finding::ok("folder-permissions", format!("the folder has the mode {:04o}", look.mode)));
        } else {
            let message = format!("the folder may be entered by others (mode {:04o}), and holds secrets", look.mode);
            self.found(
                Finding::warning("folder-permissions", message, format!("`chmod 700` it, or {REPAIR}")).mendable(),
            );
        }
        self.owner("folder-owner", "the folder", look);
        Ok(())
    }

    /// Whose something is.
    fn owner(&mut self, check: &'static str, what: &str, look: DiskLook) {
        let Some(user) = self.how.user else { return };
        let owner = look.owner.0;
        if owner == user {
            self.found(Finding::ok(check, format!("{what} is yours")));
        } else {
            let message = format!("{what} belongs to the user {owner}, and you are the user {user}");
            let remedy = "run the gateway and these commands as one user, or `chown` it";
            self.found(Finding::warning(check, message, remedy));
        }
    }

    fn document(&mut self) {
        let name = self.names.snapshot().to_owned();
        let bytes = match disk::read(self.disk, &name, MAX_REGISTRY_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return self.found(Finding::ok("file", "there is no file yet, which is an empty registry").of(&name));
            }
            Err(error) => {
                let finding = match error.kind() {
                    io::ErrorKind::FileTooLarge => unreadable(&RegistryError::TooLarge),
                    io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => Finding::error(
                        "file",
                        "it is no regular file",
                        "move away what has its name, and run this again",
                    ),
                    io::ErrorKind::PermissionDenied => {
                        Finding::error("file", "you may not read it", "run this as the user whose it is, or `chown` it")
                    }
                    _ => Finding::error("file", format!("it can not be read: {error}"), "check the disk"),
                };
                return self.found(finding.of(&name));
            }
        };
        match document::read(&bytes) {
            Ok(document) => self.entries(&name, &document),
            Err(error) => self.found(unreadable(&error).of(&name)),
        }
        if let Ok(Some(look)) = self.disk.look(&name) {
            self.owner("file-owner", "the file", look);
        }
    }

    fn entries(&mut self, name: &str, document: &RegistryDocument) {
        let (servers, generation) = (document.servers.len(), document.generation.unwrap_or(0));
        let written = match (State::pristine(document), document.generation) {
            (Some(_), _) => "a cooperating program wrote it last",
            (None, Some(_)) => {
                "it was edited by hand or by a program that takes no lock, which the next write takes up"
            }
            (None, None) => "only old tools have written it",
        };
        let message = format!("it holds {servers} servers at generation {generation}; {written}");
        self.found(Finding::ok("file", message).of(name));
        if document.problems.is_empty() && document.leftovers.is_empty() {
            self.found(Finding::ok("entries", "every entry can be used").of(name));
        }
        for problem in &document.problems {
            let remedy = match &problem.name {
                Some(server) => format!(
                    "correct it in the file, or replace it with `cortex-mcp registry add {server} --overwrite ...`; the \
                     other entries are served meanwhile"
                ),
                None => "correct it in the file; the other entries are served meanwhile".to_owned(),
            };
            self.found(Finding::warning("entries", problem.to_string(), remedy).of(name));
        }
        if !document.leftovers.is_empty() {
            let count = document.leftovers.len();
            let message =
                format!("{count} elements of its list are no entries; they are kept as they stand, and mean nothing");
            self.found(Finding::warning("leftovers", message, "correct or remove them in the file").of(name));
        }
        for server in &document.servers {
            if let Ok(transport) = &server.entry.transport
                && !transport.is_served()
            {
                let message =
                    format!("{} uses the transport {}, which is not served", server.entry.name, transport.as_str());
                let remedy = "give it an http, sse or stdio transport, or leave it to the programs that use it";
                self.found(Finding::warning("transport", message, remedy).of(name));
            }
        }
        for server in &document.servers {
            let fields = match serde_json::from_str(server.entry.json()) {
                Ok(members) => literal_secrets(&members),
                Err(error) => {
                    let message = format!("{} cannot be searched for secrets: {error}", server.entry.name);
                    self.found(Finding::warning("literal-secrets", message, "remove what nests so deep").of(name));
                    continue;
                }
            };
            if !fields.is_empty() {
                let message = format!("{} holds secrets literally: {}", server.entry.name, fields.join(", "));
                let remedy = "write a reference in place of each value of a header or a variable, ${file:/path} or ${env:NAME}; \
                              a secret in an argument or an address can be read by others: move it to a variable or a header";
                self.found(Finding::warning("literal-secrets", message, remedy).of(name));
            }
        }
        self.found(Finding::ok("tombstones", format!("{} removed entries are remembered", document.removed.len())));
    }

    /// Whether others may read or write any file of the registry, and whether any belongs to another user than the
    /// folder: then whoever works here can not open it.
    fn permissions(&mut self) -> io::Result<()> {
        let mut sound = 0_usize;
        let folder = self.disk.look_at_folder()?.owner.0;
        for (name, look) in self.files()? {
            if let Some(user) = self.how.user.filter(|_| look.owner.0 != folder) {
                let owner = look.owner.0;
                let message =
                    format!("it belongs to the user {owner} and the folder to the user {folder}, who may not open it");
                let remedy = format!("`chown {folder}` it, or {REPAIR}, as root in both cases");
                let mut finding = Finding::error("file-owner", message, remedy).of(&name);
                // Only the superuser gives files away.
                finding.mendable = user == 0;
                self.found(finding);
            }
            if look.mode & 0o077 == 0 {
                sound += 1;
                continue;
            }
            let message = format!("others may read it (mode {:04o}), and it may hold secrets", look.mode);
            let remedy = format!("`chmod 600` it, or {REPAIR}; change the secrets if others were here");
            self.found(Finding::warning("file-permissions", message, remedy).mendable().of(&name));
        }
        if sound > 0 {
            self.found(Finding::ok("file-permissions", format!("{sound} files are for their owner alone")));
        }
        Ok(())
    }

    /// The files of this registry and what they look like.
    fn files(&self) -> io::Result<Vec<(String, DiskLook)>> {
        let mut files = Vec::new();
        for name in self.disk.names()? {
            if self.names.kind(&name).is_some()
                && let Some(look) = self.disk.look(&name)?
            {
                files.push((name, look));
            }
        }
        Ok(files)
    }

    fn named(&self, wanted: &FileKind) -> io::Result<Vec<String>> {
        let names = self.disk.names()?.into_iter();
        Ok(names.filter(|name| self.names.kind(name).as_ref() == Some(wanted)).collect())
    }

    fn locks(&mut self) -> io::Result<()> {
        let (own, legacy) = (self.names.lock(), self.names.legacy_lock());
        let held = match self.disk.open(&own) {
            Ok(None) => Some(false),
            // Given back when the file is closed, at the end of this expression.
            Ok(Some(file)) => is_locked(&*file)?,
            Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory) => {
                let message = "you may not open it, or it is no file, so that you can not write the registry";
                let remedy = "`chown` it to the user whose the folder is; if it is no file, remove it by hand";
                self.found(Finding::error("writers-lock", message, remedy).of(&own));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.found(match held {
            Some(false) => Finding::ok("writers-lock", "nobody is writing the registry now"),
            Some(true) => Finding::ok("writers-lock", "another program is writing the registry now"),
            None => Finding::warning(
                "writers-lock",
                "the file system has no locks, so that two programs may write at once and journals of ended programs \
                 are not taken over",
                "move the registry to a local file system",
            ),
        }.of(&own));
        let Some(look) = self.disk.look(&legacy)? else {
            self.found(Finding::ok("legacy-lock", "no old tool holds its lock"));
            return Ok(());
        };
        let age = age(look, self.how.now).as_secs();
        let is_ours = self.disk.look(&own)?.is_some_and(|lock| lock.file == look.file);
        let finding = if !self.disk.names()?.contains(&legacy) {
            let message = format!("it is no regular file, and {age} seconds old; other programs make such locks");
            let remedy = "end the program that made it; if none runs any more, remove it by hand (`rmdir` or `rm`)";
            Finding::warning("legacy-lock", message, remedy)
        } else if is_ours && held == Some(true) {
            Finding::ok("legacy-lock", "it is held for the old tools while another program writes")
        } else if is_ours {
            let message = "a program ended while it wrote and left its lock; the next one takes it over by itself";
            Finding::warning("legacy-lock", message, REPAIR).mendable()
        } else if is_forgotten(look.modified_ns, self.how.now) {
            let message =
                format!("an old tool left its lock {age} seconds ago; the next writer takes it over by itself");
            Finding::warning("legacy-lock", message, format!("{REPAIR}, which removes it")).mendable()
        } else {
            let message = format!("an old tool has held its lock for {age} seconds, and writers wait for it");
            Finding::warning(
                "legacy-lock",
                message,
                "wait; if it stays, end that tool and run `cortex-mcp registry repair`",
            )
        };
        self.found(finding.of(&legacy));
        Ok(())
    }

    fn temporaries(&mut self) -> io::Result<()> {
        let mut left = 0_usize;
        for name in self.named(&FileKind::Temporary)? {
            left += usize::from(is_left(self.disk, &name, self.how.now)?);
        }
        self.found(if left == 0 {
            Finding::ok("temporaries", "no files were left on their way")
        } else {
            let message = format!("{left} files were left on their way by programs that ended; they may hold changes");
            Finding::warning("temporaries", message, format!("{REPAIR}, which merges and then removes them")).mendable()
        });
        Ok(())
    }

    fn copies(&mut self) -> io::Result<()> {
        for (check, kind, what) in [
            ("quarantined", FileKind::Quarantined, "a copy of a document that could not be read"),
            (
                "kept-journals",
                FileKind::Kept,
                "a damaged journal, or a foreign document of which not all could be taken up,",
            ),
        ] {
            let names = self.named(&kind)?;
            if names.is_empty() {
                self.found(Finding::ok(check, "there are none"));
            }
            for name in names {
                let remedy = "look through it, then remove it: it may hold secrets, and nothing removes it by itself";
                self.found(Finding::warning(check, format!("{what} is kept"), remedy).of(&name));
            }
        }
        Ok(())
    }

    fn bases(&mut self) -> io::Result<()> {
        let bases = bases::on_disk(self.disk, &self.names)?;
        let mut unreadable = 0_usize;
        for (_, digest, name) in &bases {
            unreadable += usize::from(bases::load(self.disk, name, digest)?.is_none());
        }
        let kept = format!("{} former documents are kept", bases.len());
        self.found(if unreadable == 0 {
            Finding::ok("bases", kept)
        } else {
            let message = format!("{kept}, and {unreadable} of them are not what their names say");
            Finding::warning("bases", message, "check the disk; they are dropped in time, and no entry is lost by it")
        });
        Ok(())
    }
}

fn unreadable(error: &RegistryError) -> Finding {
    match error {
        RegistryError::Document(_) | RegistryError::Shape => Finding::error(
            "file",
            error.to_string(),
            "correct the file; or see what `cortex-mcp registry repair` would do, and let it with `--yes`: it keeps a \
             copy and writes a new file of everything that can be had",
        )
        .mendable(),
        RegistryError::TooLarge | RegistryError::TooMany => Finding::error(
            "file",
            error.to_string(),
            "by hand, remove what does not belong there; or move it away: the latest former one is written in its place",
        ),
    }
}

/// Whether a file's lock is held; none if the file system has no locks.
fn is_locked(file: &dyn DiskFile) -> io::Result<Option<bool>> {
    match file.try_lock() {
        Ok(free) => Ok(Some(!free)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

fn age(look: DiskLook, now: WallMs) -> Duration {
    Duration::from_millis(now.0).saturating_sub(Duration::from_nanos(look.modified_ns))
}

/// Whether a temporary file was left by a program that ended.
pub(super) fn is_left(disk: &dyn Disk, name: &str, now: WallMs) -> io::Result<bool> {
    let Some(file) = disk.open(name)? else { return Ok(false) };
    Ok(is_locked(&*file)? != Some(true) && age(file.look()?, now) > TEMPORARY_KEPT)
}
