//! What a server says of itself: capabilities, instructions, and who it is.
//!
//! Read from the result of `initialize` or of `server/discover`; everything stays as the server wrote it.

use serde_json::value::RawValue;

use super::meta;
use crate::model::About;
use crate::model::raw::{self, RawObject};

/// What a server said of itself.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// Capabilities and instructions.
    pub about: About,
    /// Who it says it is: an object.
    pub info: Option<Box<RawValue>>,
}

impl ServerFacts {
    /// By the result of `initialize`.
    pub(super) fn of_initialize(result: &RawObject) -> Self {
        let info = result.get("serverInfo").filter(|info| raw::is_object(info)).map(ToOwned::to_owned);
        Self { about: about(result), info }
    }

    /// By the result of `server/discover`.
    pub(super) fn of_discover(result: &RawObject) -> Self {
        Self { about: about(result), info: meta::server_info(result) }
    }
}

fn about(result: &RawObject) -> About {
    let capabilities = result.get("capabilities").filter(|all| raw::is_object(all)).map(ToOwned::to_owned);
    About {
        capabilities: capabilities.unwrap_or_else(raw::empty_object),
        instructions: result.get_str("instructions").filter(|text| !text.is_empty()),
    }
}
