//! The state that a subject is in, in facts and in sentences.

use super::collect::{ToolSeen, Why};
use super::facts::{RunFacts, Standing, UpkeepFacts};
use super::report::{Condition, Kind, State};
use super::sentences::{Nouns, count, listed, lookup_reason, plain, registry_change};
use super::subject::Target;
use super::times::Clock;
use super::upkeep;
use crate::model::WallMs;

/// What is told of a state.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    pub(super) kind: Kind,
    pub(super) headline: String,
    pub(super) condition: Condition,
    pub(super) state: State,
    pub(super) summary: Vec<String>,
}

impl Stand {
    /// One of which nothing is known yet.
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            headline: "unknown".to_owned(),
            condition: Condition::Doubtful,
            state: State::default(),
            summary: Vec::new(),
        }
    }

    /// Says a sentence.
    pub(super) fn say(&mut self, sentence: impl Into<String>) {
        self.summary.push(sentence.into());
    }

    /// Says how it stands in a few words.
    pub(super) fn head(&mut self, headline: impl Into<String>, condition: Condition) {
        self.headline = headline.into();
        self.condition = condition;
    }
}

/// Tells the state that an answer is about.
pub(super) fn tell(why: &Why) -> Stand {
    let (facts, clock) = (why.facts(), why.clock());
    let mut stand = match why.target() {
        Target::ServiceMap => service_map(facts, clock),
        Target::Connector(id) => connector(Kind::Connector, id, facts, clock),
        Target::Tool { name, connector } => tool(name, connector, why.tool_seen(), facts, clock),
        Target::Registry => registry(facts, clock),
        Target::RegistryEntry(name) => entry(name, facts, clock),
        Target::Other => other(why.only().unwrap_or_default(), facts, clock),
    };
    policy(&mut stand, facts, clock);
    if why.missing() > 0 {
        let missing = usize::try_from(why.missing()).unwrap_or(usize::MAX);
        stand.say(format!("{} missing in this trace.", count(missing, "decision is", "decisions are")));
    }
    stand
}

/// Who decides, if that is not the deployed policy as it should.
fn policy(stand: &mut Stand, facts: &RunFacts, clock: Clock) {
    if let Some((at, fault)) = &facts.last_fault {
        let faults = usize::try_from(facts.faults).unwrap_or(usize::MAX);
        let times = count(faults, "decision", "decisions");
        let last = clock.told(at.wall);
        stand.say(format!(
            "The deployed policy faulted in {times} on it, last at {last} ({fault}); the embedded default decided."
        ));
        stand.condition = stand.condition.max(Condition::Doubtful);
    }
    if facts.suspended {
        stand.say("The deployed policy is suspended after faults in a row: the embedded default decides until a swap.");
        stand.condition = stand.condition.max(Condition::Doubtful);
    }
}

fn service_map(facts: &RunFacts, clock: Clock) -> Stand {
    let mut stand = Stand::new(Kind::ServiceMap);
    upkeep::tell(&mut stand, "The service map", Nouns { value: "map", origin: "origin" }, &facts.upkeep, clock);
    stand
}

fn connector(kind: Kind, id: &str, facts: &RunFacts, clock: Clock) -> Stand {
    let mut stand = Stand::new(kind);
    stand.state.tools = facts.tools.as_ref().map(|tools| tools.names.len());
    let described = facts.standing;
    stand.state.described_since = described.map(|(_, at)| at.wall.to_string());
    stand.state.described = described.map(|(standing, _)| match standing {
        Standing::Enabled => "enabled",
        Standing::Disabled => "disabled",
        Standing::Absent => "absent",
    });
    let withheld = map_withheld(&facts.map);
    match described {
        Some((Standing::Disabled, at)) => {
            let by = match &facts.entry {
                Some(known) if !known.entry.deleted => "the service map or the registry",
                _ => "the service map",
            };
            let since = clock.told(at.wall);
            stand.say(format!(
                "{id} is disabled by {by} since {since}: it is not connected, and no tool of it is served."
            ));
            stand.head("disabled", Condition::Bad);
        }
        Some((Standing::Absent, at)) => {
            let since = clock.told(at.wall);
            stand.say(format!(
                "{id} is described by neither the service map nor the registry since {since}: it is gone."
            ));
            stand.head("not described", Condition::Bad);
        }
        Some((Standing::Enabled, _)) | None => {
            if facts.upkeep.verdict.is_none() && facts.upkeep.refresh.is_none() {
                let since = clock.told(facts.started.wall);
                stand.say(format!(
                    "Nothing was decided about {id} by the gateway that ran last: what the trace tells of its run begins at \
                     {since}."
                ));
            }
            upkeep::tell(&mut stand, id, Nouns { value: "list", origin: "server" }, &facts.upkeep, clock);
            upkeep::tell_breaker(&mut stand, facts.breaker.as_ref(), clock);
            refused_credential(&mut stand, id, facts, clock);
        }
    }
    if let Some(why) = withheld {
        stand.say(why);
    }
    if let Some(known) = &facts.entry {
        let change = registry_change(&known.entry);
        stand.say(format!("The registry has an entry of that name: {change} (ask about registry/{id}).",));
    }
    stand
}

