//! Subscriptions of the modern era: one long stream per subscription. Its first message says what it will tell; its
//! last, if the server ends it, is the result of the request that opened it. It must never tell what was not asked for.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::wire::{self, Members, RpcError};
use super::{Change, Shared, modern};

/// What every message of a subscription is marked with.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a client wants to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: Vec<String>,
}

impl Filter {
    /// The one in these params.
    pub(super) fn of(params: &Members) -> Result<Self, RpcError> {
        let wrong = || RpcError::invalid_params("params.notifications must be an object of known types");
        let wanted = params.get("notifications").and_then(Value::as_object).ok_or_else(wrong)?;
        let flag = |name: &str| wanted.get(name).map_or(Some(false), Value::as_bool).ok_or_else(wrong);
        let uris: Option<Vec<String>> = match wanted.get("resourceSubscriptions") {
            None => Some(Vec::new()),
            Some(Value::Array(uris)) => uris.iter().map(|uri| uri.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        Ok(Self {
            tools: flag("toolsListChanged")?,
            prompts: flag("promptsListChanged")?,
            resources: flag("resourcesListChanged")?,
            uris: uris.ok_or_else(wrong)?,
        })
    }

    fn wants(&self, change: &Change) -> bool {
        match change {
            Change::Tools => self.tools,
            Change::Prompts => self.prompts,
            Change::Resources => self.resources,
            Change::Resource(uri) => self.uris.contains(uri),
        }
    }

    /// What it was granted: everything, for this server tells all of it.
    fn granted(&self) -> Value {
        let mut granted = json!({});
        let flags = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        for (name, _) in flags.into_iter().filter(|(_, wanted)| *wanted) {
            granted[name] = true.into();
        }
        if !self.uris.is_empty() {
            granted["resourceSubscriptions"] = json!(self.uris);
        }
        granted
    }
}

struct Subscription {
    id: Value,
    filter: Filter,
    first: Option<Value>,
    changes: broadcast::Receiver<Change>,
    end: BoxFuture<'static, ()>,
    keep_alive: Interval,
    ended: bool,
}

/// Opens a subscription.
pub(super) fn listen(shared: &Shared, id: Value, filter: Filter) -> Response {
    // From here on nothing is missed, and the client knows of nothing before the acknowledgement.
    let changes = shared.changes.subscribe();
    let acknowledged = json!({ "notifications": filter.granted() });
    let first = marked(wire::notification("notifications/subscriptions/acknowledged", acknowledged), &id);
    let mut keep_alive = interval(KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keep_alive.reset();
    let end = Box::pin(shared.end());
    let subscription = Subscription { id, filter, first: Some(first), changes, end, keep_alive, ended: false };
    wire::event_stream(stream::unfold(subscription, async |mut subscription| {
        let event = subscription.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), subscription))
    }))
}

impl Subscription {
    /// The next event, if there is to be one.
    async fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(wire::event(&first));
        }
        while !self.ended {
            tokio::select! {
                change = self.changes.recv() => match change {
                    Ok(change) if self.filter.wants(&change) => {
                        return Some(wire::event(&marked(change.notification(), &self.id)));
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => self.ended = true,
                },
                () = &mut self.end => {
                    self.ended = true;
                    let result = json!({ "resultType": "complete", "_meta": { SUBSCRIPTION: self.id } });
                    let result = modern::signed(result);
                    return Some(wire::event(&wire::result(&self.id, &result)));
                }
                _ = self.keep_alive.tick() => return Some(": still here\n\n".to_owned()),
            }
        }
        None
    }
}

fn marked(mut notification: Value, id: &Value) -> Value {
    notification["params"]["_meta"][SUBSCRIPTION] = id.clone();
    notification
}
