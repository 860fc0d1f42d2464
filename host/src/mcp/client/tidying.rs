//! Work that no request waits for: it runs on under a bound, and whoever closes the upstream waits for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mcp::limits::TIDYING_DEADLINE;

/// What runs on behind an upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct Tidying {
    tasks: TaskTracker,
    given_up: CancellationToken,
}

impl Tidying {
    /// Lets work that nobody waits for now run for at most [`TIDYING_DEADLINE`]. Outside of a runtime it is not done.
    pub(super) fn in_background<T>(&self, work: impl Future<Output = T> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let given_up = self.given_up.clone();
            let bounded = async move {
                tokio::select! {
                    biased;
                    () = given_up.cancelled() => {}
                    _ = tokio::time::timeout(TIDYING_DEADLINE, work) => {}
                }
            };
            self.tasks.spawn_on(bounded, &runtime);
        }
    }

    /// Keeps a task that ends by itself, and soon after [`Self::given_up`] is cancelled.
    pub(super) fn keep(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Cancelled when nobody waits any longer.
    pub(super) fn given_up(&self) -> CancellationToken {
        self.given_up.clone()
    }

    /// Waits for what runs, for so long; the rest is given up, and so is what would come later.
    pub(super) async fn tidied(&self, limit: Duration) {
        self.tasks.close();
        // What is late is given up below.
        let _ = tokio::time::timeout(limit, self.tasks.wait()).await;
        self.given_up.cancel();
        self.tasks.wait().await;
    }
}
