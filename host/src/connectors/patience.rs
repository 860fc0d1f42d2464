//! How long a call may still take: counted anew with each sign of progress, standing still while its client is asked
//! something, and never beyond a multiple of it in all.
//!
//! It wraps what takes the server's messages, and changes none of them.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::asking::Seat;
use super::limits::CALL_TIMEOUT_STRETCH;
use crate::mcp::{Interim, Notice, Outcome, Question};

/// The patience with one call.
pub(super) struct Patience<'a> {
    inner: &'a dyn Interim,
    limit: Duration,
    ends: Instant,
    sign: watch::Sender<Sign>,
    /// What the call sets down while its client is asked something.
    seat: Option<Seat<'a>>,
}

#[derive(Clone, Copy)]
struct Sign {
    last: Instant,
    asking: usize,
}

impl<'a> Patience<'a> {
    /// With a call that arrived then.
    pub(super) fn new(inner: &'a dyn Interim, arrived: Instant, limit: Duration) -> Self {
        let sign = watch::Sender::new(Sign { last: arrived, asking: 0 });
        Self { inner, limit, ends: arrived + limit * CALL_TIMEOUT_STRETCH, sign, seat: None }
    }

    /// The same, with a call that holds places; they are given back with this.
    pub(super) fn seated(self, seat: Seat<'a>) -> Self {
        Self { seat: Some(seat), ..self }
    }

    /// Does the call, which takes its messages through this; none if it took too long. `beside` counts the questions that its
    /// client is asked on another stream: they are this call's as much as any other's.
    pub(super) async fn with<T>(
        &self,
        call: impl Future<Output = T>,
        beside: Option<watch::Receiver<usize>>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            done = call => Some(done),
            () = self.wait_for_answers(beside) => None,
            () = self.over() => None,
        }
    }

    /// Notes when the client is asked something beside the call; it never returns.
    async fn wait_for_answers(&self, beside: Option<watch::Receiver<usize>>) {
        if let Some(mut beside) = beside {
            while beside.wait_for(|asking| *asking > 0).await.is_ok() {
                let _asking = Asking::begin(self);
                if beside.wait_for(|asking| *asking == 0).await.is_err() {
                    break;
                }
            }
        }
        std::future::pending().await
    }

    async fn over(&self) {
        let mut signs = self.sign.subscribe();
        loop {
            let Sign { last, asking } = *signs.borrow_and_update();
            let until = if asking > 0 { self.ends } else { self.ends.min(last + self.limit) };
            tokio::select! {
                // Its sender is `self`, which outlives this.
                Ok(()) = signs.changed() => {}
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    fn count_anew(&self, asking: impl Fn(usize) -> usize) {
        self.sign.send_modify(|sign| *sign = Sign { last: Instant::now(), asking: asking(sign.asking) });
    }
}

impl Interim for Patience<'_> {
    fn opened(&self) {
        self.inner.opened();
    }

    fn paused(&self, wait: Duration) {
        self.inner.paused(wait);
    }

    fn progressed(&self) {
        self.count_anew(|asking| asking);
        self.inner.progressed();
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        self.inner.notify(notice)
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        let asking = Asking::begin(self);
        async move {
            let outcome = self.inner.ask(question).await;
            drop(asking);
            outcome
        }
        .boxed()
    }
}

/// A question that its client has not answered.
struct Asking<'a, 'b>(&'a Patience<'b>);

impl<'a, 'b> Asking<'a, 'b> {
    fn begin(patience: &'a Patience<'b>) -> Self {
        patience.count_anew(|asking| asking + 1);
        patience.seat.iter().for_each(Seat::set_down);
        Self(patience)
    }
}

impl Drop for Asking<'_, '_> {
    fn drop(&mut self) {
        self.0.count_anew(|asking| asking.saturating_sub(1));
        if self.0.sign.borrow().asking == 0 {
            self.0.seat.iter().for_each(Seat::take_up);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::mcp::Nobody;
    use crate::model::raw;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Waits for `gap` before each of so many signs; the time after which patience was over.
    async fn given_up(gap: u64, signs: u32) -> u64 {
        let patience = Patience::new(&Nobody, Instant::now(), LIMIT);
        let began = Instant::now();
        let call = async {
            for _ in 0..signs {
                tokio::time::sleep(Duration::from_secs(gap)).await;
                patience.progressed();
            }
            std::future::pending::<()>().await;
        };
        assert!(patience.with(call, None).await.is_none());
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn progress_of_the_call_counts_its_deadline_anew_but_not_for_ever() {
        assert_eq!(given_up(9, 0).await, 10);
        assert_eq!(given_up(9, 3).await, 37);
        assert_eq!(given_up(9, 1_000).await, 100);
        assert_eq!(given_up(11, 3).await, 10);
    }

    /// A client that takes a while to answer.
    struct Slow(Mutex<u32>);

    impl Interim for Slow {
        fn notify(&self, _: Notice) -> BoxFuture<'_, ()> {
            futures_util::future::ready(()).boxed()
        }

        fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
            *self.0.lock().unwrap() += 1;
            async {
                tokio::time::sleep(Duration::from_secs(45)).await;
                Outcome::Result(raw::empty_object())
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_stands_still_while_the_client_is_asked() {
        let slow = Slow(Mutex::new(0));
        let patience = Patience::new(&slow, Instant::now(), LIMIT);
        let question = || Question { method: "elicitation/create".to_owned(), params: None };
        let began = Instant::now();
        let answered = patience.with(
            async {
                tokio::time::sleep(Duration::from_secs(9)).await;
                drop(patience.ask(question()).await);
                tokio::time::sleep(Duration::from_secs(9)).await;
            },
            None,
        );
        assert_eq!((answered.await.is_some(), began.elapsed().as_secs()), (true, 63));
        let patience = Patience::new(&slow, Instant::now(), LIMIT);
        let began = Instant::now();
        let endless = patience.with(
            async {
                for _ in 0..4 {
                    drop(patience.ask(question()).await);
                }
            },
            None,
        );
        assert_eq!((endless.await.is_none(), began.elapsed().as_secs()), (true, 100));
        assert_eq!(*slow.0.lock().unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_beside_the_call_stops_its_deadline_as_one_of_its_own_does() {
        let asked = watch::Sender::new(0);
        let patience = Patience::new(&Nobody, Instant::now(), LIMIT);
        let began = Instant::now();
        let people = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            asked.send_replace(1);
            tokio::time::sleep(Duration::from_secs(45)).await;
            asked.send_replace(0);
        };
        let call = patience.with(std::future::pending::<()>(), Some(asked.subscribe()));
        let (given_up, ()) = tokio::join!(call, people);
        assert_eq!((given_up, began.elapsed().as_secs()), (None, 9 + 45 + 10));
    }
}
