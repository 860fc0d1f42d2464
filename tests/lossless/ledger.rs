//! What was compared, and what differed: all of it is told at the end, with the first byte that is another.

use std::fmt::Display;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How many differences are told in full.
const TOLD: usize = 12;

/// The comparisons of one test.
#[derive(Default)]
pub(crate) struct Ledger {
    checks: usize,
    differences: Vec<String>,
}

impl Ledger {
    /// These bytes must be those bytes.
    pub(crate) fn same(&mut self, place: impl Display, expected: &str, found: &str) {
        self.checks += 1;
        if expected != found {
            self.differences.push(format!("{place}: {}", first_difference(expected, found)));
        }
    }

    /// This must be so.
    pub(crate) fn holds(&mut self, place: impl Display, so: bool, otherwise: &str) {
        self.checks += 1;
        if !so {
            self.differences.push(format!("{place}: {}", crate::support::talk::beginning(otherwise)));
        }
    }

    /// The end: nothing differed, and so much was compared.
    #[track_caller]
    pub(crate) fn close(self, checks: usize) {
        let told: Vec<&str> = self.differences.iter().take(TOLD).map(String::as_str).collect();
        assert!(
            self.differences.is_empty(),
            "{} of {} differ:\n{}",
            self.differences.len(),
            self.checks,
            told.join("\n")
        );
        assert_eq!(self.checks, checks, "so many comparisons were to be made");
    }
}

fn first_difference(expected: &str, found: &str) -> String {
    let (one, other) = (expected.as_bytes(), found.as_bytes());
    let at = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let around = |bytes: &[u8]| {
        let part = &bytes[at.saturating_sub(40)..(at + 60).min(bytes.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    format!("at byte {at} of {}/{}: expected {:?}, found {:?}", one.len(), other.len(), around(one), around(other))
}

/// The members of an object, in order: keys (with quotes) and values as they are written.
pub(crate) fn members(text: &str) -> Vec<(String, String)> {
    struct Members(Vec<(String, String)>);

    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Reader;
            impl<'de> Visitor<'de> for Reader {
                type Value = Members;
                fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    formatter.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                        members.push((key.get().to_owned(), value.get().to_owned()));
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(Reader)
        }
    }

    let read: Members = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:.200}"));
    read.0
}

/// The value of the one member of that name.
pub(crate) fn member(text: &str, key: &str) -> Option<String> {
    let key = format!("\"{key}\"");
    members(text).into_iter().find(|(found, _)| *found == key).map(|(_, value)| value)
}

#[test]
#[should_panic(expected = "1 of 2 differ:\nplace: at byte 3 of 5/5")]
fn one_byte_that_is_another_is_told_with_its_place() {
    let mut ledger = Ledger::default();
    ledger.same("place", "[1.0]", "[1.0]");
    ledger.same("place", "[1.0]", "[1.1]");
    ledger.close(2);
}

#[test]
#[should_panic(expected = "so many comparisons were to be made")]
fn a_ledger_in_which_nothing_was_compared_proves_nothing() {
    Ledger::default().close(1);
}
