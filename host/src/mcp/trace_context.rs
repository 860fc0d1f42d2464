//! Trace context of clients, passed on to servers: `traceparent` and `tracestate` (W3C Trace Context, Level 1) and `baggage` (W3C
//! Baggage), from the headers of a request to its headers, and in `_meta` where a client puts them there (2026-07-28,
//! `basic/index`, `_meta`; SEP-414).
//!
//! The gateway makes no spans of its own. What breaks the rules of these formats is not passed on: it would break the trace of
//! the server, and may be no trace context at all.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::raw::{self, RawObject};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// `tracestate`: most characters that are passed on (W3C Trace Context, 3.3.1.5 asks for at least as many).
const TRACESTATE_BYTES_MAX: usize = 512;

/// `tracestate`: most members (W3C Trace Context, 3.3.1.1).
const TRACESTATE_MEMBERS_MAX: usize = 32;

/// `baggage`: most characters that are passed on (W3C Baggage, 3.3.2 asks for at least as many).
const BAGGAGE_BYTES_MAX: usize = 8_192;

/// `baggage`: most members (W3C Baggage, 3.3.2).
const BAGGAGE_MEMBERS_MAX: usize = 64;

/// What a server is sent of the trace context of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceForwarding {
    /// Nothing.
    Nothing,
    /// `traceparent` and `tracestate`.
    #[default]
    Trace,
    /// `baggage`, too: what applications put there may be personal.
    TraceAndBaggage,
}

/// The trace context in the headers of one request: what is valid of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    traceparent: Option<HeaderValue>,
    tracestate: Option<HeaderValue>,
    baggage: Option<HeaderValue>,
}

impl TraceContext {
    /// Reads the headers of a request.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        // More than one parent is none (W3C Trace Context, 3.2.1); the others may be split over several headers.
        let traceparent = joined(headers, TRACEPARENT, is_traceparent);
        let tracestate = joined(headers, TRACESTATE, is_tracestate).filter(|_| traceparent.is_some());
        Self { traceparent, tracestate, baggage: joined(headers, BAGGAGE, is_baggage) }
    }

    /// Returns the headers of a request to a server.
    pub fn headers(&self, forwarding: TraceForwarding) -> HeaderMap {
        let trace = [(TRACEPARENT, &self.traceparent), (TRACESTATE, &self.tracestate)];
        let baggage = [(BAGGAGE, &self.baggage)];
        let trace = trace.into_iter().filter(|_| forwarding != TraceForwarding::Nothing);
        let baggage = baggage.into_iter().filter(|_| forwarding == TraceForwarding::TraceAndBaggage);
        let values = trace.chain(baggage).filter_map(|(name, value)| Some((name, value.clone()?)));
        values.map(|(name, value)| (HeaderName::from_static(name), value)).collect()
    }
}

/// Takes out of a request's `_meta` what a server is not sent. Everything else stays as it is.
pub fn retain_in_meta(params: &mut RawObject, forwarding: TraceForwarding) {
    let Some(mut meta) = params.get("_meta").and_then(|meta| RawObject::parse(meta).ok()) else { return };
    let is_valid = |key: &str, rule: fn(&str) -> bool| meta.get_str(key).is_some_and(|text| rule(&text));
    let trace = forwarding != TraceForwarding::Nothing && is_valid(TRACEPARENT, is_traceparent);
    let keeps = [
        (TRACEPARENT, trace),
        (TRACESTATE, trace && is_valid(TRACESTATE, is_tracestate)),
        (BAGGAGE, forwarding == TraceForwarding::TraceAndBaggage && is_valid(BAGGAGE, is_baggage)),
    ];
    let removed: Vec<&str> =
        keeps.iter().filter(|(key, keeps)| !keeps && meta.get(key).is_some()).map(|(key, _)| *key).collect();
    if removed.is_empty() {
        return;
    }
    for key in removed {
        meta.remove(key);
    }
    if meta.is_empty() {
        params.remove("_meta");
    } else {
        params.set("_meta", meta.to_raw());
    }
}