/// Adds that the server refuses the credential, and what to do.
fn refused_credential(stand: &mut Stand, id: &str, facts: &RunFacts, clock: Clock) {
    const FORBIDDEN: u16 = 403;
    let Some((status, at)) = facts.refused_credential else { return };
    let (headline, cause, action) = match status {
        FORBIDDEN => ("forbidden", "the credential does not suffice", "give it the scope that the server asks for"),
        _ => ("unauthorized", "the credential is missing, wrong or expired", "replace it"),
    };
    let since = clock.told(at.wall);
    stand.say(format!(
        "The server of {id} refuses the credential with {status} since {since}: {cause}; {action} (`cortex-mcp status --json` \
         shows where the credential comes from and what the server asks for)."
    ));
    stand.state.credential_refused_with = Some(status);
    stand.head(headline, Condition::Bad);
}

/// Why no connector of the service map is served, if that is so.
fn map_withheld(map: &UpkeepFacts) -> Option<String> {
    let (_, verdict) = map.verdict.as_ref().filter(|_| map.serves() == Some(false))?;
    let because = lookup_reason(verdict.reason, Nouns { value: "map", origin: "origin" });
    Some(format!("The service map may not be served, because {because}; so nothing that it describes is served."))
}

fn tool(name: &str, id: &str, seen: &ToolSeen, facts: &RunFacts, clock: Clock) -> Stand {
    let mut of_connector = connector(Kind::Tool, id, facts, clock);
    let name = plain(name);
    let is_connected = !matches!(facts.standing, Some((Standing::Disabled | Standing::Absent, _)));
    let listed = facts.tools.as_ref().is_some_and(|_| seen.last.is_some() && seen.lost.is_none());
    let served = is_connected && listed && facts.upkeep.serves() != Some(false);
    let state = &mut of_connector.state;
    state.tool_served = facts.tools.as_ref().map(|_| served);
    state.tool_last_served = match (served, seen.lost.or(seen.last)) {
        (false, Some(at)) => Some(at.wall.to_string()),
        (true, _) | (false, None) => None,
    };
    let sentence = match (served, &facts.tools, seen.lost, seen.last) {
        (true, _, _, _) => {
            let since = seen.since.map(|at| format!(" since {}", clock.told(at.wall))).unwrap_or_default();
            format!("{name} is served: {id} lists it{since}.")
        }
        (false, None, _, _) => {
            format!("The trace does not tell which tools {id} serves, so not whether {name} is one.")
        }
        (false, Some(tools), Some(lost), _) if tools.names.is_empty() => {
            let lost = clock.told(lost.wall);
            format!("{name} is not served: nothing of {id} is, since {lost}.")
        }
        (false, Some(tools), Some(lost), _) => {
            let (lost, others) = (clock.told(lost.wall), count(tools.names.len(), "other", "others"));
            format!("{name} is not served: {id} does not list it any more since {lost}, though {others}.")
        }
        (false, Some(tools), None, None) => {
            let at = clock.told(tools.at.wall);
            let names = listed_tools(&tools.names);
            format!(
                "{name} is not served: {id} lists no such tool, and never did in this trace; at {at} it listed {names}."
            )
        }
        (false, Some(_), None, Some(last)) => {
            format!("{name} is not served; {id} listed it last at {}.", clock.told(last.wall))
        }
    };
    of_connector.summary.insert(0, sentence);
    let headline = match (served, of_connector.condition, &facts.tools) {
        (true, Condition::Good, _) => "served".to_owned(),
        (true, _, _) => format!("served, but {id} is {}", of_connector.headline),
        (false, _, None) => format!("unknown, and {id} is {}", of_connector.headline),
        (false, _, Some(_)) => {
            let connector = if of_connector.condition == Condition::Good {
                String::new()
            } else {
                format!(": {id} is {}", of_connector.headline)
            };
            format!("not served{connector}")
        }
    };
    let condition = match (served, &facts.tools) {
        (true, _) => of_connector.condition,
        (false, None) => of_connector.condition.max(Condition::Doubtful),
        (false, Some(_)) => Condition::Bad,
    };
    of_connector.head(headline, condition);
    of_connector
}

