//! Golden data: signed service maps, and what every reader of them must say (`tests/vectors/service-map.json`).

#![allow(clippy::unwrap_used)]

use cortex_mcp::service_map::{Dialect, KeyRing, MapError, VerifiedMap, sign, signed_document, verify};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    why: String,
    key: String,
    document: String,
    verdict: Verdict,
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Valid,
    Invalid,
}

fn cases() -> Vec<Case> {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/service-map.json")).unwrap();
    assert!(vectors.cases.len() >= 25);
    vectors.cases
}

fn judge(case: &Case) -> Result<VerifiedMap, MapError> {
    verify(case.document.as_bytes(), &KeyRing::single(case.key.as_str().into()).unwrap())
}

#[test]
fn every_vector_is_judged_as_it_says() {
    for case in cases() {
        let outcome = judge(&case);
        let verdict = if outcome.is_ok() { Verdict::Valid } else { Verdict::Invalid };
        let class = outcome.as_ref().err().map(|error| error.class().as_str().to_owned());
        assert_eq!((verdict, class), (case.verdict, case.error), "{}: {}: {outcome:?}", case.name, case.why);
    }
}

#[test]
fn every_valid_vector_is_signed_again_with_the_same_signature() {
    for case in cases().into_iter().filter(|case| case.verdict == Verdict::Valid) {
        let key = case.key.as_str().into();
        let signature = sign(&case.document, &key).unwrap();
        assert!(case.document.contains(&signature), "{}", case.name);
        let flat = signed_document(&case.document, &key).unwrap();
        let keys = KeyRing::single(key).unwrap();
        assert_eq!(verify(flat.as_bytes(), &keys).unwrap().map, judge(&case).unwrap().map, "{}", case.name);
    }
}

#[test]
fn no_vector_verifies_once_its_key_has_left_the_ring() {
    let keys = KeyRing::parse_list("new=n1,newer=n2").unwrap();
    for case in cases() {
        assert!(verify(case.document.as_bytes(), &keys).is_err(), "{}", case.name);
    }
}

#[test]
fn both_dialects_and_both_forms_are_among_the_vectors() {
    let valid: Vec<_> = cases().into_iter().filter_map(|case| Some((case.name.clone(), judge(&case).ok()?))).collect();
    let find = |name: &str| &valid.iter().find(|(own, _)| own == name).unwrap().1;
    assert_eq!(find("flat-g1").map, find("envelope-g1").map);
    assert_ne!(find("flat-g1").digest, find("envelope-g1").digest);
    let second = &find("flat-g2").map;
    assert_eq!((second.dialect, second.connectors[0].quotas.per_day), (Dialect::G2, Some(100)));
    assert_eq!(second.connectors[0].headers["X-Plan"], "free");
    assert!(!find("disabled-without-endpoint").map.connectors[0].enabled);
}