/// Puts trace context from headers into a request's `_meta`, where the way to a server carries no headers. What `_meta` has
/// already stays: it is the client's own.
pub(super) fn move_into_meta(headers: &HeaderMap, params: &mut RawObject) {
    let meta = params.get("_meta").map(RawObject::parse).transpose();
    let Ok(mut meta) = meta.map(Option::unwrap_or_default) else { return };
    let has_parent = meta.get(TRACEPARENT).is_some();
    let before = meta.iter().count();
    for name in [TRACEPARENT, TRACESTATE, BAGGAGE] {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        // A state belongs to its parent.
        let is_open = if name == BAGGAGE { meta.get(name).is_none() } else { !has_parent && meta.get(name).is_none() };
        if let Some(value) = value.filter(|_| is_open) {
            meta.set(name, raw::string(value));
        }
    }
    if meta.iter().count() > before {
        params.set("_meta", meta.to_raw());
    }
}

fn joined(headers: &HeaderMap, name: &str, is_valid: fn(&str) -> bool) -> Option<HeaderValue> {
    let values: Option<Vec<&str>> = headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
    let text = values?.join(",");
    let text = text.trim();
    (!text.is_empty() && is_valid(text)).then(|| HeaderValue::from_str(text).ok()).flatten()
}

/// `version "-" trace-id "-" parent-id "-" flags`, in lower-case hexadecimal (W3C Trace Context, 3.2.2).
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts[..] else { return false };
    is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(parent, 16)
        && !is_zero(parent)
        && is_hex(flags, 2)
}

