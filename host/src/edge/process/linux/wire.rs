//! What gateway, watcher and shims say to each other: packets of a few bytes on sockets, and a command in a file in
//! memory. All of them run the same binary, so that there is one version of it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, IoSlice, IoSliceMut, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};

use crate::edge::process::Exit;
use crate::edge::process::launch::Launch;
use crate::model::Privileges;

/// Returns two connected sockets that keep the bounds of packets and report the end of the other side.
pub(super) fn packet_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// What a shim is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To ask every process below it to end (SIGTERM).
    Terminate,
    /// To kill every process below it, and to end.
    Kill,
}

impl Order {
    pub(super) fn send(self, socket: impl AsFd) -> io::Result<()> {
        let byte = match self {
            Self::Terminate => b't',
            Self::Kill => b'k',
        };
        // The few orders that a shim ever gets fit into any queue.
        send_packet(socket, &[byte], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    /// The next order; [`Order::Kill`], if the gateway is gone.
    pub(super) fn receive(socket: impl AsFd) -> Self {
        let mut byte = [0];
        match retry_on_intr(|| recv(socket.as_fd(), &mut byte[..], RecvFlags::empty())) {
            Ok((_, 1)) if byte == *b"t" => Self::Terminate,
            _ => Self::Kill,
        }
    }
}

/// What a shim reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The command runs, as the process of this number.
    Started(i32),
    /// It could not be started; the number of the system's error.
    Failed(i32),
    /// It has ended.
    Ended(Exit),
    /// Every process below the shim is gone, but for so many that cannot be killed.
    Gone(i32),
}

/// How long a report is: its kind, and a number.
pub(super) const REPORT_BYTES: usize = 5;

impl Report {
    /// The command could not be started because of this.
    pub(super) fn failed(error: &io::Error) -> Self {
        // What the standard library refuses itself, a NUL in an argument, has no number.
        Self::Failed(error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    pub(super) fn encode(self) -> [u8; REPORT_BYTES] {
        let (kind, number) = match self {
            Self::Started(pid) => (b's', pid),
            Self::Failed(error) => (b'f', error),
            Self::Ended(Exit::Code(code)) => (b'c', code),
            Self::Ended(Exit::Signal(signal)) => (b'g', signal),
            Self::Ended(Exit::Unknown) => (b'u', 0),
            Self::Gone(left) => (b'e', left),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, a, b, c, d]
    }

    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let [kind, number @ ..] = <[u8; REPORT_BYTES]>::try_from(packet).ok()?;
        let number = i32::from_le_bytes(number);
        Some(match kind {
            b's' => Self::Started(number),
            b'f' => Self::Failed(number),
            b'c' => Self::Ended(Exit::Code(number)),
            b'g' => Self::Ended(Exit::Signal(number)),
            b'u' => Self::Ended(Exit::Unknown),
            b'e' => Self::Gone(number),
            _ => return None,
        })
    }

    /// Sends it; a gateway that is gone needs none.
    pub(super) fn send(self, socket: impl AsFd) {
        let _ = send_packet(socket, &self.encode(), SendFlags::NOSIGNAL);
    }
}

fn send_packet(socket: impl AsFd, packet: &[u8], flags: SendFlags) -> io::Result<()> {
    retry_on_intr(|| send(socket.as_fd(), packet, flags))?;
    Ok(())
}

/// What the watcher is asked: to start a command. All that it needs comes as descriptors.
pub(super) struct Request {
    /// Where its shim takes orders and reports.
    pub(super) control: OwnedFd,
    /// A file with the command.
    pub(super) launch: OwnedFd,
    /// Standard input, output and error.
    pub(super) streams: [OwnedFd; 3],
}

/// How many descriptors a request has.
const REQUEST_DESCRIPTORS: usize = 5;

/// The one byte that a packet with descriptors needs.
const REQUEST: &[u8] = b"r";

impl Request {
    /// Sends it without waiting.
    pub(super) fn send(&self, socket: impl AsFd) -> rustix::io::Result<()> {
        let [input, output, errors] = &self.streams;
        let descriptors: [BorrowedFd<'_>; REQUEST_DESCRIPTORS] =
            [&self.control, &self.launch, input, output, errors].map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REQUEST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        // The space is made for just these.
        let _ = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        retry_on_intr(|| sendmsg(socket.as_fd(), &[IoSlice::new(REQUEST)], &mut ancillary, flags))?;
        Ok(())
    }

    /// Takes the next one without waiting.
    pub(super) fn receive(socket: impl AsFd) -> Received {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REQUEST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match retry_on_intr(|| recvmsg(socket.as_fd(), parts, &mut ancillary, flags)) {
            Ok(message) if message.bytes > 0 => {}
            Err(Errno::AGAIN) => return Received::Nothing,
            _ => return Received::End,
        }
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        match <[OwnedFd; REQUEST_DESCRIPTORS]>::try_from(descriptors) {
            Ok([control, launch, input, output, errors]) => {
                Received::Request(Self { control, launch, streams: [input, output, errors] })
            }
            // This process may open no more. The gateway sees the end of the control socket.
            Err(_) => Received::Nothing,
        }
    }
}

/// What came from the gateway.
pub(super) enum Received {
    /// A request.
    Request(Request),
    /// Nothing, or a request that could not be taken.
    Nothing,
    /// The gateway is gone.
    End,
}

impl Launch {
    /// Writes the command into a file in memory.
    pub(super) fn write(&self) -> io::Result<OwnedFd> {
        let file = File::from(memfd_create("command", MemfdFlags::CLOEXEC)?);
        file.write_all_at(&self.encode(), 0)?;
        Ok(file.into())
    }

