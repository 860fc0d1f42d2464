//! A child's life as a pipe: who writes to it, reads it, logs its complaints, and ends it.
//!
//! One task for each child (kept by the place that it was started from) owns all of that, and is over only when nothing
//! of the child is left. The end follows 2026-07-28, `basic/transports/stdio`, Shutdown: standard input is closed, then
//! SIGTERM, then SIGKILL, the last two to the whole process group.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::assembly::{Assembly, TakenLine};
use super::complaints;
use super::desk::{Desk, Taken};
use super::lines::{Line as InLine, LineReader, ended};
use super::out::{Line, Out};
use super::report::ProcessReport;
use crate::edge::process::{Child, Exit, Life};
use crate::mcp::client::rate::Rate;
use crate::mcp::error::WireError;
use crate::mcp::inbound::Inbound;
use crate::mcp::limits::{NEXT_LINE_TIMEOUT, PIPE_DRAIN, PIPE_QUEUE, STDIN_GRACE, TERMINATE_GRACE};
use crate::model::ConnectorId;
use crate::telemetry::LogLimit;

/// What the task of a child needs besides the child.
pub(super) struct Keeper {
    pub(super) desk: Arc<Desk>,
    pub(super) connector: ConnectorId,
    pub(super) inbound: Arc<Inbound>,
    /// Which of its ends are logged: a server that crashes is started again by every call.
    pub(super) exits: Arc<LogLimit<()>>,
    pub(super) report: Arc<ProcessReport>,
    /// Cancelled when the pipe is to end.
    pub(super) ending: CancellationToken,
    /// Cancelled when nobody has time for an orderly end any more.
    pub(super) given_up: CancellationToken,
}

/// The queue to a child's writer.
pub(super) fn queue() -> (mpsc::Sender<Line>, mpsc::Receiver<Line>) {
    mpsc::channel(PIPE_QUEUE)
}

impl Keeper {
    /// Keeps a child until its end, and sees to that.
    pub(super) async fn keep(self, child: Child, out: mpsc::WeakSender<Line>, lines: mpsc::Receiver<Line>) {
        let Child { pid, input, output, errors, mut life } = child;
        let close_input = CancellationToken::new();
        let mut writing = tokio::spawn(write(input, lines, close_input.clone()));
        let mut reading = tokio::spawn(read(output, self.desk.clone(), out, self.inbound.clone()));
        let (connector, report) = (self.connector.clone(), self.report.clone());
        let mut complaining = tokio::spawn(async move { complaints::log(errors, &connector, &report).await });

        let mut asked = false;
        let reason = tokio::select! {
            biased;
            () = self.ending.cancelled() => {
                asked = true;
                ended()
            }
            () = self.given_up.cancelled() => ended(),
            read = &mut reading => read.unwrap_or_else(|_| ended()),
            // Nobody reads what is asked any more.
            _ = &mut writing => ended(),
            () = life.ended() => match timeout(PIPE_DRAIN, &mut reading).await {
                // What it said last is taken; who inherited its output is waited for no longer.
                Ok(read) => read.unwrap_or_else(|_| ended()),
                Err(_) => ended(),
            },
        };
        self.desk.end(&reason);
        close_input.cancel();
        let exit = self.end(life, &mut reading, &mut complaining).await;
        abort(&mut writing).await;
        abort(&mut complaining).await;
        abort(&mut reading).await;
        self.report.note_exit(exit);
        self.tell(pid, asked, exit, &reason);
    }

    /// Ends a child in order, or at once if nobody has time for that. Nothing is left of it then.
    async fn end(
        &self,
        mut life: Box<dyn Life>,
        reading: &mut JoinHandle<WireError>,
        complaining: &mut JoinHandle<()>,
    ) -> Exit {
        tokio::select! {
            biased;
            () = self.given_up.cancelled() => {}
            () = end_in_order(&mut *life, reading, complaining) => {}
        }
        life.bury().await
    }

    fn tell(&self, pid: u32, asked: bool, exit: Exit, reason: &WireError) {
        let (connector, dropped) = (&self.connector, self.desk.dropped());
        if asked {
            tracing::debug!(%connector, pid, %exit, dropped, "the server's process was ended");
        } else if let Some(line) = self.exits.admit(()) {
            let left_out = line.left_out;
            tracing::warn!(%connector, pid, %exit, %reason, dropped, left_out, "the server's process has ended by itself");
        }
    }
}

