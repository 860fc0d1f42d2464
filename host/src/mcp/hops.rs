//! How many gateways a request passed through. A gateway that is connected to itself, directly or through others, would pass
//! a request on without end otherwise.

use serde_json::value::RawValue;

use super::envelope::error_object;
use super::protocol::{INVALID_PARAMS, META_HOPS};
use super::request_members::{MetaMember, RequestParams};
use super::server::meta_of;
use crate::model::PATH_INSTANCES_MAX;
use crate::model::raw::{self, RawObject};

/// Most gateways that a request passes through: as many as a definition does.
pub const HOPS_MAX: u64 = PATH_INSTANCES_MAX as u64;

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopsError {
    /// It passed through too many gateways.
    #[error("the request passed through {HOPS_MAX} gateways already; is a gateway connected to itself?")]
    TooMany,
    /// The count is no whole number from 0 on.
    #[error("{META_HOPS} must be a whole number of gateways")]
    Malformed,
}

impl HopsError {
    /// The JSON-RPC error code.
    pub const fn code(self) -> i64 {
        INVALID_PARAMS
    }

    /// The `data` of the error: why, for programs.
    pub fn data(self) -> Box<RawValue> {
        let mut data = RawObject::new();
        data.set("reason", raw::string(self.reason()));
        data.to_raw()
    }

    /// The JSON-RPC error object.
    pub fn error(self) -> Box<RawValue> {
        error_object(self.code(), &self.to_string(), Some(&self.data()))
    }

    /// Reads the one that another gateway's error object names; none if it names none.
    pub fn in_error(error: &RawValue) -> Option<Self> {
        let data = RawObject::parse(RawObject::parse(error).ok()?.get("data")?).ok()?;
        let reason = data.get_str("reason")?;
        [Self::TooMany, Self::Malformed].into_iter().find(|fault| fault.reason() == reason)
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::TooMany => "hop-limit",
            Self::Malformed => "hops-malformed",
        }
    }
}

/// Counts this gateway: the parameters as they are passed on. What the client wrote is never passed on.
///
/// # Errors
/// [`HopsError`].
pub fn counted(mut params: RequestParams) -> Result<RequestParams, HopsError> {
    let hops = match params.meta().get(MetaMember::Hops) {
        None => 1,
        Some(hops) if hops.get().len() > MAX_DIGITS => return Err(HopsError::Malformed),
        Some(hops) => hops.get().parse::<u64>().map_err(|_| HopsError::Malformed)? + 1,
    };
    if hops > HOPS_MAX {
        return Err(HopsError::TooMany);
    }
    params.set_meta(MetaMember::Hops, raw::number(hops));
    Ok(params)
}

/// The parameters with this count.
pub fn with(mut params: RawObject, hops: u64) -> RawObject {
    let mut meta = meta_of(&params);
    meta.set(META_HOPS, raw::number(hops));
    params.set("_meta", meta.to_raw());
    params
}

/// The count in parameters that are passed on; 1 if there is none.
pub fn of(params: &RawObject) -> u64 {
    meta_of(params).get(META_HOPS).and_then(|hops| hops.get().parse().ok()).unwrap_or(1)
}

/// Digits of a count that is read: enough for any that is not too large, and fewer than overflow.
const MAX_DIGITS: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(params: &str) -> Result<RawObject, HopsError> {
        counted(RequestParams::new(params.parse().unwrap()).unwrap()).map(|params| params.to_object())
    }

    fn after(hops: &str) -> Result<String, HopsError> {
        let params = format!(r#"{{"name":"a","_meta":{{"x":1,"{META_HOPS}":{hops}}}}}"#);
        passed_on(&params).map(|params| params.to_raw().get().to_owned())
    }

    #[test]
    fn each_gateway_counts_itself_up_to_four() {
        for (before, after_it) in [("0", 1), ("1", 2), ("3", 4)] {
            let counted = format!(r#"{{"name":"a","_meta":{{"x":1,"{META_HOPS}":{after_it}}}}}"#);
            assert_eq!(after(before), Ok(counted), "{before}");
        }
        for many in ["4", "5", "999999999999999999"] {
            assert_eq!(after(many), Err(HopsError::TooMany), "{many}");
        }
        for bad in ["-1", "1.0", "1e0", "\"1\"", "null", "[1]", "{}", "true", "9999999999999999999999"] {
            assert_eq!(after(bad), Err(HopsError::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_request_without_a_count_comes_from_a_client() {
        for (params, passed) in [
            ("{}", format!(r#"{{"_meta":{{"{META_HOPS}":1}}}}"#)),
            (r#"{"_meta":7}"#, format!(r#"{{"_meta":{{"{META_HOPS}":1}}}}"#)),
        ] {
            let counted = passed_on(params).unwrap();
            assert_eq!((counted.to_raw().get(), of(&counted)), (passed.as_str(), 1));
        }
    }
}
