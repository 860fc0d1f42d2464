//! The members of a client's request that decide where it goes, and what is run there.
//!
//! JSON readers disagree about names: some ignore case ([`encoding/json`] does, and the last match wins), some ignore `-` and
//! `_` besides ([`encoding/json/v2`]), some end a name at its first NUL, and of members that occur twice some take the first
//! and some the last. A gateway that checks one member and forwards another can be walked around ([CVE-2026-27896]). Every
//! member that the gateway reads may therefore occur once only, in its exact spelling; everything else passes through.
//!
//! A [`CheckedObject`] is read by the members of its enum only: a member that is not listed cannot be read.
//!
//! [`encoding/json`]: https://pkg.go.dev/encoding/json#Unmarshal
//! [`encoding/json/v2`]: https://pkg.go.dev/encoding/json/v2#MatchCaseInsensitiveNames
//! [CVE-2026-27896]: https://github.com/advisories/GHSA-wvj2-96wp-fq3f

use std::marker::PhantomData;

use serde_json::value::RawValue;

use super::protocol::{
    META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_HOPS, META_LOG_LEVEL, META_PROGRESS_TOKEN, META_PROTOCOL_VERSION,
    META_SUBSCRIPTION_ID,
};
use crate::model::raw::RawObject;

/// The members that are read of one level of a request.
pub trait Members: Copy + 'static {
    /// The level, as errors name it.
    const LEVEL: &'static str;
    /// Every member of it that is read.
    const ALL: &'static [&'static str];

    /// The member's name.
    fn key(self) -> &'static str;
}

/// Makes an enum of members, and with it the table by which they are checked.
macro_rules! members {
    ($(#[$doc:meta])* $name:ident of $level:literal { $($(#[$about:meta])* $member:ident = $key:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$about])* $member,)+
        }

        impl Members for $name {
            const LEVEL: &'static str = $level;
            const ALL: &'static [&'static str] = &[$($key),+];

            fn key(self) -> &'static str {
                match self {
                    $(Self::$member => $key,)+
                }
            }
        }
    };
}

members! {
    /// Members of `params`, whatever the method.
    ParamsMember of "params" {
        /// The name of a tool or prompt.
        Name = "name",
        /// The URI of a resource.
        Uri = "uri",
        /// The arguments of a tool or prompt; never looked into.
        Arguments = "arguments",
        /// The argument that is completed.
        Argument = "argument",
        /// What is known of the other arguments of a completion.
        Context = "context",
        /// What is completed: [`ReferenceMember`].
        Reference = "ref",
        /// The page of a list.
        Cursor = "cursor",
        /// The least severe log messages that are wanted.
        Level = "level",
        /// The request that is cancelled.
        RequestId = "requestId",
        /// What is listened to: [`NotificationsMember`].
        Notifications = "notifications",
        /// The version that a handshake offers.
        ProtocolVersion = "protocolVersion",
        /// What a client can do: [`CapabilitiesMember`].
        Capabilities = "capabilities",
        /// The client's name and version.
        ClientInfo = "clientInfo",
        /// The task that a request is about (SEP-2663).
        TaskId = "taskId",
        /// Answers to a server's requests (2026-07-28, multi-round-trip requests).
        InputResponses = "inputResponses",
        /// What a server remembers by between them.
        RequestState = "requestState",
        /// Metadata: [`MetaMember`].
        Meta = "_meta",
    }
}

members! {
    /// Members of `params.ref`.
    ReferenceMember of "params.ref" {
        /// What kind of reference it is.
        Type = "type",
        /// The name of a prompt.
        Name = "name",
        /// A resource template.
        Uri = "uri",
    }
}

members! {
    /// Members of `params.argument`.
    ArgumentMember of "params.argument" {
        /// The argument's name.
        Name = "name",
        /// What has been typed of it.
        Value = "value",
    }
}

