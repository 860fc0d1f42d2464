//! What servers ask a legacy client while they answer it: each question is a request of our own on the client's stream, and
//! waits for the message that answers it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::outlet::Outlet;
use crate::gateway::limits;
use crate::mcp::envelope::{error_object, notification_bytes, request_bytes};
use crate::mcp::protocol::{CANCELLED, INTERNAL_ERROR};
use crate::mcp::{Outcome, Question, RequestId};
use crate::model::raw::{self, RawObject};

/// The questions to one client that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    asked: u64,
    answers: HashMap<RequestId, oneshot::Sender<Outcome>>,
}

impl Questions {
    /// Asks, and waits for the answer: for [`limits::QUESTION_TIMEOUT`] at most, and as long as the client is there.
    pub(super) async fn ask(&self, outlet: &Outlet, question: Question) -> Outcome {
        let Some((id, answer)) = self.begin() else { return unanswered("too many questions wait for this client") };
        // However this ends, nobody waits for the answer any more.
        let mut open = Open { questions: self, id: &id, asked_on: None };
        let message = request_bytes(&id, &question.method, question.params.as_deref());
        if outlet.send(message).await.is_err() {
            return unanswered("the client is gone");
        }
        open.asked_on = Some(outlet);
        tokio::select! {
            biased;
            answered = answer => answered.unwrap_or_else(|_| unanswered("the client is gone")),
            () = outlet.gone() => unanswered("the client is gone"),
            () = tokio::time::sleep(limits::QUESTION_TIMEOUT) => unanswered("the client did not answer in time"),
        }
    }

    /// The client answered. Late answers, and answers to nothing, are dropped.
    pub(super) fn answered(&self, id: &RequestId, outcome: Outcome) {
        if let Some(waiting) = self.lock().answers.remove(id) {
            // The asker may have given up.
            drop(waiting.send(outcome));
        }
    }

    fn begin(&self) -> Option<(RequestId, oneshot::Receiver<Outcome>)> {
        let mut waiting = self.lock();
        if waiting.answers.len() >= limits::QUESTIONS_MAX {
            return None;
        }
        waiting.asked += 1;
        let id = RequestId::from_number(waiting.asked);
        let (sender, receiver) = oneshot::channel();
        waiting.answers.insert(id.clone(), sender);
        Some((id, receiver))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Open<'a> {
    questions: &'a Questions,
    id: &'a RequestId,
    /// Where the client was asked, once it was.
    asked_on: Option<&'a Outlet>,
}

impl Drop for Open<'_> {
    /// Who was asked and has not answered is told that nobody waits any more, if there is room for that.
    fn drop(&mut self) {
        let is_unanswered = self.questions.lock().answers.remove(self.id).is_some();
        if let Some(outlet) = self.asked_on.filter(|_| is_unanswered) {
            let mut params = RawObject::new();
            params.set("requestId", raw::trusted(self.id.as_json().to_owned()));
            outlet.offer(notification_bytes(CANCELLED, Some(&params.to_raw())));
        }
    }
}

/// What a server is told that asked in vain.
fn unanswered(why: &str) -> Outcome {
    Outcome::Error(error_object(INTERNAL_ERROR, why, None))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::outlet::bounded;
    use super::*;
    use crate::gateway::metrics::ServerMetrics;

    fn question() -> Question {
        Question { method: "roots/list".to_owned(), params: None }
    }

    fn text(outcome: &Outcome) -> &str {
        match outcome {
            Outcome::Result(raw) | Outcome::Error(raw) => raw.get(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_reaches_the_question_with_its_id_and_no_other() {
        let (outlet, mut inbox) = bounded(&ServerMetrics::default(), &Arc::new(tokio::sync::Semaphore::new(1)));
        let questions = Arc::new(Questions::default());
        let asking =
            |questions: Arc<Questions>, outlet: Outlet| async move { questions.ask(&outlet, question()).await };
        let (one, two) = (asking(questions.clone(), outlet.clone()), asking(questions.clone(), outlet));
        let (one, two) = (tokio::spawn(one), tokio::spawn(two));
        for number in [1, 2] {
            let asked = inbox.next_message().await.unwrap();
            assert_eq!(asked, format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"roots/list"}}"#));
        }
        for number in [2_u64, 1, 7] {
            questions.answered(&RequestId::from_number(number), Outcome::Result(raw::number(number)));
        }
        assert_eq!((text(&one.await.unwrap()), text(&two.await.unwrap())), ("1", "2"));
        assert!(questions.lock().answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_ends_with_its_deadline_or_its_client() {
        let (outlet, mut inbox) = bounded(&ServerMetrics::default(), &Arc::new(tokio::sync::Semaphore::new(1)));
        let questions = Arc::new(Questions::default());
        let late = questions.ask(&outlet, question()).await;
        assert!(text(&late).contains("in time"), "{late:?}");
        inbox.next().await.unwrap();
        let taken_back = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert_eq!(inbox.next_message().await.unwrap(), taken_back);
        drop(inbox);
        let gone = questions.ask(&outlet, question()).await;
        assert!(text(&gone).contains("gone"), "{gone:?}");
        assert!(questions.lock().answers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_told_when_its_question_is_taken_back_and_not_when_it_answered() {
        let (outlet, mut inbox) = bounded(&ServerMetrics::default(), &Arc::new(tokio::sync::Semaphore::new(1)));
        let questions = Questions::default();
        {
            let asking = questions.ask(&outlet, question());
            assert!(tokio::time::timeout(limits::QUESTION_TIMEOUT / 2, asking).await.is_err());
        }
        let asked = inbox.next_message().await.unwrap();
        let cancelled = inbox.next_message().await.unwrap();
        assert!(asked.starts_with(br#"{"jsonrpc":"2.0","id":1"#));
        assert!(cancelled.ends_with(br#""notifications/cancelled","params":{"requestId":1}}"#), "{cancelled:?}");
        let answering = async {
            inbox.next_message().await.unwrap();
            questions.answered(&RequestId::from_number(2), Outcome::Result(raw::number(7)));
        };
        let (answered, ()) = tokio::join!(questions.ask(&outlet, question()), answering);
        assert_eq!((text(&answered), inbox.take()), ("7", None));
    }
}
