//! Sessions of the legacy era: what a client said about itself, the streams that it reads, the calls that run for it,
//! and the requests that it still has to answer. With a session everything in it ends: it must leave no task behind.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::Change;
use super::streams::EventStream;
use super::wire;

/// How long a client may take to answer a request.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Streams that are kept for clients that come back.
const STREAMS_KEPT: usize = 64;

/// The stream that is not about any one request.
pub(super) const STANDALONE: u64 = 0;

#[derive(Default)]
struct Inner {
    log_level: Option<String>,
    subscribed: HashSet<String>,
    pending: HashMap<String, oneshot::Sender<Result<Value, Value>>>,
    streams: BTreeMap<u64, Arc<EventStream>>,
    running: HashMap<String, (AbortHandle, Arc<EventStream>)>,
    tasks: JoinSet<()>,
}

/// A session.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) capabilities: Value,
    numbers: AtomicU64,
    inner: Mutex<Inner>,
}

impl Session {
    fn new(id: String, version: String, capabilities: Value) -> Arc<Self> {
        let session = Self { id, version, capabilities, numbers: AtomicU64::new(1), inner: Mutex::default() };
        session.lock().streams.insert(STANDALONE, Arc::new(EventStream::new(STANDALONE)));
        Arc::new(session)
    }

    /// A new stream for one request.
    pub(super) fn open_stream(&self) -> Arc<EventStream> {
        let number = self.number();
        let stream = Arc::new(EventStream::new(number));
        let mut inner = self.lock();
        inner.streams.insert(number, stream.clone());
        if inner.streams.len() > STREAMS_KEPT {
            let oldest = inner.streams.iter().find(|(number, stream)| **number != STANDALONE && stream.is_finished());
            if let Some(number) = oldest.map(|(number, _)| *number) {
                inner.streams.remove(&number);
            }
        }
        stream
    }

    /// A stream by its number.
    pub(super) fn stream(&self, number: u64) -> Option<Arc<EventStream>> {
        self.lock().streams.get(&number).cloned()
    }

    /// Runs a call until it ends, is cancelled, or the session ends.
    pub(super) fn run(
        self: &Arc<Self>,
        request: &Value,
        stream: &Arc<EventStream>,
        call: impl Future<Output = ()> + Send + 'static,
    ) {
        let key = request.to_string();
        let session = self.clone();
        let mut inner = self.lock();
        // Those that are done leave nothing behind.
        while inner.tasks.try_join_next().is_some() {}
        let handle = inner.tasks.spawn({
            let key = key.clone();
            async move {
                call.await;
                session.lock().running.remove(&key);
            }
        });
        inner.running.insert(key, (handle, stream.clone()));
    }

    /// Ends a call without an answer.
    pub(super) fn cancel(&self, request: &Value) {
        if let Some((handle, stream)) = self.lock().running.remove(&request.to_string()) {
            handle.abort();
            stream.finish(None);
        }
    }

    /// Asks the client something on a stream, and waits for what it says; or why there is no answer.
    pub(super) async fn ask(&self, stream: &EventStream, method: &str, params: Value) -> Result<Value, String> {
        let id = format!("fixture-{}", self.number());
        let (sender, answer) = oneshot::channel();
        self.lock().pending.insert(id.clone(), sender);
        stream.push(&wire::request(&id, method, params));
        let answer = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
        self.lock().pending.remove(&id);
        match answer {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(error))) => Err(format!("the client answered {method} with an error: {error}")),
            Ok(Err(_)) => Err(format!("the session ended before {method} was answered")),
            Err(_) => Err(format!("the client did not answer {method} in time")),
        }
    }

    /// Hands over an answer of the client. Whether it was waited for.
    pub(super) fn answered(&self, id: &Value, answer: Result<Value, Value>) -> bool {
        let pending = id.as_str().and_then(|id| self.lock().pending.remove(id));
        pending.is_some_and(|pending| pending.send(answer).is_ok())
    }

    /// The least severity of logs that the client wants.
    pub(super) fn log_level(&self) -> String {
        self.lock().log_level.clone().unwrap_or_else(|| "info".to_owned())
    }

    pub(super) fn set_log_level(&self, level: &str) {
        self.lock().log_level = Some(level.to_owned());
    }

    pub(super) fn subscribe(&self, uri: &str) {
        self.lock().subscribed.insert(uri.to_owned());
    }

    pub(super) fn unsubscribe(&self, uri: &str) {
        self.lock().subscribed.remove(uri);
    }

    fn tell(&self, change: &Change) {
        let inner = self.lock();
        if !matches!(change, Change::Resource(uri) if !inner.subscribed.contains(uri)) {
            inner.streams[&STANDALONE].push(&change.notification());
        }
    }

    fn end(&self) {
        let mut inner = self.lock();
        inner.tasks.abort_all();
        inner.running.clear();
        inner.pending.clear();
        inner.streams.values().for_each(|stream| stream.finish(None));
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic under the lock")
    }
}

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<String, Arc<Session>>>,
    ids: RandomState,
    count: AtomicU64,
}

impl Sessions {
    /// A new one, under an id that cannot be guessed.
    pub(super) fn open(&self, version: String, capabilities: Value) -> Arc<Session> {
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let id = format!(
            "fixture-{:016x}{:016x}",
            self.ids.hash_one(("first", count)),
            self.ids.hash_one((count, "second"))
        );
        let session = Session::new(id.clone(), version, capabilities);
        self.lock().insert(id, session.clone());
        session
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    /// Ends one. Whether there was one.
    pub(super) fn end(&self, id: &str) -> bool {
        let session = self.lock().remove(id);
        session.inspect(|session| session.end()).is_some()
    }

    /// Ends all of them.
    pub(super) fn end_all(&self) {
        let sessions: Vec<_> = self.lock().drain().map(|(_, session)| session).collect();
        sessions.iter().for_each(|session| session.end());
    }

    /// Tells every session whose client wants to know.
    pub(super) fn tell(&self, change: &Change) {
        let sessions: Vec<_> = self.lock().values().cloned().collect();
        sessions.iter().for_each(|session| session.tell(change));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.by_id.lock().expect("no panic under the lock")
    }
}