members! {
    /// Members of `params.notifications`.
    NotificationsMember of "params.notifications" {
        /// Changes of the tools.
        Tools = "toolsListChanged",
        /// Changes of the prompts.
        Prompts = "promptsListChanged",
        /// Changes of the resources and their templates.
        Resources = "resourcesListChanged",
        /// Updates of these resources.
        Subscriptions = "resourceSubscriptions",
    }
}

members! {
    /// Members of a client's capabilities.
    CapabilitiesMember of "capabilities" {
        /// It lists its roots.
        Roots = "roots",
        /// Its model answers.
        Sampling = "sampling",
        /// Its user answers.
        Elicitation = "elicitation",
    }
}

members! {
    /// Members of `params._meta`.
    MetaMember of "params._meta" {
        /// By which progress is reported.
        ProgressToken = META_PROGRESS_TOKEN,
        /// The version of the protocol.
        ProtocolVersion = META_PROTOCOL_VERSION,
        /// What the client can do: [`CapabilitiesMember`].
        ClientCapabilities = META_CLIENT_CAPABILITIES,
        /// The client's name and version.
        ClientInfo = META_CLIENT_INFO,
        /// The least severe log messages that are wanted.
        LogLevel = META_LOG_LEVEL,
        /// How many gateways the request passed through.
        Hops = META_HOPS,
        /// The subscription that a message belongs to.
        SubscriptionId = META_SUBSCRIPTION_ID,
    }
}

/// A member that two readers may read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousMember {
    /// A second one of the same name.
    #[error("{level} has the member \"{member}\" twice; send it once")]
    Repeated {
        /// The object that has it.
        level: &'static str,
        /// The member.
        member: &'static str,
    },
    /// A name that some readers take for a member's.
    #[error("{level} has a member that some servers read as \"{member}\"; spell it exactly so, or leave it out")]
    Misspelled {
        /// The object that has it.
        level: &'static str,
        /// The member.
        member: &'static str,
    },
}

/// An object whose members of `M` occur once each, and exactly spelled.
#[derive(Clone, Debug)]
pub struct CheckedObject<M> {
    object: RawObject,
    members: PhantomData<M>,
}

impl<M> Default for CheckedObject<M> {
    fn default() -> Self {
        Self { object: RawObject::new(), members: PhantomData }
    }
}

impl<M: Members> CheckedObject<M> {
    /// Checks one level.
    ///
    /// # Errors
    /// [`AmbiguousMember`], for the first member that breaks the rule.
    fn check(object: RawObject) -> Result<Self, AmbiguousMember> {
        let (mut seen, level) = (0_u32, M::LEVEL);
        for (key, _) in object.iter() {
            match M::ALL.iter().position(|member| *member == key) {
                Some(position) if seen & (1 << position) != 0 => {
                    return Err(AmbiguousMember::Repeated { level, member: M::ALL[position] });
                }
                Some(position) => seen |= 1 << position,
                None => {
                    if let Some(member) = misspelled(key, M::ALL) {
                        return Err(AmbiguousMember::Misspelled { level, member });
                    }
                }
            }
        }
        Ok(Self { object, members: PhantomData })
    }

    /// Checks the object that is a member's value, if it is one.
    fn check_in<N: Members>(&self, member: M) -> Result<CheckedObject<N>, AmbiguousMember> {
        let object = self.get(member).and_then(|value| RawObject::parse(value).ok());
        object.map_or_else(|| Ok(CheckedObject::default()), CheckedObject::check)
    }

    /// The value of a member.
    pub fn get(&self, member: M) -> Option<&RawValue> {
        self.object.get(member.key())
    }

    /// The value of a member, if it is a string of Unicode text.
    pub fn get_str(&self, member: M) -> Option<String> {
        self.object.get_str(member.key())
    }

    /// The object, to be changed and sent on: every other member is there too.
    pub fn to_object(&self) -> RawObject {
        self.object.clone()
    }
}

