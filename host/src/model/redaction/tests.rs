use proptest::prelude::*;

use super::*;

/// One of every kind of token, which no output may hold.
const TOKENS: [&str; 43] = [
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
    "sk_live_canary0123456789",
    "rk_live_canary0123456789",
    "whsec_canary0123456789",
    "shpat_canary0123456789",
    "ya29.canary0123456789",
    "GOCSPX-canary0123456789",
    "dckr_pat_canary0123456789",
    "figd_canary0123456789",
    "lin_api_canary0123456789",
    "ntn_canary0123456789",
    "secret_canary0123456789",
    "napi_canary0123456789",
    "sbp_canary0123456789",
    "gsk_canary0123456789",
    "glsa_canary0123456789",
    "hvs.canary0123456789",
    "tvly-canary0123456789",
    "pplx-canary0123456789",
    "dapicanary0123456789",
    "xai-canary0123456789",
    "nvapi-canary0123456789",
    "r8_canary0123456789",
    "sntrys_canary0123456789",
    "AGE-SECRET-KEY-canary0123456789",
    "gho_canary0123456789",
    "xapp-canary0123456789",
    "SG.canary0123456789",
    "dop_v1_canary0123456789",
    "pcsk_canary0123456789",
    "tskey-canary0123456789",
    "ASIAcanary0123456789",
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
        ("postgres://u:ca#nary@db/x", "postgres://***@db/x"),
        ("postgres://u:12#nary@db/x", "postgres://***@db/x"),
        ("redis://:ca?nary@h/0 failed", "redis://***@h/0 failed"),
        ("https://h/x?y=a@b and https://h/#a@b", "https://h/x?y=a@b and https://h/#a@b"),
        ("X-Api-Key: canary, x", "X-Api-Key: ***, x"),
        ("login failed, password: canary", "login failed, password: ***"),
        ("token: canary\ntoken: is not set", "token: ***\ntoken: is not set"),
        ("Cookie: a=canary; b=canary\nHost: h", "Cookie: ***\nHost: h"),
        ("Proxy-Authorization: Basic canary", "Proxy-Authorization: Basic ***"),
        (r#"{\"token\": \"canary\", \"n\": \"x\"}"#, r#"{\"token\": \"***\", \"n\": \"x\"}"#),
        (r#"{"token": "ca\"nary", "n": 1}"#, r#"{"token": "***", "n": 1}"#),
        ("connect u:canary@h:5432", "connect ***@h:5432"),
        ("npm:server@latest x/y:tag@sha256:0a me@h", "npm:server@latest x/y:tag@sha256:0a me@h"),
        ("a?x=1&token%3Dghp_canary0 b", "a?x=1&token%3D*** b"),
        ("post to https://hooks.slack.com/services/T/B/canary", "post to https://hooks.slack.com/***/***/***/***"),
        ("https://discord.com/api/webhooks/1/canary", "https://discord.com/api/webhooks/***/***"),
        ("cannot start npx server --api-key canary x", "cannot start npx server --api-key *** x"),
        (r#"args ["--api-key", "canary"]"#, r#"args ["--api-key", "***"]"#),
        ("run: docker run -e A=canary img", "run: docker run -e A=*** img"),
        ("write --header-env NAME=VARIABLE - or <X>", "write --header-env NAME=VARIABLE - or <X>"),
        ("client_secret_name and my_pk_constraint", "client_secret_name and my_pk_constraint"),
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
        (&["docker", "-e", "PLAIN=canary", "-e", "ONLY", "img"], &["docker", "-e", "PLAIN=***", "-e", "ONLY", "img"]),
        (&["--env", "A=canary", "--env=B=canary", "-eC=canary"], &["--env", "A=***", "--env=B=***", "-eC=***"]),
        (&["-endpoint=https://h/x"], &["-endpoint=https://h/x"]),
        (&["--header", "X-Any: canary", "-H", "tcp://h:1"], &["--header", "X-Any: ***", "-H", "tcp://h:1"]),
        (&["--header=Authorization:canary"], &["--header=Authorization:***"]),
        (&["Authorization: Bearer canary"], &["Authorization:***"]),
        (&["postgres://u:canary@db/x"], &["postgres://***@db/x"]),
        (&["--db=mysql://u:canary@db/x?y=canary"], &["--db=mysql://***@db/x?y=***"]),
        (&["-c", "TOKEN=canary run --key=canary"], &["-c", "TOKEN=***"]),
        (&["-c", "A=1 run --key=canary x"], &["-c", "A=*** run --key=*** x"]),
        (&["-c", "npx server --api-key canary"], &["-c", "npx server --api-key ***"]),
        (&["-c", "docker run -e plain=canary img"], &["-c", "docker run -e plain=*** img"]),
        (&["-c", "sh -c \"run --api-key 'canary x' y\""], &["-c", "sh -c \"run --api-key '***' y\""]),
        (&["-c", "cd /x && PLAIN=canary npx"], &["-c", "cd /x && PLAIN=*** npx"]),
        (&["-ie", "PLAIN=canary", "-e=PLAIN=canary"], &["-ie", "PLAIN=***", "-e=PLAIN=***"]),
        (&["-eplain=canary", "-itePLAIN=canary"], &["-eplain=***", "-itePLAIN=***"]),
        (&["-HX-Any: canary", "-H=X: canary"], &["-HX-Any: ***", "-H=X: ***"]),
        (
            &["--set-env", "A=canary", "--set-env-vars=A=canary,B=canary"],
            &["--set-env", "A=***", "--set-env-vars=A=***"],
        ),
        (&["env", "-i", "plain=canary", "run", "x=y"], &["env", "-i", "plain=***", "run", "x=y"]),
        (&["-u", "u:canary", "--user", "u:canary", "-uu:canary"], &["-u", "u:***", "--user", "u:***", "-uu:***"]),
        (&["-u", "1000:1000", "--user=u:canary"], &["-u", "1000:1000", "--user=u:***"]),
        (&["--headers", "X-Api-Key", "canary", "-v"], &["--headers", "X-Api-Key", "***", "-v"]),
        (&["-e", "NAME", "canary", "-v"], &["-e", "NAME", "***", "-v"]),
        (&["docker", "run", "-e", "NAME", "img"], &["docker", "run", "-e", "NAME", "img"]),
        (&["jdbc:sqlserver://h:1433;user=sa;password=canary"], &["jdbc:sqlserver://h:1433;user=sa;password=***"]),
        (&["Endpoint=sb://n/;SharedAccessKey=canary"], &["Endpoint=sb://n/;SharedAccessKey=***"]),
        (
            &[r#"{"url":"https://h/x?k=canary","token":"canary","n":1}"#],
            &[r#"{"url":"https://h/x?k=***","token":"***","n":1}"#],
        ),
        (&[r#"[ "a" ]"#, r#"{"env":{"A":"canary"}}"#], &[r#"[ "a" ]"#, r#"{"env":{"A":"***"}}"#]),
        (&["--no-auth", "/data", "--max-tokens", "4096"], &["--no-auth", "/data", "--max-tokens", "4096"]),
        (&["--session-timeout", "30", "--auth", "none"], &["--session-timeout", "30", "--auth", "none"]),
        (&["--key-file", "/k", "--max-tokens=4096"], &["--key-file", "/k", "--max-tokens=4096"]),
        (&["--key-file=/k", "--auth=none", "--token-url", "x"], &["--key-file=/k", "--auth=none", "--token-url", "x"]),
        (&["--password", "4096", "--password=12"], &["--password", "***", "--password=***"]),
        (&["-y", "@scope/server@1.2.3", "/data"], &["-y", "@scope/server@1.2.3", "/data"]),
    ] {
        assert_eq!(mask_arguments("", arguments.iter().copied()), masked, "{arguments:?}");
    }
    for token in TOKENS {
        let arguments = [token.to_owned(), format!("--x={token}"), format!("--x:{token}"), format!("a {token} b")];
        for masked in mask_arguments("", arguments.iter().map(String::as_str)) {
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

#[test]
fn every_line_of_a_private_key_is_one() {
    let lines = "a\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4\n\nMIIcanary\n-----END RSA PRIVATE KEY-----\nb";
    let mut keys = KeyLines::default();
    let shown: Vec<_> = lines.lines().filter(|line| !keys.is_key(line)).collect();
    assert_eq!(shown, ["a", "b"]);
    let mut keys = KeyLines::default();
    assert!(keys.is_key("-----BEGIN OPENSSH PRIVATE KEY-----"));
    assert!(std::iter::repeat_n("endless", 1000).filter(|line| keys.is_key(line)).count() < 200);
}

proptest! {
    #[test]
    fn no_text_and_no_arguments_make_it_fail(
        text in "([a-z=:/@?&\"' \u{3000}é]|://|token|@tcp\\(|Bearer ){0,20}",
        any in ".{0,40}",
    ) {
        for text in [&text, &any] {
            let _ = (mask_text(text), mask_address(text), mask_argument(text), is_secret_name(text));
            prop_assert_eq!(mask_arguments("", text.split(' ')).len(), text.split(' ').count());
        }
    }

    #[test]
    fn a_token_is_masked_wherever_it_stands(before in "[ a-z\"'=:/?&(,;-]{0,12}", after in "[ \"'&),;]?", token in 0..TOKENS.len()) {
        let text = format!("{before}{}{after}", TOKENS[token]);
        // A letter before it makes it a part of a longer word.
        prop_assume!(!before.ends_with(|last: char| last.is_ascii_alphanumeric()));
        prop_assert!(!holds_canary(&mask_text(&text)), "{}", mask_text(&text));
        prop_assert!(!holds_canary(&mask_argument(&text)), "{}", mask_argument(&text));
    }
}
