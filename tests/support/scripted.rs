//! A raw MCP server of one era: it says exactly the bytes that it was told to say, and keeps the bytes that it was sent.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use bytes::Bytes;
use cortex_mcp::mcp::{Era, Message, RawObject, RequestId};
use cortex_mcp::model::ListKind;
use http::{HeaderMap, Method};
use tokio::sync::{mpsc, oneshot};

use super::talk::event;

/// In which form it answers where it has nothing to say before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Json,
    Sse,
}

/// What it says before it answers. Both are a method and the text of the params.
#[derive(Clone, Debug)]
pub(crate) enum Before {
    Notice(&'static str, String),
    /// The answer is waited for; legacy only.
    Question(&'static str, String),
    /// Nothing but comments, each after so long.
    Comments(u32, std::time::Duration),
}

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Result(String),
    /// The error object, and the HTTP status where nothing is said before.
    Error(u16, String),
}

/// A message that it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) params: String,
    pub(crate) headers: HeaderMap,
}

/// The server.
pub(crate) struct Scripted {
    era: Era,
    style: Style,
    lists: Mutex<HashMap<&'static str, Vec<String>>>,
    /// JSON.
    instructions: Mutex<String>,
    told: Mutex<(Vec<Before>, Ending)>,
    asked: Mutex<Vec<Asked>>,
    answers: Mutex<Vec<(HeaderMap, String)>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
    questions: AtomicU64,
    sessions: AtomicU64,
    /// The streams that carry messages only; legacy.
    streams: Mutex<Vec<mpsc::UnboundedSender<String>>>,
}

impl Scripted {
    pub(crate) fn new(era: Era, style: Style) -> Arc<Self> {
        Arc::new(Self {
            era,
            style,
            lists: Mutex::default(),
            instructions: Mutex::new("null".to_owned()),
            told: Mutex::new((Vec::new(), Ending::Result("{}".to_owned()))),
            asked: Mutex::default(),
            answers: Mutex::default(),
            waiting: Mutex::default(),
            questions: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            streams: Mutex::default(),
        })
    }

    /// What it lists: the texts of the definitions.
    pub(crate) fn list(&self, kind: ListKind, definitions: Vec<String>) {
        self.lists.lock().unwrap().insert(kind.method(), definitions);
    }

    /// What it wants a model to know; sessions that are open know it already.
    #[allow(dead_code, reason = "each test binary uses a part of this")]
    pub(crate) fn instruct(&self, text: Option<&str>) {
        *self.instructions.lock().unwrap() = serde_json::to_string(&text).unwrap();
    }

    /// What it says to requests from now on, those apart that have an answer of their own.
    pub(crate) fn tell(&self, before: Vec<Before>, ending: Ending) {
        *self.told.lock().unwrap() = (before, ending);
    }

    /// The messages of a method so far, in order.
    pub(crate) fn asked(&self, method: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.method == method).cloned().collect()
    }

    /// How many messages of a method there were so far.
    pub(crate) fn times_asked(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.method == method).count()
    }

    /// How many messages there were so far.
    #[allow(dead_code, reason = "each test binary uses a part of this")]
    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The last message of a method.
    pub(crate) fn last(&self, method: &str) -> Asked {
        self.asked(method).pop().unwrap_or_else(|| panic!("{method} was never asked"))
    }

    /// The answers to its questions, whole, as they came.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.answers.lock().unwrap().iter().map(|(_, answer)| answer.clone()).collect()
    }

    /// The same, with the session that each came in.
    pub(crate) fn answers_of_sessions(&self) -> Vec<(String, String)> {
        let answers = self.answers.lock().unwrap();
        answers.iter().map(|(headers, answer)| (session_of(headers), answer.clone())).collect()
    }

    /// Sends a notification on the sessions' own streams, and returns how many there are.
    pub(crate) fn send(&self, method: &str, params: &str) -> usize {
        let message = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
        let mut streams = self.streams.lock().unwrap();
        streams.retain(|stream| stream.send(event(&message)).is_ok());
        streams.len()
    }

    /// How many streams of sessions are open.
    pub(crate) fn streams(&self) -> usize {
        let mut streams = self.streams.lock().unwrap();
        streams.retain(|stream| !stream.is_closed());
        streams.len()
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(serve).layer(DefaultBodyLimit::disable()).with_state(self.clone())
    }

    fn capabilities() -> &'static str {
        r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true},"completions":{},"logging":{}}"#
    }

    /// Its answer where the script has no say.
    fn by_itself(&self, method: &str) -> Option<Ending> {
        let result = |text: String| Some(Ending::Result(text));
        let unknown = || {
            let status = if self.era == Era::Modern { 404 } else { 200 };
            Some(Ending::Error(status, r#"{"code":-32601,"message":"no such method"}"#.to_owned()))
        };
        let capabilities = Self::capabilities();
        let instructions = self.instructions.lock().unwrap().clone();
        match (method, self.era) {
            ("initialize", Era::Legacy) => result(format!(
                r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"raw","version":"1"}},"instructions":{instructions}}}"#
            )),
            ("server/discover", Era::Modern) => result(format!(
                r#"{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{capabilities},"instructions":{instructions},"ttlMs":0,"cacheScope":"private"}}"#
            )),
            ("ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe", Era::Legacy) => {
                result("{}".to_owned())
            }
            ("initialize" | "server/discover" | "ping" | "subscriptions/listen", _) => unknown(),
            _ => {
                let kind = ListKind::ALL.into_iter().find(|kind| kind.method() == method)?;
                let member = match kind {
                    ListKind::Tools => "tools",
                    ListKind::Prompts => "prompts",
                    ListKind::Resources => "resources",
                    ListKind::Templates => "resourceTemplates",
                };
                let items = self.lists.lock().unwrap().get(method).cloned().unwrap_or_default().join(",");
                result(match self.era {
                    Era::Legacy => format!(r#"{{"{member}":[{items}]}}"#),
                    Era::Modern => format!(
                        r#"{{"resultType":"complete","{member}":[{items}],"ttlMs":3000000,"cacheScope":"private"}}"#
                    ),
                })
            }
        }
    }
}

