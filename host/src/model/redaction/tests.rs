use proptest::prelude::*;

use super::*;

/// One of every kind of token, which no output may hold.
const TOKENS: [&str; 12] = [
    "ghp_canary0123456789",
    "github_pat_canary0123456789",
    "sk-canary0123456789",
    "xoxb-canary0123456789",
    "eyJcanary.canary.canary",
    "AKIACANARY0123456789",
    "AIzacanary0123456789",
    "glpat-canary0123456789",
    "npm_canary0123456789",
    "pypi-canary0123456789",
    "hf_canary0123456789",
    "cmcp_canary0123456789",
];

fn holds_canary(text: &str) -> bool {
    text.to_ascii_lowercase().contains("canary")
}

#[test]
fn names_are_compared_by_their_words() {
    for name in [
        "TOKEN",
        "GITHUB_PAT",
        "githubPat",
        "DB_PWD",
        "PGPASSWORD",
        "MYSQL_PASS",
        "JWT",
        "SENTRY_DSN",
        "X-Session-Id",
        "SLACK_WEBHOOK_URL",
        "Authorization",
        "Cookie",
        "credentials",
        "API_KEYS",
        "apikey",
        "x-apikey",
        "--api-key",
        "clientSecret",
        "APIKey2",
        "bearer",
        "authtoken",
        "sig",
        "private_key",
        "OAUTH",
    ] {
        assert!(is_secret_name(name), "{name}");
    }
    for name in
        ["PATH", "MONKEY", "HOME", "AUTHOR", "compass", "X-Plan", "SPATIAL", "bypass_mode", "cwd", "", "éé", "region"]
    {
        assert!(!is_secret_name(name), "{name}");
    }
}

#[test]
fn secrets_in_text_are_masked_and_everything_else_stays() {
    for (text, masked) in [
        ("GITHUB_TOKEN=abc is bad", "GITHUB_TOKEN=*** is bad"),
        ("key 'sk-abc-def-123'", "key '***'"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("Authorization: token abcdef", "Authorization: token ***"),
        ("authorization:bearer abcdef", "authorization:bearer ***"),
        ("https://me:s@t@host/p?x=1&api_key=abc&y=2#z failed", "https://***@host/p?x=1&api_key=***&y=2#z failed"),
        ("postgres://u:p!\u{e9}x@db/x", "postgres://***@db/x"),
        ("cannot use u:p@tcp(db:3306)/x", "cannot use ***@tcp(db:3306)/x"),
        ("Server=db;Password=a b;Pwd='x y';", "Server=db;Password=*** b;Pwd='***';"),
        (r#"{"token": "abc", "name": "x", "apiKey":"d"}"#, r#"{"token": "***", "name": "x", "apiKey":"***"}"#),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc", "***"),
        ("risk-averse sk-x npm_x: bearer token", "risk-averse sk-x npm_x: bearer token"),
        ("invalid token: expected string", "invalid token: expected string"),
        ("https://host:8080/@scope/x?q=1 and a=b", "https://host:8080/@scope/x?q=1 and a=b"),
        ("set token = x, key=", "set token = x, key="),
    ] {
        assert_eq!(mask_text(text), masked, "{text}");
        assert_eq!(mask_text(masked), masked, "{masked}");
    }
    for token in TOKENS {
        for text in
            [format!("bad {token}!"), format!("x={token}"), format!("(\"{token}\")"), format!("/v1/{token}/mcp")]
        {
            assert!(!holds_canary(&mask_text(&text)), "{text}");
        }
    }
}

#[test]
fn arguments_keep_what_identifies_them_and_lose_their_secrets() {
    for (arguments, masked) in [
        (&["--api-key", "canary", "-t", "x"][..], &["--api-key", "***", "-t", "x"][..]),
        (&["--token", "-canary"], &["--token", "***"]),
        (&["--token", "--verbose"], &["--token", "--verbose"]),
        (&["--token=canary", "--port=80"], &["--token=***", "--port=80"]),
        (&["run", "-e", "PLAIN=canary", "-e", "ONLY", "img"], &["run", "-e", "PLAIN=***", "-e", "ONLY", "img"]),
        (&["--env", "A=canary", "--env=B=canary", "-eC=canary"], &["--env", "A=***", "--env=B=***", "-eC=***"]),
        (&["-endpoint=https://h/x"], &["-endpoint=https://h/x"]),
        (&["--header", "X-Any: canary", "-H", "tcp://h:1"], &["--header", "X-Any: ***", "-H", "tcp://h:1"]),
        (&["--header=Authorization:canary"], &["--header=Authorization:***"]),
        (&["Authorization: Bearer canary"], &["Authorization:***"]),
        (&["postgres://u:canary@db/x"], &["postgres://***@db/x"]),
        (&["--db=mysql://u:canary@db/x?y=canary"], &["--db=mysql://***@db/x?y=***"]),
        (&["-c", "TOKEN=canary run --key=canary"], &["-c", "TOKEN=***"]),
        (&["-c", "A=1 run --key=canary x"], &["-c", "A=1 run --key=*** x"]),
        (&["-y", "@scope/server@1.2.3", "/data"], &["-y", "@scope/server@1.2.3", "/data"]),
    ] {
        assert_eq!(mask_arguments(arguments.iter().copied()), masked, "{arguments:?}");
    }
    for token in TOKENS {
        let arguments = [token.to_owned(), format!("--x={token}"), format!("--x:{token}"), format!("a {token} b")];
        for masked in mask_arguments(arguments.iter().map(String::as_str)) {
            assert!(!holds_canary(&masked), "{masked}");
        }
    }
}

#[test]
fn a_user_a_query_and_keys_of_an_address_are_masked() {
    for (address, masked) in [
        ("https://user:s3cr3t@a.test/mcp", "https://***@a.test/mcp"),
        ("https://user:s3/cr3t@a.test/mcp", "https://***@a.test/mcp"),
        ("https://s3cr3t@a.test:8080/@scope/x", "https://***@a.test:8080/@scope/x"),
        ("https://a.test:8080/@scope/x", "https://a.test:8080/@scope/x"),
        ("https://[::1]:80/@x", "https://[::1]:80/@x"),
        ("https://a/mcp?key=s&s#s", "https://a/mcp?key=***&***#***"),
        ("https://a0123456789abcdefghi.com/s/0123456789abcdefghij/mcp", "https://a0123456789abcdefghi.com/s/***/mcp"),
        ("https://a/sk-abcdefg/mcp", "https://a/***/mcp"),
    ] {
        assert_eq!(mask_address(address), masked);
    }
}

proptest! {
    #[test]
    fn no_text_and_no_arguments_make_it_fail(
        text in "([a-z=:/@?&\"' \u{3000}é]|://|token|@tcp\\(|Bearer ){0,20}",
        any in ".{0,40}",
    ) {
        for text in [&text, &any] {
            let _ = (mask_text(text), mask_address(text), mask_argument(text), is_secret_name(text));
            prop_assert_eq!(mask_arguments(text.split(' ')).len(), text.split(' ').count());
        }
    }

    #[test]
    fn a_token_is_masked_wherever_it_stands(before in "[ a-z\"'=:/?&(,;-]{0,12}", after in "[ \"'&),;]?", token in 0..TOKENS.len()) {
        let text = format!("{before}{}{after}", TOKENS[token]);
        // A letter before it makes it a part of a longer word.
        prop_assume!(!before.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '-'));
        prop_assert!(!holds_canary(&mask_text(&text)), "{}", mask_text(&text));
        prop_assert!(!holds_canary(&mask_argument(&text)), "{}", mask_argument(&text));
    }
}
