//! A router on a loopback address that can be stopped, connections and all, and started again on the same address.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;

/// The service. Its port stays reserved while it is stopped, so that nobody else gets it; connecting is refused then.
pub(crate) struct Service {
    address: SocketAddr,
    router: Router,
    running: Option<Runtime>,
    _reserved: TcpSocket,
}

impl Service {
    /// Reserves an address; nobody listens yet.
    pub(crate) fn stopped(router: Router) -> Self {
        let reserved = socket("127.0.0.1:0".parse().unwrap());
        Self { address: reserved.local_addr().unwrap(), router, running: None, _reserved: reserved }
    }

    /// Reserves an address and listens on it.
    pub(crate) fn started(router: Router) -> Self {
        let mut service = Self::stopped(router);
        service.start();
        service
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens, unless it does.
    pub(crate) fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (address, router) = (self.address, self.router.clone());
        let listener = runtime.block_on(async move { socket(address).listen(1024).unwrap() });
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.running = Some(runtime);
    }

    /// Closes the listener and every connection.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            // Dropping its tasks closes their sockets; the thread waits for that.
            std::thread::spawn(move || drop(runtime)).join().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
