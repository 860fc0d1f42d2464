//! Progress of requests: each request asks for it with a token of the gateway's own, which no other request of its session
//! has, so that progress renews deadlines also where the client asked for none.
//!
//! A client that asked gets progress with its own token, byte for byte; nothing else of the message changes. Progress with any
//! other token is dropped: it may only refer to requests under way (2025-11-25 and 2026-07-28, `basic/utilities/progress`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use serde_json::value::RawValue;

use crate::mcp::envelope::{Outcome, RequestId};
use crate::mcp::inbound::{Irregularities, Irregularity};
use crate::mcp::interim::{Interim, Notice, Question};
use crate::mcp::protocol::{
    COMPLETION_COMPLETE, META_PROGRESS_TOKEN, PROGRESS, PROMPTS_GET, RESOURCES_READ, TOOLS_CALL,
};
use crate::model::raw::{self, RawObject};

const META: &str = "_meta";

/// Gives a request's parameters the token of the gateway: its identifier, as a string. Returns the parameters and the token
/// of the client, if it gave one; none if the request is one that asks for no progress.
pub(super) fn ask(method: &str, params: &RawValue, id: &RequestId) -> Option<(Box<RawValue>, Option<Box<RawValue>>)> {
    let mut params = RawObject::parse(params).ok()?;
    let mut meta = match params.get(META) {
        Some(meta) => RawObject::parse(meta).ok()?,
        None => RawObject::new(),
    };
    let own = meta.get(META_PROGRESS_TOKEN).map(ToOwned::to_owned);
    if own.is_none() && !matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ | COMPLETION_COMPLETE) {
        return None;
    }
    meta.set(META_PROGRESS_TOKEN, raw::string(id.as_json()));
    params.set(META, meta.to_raw());
    Some((params.to_raw(), own))
}

/// Returns the request that a notification of progress is about.
pub(super) fn request_of(params: &RawValue) -> Option<RequestId> {
    let params = RawObject::parse(params).ok()?;
    let token = params.get(META_PROGRESS_TOKEN)?;
    // Some servers make a number of it.
    let number = raw::as_text(token).unwrap_or_else(|| token.get().to_owned());
    number.parse().ok().map(RequestId::from_number)
}

/// Gives a notification of progress the token of its client.
fn restore(params: &RawValue, own: &RawValue) -> Option<Box<RawValue>> {
    let mut params = RawObject::parse(params).ok()?;
    params.set(META_PROGRESS_TOKEN, own.to_owned());
    Some(params.to_raw())
}

/// The requests of one session that are under way and asked for progress, with the tokens of their clients.
#[derive(Debug, Default)]
pub(super) struct ProgressTokens(Mutex<HashMap<RequestId, Option<Box<RawValue>>>>);

impl ProgressTokens {
    /// Enters a request until what is returned is dropped.
    pub(super) fn enter(&self, id: &RequestId, own: Option<Box<RawValue>>) -> UnderWay<'_> {
        self.lock().insert(id.clone(), own);
        UnderWay { tokens: self, id: id.clone() }
    }

    /// Passes messages on; progress only with the tokens of clients, and only of requests under way.
    pub(super) fn restoring<'a>(&'a self, inner: &'a dyn Interim, irregularities: &'a Irregularities) -> Restoring<'a> {
        Restoring { tokens: self, inner, irregularities }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Option<Box<RawValue>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way.
pub(super) struct UnderWay<'a> {
    tokens: &'a ProgressTokens,
    id: RequestId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.tokens.lock().remove(&self.id);
    }
}

/// See [`ProgressTokens::restoring`].
pub(super) struct Restoring<'a> {
    tokens: &'a ProgressTokens,
    inner: &'a dyn Interim,
    irregularities: &'a Irregularities,
}

