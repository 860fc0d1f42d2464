use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::*;
use crate::edge::virtual_network::{Host, VirtualNetwork};
use crate::mcp::{Declared, Era, Message, Upstream};
use crate::model::raw;

const LIMIT: Duration = Duration::from_secs(5);

/// What a server answers to a method.
#[derive(Clone)]
enum Says {
    Result(String),
    Error(i64),
    Status(u16),
    Nothing,
}

/// A server that answers what it is told, and notes what it is asked.
struct Scripted {
    answers: Mutex<BTreeMap<&'static str, Says>>,
    asked: Mutex<Vec<String>>,
    in_flight: Mutex<(usize, usize)>,
}

impl Scripted {
    /// A server with two tools and these capabilities.
    fn new(capabilities: &str) -> Arc<Self> {
        let hints = r#""ttlMs":60000,"cacheScope":"public""#;
        let discover = format!(
            r#"{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{capabilities},{hints}}}"#
        );
        let initialize =
            format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{}}}}"#);
        let lists = [
            ("tools/list", "tools", r#"{"name":"a"},{"name":"b"}"#),
            ("prompts/list", "prompts", r#"{"name":"p"}"#),
            ("resources/list", "resources", r#"{"uri":"x:1"}"#),
            ("resources/templates/list", "resourceTemplates", r#"{"uriTemplate":"x:{y}"}"#),
        ];
        let mut answers: BTreeMap<&'static str, Says> = lists
            .into_iter()
            .map(|(method, member, items)| {
                (method, Says::Result(format!(r#"{{"resultType":"complete","{member}":[{items}],{hints}}}"#)))
            })
            .collect();
        answers.insert("server/discover", Says::Result(discover));
        answers.insert("initialize", Says::Result(initialize));
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default(), in_flight: Mutex::default() })
    }

    fn say(&self, method: &'static str, says: Says) {
        self.answers.lock().unwrap().insert(method, says);
    }

    /// What it was asked since the last time, and how many questions of it were there at once.
    fn asked(&self) -> (Vec<String>, usize) {
        let most = std::mem::take(&mut self.in_flight.lock().unwrap().1);
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        (asked, most)
    }

    async fn open(self: &Arc<Self>, era: Era) -> Session {
        let network = VirtualNetwork::new();
        let url = Url::parse("https://s.test/mcp").unwrap();
        network.set(&url, Host::Serve(Router::new().fallback(serve).with_state(self.clone())));
        let upstream = Upstream::new(Arc::new(network), url, HeaderMap::new());
        let session = upstream.open(Some(era), &Declared::default()).await.unwrap();
        self.asked();
        session
    }
}

async fn serve(State(server): State<Arc<Scripted>>, body: Bytes) -> Response {
    let answer = |status: u16, body: String| {
        let builder = Response::builder().status(StatusCode::from_u16(status).unwrap());
        builder.header("content-type", "application/json").body(Body::from(body)).unwrap()
    };
    let Ok(Message::Request { id, method, .. }) = Message::parse(&body) else { return answer(202, String::new()) };
    server.asked.lock().unwrap().push(method.clone());
    {
        let mut in_flight = server.in_flight.lock().unwrap();
        in_flight.0 += 1;
        in_flight.1 = in_flight.1.max(in_flight.0);
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    server.in_flight.lock().unwrap().0 -= 1;
    let says = server.answers.lock().unwrap().get(method.as_str()).cloned().unwrap_or(Says::Error(METHOD_NOT_FOUND));
    let id = id.as_json();
    match says {
        Says::Result(result) => answer(200, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)),
        Says::Error(code) => {
            answer(200, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#))
        }
        Says::Status(status) => answer(status, String::new()),
        Says::Nothing => std::future::pending().await,
    }
}

async fn collected(session: &Session, kept: Option<&Offer>) -> Result<Collected, WireError> {
    collect(session, kept, &"live".parse().unwrap(), LIMIT).await
}

fn sizes(offer: &Offer) -> [usize; 4] {
    ListKind::ALL.map(|kind| offer.list(kind).items().len())
}

const ALL: &str = r#"{"tools":{},"prompts":{},"resources":{}}"#;

#[tokio::test(start_paused = true)]
async fn everything_that_a_server_says_it_has_is_listed_at_once() {
    let server = Scripted::new(ALL);
    let session = server.open(Era::Legacy).await;
    let all = collected(&session, None).await.unwrap();
    assert_eq!(sizes(&all.offer), [2, 1, 1, 1]);
    assert_eq!((all.ttl_ms, all.scope), (Some(60_000), Some(ListScope::Public)));
    let lists = ["prompts/list", "resources/list", "resources/templates/list", "tools/list"];
    assert_eq!(server.asked(), (lists.map(str::to_owned).to_vec(), 4));
}

#[tokio::test(start_paused = true)]
async fn a_remembered_modern_server_learns_while_its_tools_are_listed_and_only_once() {
    let server = Scripted::new(r#"{"tools":{}}"#);
    let session = server.open(Era::Modern).await;
    collected(&session, None).await.unwrap();
    assert_eq!(server.asked(), (vec!["server/discover".to_owned(), "tools/list".to_owned()], 2));
    let again = collected(&session, None).await.unwrap();
    assert_eq!((server.asked(), sizes(&again.offer)), ((vec!["tools/list".to_owned()], 1), [2, 0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_tools_is_not_asked_for_any_and_one_that_says_nothing_is() {
    for era in [Era::Legacy, Era::Modern] {
        let server = Scripted::new(r#"{"prompts":{}}"#);
        server.say("tools/list", Says::Error(METHOD_NOT_FOUND));
        let session = server.open(era).await;
        for _ in 0..2 {
            assert_eq!(sizes(&collected(&session, None).await.unwrap().offer), [0, 1, 0, 0], "{era}");
        }
        let asked = server.asked().0;
        let tools = asked.iter().filter(|method| *method == "tools/list").count();
        // A remembered one is asked once, before it has said what it has.
        assert_eq!(tools, usize::from(era == Era::Modern), "{era}: {asked:?}");

        let silent = Scripted::new("{}");
        let session = silent.open(era).await;
        assert_eq!(sizes(&collected(&session, None).await.unwrap().offer), [2, 0, 0, 0], "{era}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_stays_as_it_was_and_one_that_is_unknown_is_empty() {
    let server = Scripted::new(ALL);
    let session = server.open(Era::Legacy).await;
    let kept = collected(&session, None).await.unwrap().offer;
    for failing in [Says::Error(-32603), Says::Status(500), Says::Nothing, Says::Result("{}".to_owned())] {
        server.say("resources/list", failing);
        let now = collected(&session, Some(&kept)).await.unwrap();
        assert_eq!(sizes(&now.offer), [2, 1, 1, 1]);
        assert!(now.offer.list(ListKind::Resources).is_same(kept.list(ListKind::Resources)));
        // Whom it is for is not known any more, whatever the others say.
        assert_eq!((now.ttl_ms, now.scope), (Some(60_000), Some(ListScope::Private)));
        // With nothing to keep there is nothing, which is for everybody.
        let none = collected(&session, None).await.unwrap();
        assert_eq!((sizes(&none.offer), none.scope), ([2, 1, 0, 1], Some(ListScope::Public)));
    }
    server.say("resources/list", Says::Error(METHOD_NOT_FOUND));
    assert_eq!(sizes(&collected(&session, Some(&kept)).await.unwrap().offer), [2, 1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn tools_that_fail_are_a_failure_whatever_else_there_is() {
    let server = Scripted::new(ALL);
    let session = server.open(Era::Legacy).await;
    server.say("tools/list", Says::Error(-32603));
    assert!(matches!(collected(&session, None).await, Err(WireError::Rpc(_))));
    server.say("tools/list", Says::Nothing);
    let began = tokio::time::Instant::now();
    assert!(matches!(collected(&session, None).await, Err(WireError::Http(HttpError::Timeout))));
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_will_not_say_what_it_has_serves_all_the_same() {
    let server = Scripted::new(ALL);
    server.say("server/discover", Says::Nothing);
    let session = server.open(Era::Modern).await;
    let capabilities = raw::trusted(ALL.to_owned());
    let kept = Offer::new(
        [ItemList::empty(), ItemList::empty(), ItemList::empty(), ItemList::empty()],
        About { capabilities, instructions: Some("be kind".into()) },
    );
    let now = collected(&session, Some(&kept)).await.unwrap();
    assert_eq!((sizes(&now.offer), now.offer.about().instructions.as_deref()), ([2, 1, 1, 1], Some("be kind")));
}

#[tokio::test(start_paused = true)]
async fn one_private_list_makes_the_whole_private_and_the_shortest_time_counts() {
    let server = Scripted::new(ALL);
    let prompts = r#"{"prompts":[],"ttlMs":10,"cacheScope":"private","resultType":"complete"}"#;
    server.say("prompts/list", Says::Result(prompts.to_owned()));
    let session = server.open(Era::Modern).await;
    let all = collected(&session, None).await.unwrap();
    assert_eq!((all.ttl_ms, all.scope), (Some(10), Some(ListScope::Private)));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_tools_that_refuses_every_list_is_refused_and_one_that_answers_any_is_not() {
    let server = Scripted::new(r#"{"prompts":{},"resources":{}}"#);
    let session = server.open(Era::Legacy).await;
    let kept = collected(&session, None).await.unwrap().offer;
    for list in ["prompts/list", "resources/list", "resources/templates/list"] {
        assert_eq!(sizes(&collected(&session, Some(&kept)).await.unwrap().offer), [0, 1, 1, 1]);
        server.say(list, Says::Status(503));
    }
    assert!(matches!(collected(&session, Some(&kept)).await, Err(WireError::Status { .. })));
}