/// The session that a message names; empty if it names none.
pub(crate) fn session_of(headers: &HeaderMap) -> String {
    headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn serve(State(server): State<Arc<Scripted>>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    if method == Method::DELETE {
        return plain(200, "");
    }
    if method == Method::GET && server.era == Era::Legacy {
        let (sender, received) = mpsc::unbounded_channel::<String>();
        server.streams.lock().unwrap().push(sender);
        let events = futures_util::stream::unfold(received, |mut received| async move {
            received.recv().await.map(|text| (Ok::<_, Infallible>(Bytes::from(text)), received))
        });
        let builder = Response::builder().header("content-type", "text/event-stream");
        return builder.body(Body::from_stream(events)).unwrap();
    }
    if method != Method::POST {
        return plain(405, "");
    }
    match Message::parse(&body) {
        Ok(Message::Request { id, method, params }) => {
            let params = params.map(|params| params.get().to_owned()).unwrap_or_default();
            let token = token_of(&params).unwrap_or_else(|| "null".to_owned());
            server.asked.lock().unwrap().push(Asked { method: method.clone(), params, headers });
            answer(&server, &id, &method, &token)
        }
        Ok(Message::Notification { method, params }) => {
            let params = params.map(|params| params.get().to_owned()).unwrap_or_default();
            server.asked.lock().unwrap().push(Asked { method, params, headers });
            plain(202, "")
        }
        Ok(Message::Response { id, .. }) => {
            let text = String::from_utf8(body.to_vec()).unwrap();
            server.answers.lock().unwrap().push((headers, text));
            let waiting = id.and_then(|id| server.waiting.lock().unwrap().remove(id.as_json()));
            // Nobody may wait any more.
            waiting.map(|waiting| waiting.send(()));
            plain(202, "")
        }
        Err(error) => plain(400, &format!("{error}")),
    }
}

/// The token by which a request asked for progress.
fn token_of(params: &str) -> Option<String> {
    let meta = RawObject::parse(RawObject::from_str(params).ok()?.get("_meta")?).ok()?;
    meta.get("progressToken").map(|token| token.get().to_owned())
}

fn answer(server: &Arc<Scripted>, id: &RequestId, method: &str, token: &str) -> Response {
    let by_itself = server.by_itself(method).map(|ending| (Vec::new(), ending));
    let (mut before, ending) = by_itself.unwrap_or_else(|| server.told.lock().unwrap().clone());
    for one in &mut before {
        if let Before::Notice(_, params) = one {
            *params = params.replace(r#""progressToken":TOKEN"#, &format!(r#""progressToken":{token}"#));
        }
    }
    let (status, member, text) = match ending {
        Ending::Result(result) => (200, "result", result),
        Ending::Error(status, error) => (status, "error", error),
    };
    let last = format!(r#"{{"jsonrpc":"2.0","id":{},"{member}":{text}}}"#, id.as_json());
    let streamed = !before.is_empty() || (server.style == Style::Sse && status == 200);
    let mut response = if streamed { stream(server.clone(), before, last) } else { json(status, last) };
    if method == "initialize" {
        let session = format!("session-{}", server.sessions.fetch_add(1, Ordering::SeqCst));
        response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
    }
    response
}

fn stream(server: Arc<Scripted>, before: Vec<Before>, last: String) -> Response {
    let (events, received) = mpsc::channel::<String>(1);
    tokio::spawn(async move {
        for one in before {
            let (message, waiting) = match one {
                Before::Comments(count, gap) => {
                    for _ in 0..count {
                        tokio::time::sleep(gap).await;
                        if events.send(": ping\n\n".to_owned()).await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
                Before::Notice(method, params) => {
                    (format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#), None)
                }
                Before::Question(method, params) => {
                    let id = format!("\"question-{}\"", server.questions.fetch_add(1, Ordering::SeqCst));
                    let (done, waiting) = oneshot::channel();
                    server.waiting.lock().unwrap().insert(id.clone(), done);
                    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
                    (text, Some(waiting))
                }
            };
            if events.send(event(&message)).await.is_err() {
                return;
            }
            if let Some(waiting) = waiting {
                // Without an answer the stream goes on when the asker gives up.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(300), waiting).await;
            }
        }
        // The asker may be gone.
        let _ = events.send(event(&last)).await;
    });
    let events = futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|text| (Ok::<_, Infallible>(Bytes::from(text)), received))
    });
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(events)).unwrap()
}

fn json(status: u16, body: String) -> Response {
    Response::builder().status(status).header("content-type", "application/json").body(Body::from(body)).unwrap()
}

fn plain(status: u16, body: &str) -> Response {
    Response::builder().status(status).body(Body::from(body.to_owned())).unwrap()
}
