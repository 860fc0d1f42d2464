//! One raw server behind one gateway, and clients of both eras before it.

use std::fmt;
use std::sync::Arc;

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::mcp::Era;
use cortex_mcp::model::ListKind;

use crate::support::scripted::{Scripted, Style};
use crate::support::talk::Talk;
use crate::support::{Rig, Served};

/// The eras.
pub(crate) const ERAS: [Era; 2] = [Era::Legacy, Era::Modern];

/// Which server it is: its era, and in which form it answers.
pub(crate) const SERVERS: [(Era, Style); 4] =
    [(Era::Legacy, Style::Json), (Era::Legacy, Style::Sse), (Era::Modern, Style::Json), (Era::Modern, Style::Sse)];

/// The world.
pub(crate) struct World {
    pub(crate) rig: Rig,
    pub(crate) server: Arc<Scripted>,
    pub(crate) served: Served,
    pub(crate) era: Era,
    pub(crate) style: Style,
}

impl World {
    /// A server that lists what `lists` told it, and a gateway that has read the lists. The connector is `s1`.
    pub(crate) async fn new((era, style): (Era, Style), lists: impl FnOnce(&Scripted)) -> Self {
        let rig = Rig::new(1);
        let server = Scripted::new(era, style);
        lists(&server);
        rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
        let served = rig.ready().await;
        Self { rig, server, served, era, style }
    }

    /// The same with one item of each kind: `odd-tool`, `odd-prompt`, `odd://r` and `odd://t/{x}`.
    pub(crate) async fn ordinary(which: (Era, Style)) -> Self {
        Self::new(which, |server| {
            let tool = r#"{"name":"odd-tool","inputSchema":{"type":"object"}}"#;
            server.list(ListKind::Tools, vec![tool.to_owned()]);
            server.list(ListKind::Prompts, vec![r#"{"name":"odd-prompt"}"#.to_owned()]);
            server.list(ListKind::Resources, vec![r#"{"uri":"odd://r","name":"r"}"#.to_owned()]);
            server.list(ListKind::Templates, vec![r#"{"uriTemplate":"odd://t/{x}","name":"t"}"#.to_owned()]);
        })
        .await
    }

    pub(crate) async fn client(&self, era: Era) -> Talk {
        talk_to(&self.served, era).await
    }

    /// What a text of the server is like after it came to the gateway as an answer without messages before it.
    pub(crate) fn answered(&self, text: &str) -> String {
        match self.style {
            Style::Json => text.to_owned(),
            Style::Sse => super::corpus::over_a_stream(text),
        }
    }

    /// For people: who talks to whom, and how it answers.
    pub(crate) fn with(&self, client: Era) -> Pairing {
        Pairing(client, self.era, self.style)
    }
}

/// A client of a gateway.
pub(crate) async fn talk_to(served: &Served, era: Era) -> Talk {
    Talk::open(served.gateway.router("127.0.0.1:8420".parse().unwrap()), era).await
}

/// Who talks to whom.
#[derive(Clone, Copy)]
pub(crate) struct Pairing(Era, Era, Style);

impl fmt::Display for Pairing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(client, server, style) = self;
        write!(formatter, "{client} client, {server} server, {style:?}")
    }
}
