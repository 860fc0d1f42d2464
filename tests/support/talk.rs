//! A client that talks: it opens a session if its era has them, reads answers as they stream in, answers what it is
//! asked, and keeps every message as the bytes that came.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use cortex_mcp::mcp::protocol::{Era, encode_header_value};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request};
use serde_json::value::RawValue;
use tower::ServiceExt;

/// What a legacy client says that it can do.
pub(crate) const CAPABILITIES: &str = concat!(
    r#"{"elicitation":{"form":{},"url":{},"x-odd":1E400},"sampling":{"tools":{},"":"\/"},"#,
    r#""roots":{"listChanged":true},"com.example/odd":{}}"#
);

/// What a modern client writes into `_meta`, without braces.
pub(crate) const MODERN_META: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"sampling":{},"x-odd":[1E400,-0]},"#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"talk","version":"1","x-odd":"\/"},"#,
    r#""io.modelcontextprotocol/logLevel":"debug""#
);

/// How long, in the clock's time, anything may take.
const PATIENCE: Duration = Duration::from_secs(100);

/// An event that holds a message, as every writer of events must write it.
pub(crate) fn event(message: &str) -> String {
    let lines = message.replace("\r\n", "\n").replace('\r', "\n");
    let lines: String = lines.split('\n').map(|line| format!("data: {line}\n")).collect();
    format!("event: message\n{lines}\n")
}

/// The members of a message's envelope, each as the text that came. No envelope that a gateway writes has a member twice.
#[track_caller]
pub(crate) fn envelope(message: &str) -> HashMap<String, Box<RawValue>> {
    serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {}", beginning(message)))
}

/// The start of a text, for people.
pub(crate) fn beginning(text: &str) -> String {
    let cut: String = text.chars().take(600).collect();
    if cut.len() < text.len() { format!("{cut}... ({} bytes)", text.len()) } else { cut }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Whether it came as a stream of events.
    pub(crate) streamed: bool,
    /// The messages before the answer, in order.
    pub(crate) before: Vec<String>,
    /// The answer.
    pub(crate) answer: String,
}

impl Heard {
    /// The text of the result.
    #[track_caller]
    pub(crate) fn result(&self) -> String {
        let message = envelope(&self.answer);
        let result = message.get("result").unwrap_or_else(|| panic!("no result: {}", beginning(&self.answer)));
        result.get().to_owned()
    }

    /// The text of the error object.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        let message = envelope(&self.answer);
        let error = message.get("error").unwrap_or_else(|| panic!("no error: {}", beginning(&self.answer)));
        error.get().to_owned()
    }
}

/// The client.
pub(crate) struct Talk {
    router: Router,
    pub(crate) era: Era,
    session: Option<String>,
    ids: AtomicU64,
}

impl Talk {
    /// A client of the endpoint behind `router`. A legacy one opens a session, if it is given one.
    pub(crate) async fn open(router: Router, era: Era) -> Self {
        match era {
            Era::Legacy => Self::open_with(router, CAPABILITIES).await,
            Era::Modern => Self { router, era, session: None, ids: AtomicU64::new(1) },
        }
    }

