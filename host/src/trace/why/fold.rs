//! The chain as people read it: what is no news is counted, what is news stands for itself.

use super::report::{Row, ToldDecision};
use super::sentences::Quiet;
use crate::model::WallMs;

/// Something of the chain, before it is folded.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) at: WallMs,
    /// Which run of a gateway it belongs to.
    pub(super) run: usize,
    pub(super) about: &'static str,
    pub(super) sentence: String,
    pub(super) quiet: Option<Quiet>,
    /// None for notes.
    pub(super) decision: Option<Box<ToldDecision>>,
}

/// Decisions that are no news, of one kind.
struct Group<'a> {
    first: &'a Kept,
    last: &'a Kept,
    count: usize,
    calls: Calls,
}

#[derive(Default)]
struct Calls {
    passed: usize,
    answered: usize,
    given_up: usize,
}

/// What waits for the next news.
#[derive(Default)]
struct Waiting<'a> {
    groups: Vec<Group<'a>>,
    steps: usize,
    /// When the first and the last step were.
    from_to: Option<(&'a Kept, &'a Kept)>,
}

/// Folds what was kept into rows.
pub(super) fn fold<'a>(kept: impl IntoIterator<Item = &'a Kept>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut waiting = Waiting::default();
    for one in kept {
        match &one.quiet {
            None => waiting.end_with(one, &mut rows),
            Some(Quiet::Step) => {
                waiting.steps += 1;
                waiting.from_to = Some((waiting.from_to.map_or(one, |(first, _)| first), one));
            }
            Some(quiet) => waiting.join(one, quiet),
        }
    }
    rows.extend(waiting.groups.drain(..).map(row));
    if let Some((first, last)) = waiting.from_to {
        let sentence = match waiting.steps {
            1 => last.sentence.clone(),
            steps => format!("{steps} steps, the last: {}", last.sentence),
        };
        rows.push(Row { at: first.at, until: last.at, about: last.about, sentence });
    }
    rows
}

