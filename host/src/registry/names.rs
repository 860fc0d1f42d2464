//! The names of the files beside the registry's file, and what each is for. All begin with its own name.

/// The files of one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNames {
    file: String,
}

/// What a file of the folder is to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The registry itself.
    Snapshot,
    /// The lock of the writers that cooperate. Never renamed, never removed.
    Lock,
    /// The lock of the old tools.
    LegacyLock,
    /// A segment of a writer's journal.
    Segment {
        /// The writer.
        writer: String,
        /// Which of its segments.
        number: u64,
        /// The salt of its records.
        epoch: u64,
    },
    /// A file on its way to become another.
    Temporary,
    /// A former or present document, for foreign edits to be compared with.
    Base {
        /// Its generation.
        generation: u64,
        /// The digest of its entries.
        digest: String,
        /// Whether it is a copy, and not the file that stood in the registry's place.
        copy: bool,
    },
    /// A copy of a document that could not be read.
    Quarantined,
    /// A journal in which acknowledged changes are damaged. While it is there, nothing is written.
    Damaged,
    /// A damaged journal that someone has seen to.
    Kept,
    /// Values that foreign edits replaced.
    Superseded,
}

impl FileNames {
    /// The names that belong to a registry of this name.
    pub fn of(file: &str) -> Self {
        Self { file: file.to_owned() }
    }

    /// The registry itself.
    pub fn snapshot(&self) -> &str {
        &self.file
    }

    /// The lock of the writers that cooperate.
    pub fn lock(&self) -> String {
        format!("{}.flock", self.file)
    }

    /// The lock of the old tools.
    pub fn legacy_lock(&self) -> String {
        format!("{}.lock", self.file)
    }

    /// A segment of a writer's journal.
    pub fn segment(&self, writer: &str, number: u64, epoch: u64) -> String {
        format!("{}.journal-{writer}-{number:06}-{epoch:016x}", self.file)
    }

    /// A temporary file.
    pub fn temporary(&self, random: u64) -> String {
        format!("{}.tmp-{random:014x}", self.file)
    }

    /// A document's own record.
    pub fn base(&self, generation: u64, digest: &str) -> String {
        format!("{}.base-{generation}-{digest}", self.file)
    }

    /// A copy of the present document.
    pub fn copy(&self, generation: u64, digest: &str) -> String {
        format!("{}.copy-{generation}-{digest}", self.file)
    }

    /// A copy of a document that could not be read.
    pub fn quarantined(&self, digest: &str) -> String {
        format!("{}.bad-{digest}", self.file)
    }

    /// A journal's segment that is damaged.
    pub fn damaged(&self, segment: &str) -> String {
        format!("{}.damaged-{}", self.file, self.rest(segment, ".journal-").unwrap_or(segment))
    }

    /// The name that a damaged segment had.
    pub fn segment_of_damaged(&self, damaged: &str) -> Option<String> {
        Some(format!("{}.journal-{}", self.file, self.rest(damaged, ".damaged-")?))
    }

    /// A damaged segment, once someone has seen to it.
    pub fn kept(&self, damaged: &str) -> String {
        format!("{}.kept-{}", self.file, self.rest(damaged, ".damaged-").unwrap_or(damaged))
    }

    /// Values that foreign edits replaced; the older half of them.
    pub fn superseded(&self) -> [String; 2] {
        [format!("{}.superseded", self.file), format!("{}.superseded-older", self.file)]
    }

    /// A foreign document of which not everything could be told.
    pub fn put_aside(&self, digest: &str) -> String {
        format!("{}.kept-{digest}", self.file)
    }

    /// What a file is; none if it has nothing to do with this registry.
    pub fn kind(&self, name: &str) -> Option<FileKind> {
        if name == self.file {
            return Some(FileKind::Snapshot);
        }
        let rest = name.strip_prefix(&self.file)?.strip_prefix('.')?;
        let (word, detail) = rest.split_once('-').unwrap_or((rest, ""));
        Some(match word {
            "flock" if detail.is_empty() => FileKind::Lock,
            "lock" if detail.is_empty() => FileKind::LegacyLock,
            "journal" => {
                let (writer_and_number, epoch) = detail.rsplit_once('-')?;
                let (writer, number) = writer_and_number.rsplit_once('-')?;
                let epoch = u64::from_str_radix(epoch, 16).ok()?;
                FileKind::Segment { writer: writer.to_owned(), number: number.parse().ok()?, epoch }
            }
            // Other programs have temporary files of that name, and are at work on them.
            "tmp" if detail.len() == 14 && detail.bytes().all(|byte| byte.is_ascii_hexdigit()) => FileKind::Temporary,
            "base" | "copy" => {
                let (generation, digest) = detail.split_once('-')?;
                let (generation, digest) = (generation.parse().ok()?, digest.to_owned());
                FileKind::Base { generation, digest, copy: word == "copy" }
            }
            "bad" => FileKind::Quarantined,
            "damaged" => FileKind::Damaged,
            "kept" => FileKind::Kept,
            "superseded" => FileKind::Superseded,
            _ => return None,
        })
    }

    fn rest<'a>(&self, name: &'a str, word: &str) -> Option<&'a str> {
        name.strip_prefix(&self.file)?.strip_prefix(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_made_is_recognised_and_others_are_not() {
        let names = FileNames::of("servers.json");
        let segment = names.segment("gateway-00ab", 7, 0xfeed);
        for (name, kind) in [
            ("servers.json".to_owned(), FileKind::Snapshot),
            (names.lock(), FileKind::Lock),
            (names.legacy_lock(), FileKind::LegacyLock),
            (segment.clone(), FileKind::Segment { writer: "gateway-00ab".to_owned(), number: 7, epoch: 0xfeed }),
            (names.temporary(1), FileKind::Temporary),
            (names.base(3, "ab"), FileKind::Base { generation: 3, digest: "ab".to_owned(), copy: false }),
            (names.copy(3, "ab"), FileKind::Base { generation: 3, digest: "ab".to_owned(), copy: true }),
            (names.quarantined("ab"), FileKind::Quarantined),
            (names.damaged(&segment), FileKind::Damaged),
            (names.kept(&names.damaged(&segment)), FileKind::Kept),
            (names.superseded()[0].clone(), FileKind::Superseded),
            (names.superseded()[1].clone(), FileKind::Superseded),
        ] {
            assert_eq!(names.kind(&name), Some(kind), "{name}");
        }
        for other in [
            "servers.json.tmp",
            "servers.json.tmp-4711-1760000000000",
            "gateway.toml",
            "servers.json~",
            "servers.json.orig",
            "servers.json.journal-x",
            ".servers.json.swp",
        ] {
            assert_eq!(names.kind(other), None, "{other}");
        }
    }
}
