//! What can be wrong with a trace.

use std::path::PathBuf;

/// A trace that cannot be read, or decisions that cannot be made again. The messages say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder holds no trace.
    #[error(
        "{} holds no trace: no trace-*.jsonl or trace-*.jsonl.gz is in it; name a trace, or run a gateway without --no-trace", path.display()
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A file is no trace.
    #[error("{} is no trace: it does not begin with a header: {reason}", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
        /// What it begins with instead.
        reason: String,
    },
    /// A file was written by a gateway of another format.
    #[error(
        "{} has format {format}, written by cortex-mcp {gateway}, and this cortex-mcp reads format {}; read it with the \
         version that wrote it",
        path.display(), super::FORMAT
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The version of the gateway that wrote it.
        gateway: String,
    },
    /// A line in the middle is no line of a trace: not a crash, which tears only the last.
    #[error("{}:{line} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A segment has more than a reader takes.
    #[error("{}:{line} is not read further: {excess}; no gateway writes such a segment, so do not trust the file", path.display())]
    Exceeds {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What there is too much of.
        excess: super::Excess,
    },
    /// A component beside the trace is not what its name says.
    #[error("{} is not the component that its name says; remove it, or name the right one with --policy", path.display())]
    WrongComponent {
        /// The file.
        path: PathBuf,
    },
    /// A component cannot be used.
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
}
