//! Which gateways a definition passed through, so that a gateway never serves itself.
//!
//! Each gateway has an instance ID and appends it to the path of every definition that it serves. A definition whose path
//! holds the gateway's own ID came back to it; one whose path is full is not served on. Without this, a gateway that is
//! connected to itself, directly or through others, multiplies its tools with every refresh.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::raw::{self, RawObject};

/// The `_meta` key of a definition: the instances that it passed through, the first one first.
pub const META_PATH: &str = "com.brainwav.cortex/path";

/// The `_meta` key of a definition: stable facts about its connector.
pub const META_CONNECTOR: &str = "com.brainwav.cortex/connector";

/// Most instances in a path. Two or three gateways in a row are a deployment, more are a mistake.
pub const PATH_INSTANCES_MAX: usize = 4;

/// The ID of a gateway's home: 128 bits, 32 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(u128);

/// A text that is no instance ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an instance ID is 32 lower-case hexadecimal characters")]
pub struct InstanceIdError;

impl FromStr for InstanceId {
    type Err = InstanceIdError;

    fn from_str(text: &str) -> Result<Self, InstanceIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return Err(InstanceIdError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InstanceIdError)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InstanceIdError;

    fn try_from(text: String) -> Result<Self, InstanceIdError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

/// The instances that a definition passed through, as its server sent them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DefinitionPath {
    /// It comes from a server that is no gateway.
    #[default]
    Direct,
    /// It passed through these.
    Through(Box<[InstanceId]>),
    /// The path is no list of instance IDs.
    Malformed,
}

/// Why a definition is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// It passed through this gateway before.
    OwnInstance,
    /// It passed through as many others as a path may hold.
    TooLong,
    /// Its path is no list of instance IDs.
    Malformed,
}

impl DefinitionPath {
    /// Reads the path of a definition.
    pub fn of(definition: &RawObject) -> Self {
        let meta = definition.get("_meta").filter(|meta| raw::is_object(meta));
        let meta = meta.and_then(|meta| RawObject::parse(meta).ok());
        let Some(path) = meta.as_ref().and_then(|meta| meta.get(META_PATH)) else { return Self::Direct };
        match serde_json::from_str::<Vec<InstanceId>>(path.get()) {
            Ok(instances) if instances.is_empty() => Self::Malformed,
            Ok(instances) => Self::Through(instances.into()),
            Err(_) => Self::Malformed,
        }
    }

    /// Returns why a gateway of this ID does not serve the definition; none if it does.
    pub fn fault(&self, own: InstanceId) -> Option<PathFault> {
        match self {
            Self::Direct => None,
            Self::Malformed => Some(PathFault::Malformed),
            Self::Through(instances) if instances.contains(&own) => Some(PathFault::OwnInstance),
            Self::Through(instances) if instances.len() >= PATH_INSTANCES_MAX => Some(PathFault::TooLong),
            Self::Through(_) => None,
        }
    }

    /// Returns the path with one more instance, as JSON.
    pub fn followed_by(&self, own: InstanceId) -> Box<RawValue> {
        let before = match self {
            Self::Through(instances) => &**instances,
            Self::Direct | Self::Malformed => &[],
        };
        let texts: Vec<String> = before.iter().chain([&own]).map(|id| format!("\"{id}\"")).collect();
        raw::trusted(format!("[{}]", texts.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: InstanceId = InstanceId(0xabc);

    fn path(value: &str) -> DefinitionPath {
        let definition = format!(r#"{{"name":"a","_meta":{{"{META_PATH}":{value}}}}}"#);
        DefinitionPath::of(&RawObject::from_str(&definition).unwrap())
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        assert_eq!(OWN.to_string().parse(), Ok(OWN));
        for bad in ["", "abc", &"A".repeat(32), &"+".repeat(32), &"0".repeat(33)] {
            assert_eq!(bad.parse::<InstanceId>(), Err(InstanceIdError), "{bad}");
        }
    }

    #[test]
    fn a_definition_is_served_unless_it_came_from_here_or_from_too_far() {
        let others =
            |count: u128| (1..=count).map(|id| format!("\"{}\"", InstanceId(id))).collect::<Vec<_>>().join(",");
        for (value, fault) in [
            (format!("[{}]", others(1)), None),
            (format!("[{}]", others(3)), None),
            (format!("[{}]", others(4)), Some(PathFault::TooLong)),
            (format!("[{}]", others(40)), Some(PathFault::TooLong)),
            (format!("[\"{OWN}\"]"), Some(PathFault::OwnInstance)),
            (format!("[{},\"{OWN}\"]", others(2)), Some(PathFault::OwnInstance)),
            (format!("[{},\"{OWN}\"]", others(9)), Some(PathFault::OwnInstance)),
            ("[]".to_owned(), Some(PathFault::Malformed)),
            ("null".to_owned(), Some(PathFault::Malformed)),
            ("\"a\"".to_owned(), Some(PathFault::Malformed)),
            ("[1]".to_owned(), Some(PathFault::Malformed)),
            (format!("[\"{}\"]", "A".repeat(32)), Some(PathFault::Malformed)),
            ("{\"0\":1}".to_owned(), Some(PathFault::Malformed)),
        ] {
            assert_eq!(path(&value).fault(OWN), fault, "{value}");
        }
        for direct in [r#"{"name":"a"}"#, r#"{"_meta":{}}"#, r#"{"_meta":7}"#] {
            assert_eq!(DefinitionPath::of(&RawObject::from_str(direct).unwrap()), DefinitionPath::Direct, "{direct}");
        }
    }

    #[test]
    fn the_own_instance_comes_last() {
        let other = InstanceId(1);
        assert_eq!(DefinitionPath::Direct.followed_by(OWN).get(), format!("[\"{OWN}\"]"));
        let through = path(&format!("[ \"{other}\" ]"));
        assert_eq!(through.followed_by(OWN).get(), format!("[\"{other}\",\"{OWN}\"]"));
    }
}