    /// Reads the command from such a file.
    pub(super) fn read(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0)?;
        Self::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![match self.privileges {
            Privileges::Drop => b'd',
            Privileges::Keep => b'k',
        }];
        bytes.extend(self.descriptor_limit.map_or(0, |limit| limit.saturating_add(1)).to_le_bytes());
        let mut text = |text: &OsString| {
            bytes.extend(text.len().to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        text(&self.program);
        for (name, value) in &self.environment {
            // No variable has an empty name: an empty text ends them.
            text(name);
            text(value);
        }
        text(&OsString::new());
        self.arguments.iter().for_each(text);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (privileges, mut rest) = bytes.split_first()?;
        let privileges = match privileges {
            b'd' => Privileges::Drop,
            b'k' => Privileges::Keep,
            _ => return None,
        };
        let descriptor_limit = u64::from_le_bytes(*taken(&mut rest)?).checked_sub(1);
        let program = text(&mut rest)?;
        let mut environment = std::collections::BTreeMap::new();
        loop {
            let name = text(&mut rest)?;
            if name.is_empty() {
                break;
            }
            environment.insert(name, text(&mut rest)?);
        }
        let mut arguments = Vec::new();
        while !rest.is_empty() {
            arguments.push(text(&mut rest)?);
        }
        Some(Self { program, arguments, environment, privileges, descriptor_limit })
    }
}

fn taken<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(first)
}

fn text(rest: &mut &[u8]) -> Option<OsString> {
    let length = usize::from_le_bytes(*taken(rest)?);
    let (first, others) = rest.split_at_checked(length)?;
    *rest = others;
    Some(OsString::from_vec(first.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn launch(arguments: &[&[u8]], environment: &[(&str, &[u8])], limit: Option<u64>) -> Launch {
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Launch {
            program: "program".into(),
            arguments: arguments.iter().map(|argument| bytes(argument)).collect(),
            environment: environment.iter().map(|(name, value)| ((*name).into(), bytes(value))).collect(),
            privileges: if limit.is_some() { Privileges::Drop } else { Privileges::Keep },
            descriptor_limit: limit,
        }
    }

    mod launch {
        use super::*;

        #[test]
        fn passes_through_a_file_of_any_size() {
            let large = vec![b'x'; 3 << 20];
            for launch in [
                launch(&[], &[], None),
                launch(&[b"", b"--flag", b"\xff\n"], &[("A", b""), ("B", b"\xfe=b")], Some(0)),
                launch(&[&large], &[("LARGE", &large)], Some(u64::MAX - 1)),
            ] {
                let read = Launch::read(launch.write().unwrap()).unwrap();
                assert!(read == launch, "{:?} {:?}", read.program, read.descriptor_limit);
            }
        }

        #[test]
        fn that_is_cut_off_is_refused_and_never_read_beyond_its_end() {
            let whole = launch(&[b"argument"], &[("NAME", b"value")], Some(1_024)).encode();
            // Without its last argument it is a command as well; every other beginning is none.
            let without_arguments = launch(&[], &[("NAME", b"value")], Some(1_024)).encode().len();
            for length in (0..whole.len()).filter(|length| *length != without_arguments) {
                assert!(Launch::decode(&whole[..length]).is_none(), "{length}");
            }
            let mut huge = whole;
            huge[9..17].copy_from_slice(&usize::MAX.to_le_bytes());
            assert!(Launch::decode(&huge).is_none());
        }

        #[test]
        fn has_no_variable_without_a_name() {
            let mut nameless = launch(&[b"a"], &[("NAME", b"value")], None);
            nameless.environment.insert(OsString::new(), "x".into());
            let read = Launch::decode(&nameless.encode()).unwrap();
            assert_eq!(read.environment, BTreeMap::new());
        }
    }

    mod report {
        use super::*;

        #[test]
        fn passes_through_a_socket() {
            let (shim, gateway) = packet_sockets().unwrap();
            for report in [
                Report::Started(i32::MAX),
                Report::Failed(2),
                Report::Ended(Exit::Code(255)),
                Report::Ended(Exit::Signal(9)),
                Report::Ended(Exit::Unknown),
                Report::Gone(3),
            ] {
                report.send(&shim);
                let mut packet = [0; 2 * REPORT_BYTES];
                let (_, length) = recv(&gateway, &mut packet[..], RecvFlags::DONTWAIT).unwrap();
                assert_eq!(Report::decode(&packet[..length]), Some(report));
            }
            assert_eq!(Report::decode(b"x0000"), None);
            assert_eq!(Report::decode(b"s"), None);
        }
    }

    mod order {
        use super::*;

        #[test]
        fn is_to_kill_once_the_gateway_is_gone() {
            let (gateway, shim) = packet_sockets().unwrap();
            Order::Terminate.send(&gateway).unwrap();
            Order::Kill.send(&gateway).unwrap();
            drop(gateway);
            let orders = [(); 3].map(|()| Order::receive(&shim));
            assert_eq!(orders, [Order::Terminate, Order::Kill, Order::Kill]);
        }
    }

    mod request {
        use super::*;

        #[test]
        fn brings_its_descriptors_and_ends_with_the_gateway() {
            let (gateway, watcher) = packet_sockets().unwrap();
            let (control, _shim) = packet_sockets().unwrap();
            let stream = || packet_sockets().unwrap().0;
            let command = launch(&[b"a"], &[], None);
            let request = Request { control, launch: command.write().unwrap(), streams: [(); 3].map(|()| stream()) };
            request.send(&gateway).unwrap();
            let Received::Request(received) = Request::receive(&watcher) else { panic!("no request") };
            assert!(Launch::read(received.launch).unwrap() == command);
            assert!(matches!(Request::receive(&watcher), Received::Nothing));
            drop(gateway);
            assert!(matches!(Request::receive(&watcher), Received::End));
        }
    }
}
