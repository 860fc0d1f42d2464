//! Settings resolve as documented: defaults, precedence, ranges, and what is never shown.

use std::path::Path;

use super::*;
use crate::config::{CallLimits, OnChange, ToolFilter};
use crate::model::{ChildRules, Era, Glob, Privileges, Timeouts};

fn resolve(file: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let mut environment = Environment::default();
    for (name, value) in variables {
        environment = environment.plus(name, value);
    }
    let file = FileSettings::parse(file, Path::new("gateway.toml"))?;
    Settings::from_parts(&Flags::default(), &environment, file, Paths::below(Path::new("/x")))
}

#[test]
fn an_empty_configuration_has_the_documented_defaults() {
    let settings = resolve("", &[]).unwrap();
    assert_eq!(settings.listen.to_string(), limits::LISTEN_DEFAULT);
    assert_eq!(settings.refresh_interval, Duration::from_secs(300));
    assert_eq!((settings.concurrency, settings.refresh_mode), (None, RefreshMode::Background));
}

#[test]
fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
    let error = resolve("listen = \"127.0.0.1:1\"\nlissten = 1", &[]).unwrap_err().to_string();
    assert!(error.contains("lissten") && error.contains("line 2"), "{error}");
    assert!(resolve("[policy]\nfile2 = 1", &[]).is_err());
}

#[test]
fn the_environment_goes_before_the_file() {
    let file = "refresh-interval-ms = 60000\nlog-level = \"error\"\nconcurrency = 2\nrefresh-sync = false";
    let settings = resolve(
        file,
        &[
            ("MCP_CONNECTOR_REFRESH_INTERVAL_MS", "5000"),
            ("MCP_LOG_LEVEL", "debug"),
            ("MCP_CONNECTOR_CONCURRENCY", "4"),
            ("MCP_CONNECTOR_REFRESH_SYNC", "TRUE"),
        ],
    )
    .unwrap();
    assert_eq!(settings.refresh_interval, Duration::from_secs(5));
    assert_eq!(settings.log_level, LogLevel::Debug);
    assert_eq!((settings.concurrency, settings.refresh_mode), (Some(4), RefreshMode::OnDemand));
}

