//! The requests of one client that are not answered yet, so that it can take them back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::mcp::RequestId;
use crate::mcp::request_members::{ParamsMember, RequestParams};

/// The request that a client takes back with `notifications/cancelled`.
pub(in crate::gateway) fn cancelled_id(params: &RequestParams) -> Option<RequestId> {
    RequestId::read(params.get(ParamsMember::RequestId)?)
}

/// The requests of one client.
#[derive(Debug, Default)]
pub(in crate::gateway) struct InFlight {
    requests: Mutex<HashMap<RequestId, CancellationToken>>,
    all: CancellationToken,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<InFlight>,
    id: RequestId,
    token: CancellationToken,
}

impl InFlight {
    /// Notes a request. Of two with one id, the later can be taken back.
    pub(super) fn begin(self: &Arc<Self>, id: &RequestId) -> Place {
        let token = self.all.child_token();
        self.lock().insert(id.clone(), token.clone());
        Place { of: self.clone(), id: id.clone(), token }
    }

    /// Takes a request back. One that is not known was answered already, or never made.
    pub(in crate::gateway) fn cancel(&self, id: &RequestId) {
        if let Some(token) = self.lock().get(id) {
            token.cancel();
        }
    }

    /// Takes all of them back, and those that come.
    pub(in crate::gateway) fn cancel_all(&self) {
        self.all.cancel();
    }

    /// How many there are.
    pub(in crate::gateway) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, CancellationToken>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns when the request was taken back.
    pub(super) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut requests = self.of.lock();
        // Dropped tokens never fire; another request may have taken the id meanwhile.
        if requests.get(&self.id).is_some_and(|token| *token == self.token) {
            requests.remove(&self.id);
        }
    }
}
