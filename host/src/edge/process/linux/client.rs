//! The gateway's side: starts the watcher when it is needed, and keeps a control socket for every child.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

use super::watcher::WATCHER_ARGUMENT;
use super::wire::{Order, REPORT_BYTES, Report, Request, packet_sockets};
use crate::edge::process::launch::Launch;
use crate::edge::process::{Child, Exit, Life, SpawnFault, limits};

/// A watcher process that is started with the first child, and again after its end.
pub(in crate::edge::process) struct Watcher {
    program: PathBuf,
    running: Mutex<Option<Running>>,
}

/// A watcher that was started.
struct Running {
    /// None once its end is waited for.
    process: Option<std::process::Child>,
    /// It ends when this is closed. None only while it is dropped.
    socket: Option<OwnedFd>,
}

impl Watcher {
    /// A watcher that the binary at `program` will be.
    pub(in crate::edge::process) fn new(program: PathBuf) -> Self {
        Self { program, running: Mutex::default() }
    }

    /// Starts a command, as a child of its shim.
    pub(in crate::edge::process) async fn start(self: &Arc<Self>, launch: Launch) -> Result<Child, SpawnFault> {
        let deadline = Instant::now() + limits::EXEC_TIMEOUT;
        let (control, request, streams) = prepared(&launch)?;
        self.send(&request, deadline).await?;
        // Only the shim holds its ends from here on, so that the end of either is seen.
        drop(request);
        let mut life = WatchedLife { control, exit: None, _watcher: self.clone() };
        let report = timeout_at(deadline, life.report()).await;
        let pid = match report.map_err(|_| SpawnFault::Other(io::ErrorKind::TimedOut))? {
            Some(Report::Started(pid)) => pid,
            Some(Report::Failed(error)) => return Err(io::Error::from_raw_os_error(error).into()),
            // Watcher or shim were killed, or cannot open any more descriptors.
            _ => return Err(SpawnFault::Watcher(io::ErrorKind::BrokenPipe)),
        };
        let (input, output, errors) = streams;
        let (input, output, errors) = (Box::new(input), Box::new(output), Box::new(errors));
        Ok(Child { pid: pid.unsigned_abs(), input, output, errors, life: Box::new(life) })
    }

    async fn send(&self, request: &Request, deadline: Instant) -> Result<(), SpawnFault> {
        let sending = async {
            loop {
                match self.try_send(request)? {
                    Ok(()) => return Ok(()),
                    Err(Errno::AGAIN | Errno::NOBUFS) => tokio::time::sleep(limits::RESEND_DELAY).await,
                    Err(error) => return Err(io::Error::from(error).into()),
                }
            }
        };
        timeout_at(deadline, sending).await.unwrap_or(Err(SpawnFault::Other(io::ErrorKind::TimedOut)))
    }

    /// Sends a request to the watcher, or to a new one if it has ended.
    fn try_send(&self, request: &Request) -> Result<rustix::io::Result<()>, SpawnFault> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = &*running {
            match watcher.send(request) {
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    tracing::error!("the watcher of the servers' processes has ended; another one is started");
                }
                sent => return Ok(sent),
            }
        }
        *running = None;
        let started = Running::start(&self.program).map_err(|error| SpawnFault::Watcher(error.kind()))?;
        Ok(running.insert(started).send(request))
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watcher").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Running {
    fn start(program: &PathBuf) -> io::Result<Self> {
        let (socket, its_socket) = packet_sockets()?;
        let mut command = Command::new(program);
        command.arg0("cortex-mcp").arg(WATCHER_ARGUMENT).env_clear();
        // In a group of its own, so that Ctrl-C is not its affair.
        command.stdin(its_socket).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { process: Some(command.spawn()?), socket: Some(socket) })
    }

    fn send(&self, request: &Request) -> rustix::io::Result<()> {
        request.send(self.socket.as_ref().ok_or(Errno::NOTCONN)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.socket.take());
        let Some(mut process) = self.process.take() else { return };
        // In a thread of its own: where lives were dropped without an orderly end, the watcher waits for their shims, which is
        // bounded by its own deadline. Without a thread it stays unreaped until this process ends.
        let _ = std::thread::Builder::new().name("watcher-end".into()).spawn(move || process.wait());
    }
}

type Streams = (pipe::Sender, pipe::Receiver, pipe::Receiver);

/// Makes sockets and pipes: the gateway's ends, and the others in a request.
fn prepared(launch: &Launch) -> io::Result<(AsyncFd<OwnedFd>, Request, Streams)> {
    let (control, its_control) = packet_sockets()?;
    let (input, its_input) = pipe::pipe()?;
    let (its_output, output) = pipe::pipe()?;
    let (its_errors, errors) = pipe::pipe()?;
    let streams = [its_input.into_blocking_fd()?, its_output.into_blocking_fd()?, its_errors.into_blocking_fd()?];
    let request = Request { control: its_control, launch: launch.write()?, streams };
    Ok((registered(control)?, request, (input, output, errors)))
}

#[allow(deprecated, reason = "what it is deprecated for is ruled out: an owned descriptor stays open and the same")]
fn registered(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// The life of a child that a shim keeps. When it is dropped, its end of the socket is closed, and the shim kills all.
struct WatchedLife {
    control: AsyncFd<OwnedFd>,
    exit: Option<Exit>,
    /// A watcher that ends takes its children along.
    _watcher: Arc<Watcher>,
}

impl WatchedLife {
    /// The next report; none, if the shim is gone.
    async fn report(&mut self) -> Option<Report> {
        loop {
            let mut ready = self.control.readable().await.ok()?;
            let mut packet = [0; REPORT_BYTES];
            let received = ready.try_io(|control| Ok(recv(control, &mut packet[..], RecvFlags::DONTWAIT)?.1));
            match received {
                Ok(Ok(length)) => return packet.get(..length).and_then(Report::decode),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return None,
                // It was not readable.
                Err(_) => {}
            }
        }
    }
}

impl Life for WatchedLife {
    fn ended(&mut self) -> BoxFuture<'_, ()> {
        async {
            if self.exit.is_none() {
                self.exit = Some(match self.report().await {
                    Some(Report::Ended(exit)) => exit,
                    _ => Exit::Unknown,
                });
            }
        }
        .boxed()
    }

    fn terminate(&mut self) {
        // A shim that is gone has taken its processes along.
        let _ = Order::Terminate.send(&self.control);
    }

    fn bury(mut self: Box<Self>) -> BoxFuture<'static, Exit> {
        async move {
            let _ = Order::Kill.send(&self.control);
            let over = async {
                loop {
                    match self.report().await {
                        Some(Report::Ended(exit)) => self.exit = Some(exit),
                        Some(Report::Gone(left)) => return left > 0,
                        Some(_) => {}
                        // The shim was killed: its command with it, and the watcher ends the rest.
                        None => return false,
                    }
                }
            };
            if timeout(limits::SHIM_END_TIMEOUT, over).await.unwrap_or(true) {
                tracing::error!("processes of a server cannot be killed; check whose they are and what they wait for");
            }
            self.exit.unwrap_or(Exit::Unknown)
        }
        .boxed()
    }
}
