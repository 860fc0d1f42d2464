//! Processes in memory: programs that are functions over streams, under virtual time, with counts of their starts and
//! ends.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::process::{Child, Exit, Life, Processes, SpawnFault};
use crate::model::{ChildRules, CommandLine};

/// How much a stream holds that nobody reads, as a pipe of the system does.
pub const STREAM_BYTES: usize = 64 * 1024;

/// What a program sees of the world.
pub struct VirtualChild {
    /// How it was started.
    pub command: CommandLine,
    /// The rules it was started under.
    pub rules: ChildRules,
    /// Its standard input.
    pub input: DuplexStream,
    /// Its standard output.
    pub output: DuplexStream,
    /// Its standard error.
    pub errors: DuplexStream,
    /// Cancelled when it is asked to end (SIGTERM).
    pub terminated: CancellationToken,
    /// Which start of this program it is, from 1.
    pub number: usize,
}

type Program = Arc<dyn Fn(VirtualChild) -> BoxFuture<'static, Exit> + Send + Sync>;

/// What SIGTERM does to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerminate {
    /// It ends.
    Ends,
    /// The program decides; it may ignore it.
    IsHandled,
}

/// The processes. A program that nobody set does not exist.
#[derive(Default)]
pub struct VirtualProcesses {
    programs: Mutex<HashMap<String, (Program, OnTerminate)>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    started: AtomicUsize,
    ended: AtomicUsize,
    terminated: AtomicUsize,
    killed: AtomicUsize,
    panicked: AtomicUsize,
}

impl VirtualProcesses {
    /// No programs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what runs under a name, from the next start on.
    pub fn set<F, R>(&self, name: &str, on_terminate: OnTerminate, program: F)
    where
        F: Fn(VirtualChild) -> R + Send + Sync + 'static,
        R: Future<Output = Exit> + Send + 'static,
    {
        let program: Program = Arc::new(move |child| program(child).boxed());
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.insert(name.to_owned(), (program, on_terminate));
    }

    /// How many were started.
    pub fn started(&self) -> usize {
        self.counts.started.load(Ordering::SeqCst)
    }

    /// How many run now.
    pub fn running(&self) -> usize {
        self.started() - self.counts.ended.load(Ordering::SeqCst)
    }

    /// How many were asked to end (SIGTERM).
    pub fn terminated(&self) -> usize {
        self.counts.terminated.load(Ordering::SeqCst)
    }

    /// How many ended with a panic: what a test's program asserts did not hold.
    pub fn panicked(&self) -> usize {
        self.counts.panicked.load(Ordering::SeqCst)
    }

    /// How many were killed before they had ended (SIGKILL).
    pub fn killed(&self) -> usize {
        self.counts.killed.load(Ordering::SeqCst)
    }
}

impl Processes for VirtualProcesses {
    fn start<'a>(
        &'a self,
        command: &'a CommandLine,
        rules: &'a ChildRules,
    ) -> BoxFuture<'a, Result<Child, SpawnFault>> {
        async { self.run(command, rules) }.boxed()
    }
}

impl VirtualProcesses {
    fn run(&self, command: &CommandLine, rules: &ChildRules) -> Result<Child, SpawnFault> {
        let found = self.programs.lock().unwrap_or_else(PoisonError::into_inner).get(&command.program).cloned();
        let (program, on_terminate) = found.ok_or(SpawnFault::NotFound)?;
        let number = self.counts.started.fetch_add(1, Ordering::SeqCst) + 1;
        let (input, its_input) = tokio::io::duplex(STREAM_BYTES);
        let (output, its_output) = tokio::io::duplex(STREAM_BYTES);
        let (errors, its_errors) = tokio::io::duplex(STREAM_BYTES);
        let (terminated, killed) = (CancellationToken::new(), CancellationToken::new());
        let child = VirtualChild {
            command: command.clone(),
            rules: rules.clone(),
            input: its_input,
            output: its_output,
            errors: its_errors,
            terminated: terminated.clone(),
            number,
        };
        let exit = watch::Sender::new(None);
        let (running, ended, counts) = (program(child), exit.clone(), self.counts.clone());
        let (asked, forced) = (terminated.clone(), killed.clone());
        // Ends when it is killed, which dropping its life does.
        tokio::spawn(async move {
            let exit = tokio::select! {
                biased;
                () = forced.cancelled() => {
                    counts.killed.fetch_add(1, Ordering::SeqCst);
                    Exit::Signal(SIGKILL)
                }
                () = asked.cancelled(), if on_terminate == OnTerminate::Ends => Exit::Signal(SIGTERM),
                exit = AssertUnwindSafe(running).catch_unwind() => exit.unwrap_or_else(|_| {
                    counts.panicked.fetch_add(1, Ordering::SeqCst);
                    Exit::Signal(SIGABRT)
                }),
            };
            counts.ended.fetch_add(1, Ordering::SeqCst);
            ended.send_replace(Some(exit));
        });
        let life = VirtualLife { exit: exit.subscribe(), terminated, killed, counts: self.counts.clone() };
        let (input, output, errors) = (Box::new(input), Box::new(output), Box::new(errors));
        let pid = u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Child { pid, input, output, errors, life: Box::new(life) })
    }
}

impl std::fmt::Debug for VirtualProcesses {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "VirtualProcesses({} of {} running)", self.running(), self.started())
    }
}

const SIGABRT: i32 = 6;
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

struct VirtualLife {
    exit: watch::Receiver<Option<Exit>>,
    terminated: CancellationToken,
    killed: CancellationToken,
    counts: Arc<Counts>,
}

impl VirtualLife {
    async fn exit(&mut self) -> Exit {
        // The sender says how it ended before it goes.
        self.exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Unknown)
    }
}

impl Life for VirtualLife {
    fn ended(&mut self) -> BoxFuture<'_, ()> {
        self.exit().map(drop).boxed()
    }

    fn terminate(&mut self) {
        self.counts.terminated.fetch_add(1, Ordering::SeqCst);
        self.terminated.cancel();
    }

    fn bury(mut self: Box<Self>) -> BoxFuture<'static, Exit> {
        self.killed.cancel();
        async move { self.exit().await }.boxed()
    }
}

impl Drop for VirtualLife {
    fn drop(&mut self) {
        self.killed.cancel();
    }
}
