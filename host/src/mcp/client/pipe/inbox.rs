//! Where what a server said waits for whom it concerns: bounded, so that a slow reader holds up nobody else's answers.
//!
//! What does not fit is dropped and counted, except for changes of lists: a few such notices that wait already stand for
//! those that come after them, since their reader looks at the list after that.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::mcp::envelope::RequestId;
use crate::mcp::interim::{Notice, Question};
use crate::mcp::limits::{LIST_CHANGES_HELD, PIPE_INBOX_BYTES, PIPE_INBOX_LETTERS};
use crate::mcp::protocol::LISTS_CHANGED;

/// Something that a server said and that is no answer.
#[derive(Debug)]
pub(in crate::mcp::client) enum Letter {
    /// Wants no answer.
    Notice(Notice),
    /// Wants one, unless it is taken back.
    Question {
        /// What the answer repeats.
        id: RequestId,
        /// What is asked.
        question: Question,
        /// Cancelled when the server takes it back.
        taken_back: CancellationToken,
    },
}

/// What waits for one reader.
#[derive(Debug, Default)]
pub(in crate::mcp::client) struct Inbox {
    held: Mutex<Held>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Held {
    letters: VecDeque<Letter>,
    bytes: usize,
}

impl Inbox {
    /// Puts a letter in. Given back if there is no room for it.
    pub(in crate::mcp::client) fn put(&self, letter: Letter) -> Result<(), Letter> {
        let mut held = self.lock();
        let is_full = held.letters.len() >= PIPE_INBOX_LETTERS
            || (held.bytes > 0 && held.bytes + letter.size() > PIPE_INBOX_BYTES);
        match &letter {
            Letter::Notice(notice) if LISTS_CHANGED.contains(&notice.method.as_str()) => {
                let count = held.count_of(&notice.method);
                if count >= LIST_CHANGES_HELD || (count > 0 && is_full) {
                    return Ok(());
                }
            }
            _ if is_full => return Err(letter),
            _ => {}
        }
        held.bytes += letter.size();
        held.letters.push_back(letter);
        drop(held);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for the next letter. One reader at a time; dropping the future loses nothing.
    pub(in crate::mcp::client) async fn next(&self) -> Letter {
        loop {
            if let Some(letter) = self.try_next() {
                return letter;
            }
            self.arrived.notified().await;
        }
    }

    /// The next letter, if there is one.
    pub(in crate::mcp::client) fn try_next(&self) -> Option<Letter> {
        let mut held = self.lock();
        let letter = held.letters.pop_front()?;
        held.bytes -= letter.size();
        Some(letter)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn count_of(&self, method: &str) -> usize {
        let is_of = |letter: &&Letter| matches!(letter, Letter::Notice(notice) if notice.method == method);
        self.letters.iter().filter(is_of).count()
    }
}

impl Letter {
    fn size(&self) -> usize {
        let (method, params) = match self {
            Self::Notice(Notice { method, params }) => (method, params),
            Self::Question { question: Question { method, params }, .. } => (method, params),
        };
        method.len() + params.as_ref().map_or(0, |params| params.get().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::raw;

    fn notice(method: &str, bytes: usize) -> Letter {
        let params = raw::string(&"x".repeat(bytes));
        Letter::Notice(Notice { method: method.to_owned(), params: Some(params) })
    }

    fn methods(inbox: &Inbox) -> Vec<String> {
        let mut methods = Vec::new();
        while let Some(Letter::Notice(notice)) = inbox.try_next() {
            methods.push(notice.method);
        }
        methods
    }

    #[test]
    fn a_full_inbox_drops_what_comes_but_never_a_change_of_a_list() {
        let inbox = Inbox::default();
        for _ in 0..PIPE_INBOX_LETTERS {
            inbox.put(notice("notifications/progress", 1)).unwrap();
        }
        assert!(inbox.put(notice("notifications/message", 1)).is_err());
        for _ in 0..3 {
            inbox.put(notice(LISTS_CHANGED[0], 1)).unwrap();
            inbox.put(notice(LISTS_CHANGED[2], 1)).unwrap();
        }
        let held = methods(&inbox);
        assert_eq!(held.len(), PIPE_INBOX_LETTERS + 2);
        assert_eq!(held[PIPE_INBOX_LETTERS..], [LISTS_CHANGED[0], LISTS_CHANGED[2]]);
        // Where there is place, as many are held as show a storm.
        (0..3 * LIST_CHANGES_HELD).for_each(|_| inbox.put(notice(LISTS_CHANGED[0], 1)).unwrap());
        assert_eq!(methods(&inbox), [LISTS_CHANGED[0]; LIST_CHANGES_HELD]);
        // One that was taken does not stand for those that come later.
        inbox.put(notice(LISTS_CHANGED[0], 1)).unwrap();
        assert_eq!(methods(&inbox), [LISTS_CHANGED[0]]);
    }

    #[test]
    fn an_inbox_is_bounded_in_bytes_and_takes_one_letter_of_any_size() {
        let inbox = Inbox::default();
        inbox.put(notice("a", PIPE_INBOX_BYTES * 2)).unwrap();
        assert!(inbox.put(notice("b", 1)).is_err());
        assert_eq!(methods(&inbox), ["a"]);
        inbox.put(notice("c", PIPE_INBOX_BYTES / 2)).unwrap();
        inbox.put(notice("d", PIPE_INBOX_BYTES / 4)).unwrap();
        assert!(inbox.put(notice("e", PIPE_INBOX_BYTES / 2)).is_err());
        assert_eq!(methods(&inbox), ["c", "d"]);
    }
}