fn listed_tools(names: &[String]) -> String {
    if names.is_empty() { "none at all".to_owned() } else { listed(names.iter().map(String::as_str)) }
}

fn registry(facts: &RunFacts, clock: Clock) -> Stand {
    let mut stand = Stand::new(Kind::Registry);
    let Some(known) = &facts.registry else {
        stand.say("Nothing was decided about the registry by the gateway that ran last.");
        return stand;
    };
    stand.state.entries = Some(known.in_force);
    let (in_force, at) = (count(known.in_force, "entry", "entries"), clock.told(known.at.wall));
    let removed = match known.removed {
        0 => String::new(),
        removed => format!(", and {removed} more that were removed"),
    };
    stand.say(format!("The registry has {in_force} in force{removed}; it was read and joined last at {at}."));
    stand.head(in_force, Condition::Good);
    if !known.from_the_future.is_empty() {
        let names = listed(known.from_the_future.iter().map(String::as_str));
        stand.say(format!("Stamped in the future by more than clocks may differ: {names}. They count all the same."));
        stand.condition = Condition::Doubtful;
    }
    stand
}

fn entry(name: &str, facts: &RunFacts, clock: Clock) -> Stand {
    let mut stand = Stand::new(Kind::RegistryEntry);
    let name = plain(name);
    let Some(known) = &facts.entry else {
        stand.say(format!("The gateway that ran last knew no registry entry {name}."));
        stand.head("unknown", Condition::Bad);
        return stand;
    };
    let entry = &known.entry;
    let changed = WallMs(entry.stamp.wall_ms);
    stand.state.removed = Some(entry.deleted);
    stand.state.writer = Some(plain(&entry.writer));
    stand.state.changed_at = Some(changed.to_string());
    let (writer, at) = (plain(&entry.writer), clock.told(changed));
    if entry.deleted {
        stand
            .say(format!("The registry entry {name} is removed: the last change is its removal by {writer}, at {at}."));
        stand.head("removed", Condition::Bad);
    } else {
        stand.say(format!("The registry entry {name} is in force: its last change is that of {writer}, at {at}."));
        stand.head("in force", Condition::Good);
    }
    if let Some((at, loser)) = &known.superseded {
        let (at, loser) = (clock.told(at.wall), registry_change(loser));
        stand.say(format!("At {at} that change won over an earlier one: {loser}."));
    }
    if known.from_the_future {
        stand.say(
            "Its stamp lies in the future by more than clocks may differ; it counts all the same. Check the clocks.",
        );
        stand.condition = stand.condition.max(Condition::Doubtful);
    }
    stand
}

fn other(subject: &str, facts: &RunFacts, clock: Clock) -> Stand {
    let mut stand = Stand::new(Kind::Subject);
    let subject = plain(subject);
    match &facts.last {
        Some((at, sentence)) => {
            stand.say(format!("The last decision on {subject} is of {}: {sentence}.", clock.told(at.wall)));
            stand.head("decided", Condition::Good);
        }
        None => stand.say(format!("Nothing was decided about {subject} by the gateway that ran last.")),
    }
    stand
}
