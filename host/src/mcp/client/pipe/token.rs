//! Progress tokens on a stream that many callers share: each request gets one of its own, and its caller sees its own
//! again.
//!
//! Nothing but that one member changes, on the way out and on the way back.

use serde_json::value::RawValue;

use crate::mcp::envelope::RequestId;
use crate::model::raw::{self, RawObject};

const META: &str = "_meta";
const TOKEN: &str = "progressToken";

/// Gives a request's parameters a token that no other request on the stream has: its id, as a string. Returns the
/// parameters and the caller's token; none if it gave none.
pub(super) fn replace(params: &RawValue, id: &RequestId) -> Option<(Box<RawValue>, Box<RawValue>)> {
    if !params.get().contains(TOKEN) && !params.get().contains('\\') {
        // Nearly every request: nothing is parsed. (Keys may be written with escapes.)
        return None;
    }
    let mut params = RawObject::parse(params).ok()?;
    let mut meta = RawObject::parse(params.get(META)?).ok()?;
    let own = meta.get(TOKEN)?.to_owned();
    meta.set(TOKEN, raw::string(id.as_json()));
    params.set(META, meta.to_raw());
    Some((params.to_raw(), own))
}

/// Which request a notification of progress is about.
pub(super) fn request_of(params: &RawValue) -> Option<RequestId> {
    let params = RawObject::parse(params).ok()?;
    let token = params.get(TOKEN)?;
    // Some servers make a number of it.
    let number = raw::as_text(token).unwrap_or_else(|| token.get().to_owned());
    number.parse().ok().map(RequestId::from_number)
}

/// Gives a notification of progress its caller's token back.
pub(super) fn restore(params: &RawValue, own: &RawValue) -> Option<Box<RawValue>> {
    let mut params = RawObject::parse(params).ok()?;
    params.set(TOKEN, own.to_owned());
    Some(params.to_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn only_the_token_changes_on_the_way_out_and_on_the_way_back() {
        let id = RequestId::from_number(17);
        let sent = value(r#"{"z":1.0,"_meta":{"b":[ 1E2 ],"progressToken":1e400,"a":"\u0041"},"name":"t"}"#);
        let (params, own) = replace(&sent, &id).unwrap();
        let escaped = value(r#"{"_meta":{"progre\u0073sToken":1}}"#);
        assert_eq!(replace(&escaped, &id).unwrap().0.get(), r#"{"_meta":{"progre\u0073sToken":"17"}}"#);
        assert_eq!(params.get(), r#"{"z":1.0,"_meta":{"b":[ 1E2 ],"progressToken":"17","a":"\u0041"},"name":"t"}"#);
        assert_eq!(own.get(), "1e400");
        for told in
            [r#"{"progress":1.50,"progressToken":"17","x":{}}"#, r#"{"progress":1.50,"progressToken":17,"x":{}}"#]
        {
            let told = value(told);
            assert_eq!(request_of(&told), Some(id.clone()));
            assert_eq!(restore(&told, &own).unwrap().get(), r#"{"progress":1.50,"progressToken":1e400,"x":{}}"#);
        }
    }

    #[test]
    fn requests_without_a_token_stay_as_they_are() {
        for params in
            ["{}", r#"{"_meta":{}}"#, r#"{"_meta":7,"progressToken":1}"#, r#"{"arguments":{"progressToken":1}}"#]
        {
            assert!(replace(&value(params), &RequestId::from_number(1)).is_none(), "{params}");
        }
        assert_eq!(request_of(&value(r#"{"progress":1}"#)), None);
        assert_eq!(request_of(&value(r#"{"progressToken":"theirs"}"#)), None);
    }
}
