//! What can not cross between the eras: the committed list, and how a run is compared with it.
//!
//! A difference between a run and its direct counterpart that has no line is a fault, and so is a line that has no
//! difference, or no reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::suite::{Revision, Status};

/// The list as it is committed.
const LIST: &str = include_str!("cannot_cross.toml");

/// The list.
#[derive(Deserialize)]
pub(crate) struct CannotCross {
    /// Why, by short names.
    reasons: BTreeMap<String, String>,
    /// By pairing: by scenario and check, how it comes out directly and through the gateway, and the reason's name.
    #[serde(flatten)]
    pairings: BTreeMap<String, BTreeMap<String, (String, String, String)>>,
}

impl CannotCross {
    /// The committed list. Every line has a reason, and every reason a line.
    pub(crate) fn read() -> Self {
        let list: Self = toml::from_str(LIST).expect("the list is TOML");
        let used: BTreeSet<&String> = list.pairings.values().flat_map(BTreeMap::values).map(|line| &line.2).collect();
        assert_eq!(used, list.reasons.keys().collect());
        let pairings: BTreeSet<String> = Revision::BOTH.into_iter().map(pairing).collect();
        assert_eq!(list.pairings.keys().cloned().collect::<BTreeSet<_>>(), pairings);
        list
    }

    /// What is not as the list says, where the client is of this revision and the server of the other.
    pub(crate) fn compare(
        &self,
        client: Revision,
        differences: &BTreeMap<(String, String), [BTreeSet<Status>; 2]>,
    ) -> Vec<String> {
        let pairing = pairing(client);
        let mut left = self.pairings[&pairing].clone();
        let mut faults = Vec::new();
        for ((scenario, check), [directly, through]) in differences {
            let (key, found) = (format!("{scenario} {check}"), (words(directly), words(through)));
            match left.remove(&key) {
                Some((directly, through, _)) if (&directly, &through) == (&found.0, &found.1) => {}
                line => faults.push(format!("{pairing}: {key:?} is {found:?}, and the list says {line:?}")),
            }
        }
        faults.extend(left.into_keys().map(|key| format!("{pairing}: {key:?} crosses, and is in the list")));
        faults
    }
}

/// How a pairing is called in the list.
fn pairing(client: Revision) -> String {
    format!("client {}, server {}", client.name(), client.other().name())
}

/// How a check came out, in the list's words.
fn words(statuses: &BTreeSet<Status>) -> String {
    let words: Vec<&str> = statuses.iter().map(|status| status.name()).collect();
    if words.is_empty() { "absent".to_owned() } else { words.join(" and ") }
}