    /// A legacy client that declares this.
    pub(crate) async fn open_with(router: Router, capabilities: &str) -> Self {
        let mut talk = Self { router, era: Era::Legacy, session: None, ids: AtomicU64::new(1) };
        let params = format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"talk","version":"1"}}}}"#
        );
        let heard = talk.ask("initialize", None, &params).await;
        assert_eq!(heard.status, 200, "{heard:?}");
        talk.session = heard.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(talk.post(&[], initialized.to_owned()).await.status(), 202);
        talk
    }

    /// Whether it was given a session.
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Makes a request that nobody should ask anything back about.
    pub(crate) async fn ask(&self, method: &str, subject: Option<&str>, params: &str) -> Heard {
        let heard = self.ask_and_answer(method, subject, params, |_| r#""error":{"code":-1,"message":"no"}"#.into());
        heard.await
    }

    /// Makes a request. `params` is the text of the object, with everything in it; `subject` is what `Mcp-Name` mirrors.
    /// Questions are answered with the member (`"result":...` or `"error":...`) that `answer` makes of them.
    pub(crate) async fn ask_and_answer(
        &self,
        method: &str,
        subject: Option<&str>,
        params: &str,
        answer: impl Fn(&str) -> String,
    ) -> Heard {
        tokio::time::timeout(PATIENCE, self.exchange(method, subject, params, answer))
            .await
            .unwrap_or_else(|_| panic!("{method} is not answered"))
    }

    async fn exchange(
        &self,
        method: &str,
        subject: Option<&str>,
        params: &str,
        answer: impl Fn(&str) -> String,
    ) -> Heard {
        let id = self.ids.fetch_add(1, Ordering::SeqCst).to_string();
        let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        let subject = subject.map(|subject| encode_header_value(subject).to_str().unwrap().to_owned());
        let mut headers = Vec::new();
        if self.era == Era::Modern {
            headers.push(("mcp-method", method));
            headers.extend(subject.as_deref().map(|subject| ("mcp-name", subject)));
        }
        let (parts, body) = self.post(&headers, message).await.into_parts();
        let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let streamed = kind.starts_with("text/event-stream");
        let mut heard = Heard {
            status: parts.status.as_u16(),
            headers: parts.headers,
            streamed,
            before: Vec::new(),
            answer: String::new(),
        };
        if !streamed {
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            heard.answer = String::from_utf8(bytes.to_vec()).unwrap();
            return heard;
        }
        let mut events = Events::default();
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            for message in events.push(&piece.unwrap()) {
                let read = envelope(&message);
                assert!(heard.answer.is_empty(), "a message after the answer: {}", beginning(&message));
                match (read.get("method"), read.get("id")) {
                    (None, Some(of)) => {
                        assert_eq!(of.get(), id, "the answer to another request");
                        heard.answer = message;
                    }
                    (Some(_), None) => heard.before.push(message),
                    (Some(_), Some(of)) => {
                        let reply = format!(r#"{{"jsonrpc":"2.0","id":{},{}}}"#, of.get(), answer(&message));
                        heard.before.push(message);
                        assert_eq!(self.post(&[], reply).await.status(), 202);
                    }
                    (None, None) => panic!("no message: {}", beginning(&message)),
                }
            }
        }
        assert!(!heard.answer.is_empty(), "the stream ended without an answer to {method}; before: {:?}", heard.before);
        heard
    }

    /// Tells something that wants no answer.
    pub(crate) async fn tell(&self, method: &str, params: &str) {
        let message = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        assert_eq!(self.post(&[], message).await.status(), 202);
    }

    /// Lists everything of a kind: the texts of the items.
    pub(crate) async fn list(&self, method: &str, member: &str) -> Vec<String> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let params = match self.era {
                Era::Legacy => format!("{{{cursor}}}"),
                Era::Modern if cursor.is_empty() => format!(r#"{{"_meta":{{{MODERN_META}}}}}"#),
                Era::Modern => format!(r#"{{{cursor},"_meta":{{{MODERN_META}}}}}"#),
            };
            let heard = self.ask(method, None, &params).await;
            let result: HashMap<String, Box<RawValue>> = serde_json::from_str(&heard.result()).unwrap();
            let page: Vec<Box<RawValue>> = serde_json::from_str(result[member].get()).unwrap();
            items.extend(page.into_iter().map(|item| item.get().to_owned()));
            match result.get("nextCursor") {
                Some(next) => cursor = format!(r#""cursor":{}"#, next.get()),
                None => return items,
            }
        }
    }

    /// Opens the session's own stream.
    pub(crate) async fn listen(&self) -> Listening {
        let response = self.send(Method::GET, &[], String::new()).await;
        assert_eq!(response.status(), 200);
        let pieces = response.into_body().into_data_stream();
        Listening { events: Events::default(), pieces, ready: VecDeque::new() }
    }

    async fn post(&self, headers: &[(&str, &str)], body: String) -> http::Response<Body> {
        self.send(Method::POST, headers, body).await
    }

    async fn send(&self, method: Method, headers: &[(&str, &str)], body: String) -> http::Response<Body> {
        let mut request = Request::builder().method(method).uri("/mcp").body(Body::from(body)).unwrap();
        let version = match self.era {
            Era::Modern => "2026-07-28",
            Era::Legacy => "2025-11-25",
        };
        let own = [
            ("host", "127.0.0.1:8420"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", version),
        ];
        let session = self.session.as_deref().map(|session| ("mcp-session-id", session));
        for (name, value) in own.into_iter().chain(session).chain(headers.iter().copied()) {
            let name = http::HeaderName::try_from(name).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        self.router.clone().oneshot(request).await.unwrap()
    }
}

/// A stream that carries messages only.
pub(crate) struct Listening {
    events: Events,
    pieces: BodyDataStream,
    ready: VecDeque<String>,
}

impl Listening {
    /// The next message.
    pub(crate) async fn next(&mut self) -> String {
        let next = async {
            loop {
                if let Some(message) = self.ready.pop_front() {
                    return message;
                }
                let piece = self.pieces.next().await.expect("the stream goes on").unwrap();
                self.ready.extend(self.events.push(&piece));
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a message comes")
    }
}

/// A reader of events that owes nothing to the gateway's own (WHATWG HTML 9.2.6): the data of each event, nothing else.
#[derive(Default)]
struct Events {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    after_return: bool,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut messages = Vec::new();
        for byte in bytes.iter().copied() {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    messages.extend(self.end_line(&line));
                }
                _ => self.line.push(byte),
            }
        }
        messages
    }

    fn end_line(&mut self, line: &[u8]) -> Option<String> {
        if line.is_empty() {
            let data = self.data.take().filter(|data| !data.is_empty())?;
            return Some(String::from_utf8(data).unwrap());
        }
        let value = match line.strip_prefix(b"data") {
            Some([]) => &[][..],
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => value,
            _ => return None,
        };
        match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => self.data = Some(value.to_vec()),
        }
        None
    }
}
