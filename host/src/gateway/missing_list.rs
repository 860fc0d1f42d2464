//! The answer to a request for an unknown name whose prefix names a connector without lists. That connector is down, or has not
//! come up, and an agent forgets a tool that is unknown.

use super::embed::Gateway;
use crate::catalog::View;
use crate::connectors::CallError;

/// Returns the error that names the connector and the cause; none if the name is of no connector of the view, or of one whose
/// lists are known.
pub(super) fn missing_list(gateway: &Gateway, view: &View, name: &str) -> Option<CallError> {
    let connector = gateway.settings().names.connector_of(name).filter(|id| view.sees_connector(id))?;
    let snapshot = gateway.snapshot();
    let part = snapshot.part(&connector);
    if part.is_some_and(|part| part.offer.is_some()) {
        return None;
    }
    let status = gateway.inner.parts.fleet.status(&connector)?;
    let cause = match &status.last_failure {
        Some(failure) => failure.message.clone(),
        None => "its first attempt has not ended".to_owned(),
    };
    let now = gateway.inner.parts.edge.clock.boot();
    let retry_after = part.and_then(|part| part.facts.next_attempt).map(|due| due.since(now));
    Some(CallError::NoList { connector, cause, retry_after })
}
