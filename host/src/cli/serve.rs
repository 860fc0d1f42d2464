//! `cortex-mcp serve`: the gateway on a socket, or on its stdin and stdout, until it is asked to end.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::IsTerminal;
use std::net::SocketAddr;

use clap::Args;
use cortex_mcp::gateway::{Gateway, ListeningRecord, limits};
use cortex_mcp::model::text::escape_json;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::common::{EndSignals, GatewayFlags, asked_to_reload, processes};
use super::error::{CommandError, Exit};
use super::output::Output;
use super::stdin;

/// Runs the gateway until SIGTERM or SIGINT; then calls in flight end, and state is written. SIGHUP reads gateway.toml and
/// the policy anew. With --stdio it also ends when its stdin does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  CONNECTORS_SERVICE_MAP_URL=https://example.com/v1/connectors/service-map \\
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp serve

  cortex-mcp serve --listen 127.0.0.1:9000 --policy my-policy.wasm

  cortex-mcp serve --stdio            for a client that starts the gateway itself, as the one server that it knows

Several gateways may share one home: whoever holds the lock of the state writes it, the others follow.

The values of the policy's options are recorded in the trace with every decision, in clear: they are no place for secrets.
The environment is described in the README. State is kept below $CORTEX_HOME/mcp/state: a restart serves everything
before the first packet leaves.")]
pub(crate) struct Serve {
    /// Where to listen, instead of the configured address. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Serve the client that started this process, on stdin and stdout. No socket is listened on, unless --listen names
    /// one. Only MCP messages are printed; logs go to stderr.
    #[arg(long)]
    stdio: bool,

    #[command(flatten)]
    gateway: GatewayFlags,
}

impl Serve {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let settings = self.gateway.settings(self.listen)?;
        // Before anything else: requests that come early wait in the backlog.
        let listener = match self.stdio && self.listen.is_none() {
            true => None,
            false => Some(bind(settings.listen).await?),
        };
        let address = listener.as_ref().map(TcpListener::local_addr).transpose();
        let address = address.map_err(|source| listen_error(settings.listen, source))?;
        let configured = settings.listen;
        let _listening = address.and_then(|address| ListeningRecord::hold(&settings, address));
        // From the first moment on: a hangup that nobody listens to would end the process.
        let hangups = signal(SignalKind::hangup()).ok();
        let gateway = Gateway::builder(settings).processes(processes()).begin().await?;
        // Whoever reads that it serves may ask it to end at once.
        let mut ends = EndSignals::listen();
        self.announce(output, address);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let signalled = tokio::spawn(async move {
            ends.asked().await;
            tracing::info!("asked to end: calls in flight may finish; asked again, it ends at once");
            stopping.cancel();
            ends.asked().await;
            std::process::exit(1);
        });
        let on_socket = async {
            match listener {
                Some(listener) => gateway.serve(listener, stop.clone()).await,
                None => Ok(()),
            }
        };
        let on_stdio = async {
            if self.stdio {
                serve_stdio(&gateway, stop.clone()).await;
                // The client that this process is for is gone.
                stop.cancel();
            }
        };
        // One deadline for requests, wherever they are: it begins with the signal.
        let deadline = Cell::new(None);
        let stopped = async {
            stop.cancelled().await;
            deadline.set(Some(Instant::now() + limits::DRAIN_TIMEOUT));
            std::future::pending::<Infallible>().await
        };
        let served = tokio::select! {
            (served, ()) = async { tokio::join!(on_socket, on_stdio) } => served,
            never = stopped => match never {},
            never = self.follow(&gateway, hangups) => match never {},
        };
        gateway.shut_down_by(deadline.get().unwrap_or_else(|| Instant::now() + limits::DRAIN_TIMEOUT)).await;
        signalled.abort();
        served.map_err(|source| listen_error(configured, source))?;
        Ok(Exit::Good)
    }

    /// Says where it serves. On stdio, stdout belongs to the client.
    fn announce(&self, output: &Output, address: Option<SocketAddr>) {
        if self.stdio {
            tracing::info!("serving the client on stdin and stdout");
        }
        let Some(address) = address else { return };
        let url = format!("http://{address}/mcp");
        if !self.stdio {
            output.value(&json!({ "url": url, "listen": address.to_string() }));
            output.line(format_args!("cortex-mcp serves {url}"));
        }
        tracing::info!(url, "listening");
    }
}

impl Serve {
    /// Reloads whenever it is asked to, one at a time. Hangups during a reload are remembered, and start one more.
    async fn follow(&self, gateway: &Gateway, mut hangups: Option<Signal>) -> Infallible {
        loop {
            asked_to_reload(&mut hangups).await;
            tracing::info!("asked to reload the configuration");
            // Whatever is wrong with it, the gateway goes on as before.
            if let Err(error) = self.reload(gateway).await {
                tracing::error!(%error, "configuration not reloaded: nothing was changed");
            }
        }
    }

    /// Reads the configuration anew, off the async workers: a disk may hang.
    async fn reload(&self, gateway: &Gateway) -> Result<(), CommandError> {
        let (flags, listen) = (self.gateway.clone(), self.listen);
        let read = tokio::task::spawn_blocking(move || flags.resolve(listen)).await;
        let settings = read.map_err(|ended| CommandError::Runtime(ended.into()))??;
        gateway.reload(settings).await?;
        Ok(())
    }
}

/// Serves the client of stdin and stdout. On a terminal, which shows the messages to a person, they are escaped.
async fn serve_stdio(gateway: &Gateway, stop: CancellationToken) {
    #[expect(clippy::disallowed_methods, reason = "the client reads MCP messages there")]
    let (mut stdout, is_terminal) = (tokio::io::stdout(), std::io::stdout().is_terminal());
    if !is_terminal {
        return gateway.serve_stdio(stdin::pipe(), stdout, stop).await;
    }
    let (writer, reader) = tokio::io::duplex(stdin::PIPE_BYTES);
    let escaping = async {
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // Nothing is left to do if the terminal is gone: the client is, too.
            let _ = stdout.write_all(format!("{}\n", escape_json(&line)).as_bytes()).await;
            let _ = stdout.flush().await;
        }
    };
    tokio::join!(gateway.serve_stdio(stdin::pipe(), writer, stop), escaping);
}

/// Takes a socket.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address).await.map_err(|source| listen_error(address, source))
}

fn listen_error(address: SocketAddr, source: std::io::Error) -> CommandError {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => CommandError::Taken { address },
        _ => CommandError::Listen { address, source },
    }
}
