//! Many MCP servers of the modern era on one port, which answer at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cortex_mcp::demo::mcp_server::{McpServer, ServerOptions};

/// The servers; they refuse every connection once this is dropped.
pub(crate) struct Servers {
    servers: Vec<Arc<McpServer>>,
    tools: usize,
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Servers {
    pub(crate) fn start(servers: usize, tools: usize) -> Self {
        let options = |number: usize| ServerOptions {
            name: format!("s{number}"),
            tools,
            // Nothing is refreshed while it is measured.
            ttl_ms: Some(86_400_000),
            ..ServerOptions::default()
        };
        let servers: Vec<_> = (0..servers).map(|number| McpServer::new(options(number))).collect();
        let all = servers.iter().enumerate();
        let router =
            all.fold(Router::new(), |router, (number, server)| router.nest(&format!("/s{number}"), server.router()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { servers, tools, address, runtime: Some(runtime) }
    }

    pub(crate) fn endpoint(&self, number: usize) -> String {
        format!("http://{}/s{number}/mcp", self.address)
    }

    /// How often a server was asked for its list.
    pub(crate) fn lists(&self, number: usize) -> u64 {
        self.servers[number].counts().lists
    }

    pub(crate) fn remove_last_tool(&self, number: usize) {
        self.servers[number].set_tools(self.tools - 1);
    }

    pub(crate) fn wait_for_lists(&self, number: usize, lists: u64) {
        for _ in 0..10_000 {
            if self.lists(number) >= lists {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("server {number} is not asked for its list");
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