#[test]
fn every_key_of_the_file_changes_the_settings() {
    let digest = crate::model::Digest::of(b"token");
    let file = format!(
        "listen = \"0.0.0.0:1\"\nnames = \"dotted\"\nname-length = 64\nshared-credential = true\n\
         refresh-sync = true\nrefresh-interval-ms = 1000\nmax-stale-ms = 0\ncall-timeout-ms = 7\n\
         allowed-hosts = [\"h\"]\nallowed-origins = [\"https://o\"]\nlog-level = \"off\"\nlog-format = \"json\"\n\
         service-map-url = \"https://m/\"\ntools-warn-above = 11\ntools-max = 12\n\
         pass-environment = [\"ALL\"]\nmax-message-bytes = 65536\ntrace-context = false\n\
         [policy]\nfile = \"p.wasm\"\nfamily = \"f\"\nreuse = true\noptions = {{ a = \"b\" }}\n\
         shadow = \"s.wasm\"\nshadow-family = \"sf\"\ncompiled-cache = true\n\
         [trace]\ndirectory = \"/t\"\nmax-mib = 9\n\
         [registry]\ntools = true\ncommands = true\nwrite-through = true\nbatch-ms = 70\n\
         [connector.wiki]\nallow-tools = [\"get_*\"]\ndeny-tools = [\"*_admin\"]\nrename = {{ old = \"new\" }}\n\
         uri-schemes = [\"Wiki\"]\n\
         calls = 3\nqueue = 0\nqueue-timeout-ms = 9\nera = \"modern\"\n\
         connect-timeout-ms = 1\nlist-timeout-ms = 2\ncall-timeout-ms = 3\nstart-timeout-ms = 4\n\
         pass-environment = [\"OWN\"]\nprivileges = \"keep\"\non-change = \"hide\"\n\
         max-message-bytes = 70000\ntrace-context = true\nbaggage = true\n\
         [[token]]\nname = \"n\"\nsha256 = \"{digest}\"\nadmin = true\nconnectors = [\"c*\"]\ntools = [\"t*\"]\n\
         deny-tools = [\"d*\"]\ncalls-per-minute = 7\n"
    );
    let settings = resolve(&file, &[("CONNECTORS_SIGNATURE_KEY", "k")]).unwrap();
    assert_eq!(settings.listen.to_string(), "0.0.0.0:1");
    assert_eq!((settings.names, settings.name_length), (NameStyle::Dotted, 64));
    assert!(settings.shared_credential);
    assert_eq!((settings.refresh_mode, settings.concurrency), (RefreshMode::OnDemand, Some(1)));
    assert_eq!(settings.refresh_interval, Duration::from_secs(1));
    assert_eq!((settings.max_stale, settings.call_timeout), (Duration::ZERO, Duration::from_millis(7)));
    assert_eq!((settings.allowed_hosts.len(), settings.allowed_origins.len()), (1, 1));
    assert_eq!((settings.log_level, settings.log_format), (LogLevel::Off, Some(LogFormat::Json)));
    assert_eq!(settings.service_map_url.map(|url| url.to_string()).as_deref(), Some("https://m/"));
    let globs = |text: &str| vec![text.parse::<Glob>().unwrap()];
    let token = Token {
        admin: true,
        connectors: Some(globs("c*")),
        tools: Some(globs("t*")),
        deny_tools: globs("d*"),
        calls_per_minute: Some(7),
        ..Token::new("n", digest)
    };
    assert_eq!(settings.tokens, [token]);
    assert_eq!((settings.tools_warn_above, settings.tools_max), (11, Some(12)));
    let filter = ToolFilter {
        allow: Some(globs("get_*")),
        deny: globs("*_admin"),
        rename: BTreeMap::from([("old".to_owned(), "new".to_owned())]),
        uri_schemes: Some(["wiki".parse().unwrap()].into()),
    };
    let limits = CallLimits { calls: Some(3), queue: Some(0), queue_timeout: Some(Duration::from_millis(9)) };
    let ms = |milliseconds| Some(Duration::from_millis(milliseconds));
    let timeouts = Timeouts { connect: ms(1), list: ms(2), call: ms(3), start: ms(4) };
    let names = |name: &str| vec![name.parse::<VariableName>().unwrap()];
    let child = ChildRules { pass_environment: names("OWN"), privileges: Privileges::Keep };
    let wiki = ConnectorSettings {
        filter,
        limits,
        era: Some(Era::Modern),
        timeouts,
        child,
        on_change: OnChange::Hide,
        max_message_bytes: Some(70_000),
        trace_context: Some(true),
        baggage: true,
    };
    assert_eq!((settings.max_message_bytes, settings.trace_context), (65_536, false));
    assert_eq!(settings.connectors, BTreeMap::from([("wiki".parse().unwrap(), wiki)]));
    assert_eq!(settings.pass_environment, names("ALL"));
    assert_eq!(settings.policy.options, [("a".to_owned(), "b".to_owned())]);
    assert_eq!((settings.policy.family.as_deref(), settings.policy.reuse), (Some("f"), true));
    assert_eq!(settings.policy.shadow.as_deref(), Some(Path::new("s.wasm")));
    assert_eq!(settings.policy.shadow_family.as_deref(), Some("sf"));
    assert_eq!(settings.policy.compiled_cache, Some(settings.paths.cache()));
    assert_eq!(settings.trace, Some(TraceSettings { directory: "/t".into(), mebibytes: 9 }));
    let registry =
        RegistrySettings { tools: true, commands: true, write_through: true, batch: Duration::from_millis(70) };
    assert_eq!(settings.registry, registry);
}

#[test]
fn the_registry_is_written_in_batches_and_has_no_tools_unless_that_is_asked_for() {
    let usual = RegistrySettings { tools: false, commands: false, write_through: false, batch: Duration::from_secs(5) };
    assert_eq!(resolve("", &[]).unwrap().registry, usual);
    let through = |file: &str, value: &str| {
        resolve(file, &[("MCP_REGISTRY_WRITE_THROUGH", value)]).map(|settings| settings.registry.write_through)
    };
    assert!(through("", "TRUE").unwrap());
    assert!(!through("[registry]\nwrite-through = true", "off").unwrap(), "the environment goes before the file");
    let error = through("", "ture").unwrap_err().to_string();
    assert!(error.contains("MCP_REGISTRY_WRITE_THROUGH"), "{error}");
    assert!(resolve("[registry]\nflush = 1", &[]).is_err());
    let shown = resolve("[registry]\ntools = true\nbatch-ms = 9", &[]).unwrap().redacted();
    let expected = serde_json::json!({ "tools": true, "commands": false, "writeThrough": false, "batchMs": 9 });
    assert_eq!(shown["registry"], expected);
}