impl<'a> Waiting<'a> {
    fn join(&mut self, one: &'a Kept, quiet: &Quiet) {
        let group = self.groups.iter_mut().position(|group| {
            group.first.about == one.about && group.first.quiet.as_ref().is_some_and(|first| are_alike(first, quiet))
        });
        let at = group.unwrap_or_else(|| {
            self.groups.push(Group { first: one, last: one, count: 0, calls: Calls::default() });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        group.last = one;
        group.count += 1;
        match quiet {
            Quiet::Passed => group.calls.passed += 1,
            Quiet::Answered => group.calls.answered += 1,
            Quiet::GivenUp => group.calls.given_up += 1,
            Quiet::Same(_) | Quiet::Step => {}
        }
    }

    /// Writes what waits, and then the news that the steps led to.
    fn end_with(&mut self, news: &Kept, rows: &mut Vec<Row>) {
        let is_failed_call =
            news.about == "breaker" && news.decision.as_ref().is_some_and(|decision| decision.event == Some("failed"));
        if is_failed_call && let Some(at) = self.groups.iter().position(|group| group.calls.passed > 0) {
            // The call that failed had asked to pass before.
            let group = &mut self.groups[at];
            group.calls.passed -= 1;
            group.count -= 1;
            self.steps += 1;
            if group.count == 0 {
                self.groups.remove(at);
            }
        }
        rows.extend(self.groups.drain(..).map(row));
        let steps = match std::mem::take(&mut self.steps) {
            0 => String::new(),
            1 => " (+1 step on the way)".to_owned(),
            steps => format!(" (+{steps} steps on the way)"),
        };
        self.from_to = None;
        let sentence = format!("{}{steps}", news.sentence);
        rows.push(Row { at: news.at, until: news.at, about: news.about, sentence });
    }
}

fn are_alike(one: &Quiet, other: &Quiet) -> bool {
    match (one, other) {
        (Quiet::Same(one), Quiet::Same(other)) => one == other,
        (Quiet::Same(_) | Quiet::Step, _) | (_, Quiet::Same(_) | Quiet::Step) => false,
        (Quiet::Passed | Quiet::Answered | Quiet::GivenUp, Quiet::Passed | Quiet::Answered | Quiet::GivenUp) => true,
    }
}

fn row(group: Group<'_>) -> Row {
    let sentence = match &group.first.quiet {
        Some(Quiet::Passed | Quiet::Answered | Quiet::GivenUp) if group.count > 1 => calls(&group.calls),
        Some(Quiet::Same(words)) if group.count > 1 => format!("{} times: {words}", group.count),
        _ => group.first.sentence.clone(),
    };
    Row { at: group.first.at, until: group.last.at, about: group.first.about, sentence }
}

fn calls(calls: &Calls) -> String {
    let Calls { passed, answered, given_up } = *calls;
    let number = |number: usize| if number == 1 { "1 call".to_owned() } else { format!("{number} calls") };
    match (passed, answered, given_up) {
        (1, 1, 0) => "1 call passed and succeeded".to_owned(),
        (passed, answered, 0) if passed == answered => format!("{} passed, all succeeded", number(passed)),
        (0, answered, 0) => format!("{} succeeded", number(answered)),
        (passed, 0, 0) => format!("{} passed", number(passed)),
        (passed, answered, 0) => format!("{} passed, {answered} succeeded", number(passed)),
        (passed, answered, given_up) => {
            format!("{} passed, {answered} succeeded, {given_up} were given up by their callers", number(passed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(at: u64, about: &'static str, sentence: &str, quiet: Option<Quiet>) -> Kept {
        Kept { at: WallMs(at), run: 0, about, sentence: sentence.into(), quiet, decision: None }
    }

    #[test]
    fn calls_that_went_well_are_counted_and_news_stand_for_themselves() {
        let mut all = Vec::new();
        for at in 0..41 {
            all.push(kept(at, "breaker", "a call asked", Some(Quiet::Passed)));
            all.push(kept(at, "flush-after", "1 waits", Some(Quiet::Same("changes wait".into()))));
            all.push(kept(at, "breaker", "a call was answered", Some(Quiet::Answered)));
        }
        all.push(kept(50, "breaker", "the breaker opens", None));
        all.push(kept(60, "breaker", "a call asked", Some(Quiet::Passed)));
        let rows = fold(&all);
        let told: Vec<_> = rows.iter().map(|row| (row.at.0, row.until.0, row.sentence.as_str())).collect();
        assert_eq!(
            told,
            [
                (0, 40, "41 calls passed, all succeeded"),
                (0, 40, "41 times: changes wait"),
                (50, 50, "the breaker opens"),
                (60, 60, "a call asked"),
            ]
        );
    }

    #[test]
    fn steps_are_counted_with_what_they_led_to_and_the_last_ones_are_told() {
        let step = |at| kept(at, "lookup", "judged", Some(Quiet::Step));
        let rows = fold(&[step(1), step(2), kept(3, "refresh", "a run failed", None), step(4), step(5)]);
        let told: Vec<_> = rows.iter().map(|row| (row.at.0, row.until.0, row.sentence.as_str())).collect();
        assert_eq!(told, [(3, 3, "a run failed (+2 steps on the way)"), (4, 5, "2 steps, the last: judged")]);
    }

    #[test]
    fn calls_are_counted_by_how_they_ended() {
        let count = |passed, answered, given_up| calls(&Calls { passed, answered, given_up });
        assert_eq!(count(1, 1, 0), "1 call passed and succeeded");
        assert_eq!(count(3, 2, 0), "3 calls passed, 2 succeeded");
        assert_eq!(count(3, 2, 1), "3 calls passed, 2 succeeded, 1 were given up by their callers");
        assert_eq!(count(2, 0, 0), "2 calls passed");
        assert_eq!(count(0, 2, 0), "2 calls succeeded");
    }
}
