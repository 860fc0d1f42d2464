//! What is remembered of a server's era: what it said, and never what a passing failure made of it.

use std::num::NonZeroUsize;

use http::HeaderMap;

use super::*;
use crate::connectors::deadlines::{Deadlines, InForce};
use crate::connectors::session_slot::SessionSlot;
use crate::connectors::starts::Starts;
use crate::demo::mcp_server::{McpServer, ServerEra, ServerOptions};
use crate::mcp::{Declared, Era, Upstream, WireError};

#[tokio::test(start_paused = true)]
async fn a_server_that_left_the_modern_question_unanswered_once_is_asked_again_with_the_next_session() {
    let server = McpServer::new(ServerOptions { era: ServerEra::Dual, ..ServerOptions::default() });
    let network = Arc::new(VirtualNetwork::new());
    network.set(&url(), Host::Serve(server.router()));
    let upstream = Upstream::new(network, url(), HeaderMap::new());
    let connect = Some(Duration::from_secs(30));
    let timeouts = Timeouts { connect, ..Timeouts::default() };
    let deadlines = Deadlines::new(InForce::of(timeouts, Duration::from_secs(60)));
    let starts = Starts::new(NonZeroUsize::MIN);
    let slot = Arc::new(SessionSlot::new(upstream, deadlines, starts, None, Declared::default()));
    server.be_silent_on(&["server/discover"]);
    let session = slot.session().await.unwrap();
    assert_eq!((session.era(), slot.era(), slot.era_to_keep()), (Era::Legacy, Some(Era::Legacy), None));
    server.be_silent_on(&[]);
    slot.forget(&session, &WireError::SessionLost);
    let session = slot.session().await.unwrap();
    let found = (session.era(), slot.era(), slot.era_to_keep());
    assert_eq!(found, (Era::Modern, Some(Era::Modern), Some(Era::Modern)));
    slot.close().await;
}