/// The parameters of a request, of which every level was checked.
#[derive(Clone, Debug, Default)]
pub struct RequestParams {
    params: CheckedObject<ParamsMember>,
    meta: CheckedObject<MetaMember>,
}

impl RequestParams {
    /// Checks parameters on every level that is read.
    ///
    /// # Errors
    /// [`AmbiguousMember`], for the first member that breaks the rule.
    pub fn new(params: RawObject) -> Result<Self, AmbiguousMember> {
        let params = CheckedObject::<ParamsMember>::check(params)?;
        params.check_in::<ReferenceMember>(ParamsMember::Reference)?;
        params.check_in::<ArgumentMember>(ParamsMember::Argument)?;
        params.check_in::<NotificationsMember>(ParamsMember::Notifications)?;
        params.check_in::<CapabilitiesMember>(ParamsMember::Capabilities)?;
        let meta = params.check_in::<MetaMember>(ParamsMember::Meta)?;
        meta.check_in::<CapabilitiesMember>(MetaMember::ClientCapabilities)?;
        Ok(Self { params, meta })
    }

    /// The value of a member.
    pub fn get(&self, member: ParamsMember) -> Option<&RawValue> {
        self.params.get(member)
    }

    /// The value of a member, if it is a string of Unicode text.
    pub fn get_str(&self, member: ParamsMember) -> Option<String> {
        self.params.get_str(member)
    }

    /// The object that is a member's value; none if it is something else.
    pub fn object<N: Members>(&self, member: ParamsMember) -> Option<CheckedObject<N>> {
        CheckedObject::check(RawObject::parse(self.get(member)?).ok()?).ok()
    }

    /// The metadata; empty if there is none.
    pub fn meta(&self) -> &CheckedObject<MetaMember> {
        &self.meta
    }

    /// Sets a member of the metadata; what is no object is replaced.
    pub fn set_meta(&mut self, member: MetaMember, value: Box<RawValue>) {
        self.meta.object.set(member.key(), value);
        self.params.object.set(ParamsMember::Meta.key(), self.meta.object.to_raw());
    }

    /// The parameters, to be changed and sent on: every other member is there too.
    pub fn to_object(&self) -> RawObject {
        self.params.to_object()
    }
}

