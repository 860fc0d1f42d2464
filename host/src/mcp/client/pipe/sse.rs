//! HTTP with Server-Sent Events, of 2024-11-05 (`basic/transports`): one stream brings everything, and messages are
//! posted to where its first event says.
//!
//! That must be of the stream's own origin: the connector's headers never reach another one.

use std::collections::VecDeque;
use std::sync::Arc;

use http::HeaderMap;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::desk::{Desk, Taken};
use super::lines::ended;
use super::out::Out;
use crate::edge::http::{Body, HttpError};
use crate::mcp::client::exchange;
use crate::mcp::client::rate::Rate;
use crate::mcp::client::transport::Transport;
use crate::mcp::client::upstream_headers::CredentialEvidence;
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::outline::Outline;
use crate::mcp::protocol::EVENT_STREAM_TYPE;
use crate::mcp::sse::{SseEvent, SseParser};

/// The event that names where to post to.
const ENDPOINT: &str = "endpoint";

/// An open stream.
pub(super) struct EventStream {
    body: Body,
    parser: SseParser,
    /// What has arrived and was not looked at.
    events: VecDeque<Arrived>,
    rate: Rate,
    /// The largest event, in bytes.
    cap: usize,
}

/// What a stream brought.
enum Arrived {
    Event(SseEvent),
    /// An event that is too large.
    TooLarge(Outline),
}

impl EventStream {
    /// Opens the stream and waits for where to post to. The deadline is the caller's.
    ///
    /// # Errors
    /// [`WireError`]; [`ProtocolFault::NoPostEndpoint`] if the stream brings something else first, or names another
    /// origin.
    pub(super) async fn open(transport: &Transport) -> Result<(Self, Url), WireError> {
        let response = transport.get(&HeaderMap::new(), CredentialEvidence::Conclusive).await?;
        if !response.status.is_success() {
            return Err(exchange::status_error(&response));
        }
        exchange::judge_encoding(&response)?;
        if !response.content_type_is(EVENT_STREAM_TYPE) {
            return Err(ProtocolFault::ContentType(response.proxy).into());
        }
        let inbound = transport.inbound();
        let (cap, rate) = (inbound.max_message_bytes(), Rate::new(inbound.max_stream_bytes()));
        let parser = SseParser::discarding(cap);
        let mut stream = Self { body: response.body, parser, events: VecDeque::new(), rate, cap };
        let Some(Arrived::Event(first)) = stream.next().await? else {
            return Err(ProtocolFault::NoPostEndpoint.into());
        };
        if first.event != ENDPOINT {
            return Err(ProtocolFault::NoPostEndpoint.into());
        }
        let target = target(transport.endpoint(), &first.data).ok_or(ProtocolFault::NoPostEndpoint)?;
        Ok((stream, target))
    }

    /// Reads until the stream ends, or is to end.
    pub(super) async fn read(mut self, desk: Arc<Desk>, out: Out, ending: [CancellationToken; 2]) {
        let [asked, given_up] = ending;
        let reason = loop {
            let event = tokio::select! {
                biased;
                () = asked.cancelled() => break ended(),
                () = given_up.cancelled() => break ended(),
                event = self.next() => event,
            };
            match event {
                Ok(Some(Arrived::Event(event))) if event.event == "message" => {
                    match desk.take(&event.data) {
                        Taken::Awaited => {
                            self.rate.forgive(event.data.len());
                            continue;
                        }
                        // Its bytes are counted already.
                        Taken::OnTheWay => continue,
                        Taken::OfItsOwn => {}
                        // A server that asks more than it takes answers for gets none.
                        Taken::ToBeTold(reply) => drop(out.send_soon(reply)),
                    }
                    if let Err(flood) = self.rate.event() {
                        break flood.into();
                    }
                }
                Ok(Some(arrived)) => {
                    if let Arrived::TooLarge(outline) = arrived {
                        desk.take_oversize(&outline);
                        // What came before it was known to be too large.
                        self.rate.forgive(self.cap);
                    }
                    if let Err(flood) = self.rate.event() {
                        break flood.into();
                    }
                }
                Ok(None) | Err(WireError::Http(HttpError::Broken)) => break ended(),
                Err(error) => break error,
            }
        };
        desk.end(&reason);
    }

    async fn next(&mut self) -> Result<Option<Arrived>, WireError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(chunk) = self.body.chunk().await? else { return Ok(None) };
            // What is discarded has a bound of its own.
            if !self.parser.is_discarding() {
                self.rate.read(chunk.len())?;
            }
            let events = self.parser.push(&chunk).map_err(|error| HttpError::Oversize { cap: error.cap })?;
            self.events.extend(events.into_iter().map(Arrived::Event));
            self.events.extend(self.parser.discarded().into_iter().map(Arrived::TooLarge));
        }
    }
}

/// Where to post to, by the data of the event: an address, or a part of one, of the stream's own origin.
fn target(stream: &Url, data: &[u8]) -> Option<Url> {
    let target = stream.join(std::str::from_utf8(data).ok()?.trim()).ok()?;
    let same = |url: &Url| (url.origin(), url.username().to_owned(), url.password().map(str::to_owned));
    // Opaque origins are equal to none, not even to themselves.
    (same(&target) == same(stream)).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_to_post_to_is_resolved_and_must_be_of_the_same_origin() {
        let stream = Url::parse("https://a.example/base/sse?key=1").unwrap();
        for (data, expected) in [
            ("/messages/?session_id=7", Some("https://a.example/messages/?session_id=7")),
            ("message?sessionId=7", Some("https://a.example/base/message?sessionId=7")),
            (" https://a.example:443/m ", Some("https://a.example/m")),
            ("http://a.example/m", None),
            ("https://b.example/m", None),
            ("//b.example/m", None),
            ("https://user@a.example/m", None),
            ("https://a.example:8443/m", None),
            ("data:text/plain,x", None),
            ("https://", None),
        ] {
            let found = target(&stream, data.as_bytes()).map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{data}");
        }
        assert_eq!(target(&stream, b"\xff"), None);
    }
}
