//! What was attempted and what was acknowledged, and by that what a registry may say.
//!
//! For each name every attempt in its order. What is read must be the last acknowledged attempt, or a later one; never
//! a value that nobody attempted for this name.
//!
//! What a foreign editor writes is stamped when it is first dealt with: until then it floats, and may come out above
//! what was acknowledged after it.

use std::collections::BTreeMap;

/// The value of a name: a number in its endpoint; none if it is not there.
pub(crate) type Value = Option<u32>;

/// What a registry says: the value of each name in it.
pub(crate) type Said = BTreeMap<String, u32>;

#[derive(Clone, Copy, Debug)]
struct Attempt {
    value: Value,
    acknowledged: bool,
    floating: bool,
}

/// All attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    names: BTreeMap<String, Vec<Attempt>>,
    given: u32,
    pub(crate) acknowledged: u64,
}

impl Ledger {
    /// A number that was not given before.
    pub(crate) fn number(&mut self) -> u32 {
        self.given += 1;
        self.given
    }

    /// Somebody begins to set a name.
    pub(crate) fn attempt(&mut self, name: &str, value: Value) {
        self.push(name, Attempt { value, acknowledged: false, floating: false });
    }

    /// A foreign editor begins to set a name.
    pub(crate) fn float(&mut self, name: &str, value: Value) {
        self.push(name, Attempt { value, acknowledged: false, floating: true });
    }

    fn push(&mut self, name: &str, attempt: Attempt) {
        self.names.entry(name.to_owned()).or_default().push(attempt);
    }

    /// What foreign editors wrote that was perhaps not dealt with yet: name and value.
    pub(crate) fn afloat(&self) -> Vec<(String, Value)> {
        let afloat = self.names.iter().flat_map(|(name, attempts)| {
            attempts.iter().filter(|attempt| attempt.floating).map(|attempt| (name.clone(), attempt.value))
        });
        afloat.collect()
    }

    /// Whatever foreign editors wrote was dealt with.
    pub(crate) fn land(&mut self) {
        self.names.values_mut().flatten().for_each(|attempt| attempt.floating = false);
    }

    /// The last attempt on a name was acknowledged.
    pub(crate) fn acknowledge(&mut self, name: &str) {
        self.names.get_mut(name).unwrap().last_mut().unwrap().acknowledged = true;
        self.acknowledged += 1;
    }

    /// What a name may be now, the acknowledged value first. To who has the registry open for a while, an editor's edit
    /// may be news.
    pub(crate) fn allowed(&self, name: &str, fresh: bool) -> Vec<Value> {
        let attempts = self.names.get(name).map_or(&[][..], Vec::as_slice);
        let binds = |attempt: &Attempt| attempt.acknowledged && (fresh || !attempt.floating);
        let last = attempts.iter().rposition(binds);
        let before = last.is_none().then_some(None);
        let counts = |(index, attempt): &(usize, &Attempt)| last.is_none_or(|last| *index >= last) || attempt.floating;
        let since = attempts.iter().enumerate().filter(counts).map(|(_, attempt)| attempt.value);
        before.into_iter().chain(since).collect()
    }

    /// The names that were ever attempted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Whether all of this may be said; else a sentence.
    pub(crate) fn check(&self, said: &Said, fresh: bool) -> Result<(), String> {
        if let Some(name) = said.keys().find(|name| !self.names.contains_key(*name)) {
            return Err(format!("{name} is there, and nobody put it there"));
        }
        for name in self.names.keys() {
            let (value, allowed) = (said.get(name).copied(), self.allowed(name, fresh));
            if !allowed.contains(&value) {
                return Err(format!("{name} is {value:?}, and may be {allowed:?} only: {:?}", self.names[name]));
            }
        }
        Ok(())
    }

    /// What was said stays so, as if it had been acknowledged. What was attempted last may still come to light.
    pub(crate) fn settle(&mut self, said: &Said) {
        let names: Vec<String> = self.names.keys().cloned().collect();
        for name in names {
            let value = said.get(&name).copied();
            let attempts = self.names.entry(name).or_default();
            let last = attempts.iter().rposition(|attempt| attempt.acknowledged).map_or(0, |last| last + 1);
            let open = attempts.split_off(last).into_iter();
            let open = open.filter(|attempt| attempt.floating || attempt.value != value);
            let floating = attempts.drain(..).filter(|attempt| attempt.floating);
            let said = Attempt { value, acknowledged: true, floating: false };
            *attempts = floating.chain([said]).chain(open).collect();
        }
    }

    /// One line for each name.
    pub(crate) fn tell(&self) -> String {
        let lines = self.names.iter().map(|(name, attempts)| {
            let attempts = attempts.iter().map(|attempt| {
                let value = attempt.value.map_or("gone".to_owned(), |value| value.to_string());
                let marks = [(attempt.acknowledged, "!"), (attempt.floating, "~")];
                let marks = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark);
                std::iter::once(value.as_str()).chain(marks).collect::<String>()
            });
            format!("  {name}: {}", attempts.collect::<Vec<_>>().join(" "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
