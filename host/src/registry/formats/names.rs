//! Names: which of a file's names are well-formed for the registry, what the others become, and how a name from a file
//! is shown.

use std::collections::{HashMap, HashSet};

use super::limits::{MAX_NAME_LENGTH, MAX_SHOWN_LENGTH};
use crate::model::Digest;
use crate::model::text::escape;

/// Which characters names may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// Of the registry: ASCII letters, digits, `.`, `_` and `-`; the first is a letter or digit.
    Registry,
    /// Of Codex: the same without `.`.
    Codex,
}

impl Alphabet {
    /// Whether a name is well-formed.
    pub(super) fn accepts(self, name: &str) -> bool {
        (1..=MAX_NAME_LENGTH).contains(&name.len())
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.chars().all(|character| self.has(character))
    }

    fn has(self, character: char) -> bool {
        character.is_ascii_alphanumeric()
            || matches!(character, '_' | '-')
            || (character == '.' && self == Self::Registry)
    }
}

/// Gives names, none of them twice.
///
/// A well-formed name stands as it is. In any other, each character that may not be in a name becomes `-`, what is no
/// letter or digit goes from its beginning, `-` goes from its end, it is cut to 128 characters, and `server` stands for
/// nothing. A name that is taken by then is cut further and gets `-` and 8 hexadecimal characters of the SHA-256 of the
/// file's name, or of that name, a line feed and a count if that is taken too.
pub(super) struct Names {
    alphabet: Alphabet,
    /// The well-formed names of the file: no altered name takes one of them.
    reserved: HashSet<String>,
    taken: HashSet<String>,
    /// How many hashes were tried for a name, so that a file of one name only is not quadratic.
    tried: HashMap<String, u32>,
}

impl Names {
    /// Names for a file that has these.
    pub(super) fn new<'a>(alphabet: Alphabet, all: impl Iterator<Item = &'a str>) -> Self {
        let reserved = all.filter(|name| alphabet.accepts(name)).map(str::to_owned).collect();
        Self { alphabet, reserved, taken: HashSet::new(), tried: HashMap::new() }
    }

    /// The name for one of the file's.
    pub(super) fn claim(&mut self, name: &str) -> String {
        let well_formed = self.alphabet.accepts(name);
        let wanted = if well_formed { name.to_owned() } else { self.altered(name) };
        if !self.taken.contains(&wanted) && (well_formed || !self.reserved.contains(&wanted)) {
            self.taken.insert(wanted.clone());
            return wanted;
        }
        let stem = wanted[..wanted.len().min(STEM_LENGTH)].trim_end_matches('-');
        let tried = self.tried.entry(name.to_owned()).or_default();
        loop {
            let seed = if *tried == 0 { name.to_owned() } else { format!("{name}\n{tried}") };
            *tried = tried.wrapping_add(1);
            let distinct = format!("{stem}-{}", Digest::of(seed.as_bytes()).short(HASH_LENGTH));
            if !self.reserved.contains(&distinct) && self.taken.insert(distinct.clone()) {
                return distinct;
            }
        }
    }

    fn altered(&self, name: &str) -> String {
        let written: String =
            name.chars().map(|character| if self.alphabet.has(character) { character } else { '-' }).collect();
        let begun = written.trim_start_matches(|character: char| !character.is_ascii_alphanumeric());
        // Only ASCII is left, so every cut is between characters.
        let cut = begun[..begun.len().min(MAX_NAME_LENGTH)].trim_end_matches('-');
        if cut.is_empty() { EMPTY.to_owned() } else { cut.to_owned() }
    }
}

/// A name from a file, for people: cut, and escaped.
pub(super) fn shown(name: &str) -> String {
    match name.char_indices().nth(MAX_SHOWN_LENGTH) {
        Some((end, _)) => format!("{}...", escape(&name[..end])),
        None => escape(name).into_owned(),
    }
}

/// The environment's usual spelling of a name: upper case, `_` for what is neither letter nor digit.
pub(super) fn environment_spelling(name: &str) -> String {
    let upper = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' };
    name.trim_start_matches('-').chars().map(upper).collect()
}

/// How many hexadecimal characters tell names apart.
const HASH_LENGTH: usize = 8;

/// A name has at most 128 characters; the hash and its `-` come off that.
const STEM_LENGTH: usize = MAX_NAME_LENGTH - 1 - HASH_LENGTH;

/// What a name becomes if nothing of it is left.
const EMPTY: &str = "server";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim_all(names: &[&str]) -> Vec<String> {
        let mut own = Names::new(Alphabet::Registry, names.iter().copied());
        names.iter().map(|name| own.claim(name)).collect()
    }

    #[test]
    fn names_are_altered_by_the_stated_rule() {
        let long = "x".repeat(200);
        let altered = claim_all(&["My Server", "io.github.user/server", "_private", "éé", "trail!", &long, "a.b_c-1"]);
        let cut = "x".repeat(128);
        assert_eq!(altered, ["My-Server", "io.github.user-server", "private", "server", "trail", &cut, "a.b_c-1"]);
    }

    #[test]
    fn a_well_formed_name_is_kept_although_an_altered_one_before_it_would_become_it() {
        let names = claim_all(&["a b", "a-b", "a/b", "a-b"]);
        assert_eq!(names[1], "a-b");
        assert_eq!(names[0], format!("a-b-{}", Digest::of(b"a b").short(8)));
        assert_eq!(names[2], format!("a-b-{}", Digest::of(b"a/b").short(8)));
        assert_eq!(names[3], format!("a-b-{}", Digest::of(b"a-b").short(8)));
    }

    #[test]
    fn what_is_shown_can_not_mislead_a_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\n\u{202e}"), r"a\u{1b}[2Jb\u{a}\u{202e}");
        assert_eq!(shown(&"é".repeat(200)), format!("{}...", "é".repeat(128)));
    }

    #[test]
    fn the_environment_spells_names_in_its_own_way() {
        assert_eq!(environment_spelling("--api-key"), "API_KEY");
        assert_eq!(environment_spelling("X-Api-Key"), "X_API_KEY");
    }

    proptest! {
        #[test]
        fn every_name_given_is_well_formed_and_none_is_given_twice(
            names in prop::collection::vec(prop_oneof![".{0,6}", "[a. ]{1,2}", "[a-zA-Z0-9._/-]{120,140}"], 0..20),
            codex: bool,
        ) {
            let alphabet = if codex { Alphabet::Codex } else { Alphabet::Registry };
            let mut own = Names::new(alphabet, names.iter().map(String::as_str));
            let mut given = HashSet::new();
            for name in &names {
                let name = own.claim(name);
                prop_assert!(alphabet.accepts(&name), "{name:?}");
                prop_assert!(given.insert(name));
            }
        }
    }
}