/// Waits for the end of a child whose input was closed, and asks for it where it does not come.
async fn end_in_order(life: &mut dyn Life, reading: &mut JoinHandle<WireError>, complaining: &mut JoinHandle<()>) {
    if timeout(STDIN_GRACE, life.ended()).await.is_ok() && closed(PIPE_DRAIN, reading, complaining).await {
        return;
    }
    life.terminate();
    let deadline = Instant::now() + TERMINATE_GRACE;
    if timeout_at(deadline, life.ended()).await.is_ok() {
        // The child is gone, but perhaps not everybody whom it handed its streams to.
        closed(deadline.saturating_duration_since(Instant::now()), reading, complaining).await;
    }
}

/// Ends a task that may have ended.
async fn abort<T>(task: &mut JoinHandle<T>) {
    if !task.is_finished() {
        task.abort();
        // What it was aborted in is of no interest.
        drop(task.await);
    }
}

/// Whether both streams come to their end within so long: nobody holds them any more.
async fn closed(limit: Duration, reading: &mut JoinHandle<WireError>, complaining: &mut JoinHandle<()>) -> bool {
    let both = async {
        // Which has ended before must not be asked again.
        if !reading.is_finished() {
            drop(reading.await);
        }
        if !complaining.is_finished() {
            drop(complaining.await);
        }
    };
    timeout(limit, both).await.is_ok()
}

/// Writes what is queued, in order, until the input is to be closed or nobody reads it.
async fn write(mut input: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Line>, close: CancellationToken) {
    loop {
        let line = tokio::select! {
            biased;
            () = close.cancelled() => return,
            line = lines.recv() => line,
        };
        let Some(Line { bytes, stage }) = line else {
            // Nobody has anything to say any more, and the end comes on another way.
            close.cancelled().await;
            return;
        };
        if stage.is_some_and(|stage| !stage.write()) {
            continue;
        }
        let writing = async {
            input.write_all(&bytes).await?;
            input.write_all(b"\n").await?;
            input.flush().await
        };
        tokio::select! {
            biased;
            () = close.cancelled() => return,
            written = writing => if written.is_err() { return },
        }
    }
}

/// Reads lines until their end, and tells why that came.
async fn read(
    output: impl AsyncRead + Unpin,
    desk: Arc<Desk>,
    out: mpsc::WeakSender<Line>,
    inbound: Arc<Inbound>,
) -> WireError {
    let mut rate = Rate::new(inbound.max_stream_bytes());
    let mut lines = LineReader::new(output, inbound.max_message_bytes());
    let mut assembly = Assembly::default();
    loop {
        lines.set_cap(inbound.max_message_bytes());
        let TakenLine { taken, counted } = match next_line(&mut lines, &mut assembly, &desk).await {
            Ok(Some(InLine::Whole(line))) => assembly.take(line, &desk, &inbound),
            Ok(Some(InLine::TooLong(outline))) => assembly.take_too_long(&outline, &desk, &inbound),
            Ok(None) => return ended(),
            Err(error) => return error,
        };
        let within = match taken {
            Taken::Awaited => Ok(()),
            Taken::OnTheWay => rate.read(counted),
            Taken::OfItsOwn | Taken::ToBeTold(_) => rate.read(counted).and_then(|()| rate.event()),
        };
        if let Err(flood) = within {
            return flood.into();
        }
        if let (Taken::ToBeTold(reply), Some(out)) = (taken, out.upgrade()) {
            // Who does not read gets no answers: the reader never waits for the writer.
            Out::Lines(out).send_soon(reply);
        }
    }
}

/// Waits for the next line. While a message over several lines is open, its request does not wait for long.
async fn next_line<'a>(
    lines: &'a mut LineReader<impl AsyncRead + Unpin>,
    assembly: &mut Assembly,
    desk: &Desk,
) -> Result<Option<InLine<'a>>, WireError> {
    let mut next = std::pin::pin!(lines.next());
    if assembly.is_open() {
        // Not dropped: it may hold the beginning of a line.
        match timeout(NEXT_LINE_TIMEOUT, &mut next).await {
            Ok(line) => return line,
            Err(_) => drop(assembly.give_up(desk)),
        }
    }
    next.await
}
