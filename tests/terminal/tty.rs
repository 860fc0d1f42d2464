//! A pseudo-terminal that changes nothing that is written to it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Child;

use rustix::termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr};

/// The end of a pseudo-terminal that reads what processes write to the other one.
pub(crate) struct Terminal(File);

impl Terminal {
    /// A terminal, and its end for a process.
    pub(crate) fn open() -> (Self, OwnedFd) {
        let (mut reader, mut writer) = (-1, -1);
        let (name, modes, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
        // SAFETY: both places are valid, and the other pointers may be null (openpty(3)).
        let made = unsafe { libc::openpty(&raw mut reader, &raw mut writer, name, modes, size) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the descriptors are new, and nothing else owns them.
        let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(reader), OwnedFd::from_raw_fd(writer)) };
        let mut modes = tcgetattr(&writer).unwrap();
        // ONLCR would write a carriage return before each line feed.
        modes.output_modes.remove(OutputModes::OPOST | OutputModes::ONLCR);
        tcsetattr(&writer, OptionalActions::Now, &modes).unwrap();
        (Self(File::from(reader)), writer)
    }

    /// Everything that is written until no process has the other end.
    pub(crate) fn read(mut self) -> Vec<u8> {
        let mut written = Vec::new();
        let mut bytes = [0; 1 << 16];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return written,
                Ok(count) => written.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // EIO: the last process closed it.
                Err(_) => return written,
            }
        }
    }
}

/// A process that does not outlive the test.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
