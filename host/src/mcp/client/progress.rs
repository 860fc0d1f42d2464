//! Progress of requests: each request asks for it with a token of the gateway's own, which no other request of its session
//! has, so that progress renews deadlines also where the client asked for none.
//!
//! A client that asked gets progress with its own token, byte for byte; nothing else of the message changes. Progress with any
//! other token is dropped: it may only refer to requests under way (2025-11-25 and 2026-07-28, `basic/utilities/progress`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use serde_json::value::RawValue;

use super::pipe::{Inbox, Letter};
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

/// The requests of one session that are under way and asked for progress. What comes for them on a stream of the session waits
/// here for them.
#[derive(Debug, Default)]
pub(super) struct ProgressTokens(Mutex<HashMap<RequestId, Arc<Inbox>>>);

impl ProgressTokens {
    /// Enters a request until what is returned is dropped.
    pub(super) fn enter(&self, id: &RequestId) -> UnderWay<'_> {
        let inbox = Arc::<Inbox>::default();
        self.lock().insert(id.clone(), inbox.clone());
        UnderWay { tokens: self, id: id.clone(), inbox }
    }

    /// Passes on what comes on a stream of the session; progress goes to the request that it names.
    pub(super) fn of_session<'a>(&'a self, inner: &'a dyn Interim, irregularities: &'a Irregularities) -> Checked<'a> {
        Checked { scope: Scope::Session(self), inner, irregularities }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Arc<Inbox>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on what comes with the answer to a request; progress only of that request, with the token of its client. `asked` is
/// none if the request asks for no progress.
pub(super) fn of_request<'a>(
    asked: Option<(&'a RequestId, Option<&'a RawValue>)>,
    inner: &'a dyn Interim,
    irregularities: &'a Irregularities,
) -> Checked<'a> {
    let scope = asked.map_or(Scope::NoProgress, |(id, own)| Scope::Request(id, own));
    Checked { scope, inner, irregularities }
}

/// A request under way.
pub(super) struct UnderWay<'a> {
    tokens: &'a ProgressTokens,
    id: RequestId,
    inbox: Arc<Inbox>,
}

impl UnderWay<'_> {
    /// Passes on what comes for the request on a stream of its session; it never returns.
    pub(super) async fn pass_on(&self, interim: &dyn Interim) -> Infallible {
        loop {
            if let Letter::Notice(notice) = self.inbox.next().await {
                interim.notify(notice).await;
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.tokens.lock().remove(&self.id);
    }
}

/// Whose progress may come on a stream.
enum Scope<'a> {
    /// That of one request, whose client may have given a token.
    Request(&'a RequestId, Option<&'a RawValue>),
    /// None: the request asks for no progress.
    NoProgress,
    /// That of every request under way.
    Session(&'a ProgressTokens),
}

/// Passes messages on, and only progress whose token belongs to its stream.
pub(super) struct Checked<'a> {
    scope: Scope<'a>,
    inner: &'a dyn Interim,
    irregularities: &'a Irregularities,
}

impl Interim for Checked<'_> {
    fn opened(&self) {
        self.inner.opened();
    }

    fn paused(&self, wait: Duration) {
        self.inner.paused(wait);
    }

    fn drops_progress(&self) -> bool {
        matches!(self.scope, Scope::NoProgress | Scope::Request(_, None))
    }

    fn notify(&self, mut notice: Notice) -> BoxFuture<'_, ()> {
        if notice.method != PROGRESS {
            return self.inner.notify(notice);
        }
        let found = notice.params.as_deref().and_then(request_of);
        match &self.scope {
            Scope::Request(id, own) if found.as_ref() == Some(*id) => {
                self.inner.progressed();
                if let Some(own) = own {
                    notice.params = notice.params.as_deref().and_then(|params| restore(params, own));
                    return self.inner.notify(notice);
                }
            }
            Scope::Session(tokens) => match found.and_then(|id| tokens.lock().get(&id).cloned()) {
                // Its request takes it there. Where too much waits, what waits counts as progress enough.
                Some(inbox) => drop(inbox.put(Letter::Notice(notice))),
                None => self.irregularities.record(Irregularity::UnknownProgressToken),
            },
            _ => self.irregularities.record(Irregularity::UnknownProgressToken),
        }
        ready(()).boxed()
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

    fn progress(token: &str) -> Notice {
        let params = value(&format!(r#"{{"progressToken":{token},"progress":1}}"#));
        Notice { method: PROGRESS.to_owned(), params: Some(params) }
    }

    const TOKENS: [&str; 7] = ["\"1\"", "1", "\"2\"", "\"mine\"", "\"tool-call-1\"", "3", "null"];

    #[tokio::test]
    async fn progress_of_another_call_counts_nothing() {
        let (first, own) = (RequestId::from_number(1), value("\"mine\""));
        for (asked, received, progressed) in [
            (Some((&first, Some(&*own))), &[r#"{"progressToken":"mine","progress":1}"#; 2][..], 2),
            (Some((&first, None)), &[], 2),
            (None, &[], 0),
        ] {
            let (keeps, inbound) = (Keeps::default(), crate::mcp::Inbound::default());
            let checked = of_request(asked, &keeps, &inbound.irregularities);
            for token in TOKENS {
                checked.notify(progress(token)).await;
            }
            checked.notify(Notice { method: PROGRESS.to_owned(), params: None }).await;
            assert_eq!(*keeps.received.lock().unwrap(), received);
            assert_eq!(keeps.progressed.load(std::sync::atomic::Ordering::Relaxed), progressed);
            let unknown = inbound.irregularities.count(Irregularity::UnknownProgressToken);
            assert_eq!(unknown, 8 - u64::try_from(progressed).unwrap());
        }
    }

    #[tokio::test]
    async fn progress_on_a_stream_of_the_session_goes_to_its_request() {
        let (tokens, inbound) = (ProgressTokens::default(), crate::mcp::Inbound::default());
        let (first, second) = (RequestId::from_number(1), RequestId::from_number(2));
        let (one, two) = (tokens.enter(&first), tokens.enter(&second));
        let (listener, keeps, silent) = (Keeps::default(), Keeps::default(), Keeps::default());
        let own = value("\"mine\"");
        let session = tokens.of_session(&listener, &inbound.irregularities);
        for token in TOKENS {
            session.notify(progress(token)).await;
        }
        let with_token = of_request(Some((&first, Some(&own))), &keeps, &inbound.irregularities);
        let without = of_request(Some((&second, None)), &silent, &inbound.irregularities);
        assert!(one.pass_on(&with_token).now_or_never().is_none() && two.pass_on(&without).now_or_never().is_none());
        drop(one);
        session.notify(progress("1")).await;
        assert_eq!(*keeps.received.lock().unwrap(), [r#"{"progressToken":"mine","progress":1}"#; 2]);
        let counts = |keeps: &Keeps| keeps.progressed.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((counts(&listener), counts(&keeps), counts(&silent)), (0, 2, 1));
        assert!(listener.received.lock().unwrap().is_empty() && silent.received.lock().unwrap().is_empty());
        assert_eq!(inbound.irregularities.count(Irregularity::UnknownProgressToken), 5);
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
