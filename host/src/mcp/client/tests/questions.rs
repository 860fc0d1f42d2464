//! Questions of a server that takes them back: whoever is asked is let go of, and nobody hears of an id that is not theirs.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;

use super::*;
use crate::mcp::interim::{Interim, Notice, Question};

/// Never answers, and counts what is asked, let go of and told.
#[derive(Default)]
struct Asked {
    questions: AtomicUsize,
    let_go: AtomicUsize,
    told: Mutex<Vec<String>>,
}

/// One question that is being answered.
struct Open<'a>(&'a Asked);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.let_go.fetch_add(1, Ordering::SeqCst);
    }
}

impl Interim for Asked {
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        self.told.lock().unwrap().push(notice.method);
        Box::pin(async {})
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            let _open = Open(self);
            std::future::pending().await
        })
    }
}

fn event(text: &str) -> Bytes {
    format!("data: {text}\n\n").into()
}

fn taken_back(id: &str) -> Bytes {
    event(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#))
}

fn question(id: &str) -> Bytes {
    event(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create"}}"#))
}

#[tokio::test(start_paused = true)]
async fn a_question_that_its_server_takes_back_is_dropped_and_no_other_and_nobody_hears_of_it() {
    let asked = Arc::new(Asked::default());
    let seen = asked.clone();
    let (session, network) = session(Era::Legacy, move |request| {
        let (id, seen) = (id_of(request), seen.clone());
        let last = event(&response_of(&id, "{}"));
        let pieces = [question("7"), question("\"7\""), taken_back("9"), taken_back("7"), taken_back(&id), last];
        // Each a moment after the one before; what was let go of is looked at before the answer.
        let pieces = stream::iter(pieces.into_iter().enumerate()).then(move |(number, piece)| {
            let seen = seen.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let counts = (seen.questions.load(Ordering::SeqCst), seen.let_go.load(Ordering::SeqCst));
                let expected = [(0, 0), (1, 0), (2, 0), (2, 0), (2, 1), (2, 1)];
                assert_eq!(counts, expected[number], "before piece {number}");
                Ok(piece)
            }
        });
        let mut response = events(String::new());
        response.body = Body::new(pieces);
        response
    })
    .await;
    let before = network.asked().len();
    session.request("tools/call", object(r#"{"name":"t"}"#), &*asked).await.unwrap();
    settle().await;
    assert_eq!(network.asked().len() - before, 1, "what was taken back is not answered");
    assert_eq!(*asked.told.lock().unwrap(), [""; 0]);
}