/// The member that some reader takes a name for, which is not exactly its name.
pub(super) fn misspelled(key: &str, members: &[&'static str]) -> Option<&'static str> {
    let (first, first_letter) = (folded(key).next(), folded(key).find(|character| !is_delimiter(*character)));
    // Most names begin with another letter.
    let begins_alike = |member: &str| {
        let begin = folded(member).next();
        begin == first || begin == first_letter
    };
    members.iter().copied().find(|member| *member != key && begins_alike(member) && reads_as(key, member))
}

/// Delimiters count only for members that have some themselves: `meta` is a name of its own.
fn reads_as(key: &str, member: &str) -> bool {
    let keeps_delimiters = member.contains(is_delimiter);
    folded(key).filter(|character| keeps_delimiters || !is_delimiter(*character)).eq(folded(member))
}

fn is_delimiter(character: char) -> bool {
    matches!(character, '-' | '_')
}

/// A name up to its first NUL, without case and without what replaces lone surrogates, which some readers drop. Upper case
/// first: it joins letters that have one lower case each (U+017F and s, U+0131 and i), and lower case joins the rest (U+212A
/// and k). What is left of U+0130 in lower case is an i and U+0307.
fn folded(name: &str) -> impl Iterator<Item = char> {
    let characters = name.chars().take_while(|character| *character != '\0');
    let folded = characters.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    folded.filter(|character| !['\u{307}', char::REPLACEMENT_CHARACTER].contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(params: &str) -> Result<RequestParams, AmbiguousMember> {
        RequestParams::new(RawObject::from_str(params).unwrap())
    }

    /// Spellings that are taken for `name` by some reader: ASCII case, NUL, delimiters.
    const NAMES: [&str; 13] = [
        "Name",
        "NAME",
        "nAME",
        r"name\u0000",
        r"NAME\u0000",
        r"name\u0000x",
        r"name\u0000\ud800",
        r"name\ud800",
        r"\udc00na\ud800me",
        "na_me",
        "_name",
        "n-A-me",
        "--Name",
    ];

    mod spelling {
        use super::*;

        #[test]
        fn folds_case_nul_and_delimiters() {
            for key in NAMES {
                for params in [format!(r#"{{"name":"a","{key}":"b"}}"#), format!(r#"{{"{key}":"b"}}"#)] {
                    let expected = AmbiguousMember::Misspelled { level: "params", member: "name" };
                    assert_eq!(check(&params).unwrap_err(), expected, "{params}");
                }
            }
        }

        #[test]
        fn folds_letters_outside_of_ascii() {
            for (key, member) in [
                ("argumentſ", "arguments"),
                ("ARGUMENTſ", "arguments"),
                ("urı", "uri"),
                ("URİ", "uri"),
                ("taſKId", "taskId"),
                ("noti\u{fb01}cations", "notifications"),
                ("capabilitieſ", "capabilities"),
                ("requeſtİd", "requestId"),
                ("_Meta", "_meta"),
            ] {
                let expected = AmbiguousMember::Misspelled { level: "params", member };
                assert_eq!(check(&format!(r#"{{"{key}":1}}"#)).unwrap_err(), expected, "{key}");
            }
        }

        #[test]
        fn leaves_other_names_alone() {
            for key in ["nam", "names", "ｎame", "na.me", "meta", "x-name", "task", " name", "", r"\u0000", "näme"] {
                assert!(check(&format!(r#"{{"name":"a","{key}":1,"{key}":2}}"#)).is_ok(), "{key}");
            }
        }
    }

    mod every_level {
        use super::*;

        /// Each member of each level, around which parameters are written.
        fn levels() -> Vec<(&'static str, &'static [&'static str], &'static str)> {
            vec![
                ("params", ParamsMember::ALL, "{}"),
                ("params.ref", ReferenceMember::ALL, r#"{"ref":{}}"#),
                ("params.argument", ArgumentMember::ALL, r#"{"argument":{}}"#),
                ("params.notifications", NotificationsMember::ALL, r#"{"notifications":{}}"#),
                ("capabilities", CapabilitiesMember::ALL, r#"{"capabilities":{}}"#),
                ("params._meta", MetaMember::ALL, r#"{"_meta":{}}"#),
                (
                    "capabilities",
                    CapabilitiesMember::ALL,
                    r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}"#,
                ),
            ]
        }

        #[test]
        fn refuses_repeated_and_misspelled_members() {
            for (level, members, around) in levels() {
                for member in members {
                    let within = |members: &str| around.replacen("{}", &format!("{{{members}}}"), 1);
                    assert!(check(&within(&format!(r#""{member}":1"#))).is_ok(), "{level} {member}");
                    let escaped = format!(r"\u{:04x}{}", member.as_bytes()[0], &member[1..]);
                    for second in [*member, &escaped] {
                        let twice = within(&format!(r#""{member}":1,"{second}":2"#));
                        let expected = AmbiguousMember::Repeated { level, member };
                        assert_eq!(check(&twice).unwrap_err(), expected, "{twice}");
                    }
                    let other = within(&format!(r#""{}":1"#, member.to_uppercase()));
                    let expected = AmbiguousMember::Misspelled { level, member };
                    assert_eq!(check(&other).unwrap_err(), expected, "{other}");
                }
            }
        }

        #[test]
        fn leaves_arguments_and_unknown_members_alone() {
            let params =
                r#"{"name":"t","x":1,"x":2,"X":3,"arguments":{"name":1,"Name":2,"name":3,"_meta":{"a":1,"a":2}}}"#;
            assert_eq!(check(params).unwrap().to_object().to_raw().get(), params);
        }
    }
}
