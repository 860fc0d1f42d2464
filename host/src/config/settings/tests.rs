//! Settings resolve as documented: defaults, precedence, ranges, and what is never shown.

use std::path::Path;

use super::*;

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
         service-map-url = \"https://m/\"\n\
         [policy]\nfile = \"p.wasm\"\nfamily = \"f\"\nreuse = true\noptions = {{ a = \"b\" }}\n\
         shadow = \"s.wasm\"\nshadow-family = \"sf\"\n\
         [trace]\ndirectory = \"/t\"\nmax-mib = 9\n\
         [registry]\ntools = true\nwrite-through = true\nbatch-ms = 70\n\
         [[token]]\nname = \"n\"\nsha256 = \"{digest}\"\nadmin = true\n"
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
    assert_eq!(settings.tokens, [Token { name: "n".into(), sha256: digest, admin: true }]);
    assert_eq!(settings.policy.options, [("a".to_owned(), "b".to_owned())]);
    assert_eq!((settings.policy.family.as_deref(), settings.policy.reuse), (Some("f"), true));
    assert_eq!(settings.policy.shadow.as_deref(), Some(Path::new("s.wasm")));
    assert_eq!(settings.policy.shadow_family.as_deref(), Some("sf"));
    assert_eq!(settings.trace, Some(TraceSettings { directory: "/t".into(), mebibytes: 9 }));
    let registry = RegistrySettings { tools: true, write_through: true, batch: Duration::from_millis(70) };
    assert_eq!(settings.registry, registry);
}

#[test]
fn the_registry_is_written_in_batches_and_has_no_tools_unless_that_is_asked_for() {
    let usual = RegistrySettings { tools: false, write_through: false, batch: Duration::from_secs(5) };
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
    assert_eq!(shown["registry"], serde_json::json!({ "tools": true, "writeThrough": false, "batchMs": 9 }));
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
        ("[registry]\nbatch-ms = 0", "1 to 600000"),
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
