//! The process's stdin, read in a thread of its own: a read of it can not be called off, and a process that is asked to end
//! must not wait for its client to write something.

use std::io::Read;

use tokio::io::{AsyncWriteExt, DuplexStream};

/// How much is read ahead.
pub(crate) const PIPE_BYTES: usize = 64 << 10;

/// What comes in on stdin; its end is the end of that. The thread ends with stdin, with whoever reads here, or with the
/// process.
pub(crate) fn pipe() -> DuplexStream {
    let (mut writer, reader) = tokio::io::duplex(PIPE_BYTES);
    let runtime = tokio::runtime::Handle::current();
    let reading = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = [0; 8 << 10];
        let mut stdin = std::io::stdin().lock();
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default();
            if runtime.block_on(writer.write_all(bytes)).is_err() {
                return;
            }
        }
    });
    if let Err(error) = reading {
        // Without the thread the input is at its end at once.
        tracing::error!(%error, "stdin can not be read");
    }
    reader
}
