//! The network as one gateway sees it: everything that leaves is noted, and the plug can be pulled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cortex_mcp::edge::http::{Http, HttpError, Request, Response};
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

/// A request that left the gateway.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) request: Request,
}

impl Sent {
    /// The origin that it went to.
    pub(crate) fn origin(&self) -> String {
        self.request.url.origin().ascii_serialization()
    }

    /// The body, as text.
    pub(crate) fn body(&self) -> String {
        String::from_utf8_lossy(&self.request.body).into_owned()
    }
}

/// The network behind a notebook and a plug.
pub(crate) struct Wire {
    network: Arc<VirtualNetwork>,
    sent: Mutex<Vec<Sent>>,
    unplugged: AtomicBool,
}

impl Wire {
    pub(crate) fn new(network: Arc<VirtualNetwork>) -> Arc<Self> {
        Arc::new(Self { network, sent: Mutex::default(), unplugged: AtomicBool::new(false) })
    }

    /// Everything that left so far, in order.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// How many requests left so far.
    pub(crate) fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    /// Nothing gets through any more, in either direction: the process behind it counts as dead.
    pub(crate) fn unplug(&self) {
        self.unplugged.store(true, Ordering::SeqCst);
    }
}

impl Http for Wire {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        if self.unplugged.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        self.sent.lock().unwrap().push(Sent { at: Instant::now(), request: request.clone() });
        self.network.send(request)
    }
}
