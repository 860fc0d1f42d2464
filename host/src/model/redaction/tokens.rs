//! Tokens of well-known issuers, and what follows an authentication scheme.

use super::MASK;

/// From this length on, in bytes, what follows the prefix of a token makes it one.
const MIN_TOKEN: usize = 6;

/// The same for prefixes that are words.
const MIN_TOKEN_AFTER_WORD: usize = 12;

/// How tokens of well-known issuers begin, as scanners for leaked secrets know them
/// (<https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns>).
const TOKEN_PREFIXES: [&str; 76] = [
    "ABIA",
    "AGE-SECRET-KEY-",
    "AIza",
    "AKIA",
    "ASIA",
    "ATATT",
    "ATCTT",
    "cmcp_",
    "csk-",
    "ctx7sk-",
    "dckr_pat_",
    "doo_v1_",
    "dop_v1_",
    "dp.pt.",
    "dp.st.",
    "eyJ",
    "figd_",
    "gho_",
    "ghp_",
    "ghr_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "gldt-",
    "glpat-",
    "glptt-",
    "glrt-",
    "glsa_",
    "GOCSPX-",
    "gsk_",
    "hf_",
    "hvb.",
    "hvs.",
    "jina_",
    "lin_api_",
    "napi_",
    "nfp_",
    "npm_",
    "ntn_",
    "nvapi-",
    "pcsk_",
    "pk_",
    "PMAK-",
    "pplx-",
    "pscale_pw_",
    "pscale_tkn_",
    "pypi-",
    "r8_",
    "rk_",
    "sbp_",
    "SG.",
    "shpat_",
    "shpca_",
    "shppa_",
    "shpss_",
    "sk-",
    "sk_",
    "sntrys_",
    "sntryu_",
    "sq0atp-",
    "sq0csp-",
    "tskey-",
    "tvly-",
    "vcp_",
    "whsec_",
    "xapp-",
    "xoxa-",
    "xoxb-",
    "xoxc-",
    "xoxd-",
    "xoxe-",
    "xoxe.",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "ya29.",
];

/// Prefixes that are words of other names too: only a long body with digits makes a token.
const WORD_PREFIXES: [&str; 3] = ["dapi", "secret_", "xai-"];

/// The schemes of `Authorization` that a credential follows, in lower case.
pub(super) const SCHEMES: [&str; 4] = ["bearer", "basic", "token", "apikey"];

/// The schemes that are words of any sentence: what follows them is a credential only in a header or an assignment.
const WORDS_OF_SENTENCES: [&str; 2] = ["token", "apikey"];

/// Masks what looks like a token, and what follows an authentication scheme.
pub(super) fn mask_tokens(text: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-.+/=~:@%".contains(character);
    let mut masked = String::with_capacity(text.len());
    let mut after_scheme = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|character| is_part(character) != is_part(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if !is_part(first) {
            masked.push_str(word);
        } else if after_scheme && word.len() >= MIN_TOKEN {
            masked.push_str(MASK);
        } else {
            push_masked(word, &mut masked);
        }
        if is_part(first) {
            let scheme = word.rsplit([':', '=']).next().unwrap_or(word);
            let is_in_header = scheme.len() < word.len() || masked.trim_end_matches(word).ends_with(": ");
            after_scheme = !after_scheme
                && SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
                && (is_in_header || !WORDS_OF_SENTENCES.iter().any(|known| scheme.eq_ignore_ascii_case(known)));
        } else {
            // A scheme is followed by one space.
            after_scheme &= word.chars().all(|character| character == ' ');
        }
        rest = after;
    }
    masked
}

/// Appends a word of ASCII characters, in which what looks like a token is masked. A token begins after any character that is no letter
/// or digit, `%3D` and the like included.
fn push_masked(word: &str, masked: &mut String) {
    let bytes = word.as_bytes();
    let (mut copied, mut at) = (0, 0);
    while at < word.len() {
        let is_escape = |escape: &[u8]| escape[0] == b'%' && escape[1..].iter().all(u8::is_ascii_hexdigit);
        let is_begin = at == 0
            || !bytes[at - 1].is_ascii_alphanumeric()
            || at.checked_sub(3).is_some_and(|begin| is_escape(&bytes[begin..at]));
        match token_length(&word[at..], at > 0 && matches!(bytes[at - 1], b'-' | b'_')).filter(|_| is_begin) {
            Some(length) => {
                masked.extend([&word[copied..at], MASK]);
                at += length;
                copied = at;
            }
            None => at += 1,
        }
    }
    masked.push_str(&word[copied..]);
}

/// The length of the token that a text begins with. In the middle of a name (`x_sk_y`) a short prefix is none of a token, unless digits follow.
fn token_length(text: &str, is_within_name: bool) -> Option<usize> {
    // Tokens hold none of these, and are followed by them.
    let body = &text[..text.find(['=', ':', '/', '@', '%']).unwrap_or(text.len())];
    let has_digit = |rest: &str| rest.bytes().any(|byte| byte.is_ascii_digit());
    let is_token = |prefix: &&str| {
        let is_short = is_within_name && prefix.len() <= 4 && prefix.ends_with(['-', '_']);
        body.strip_prefix(*prefix).is_some_and(|rest| rest.len() >= MIN_TOKEN && (!is_short || has_digit(rest)))
    };
    let is_after_word = |prefix: &&str| {
        body.strip_prefix(*prefix).is_some_and(|rest| rest.len() >= MIN_TOKEN_AFTER_WORD && has_digit(rest))
    };
    let is_token = TOKEN_PREFIXES.iter().any(is_token) || WORD_PREFIXES.iter().any(is_after_word);
    is_token.then_some(body.len())
}
