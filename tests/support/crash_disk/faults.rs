//! What is to fail, and which calls can fail in that way.

use std::io;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The device fails: anything may be half done, and what a failed sync did not write is never written.
    Eio,
    /// The disk is full.
    Enospc,
    /// The quota is used up.
    Edquot,
    /// A signal came; persistently: at every second call.
    Eintr,
    /// A write takes a part of its bytes.
    ShortWrite,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [Self::Eio, Self::Enospc, Self::Edquot, Self::Eintr, Self::ShortWrite];

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Eio => rustix::io::Errno::IO.into(),
            Self::Enospc => rustix::io::Errno::NOSPC.into(),
            Self::Edquot => rustix::io::Errno::DQUOT.into(),
            Self::Eintr | Self::ShortWrite => rustix::io::Errno::INTR.into(),
        }
    }

    /// Whether that call can fail like this.
    fn hits(self, kind: Kind) -> bool {
        match self {
            Self::Eio | Self::Eintr => true,
            Self::Enospc | Self::Edquot => matches!(
                kind,
                Kind::Create | Kind::Write | Kind::Rename | Kind::Link | Kind::SyncFile | Kind::SyncFolder
            ),
            Self::ShortWrite => kind == Kind::Write,
        }
    }
}

/// The calls of a disk and its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Create,
    Rename,
    Exchange,
    Link,
    Remove,
    SyncFolder,
    Names,
    LookAtName,
    LookAtFolder,
    Read,
    Write,
    SyncFile,
    Look,
    Lock,
    SetMode,
}

impl Kind {
    /// Whether it changes what a crash leaves, or might.
    pub(super) fn changes(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Rename
                | Self::Exchange
                | Self::Link
                | Self::Remove
                | Self::SyncFolder
                | Self::Write
                | Self::SyncFile
                | Self::SetMode
        )
    }
}

#[derive(Clone, Debug)]
struct Planned {
    at: u64,
    fault: Fault,
    lasting: bool,
}

/// What is planned.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    planned: Vec<Planned>,
    pub(super) hits: u64,
    calls: u64,
}

impl Plan {
    pub(super) fn add(&mut self, at: u64, fault: Fault, lasting: bool) {
        self.planned.push(Planned { at, fault, lasting });
    }

    pub(super) fn heal(&mut self) {
        self.planned.clear();
    }

    /// The fault of this call, if it is to have one.
    pub(super) fn due(&mut self, operation: u64, kind: Kind) -> Option<Fault> {
        self.calls += 1;
        let odd = self.calls % 2 == 1;
        let planned = self.planned.iter().find(|planned| {
            let now = planned.at == operation || (planned.lasting && planned.at < operation);
            // Whoever repeats what was interrupted would do so for ever.
            now && planned.fault.hits(kind) && (!planned.lasting || planned.fault != Fault::Eintr || odd)
        })?;
        self.hits += 1;
        Some(planned.fault)
    }
}