impl Interim for Restoring<'_> {
    fn opened(&self) {
        self.inner.opened();
    }

    fn paused(&self, wait: Duration) {
        self.inner.paused(wait);
    }

    fn notify(&self, mut notice: Notice) -> BoxFuture<'_, ()> {
        if notice.method != PROGRESS {
            return self.inner.notify(notice);
        }
        let id = notice.params.as_deref().and_then(request_of);
        let found = id.and_then(|id| self.tokens.lock().get(&id).cloned());
        let Some(own) = found else {
            self.irregularities.record(Irregularity::UnknownProgressToken);
            return ready(()).boxed();
        };
        self.inner.progressed();
        match own {
            Some(own) => {
                notice.params = notice.params.as_deref().and_then(|params| restore(params, &own));
                self.inner.notify(notice)
            }
            None => ready(()).boxed(),
        }
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        self.inner.ask(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn only_the_token_changes_on_both_ways() {
        let id = RequestId::from_number(17);
        let sent = value(r#"{"z":1.0,"_meta":{"b":[ 1E2 ],"progressToken":1e400,"a":"\u0041"},"name":"t"}"#);
        let (params, own) = ask(TOOLS_CALL, &sent, &id).unwrap();
        assert_eq!(params.get(), r#"{"z":1.0,"_meta":{"b":[ 1E2 ],"progressToken":"17","a":"\u0041"},"name":"t"}"#);
        let own = own.unwrap();
        assert_eq!(own.get(), "1e400");
        let escaped = value(r#"{"_meta":{"progre\u0073sToken":1}}"#);
        assert_eq!(ask("any", &escaped, &id).unwrap().0.get(), r#"{"_meta":{"progre\u0073sToken":"17"}}"#);
        for received in
            [r#"{"progress":1.50,"progressToken":"17","x":{}}"#, r#"{"progress":1.50,"progressToken":17,"x":{}}"#]
        {
            let received = value(received);
            assert_eq!(request_of(&received), Some(id.clone()));
            assert_eq!(restore(&received, &own).unwrap().get(), r#"{"progress":1.50,"progressToken":1e400,"x":{}}"#);
        }
    }

    /// Keeps what it is received, and counts progress.
    #[derive(Default)]
    struct Keeps {
        received: Mutex<Vec<String>>,
        progressed: std::sync::atomic::AtomicUsize,
    }

    impl Interim for Keeps {
        fn progressed(&self) {
            self.progressed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }

        fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
            self.received.lock().unwrap().push(notice.params.unwrap().get().to_owned());
            ready(()).boxed()
        }

        fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
            ready(crate::mcp::interim::refusal()).boxed()
        }
    }

    #[tokio::test]
    async fn progress_of_requests_under_way_counts_and_reaches_only_clients_that_asked() {
        let (tokens, keeps, inbound) = (ProgressTokens::default(), Keeps::default(), crate::mcp::Inbound::default());
        let asked = tokens.enter(&RequestId::from_number(1), Some(value("\"mine\"")));
        let _silent = tokens.enter(&RequestId::from_number(2), None);
        let restoring = tokens.restoring(&keeps, &inbound.irregularities);
        let send = async |params: &str| {
            restoring.notify(Notice { method: PROGRESS.to_owned(), params: Some(value(params)) }).await;
        };
        for token in ["\"1\"", "\"2\"", "2", "\"mine\"", "\"tool-call-1\"", "3", "null"] {
            send(&format!(r#"{{"progressToken":{token},"progress":1}}"#)).await;
        }
        send(r#"{"progress":1}"#).await;
        drop(asked);
        send(r#"{"progressToken":"1","progress":2}"#).await;
        assert_eq!(*keeps.received.lock().unwrap(), [r#"{"progressToken":"mine","progress":1}"#]);
        assert_eq!(keeps.progressed.load(std::sync::atomic::Ordering::Relaxed), 3);
        assert_eq!(inbound.irregularities.count(Irregularity::UnknownProgressToken), 6);
    }

    #[test]
    fn calls_ask_for_progress_and_other_requests_only_where_their_client_does() {
        let id = RequestId::from_number(1);
        for (params, expected) in [
            ("{}", r#"{"_meta":{"progressToken":"1"}}"#),
            (r#"{"_meta":{},"a":1}"#, r#"{"_meta":{"progressToken":"1"},"a":1}"#),
            (
                r#"{"arguments":{"progressToken":1}}"#,
                r#"{"arguments":{"progressToken":1},"_meta":{"progressToken":"1"}}"#,
            ),
        ] {
            let (sent, own) = ask(TOOLS_CALL, &value(params), &id).unwrap();
            assert_eq!((sent.get(), own.is_none()), (expected, true));
            assert!(ask("tools/list", &value(params), &id).is_none(), "{params}");
        }
        assert!(ask(TOOLS_CALL, &value(r#"{"_meta":7}"#), &id).is_none());
        assert_eq!(request_of(&value(r#"{"progress":1}"#)), None);
        assert_eq!(request_of(&value(r#"{"progressToken":"theirs"}"#)), None);
    }
}