#[test]
fn the_address_of_the_map_may_refer_to_a_file_and_is_never_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("query");
    std::fs::write(&path, "canary\n").unwrap();
    let key = [("CONNECTORS_SIGNATURE_KEY", "k")];
    let file = |reference: &str| format!("service-map-url = \"https://m/?token={reference}\"");
    let settings = resolve(&file(&format!("${{file:{}}}", path.display())), &key).unwrap();
    assert_eq!(settings.service_map_url.as_ref().map(Url::as_str), Some("https://m/?token=canary"));
    assert!(!settings.redacted().to_string().contains("canary"));
    for (reference, part) in [("${file:/missing}", "/missing"), ("${env:CORTEX_GATEWAY_TOKEN}", "CORTEX_GATEWAY_TOKEN")]
    {
        let error = resolve(&file(reference), &key).unwrap_err().to_string();
        assert!(error.contains("service-map-url") && error.contains(part), "{error}");
    }
}

#[test]
fn decisions_are_recorded_unless_that_is_switched_off() {
    let usual = TraceSettings { directory: "/x/mcp/trace".into(), mebibytes: limits::TRACE_MIB_DEFAULT };
    assert_eq!(resolve("", &[]).unwrap().trace, Some(usual));
    assert_eq!(resolve("[trace]\nenabled = false", &[]).unwrap().trace, None);
    let flagged = |file: &str, trace: TraceFlag| {
        let file = FileSettings::parse(file, Path::new("gateway.toml")).unwrap();
        let flags = Flags { trace, ..Flags::default() };
        let paths = Paths::below(Path::new("/x"));
        Settings::from_parts(&flags, &Environment::default(), file, paths).unwrap().trace
    };
    let into = flagged("[trace]\nenabled = false", TraceFlag::Into("/y".into()));
    assert_eq!(into.map(|trace| trace.directory), Some("/y".into()));
    assert_eq!(flagged("[trace]\ndirectory = \"/t\"", TraceFlag::Off), None);
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    for (file, part) in [
        ("refresh-interval-ms = 999", "1000"),
        ("concurrency = 0", "1 to 1000"),
        ("name-length = 3", "24"),
        ("call-timeout-ms = 0", "1 to"),
        ("tools-max = 0", "tools-max: write a number from 1 to 1000000"),
        ("tools-warn-above = 0", "tools-warn-above: write a number from 1 to 1000000"),
        ("[registry]\nbatch-ms = 0", "1 to 600000"),
        ("pass-environment = [\"CORTEX_HOME\"]", "pass-environment: CORTEX_HOME is a variable of the gateway itself"),
        ("pass-environment = [\"A=b\"]", "pass-environment: write names of variables without their values"),
        ("[connector.x1]\npass-environment = [\"CONNECTORS_API_KEY\"]", "[connector.x1] pass-environment: CONNECTORS_"),
        ("[connector.x1]\nprivileges = \"root\"", "expected `drop` or `keep`"),
        ("[connector.x1]\non-change = \"block\"", "expected `warn` or `hide`"),
        ("[registry]\nbatch-ms = 600001", "1 to 600000"),
    ] {
        let error = resolve(file, &[]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_service_map_without_a_key_is_refused_and_so_are_two_kinds_of_keys() {
    let error = resolve("", &[("CONNECTORS_SERVICE_MAP_URL", "https://m/")]).unwrap_err();
    assert!(matches!(error, ConfigError::MissingSignatureKey), "{error}");
    let both = [("CONNECTORS_SIGNATURE_KEY", "a"), ("CONNECTORS_SIGNATURE_KEYS", "b=c")];
    assert!(matches!(resolve("", &both).unwrap_err(), ConfigError::TwoSignatureKeys));
}

#[test]
fn a_listener_that_others_reach_needs_a_token() {
    let error = resolve("listen = \"0.0.0.0:8420\"", &[]).unwrap_err();
    assert!(matches!(error, ConfigError::TokensNeeded { .. }), "{error}");
}

#[test]
fn the_shown_configuration_holds_no_secret() {
    let settings = resolve(
        "log-format = \"pretty\"\n[policy]\noptions = { eager = \"canary\" }",
        &[
            ("CONNECTORS_SERVICE_MAP_URL", "https://user:canary@m:8/canary/map?token=canary#canary"),
            ("CONNECTORS_SIGNATURE_KEY", "canary"),
            ("CONNECTORS_SERVICE_MAP_TOKEN", "canary"),
            ("CONNECTORS_API_KEY", "canary"),
        ],
    )
    .unwrap();
    let shown = settings.redacted().to_string();
    assert!(!shown.contains("canary"), "{shown}");
    for part in [r#""https://m:8""#, r#""options":["eager"]"#, r#""logFormat":"pretty""#] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!format!("{settings:?}").contains("canary"));
}

#[test]
fn what_is_said_of_a_connector_must_be_usable() {
    let long = "x".repeat(41);
    for (table, part) in [
        ("calls = 0", "[connector.wiki] calls: write a number from 1 to 10000"),
        ("queue = 100001", "[connector.wiki] queue: write a number from 0 to 100000"),
        ("queue-timeout-ms = 3600001", "[connector.wiki] queue-timeout-ms"),
        ("connect-timeout-ms = 0", "[connector.wiki] connect-timeout-ms: write a number from 1 to 3600000"),
        ("list-timeout-ms = 3600001", "[connector.wiki] list-timeout-ms"),
        ("call-timeout-ms = 3600001", "[connector.wiki] call-timeout-ms"),
        ("start-timeout-ms = 3600001", "[connector.wiki] start-timeout-ms"),
        ("max-message-bytes = 65535", "[connector.wiki] max-message-bytes: write a number from 65536 to 268435456"),
        ("rename = { old = \"\" }", "[connector.wiki] rename: write new names of 1 to 40 characters"),
        ("rename = { old = \"two words\" }", "A-Z, a-z, 0-9, _ and -"),
        (&format!("rename = {{ old = \"{long}\" }}"), "name-length is 46, of which 6 are the prefix"),
        ("call = 1", "unknown field `call`"),
        ("uri-schemes = [\"a:\"]", "write it without the colon"),
        ("uri-schemes = [\"\"]", "a URI scheme is 1 to 80 characters"),
        ("allow-tools = [\"\"]", "a pattern is 1 to 256 bytes"),
        ("allow-tools = \"*\"", "expected a sequence"),
    ] {
        let error = resolve(&format!("[connector.wiki]\n{table}"), &[]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = resolve("[connector.Wiki]\ncalls = 1", &[]).unwrap_err().to_string();
    assert!(error.contains("a connector id is 1 to 63 characters"), "{error}");
    let longest = "x".repeat(40);
    assert!(resolve(&format!("[connector.wiki]\nrename = {{ old = \"{longest}\" }}"), &[]).is_ok());
    assert!(
        resolve(&format!("names = \"plain\"\n[connector.wiki]\nrename = {{ old = \"{longest}xxxxxx\" }}"), &[]).is_ok()
    );
}

#[test]
fn tokens_that_nobody_could_tell_apart_are_refused() {
    let (one, two) = (crate::model::Digest::of(b"one"), crate::model::Digest::of(b"two"));
    let token = |name: &str, hash| format!("[[token]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n");
    for (file, part) in [
        (token("a", one) + &token("a", two), "two tokens have this name"),
        (token("a", one) + &token("b", one), "another token has the same sha256"),
        (token("", one), "a name of 1 to 64 characters"),
        (token(&"x".repeat(65), one), "a name of 1 to 64 characters"),
        (token("a", one) + "calls-per-minute = 0", "calls-per-minute: write a number from 1 to 1000000"),
        (token("a", one) + "connector = [\"x\"]", "unknown field `connector`"),
    ] {
        let error = resolve(&file, &[]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(resolve(&(token("a", one) + &token("b", two)), &[]).is_ok());
}

#[test]
fn filters_bounds_and_tokens_are_shown_without_hashes() {
    let hash = crate::model::Digest::of(b"one");
    let file = format!(
        "tools-max = 5\n[connector.wiki]\nallow-tools = [\"get_*\"]\nrename = {{ a = \"b\" }}\nqueue-timeout-ms = 9\n\
         [[token]]\nname = \"agent\"\nsha256 = \"{hash}\"\ntools = [\"x\"]\ncalls-per-minute = 3"
    );
    let shown = resolve(&file, &[]).unwrap().redacted();
    let wiki = serde_json::json!({
        "allowTools": ["get_*"], "denyTools": [], "rename": { "a": "b" }, "uriSchemes": null, "calls": null, "queue": null, "queueTimeoutMs": 9,
        "era": null, "connectTimeoutMs": null, "listTimeoutMs": null, "callTimeoutMs": null, "startTimeoutMs": null,
        "passEnvironment": [], "privileges": "drop", "onChange": "warn",
        "maxMessageBytes": null, "traceContext": null, "baggage": false
    });
    assert_eq!(shown["connectors"], serde_json::json!({ "wiki": wiki }));
    let agent = serde_json::json!({
        "name": "agent", "admin": false, "connectors": null, "tools": ["x"], "denyTools": [], "callsPerMinute": 3
    });
    assert_eq!(shown["tokens"], serde_json::json!([agent]));
    assert_eq!((&shown["toolsWarnAbove"], &shown["toolsMax"]), (&serde_json::json!(128), &serde_json::json!(5)));
    assert!(!shown.to_string().contains(&hash.to_string()));
}
