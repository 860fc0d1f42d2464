//! How many processes start at once.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::limits::START_PERMIT;

/// Permits to start a process. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Starts(Arc<Semaphore>);

impl Starts {
    /// As many permits as that.
    pub(super) fn new(permits: NonZeroUsize) -> Self {
        Self(Arc::new(Semaphore::new(permits.get().min(Semaphore::MAX_PERMITS))))
    }

    /// Waits for a permit, first come, first served, and runs a start under it. The permit is given back when the start ends,
    /// and after [`START_PERMIT`] while the start goes on, so that N starts before this one delay it by at most N times that,
    /// divided by the permits.
    pub(super) async fn run<T>(&self, start: impl Future<Output = T>) -> T {
        let mut start = pin!(start);
        // It is never closed.
        let permit = self.0.acquire().await;
        if let Ok(ended) = timeout(START_PERMIT, &mut start).await {
            return ended;
        }
        drop(permit);
        start.await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    mod permit {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn is_given_back_at_the_end_and_after_its_time() {
            let starts = Starts::new(NonZeroUsize::MIN);
            let began = Instant::now();
            let start = async |takes: Duration| {
                let began_after = starts.run(async {
                    let since = began.elapsed();
                    sleep(takes).await;
                    since
                });
                began_after.await
            };
            let (short, long) = (Duration::from_secs(1), START_PERMIT * 10);
            let (one, two, three, four) = tokio::join!(start(short), start(long), start(short), start(short));
            assert_eq!([one, two], [Duration::ZERO, short]);
            assert_eq!([three, four], [short + START_PERMIT, short + START_PERMIT + short]);
        }
    }
}
