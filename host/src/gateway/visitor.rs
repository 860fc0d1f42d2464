//! Who makes a request, as the door found out: which token was shown, and what that allows.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::door::MayChange;
use crate::catalog::View;

/// Who makes a request. Every request that passed the door bears one.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    /// The name of the token that was shown; none where no tokens are configured.
    pub(super) token: Option<Arc<str>>,
    /// How many requests of this token are answered in a minute; none: all.
    pub(super) calls_per_minute: Option<u32>,
    /// Whether the gateway may be changed.
    pub(super) right: MayChange,
    /// What may be seen and called.
    pub(super) view: View,
    /// Cancelled when the token is taken away, or allows something else: what is open then ends.
    pub(super) grant: CancellationToken,
}

impl Visitor {
    /// Whether it may be shown what is about every connector.
    pub(super) fn sees_the_whole(&self) -> bool {
        self.view.sees_everything() || self.right.refusal().is_none()
    }
}