/// Members `key=value`, separated by commas (W3C Trace Context, 3.3.1).
fn is_tracestate(text: &str) -> bool {
    let is_key = |key: &str| {
        let is_begin = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_inner = |byte: u8| is_begin(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
        (1..=256).contains(&key.len()) && key.bytes().next().is_some_and(is_begin) && key.bytes().all(is_inner)
    };
    let is_value = |value: &str| {
        let is_printable = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
        (1..=256).contains(&value.len()) && value.bytes().all(is_printable)
    };
    let members: Vec<&str> = text.split(',').map(|member| member.trim_matches([' ', '\t'])).collect();
    text.len() <= TRACESTATE_BYTES_MAX
        && members.len() <= TRACESTATE_MEMBERS_MAX
        && members.iter().any(|member| !member.is_empty())
        // Empty members are allowed.
        && members.iter().filter(|member| !member.is_empty()).all(|member| {
            member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
        })
}

/// Members `key=value;properties`, separated by commas, in printable ASCII (W3C Baggage, 3.3.1).
fn is_baggage(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let mut members = text.split(',').map(|member| member.trim_matches([' ', '\t']));
    text.len() <= BAGGAGE_BYTES_MAX
        && text.split(',').count() <= BAGGAGE_MEMBERS_MAX
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t') && !matches!(byte, b'"' | b'\\'))
        && members.all(|member| {
            let key = member.split_once('=').map(|(key, _)| key.trim_end_matches([' ', '\t']));
            key.is_some_and(|key| !key.is_empty() && key.bytes().all(is_token))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_valid_parents_are_passed_on() {
        assert!(is_traceparent(PARENT) && PARENT.len() == 55);
        for parent in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(parent), "{parent}");
        }
    }

    #[test]
    fn states_and_baggage_keep_to_their_bounds() {
        let members = |count: usize| (0..count).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        for (state, valid) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".to_owned(), true),
            ("a=1, b=2,,".to_owned(), true),
            ("tenant@vendor=x".to_owned(), true),
            (members(32), true),
            (members(33), false),
            (format!("k={}", "v".repeat(510)), false),
            ("no-value".to_owned(), false),
            ("K=v".to_owned(), false),
            ("k=a=b".to_owned(), false),
            ("k=\u{e9}".to_owned(), false),
            (",".to_owned(), false),
        ] {
            assert_eq!(is_tracestate(&state), valid, "{state}");
        }
        for (baggage, valid) in [
            ("userId=alice,serverNode=DF%2028;ttl=3".to_owned(), true),
            ("a = 1 ; p".to_owned(), true),
            (members(64), true),
            (members(65), false),
            (format!("k={}", "v".repeat(8_191)), false),
            ("novalue".to_owned(), false),
            ("a=\"x\"".to_owned(), false),
        ] {
            assert_eq!(is_baggage(&baggage), valid, "{baggage:.60}");
        }
    }

    #[test]
    fn headers_are_passed_on_as_the_connector_is_configured() {
        let sent = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"), ("baggage", "u=1")];
        let context = TraceContext::from_headers(&headers(&sent));
        for (forwarding, expected) in [
            (TraceForwarding::Nothing, &[][..]),
            (TraceForwarding::Trace, &[("traceparent", PARENT), ("tracestate", "a=1,b=2")]),
            (
                TraceForwarding::TraceAndBaggage,
                &[("traceparent", PARENT), ("tracestate", "a=1,b=2"), ("baggage", "u=1")],
            ),
        ] {
            assert_eq!(context.headers(forwarding), headers(expected), "{forwarding:?}");
        }
        for broken in [
            vec![("tracestate", "a=1")],
            vec![("traceparent", PARENT), ("traceparent", PARENT)],
            vec![("traceparent", "00")],
        ] {
            assert_eq!(TraceContext::from_headers(&headers(&broken)), TraceContext::default(), "{broken:?}");
        }
    }

    #[test]
    fn meta_keeps_its_bytes_but_for_what_is_not_sent() {
        let meta = |inner: &str| RawObject::from_str(&format!(r#"{{"x":1.0,"_meta":{{{inner}}}}}"#)).unwrap();
        let (state, own) = (r#""tracestate":"a=1""#, r#""own":[ 1E2 ]"#);
        let parent = r#""traceparent":"00-\u0034bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#;
        let baggage = r#""baggage":"u=1""#;
        let all = format!("{parent},{own},{state},{baggage}");
        for (given, forwarding, expected) in [
            (all.as_str(), TraceForwarding::TraceAndBaggage, all.clone()),
            (&all, TraceForwarding::Trace, format!("{parent},{own},{state}")),
            (&all, TraceForwarding::Nothing, own.to_owned()),
            (&format!(r#""traceparent":"00",{own},{state}"#), TraceForwarding::Trace, own.to_owned()),
            (&format!(r#"{parent},"tracestate":7"#), TraceForwarding::Trace, parent.to_owned()),
            (own, TraceForwarding::Nothing, own.to_owned()),
            ("", TraceForwarding::Nothing, String::new()),
        ] {
            let mut params = meta(given);
            retain_in_meta(&mut params, forwarding);
            assert_eq!(params.to_raw().get(), meta(&expected).to_raw().get(), "{given} {forwarding:?}");
        }
        let mut only = RawObject::from_str(r#"{"_meta":{"baggage":"u=1"},"x":1}"#).unwrap();
        retain_in_meta(&mut only, TraceForwarding::Trace);
        assert_eq!(only.to_raw().get(), r#"{"x":1}"#);
    }

    #[test]
    fn headers_go_into_meta_where_it_has_no_trace_of_its_own() {
        let sent = headers(&[("traceparent", PARENT), ("tracestate", "a=1"), ("baggage", "u=1")]);
        let parent = format!(r#""traceparent":"{PARENT}""#);
        for (params, expected) in [
            ("{}".to_owned(), format!(r#"{{"_meta":{{{parent},"tracestate":"a=1","baggage":"u=1"}}}}"#)),
            (
                r#"{"_meta":{"x":1.0},"name":"t"}"#.to_owned(),
                format!(r#"{{"_meta":{{"x":1.0,{parent},"tracestate":"a=1","baggage":"u=1"}},"name":"t"}}"#),
            ),
            (
                r#"{"_meta":{"traceparent":"own"}}"#.to_owned(),
                r#"{"_meta":{"traceparent":"own","baggage":"u=1"}}"#.to_owned(),
            ),
            (r#"{"_meta":7}"#.to_owned(), r#"{"_meta":7}"#.to_owned()),
        ] {
            let mut object = RawObject::from_str(&params).unwrap();
            move_into_meta(&sent, &mut object);
            assert_eq!(object.to_raw().get(), expected);
            let mut object = RawObject::from_str(&params).unwrap();
            move_into_meta(&HeaderMap::new(), &mut object);
            assert_eq!(object.to_raw().get(), params);
        }
    }
}
