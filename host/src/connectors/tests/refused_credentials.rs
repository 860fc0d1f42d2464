//! Credentials that servers refuse: shown by the first refused request of any kind, cleared by the first answer, and replaced
//! without another session.

use super::live::Live;
use super::*;
use crate::config::Secrets;
use crate::connectors::{CallError, Caller, ConnectorStatus, CredentialState, PassKind};
use crate::mcp::Outcome;
use crate::model::raw::RawObject;
use crate::model::{AuthKind, FailureClass};

/// Where the credential of the connector stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// A header of the map.
    Header,
    /// A header of an entry, that refers to a file.
    Reference,
    /// A file that a variable names.
    File,
}

struct Guarded {
    rig: Rig,
    place: Place,
    file: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Guarded {
    async fn new(modern: bool, place: Place) -> Self {
        let guarded = Self::configured(modern, place, settings_with).await;
        guarded.rig.until("it is listed", || guarded.rig.server.count("tools/list") == 1).await;
        guarded
    }

    /// A connector with these settings, which may know the file of its credential.
    async fn configured(modern: bool, place: Place, settings: impl Fn(&Path) -> FleetSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "first\n").unwrap();
        let server = Live::new(modern, 1);
        server.require_bearer("first", 401);
        let network = Arc::new(VirtualNetwork::new());
        network.set(&url(), Host::Serve(server.router()));
        let fleet = fleet(network.clone(), Arc::new(VirtualProcesses::new()), settings(&file));
        let guarded = Self { rig: Rig { fleet, server, network }, place, file, _folder: folder };
        guarded.rig.fleet.apply(vec![guarded.described("first")]).await;
        guarded
    }

    fn described(&self, token: &str) -> Connector {
        let mut connector = described("1");
        match self.place {
            Place::Header => drop(connector.headers.insert("Authorization".into(), format!("Bearer {token}"))),
            Place::Reference => {
                connector.source = Source::Registry;
                let value = format!("Bearer ${{file:{}}}", self.file.display());
                connector.headers.insert("Authorization".into(), value);
            }
            Place::File => connector.auth.kind = AuthKind::Bearer,
        }
        connector
    }

    /// The credential is another one where it stands.
    async fn replace(&self, token: &str) {
        match self.place {
            Place::Header => self.rig.fleet.apply(vec![self.described(token)]).await,
            Place::Reference | Place::File => std::fs::write(&self.file, format!("{token}\n")).unwrap(),
        }
    }

    async fn call(&self) -> Result<Outcome, CallError> {
        let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
        self.rig.fleet.call(&id(), Caller::default(), "tools/call", params).await
    }

    fn status(&self) -> Arc<ConnectorStatus> {
        self.rig.fleet.statuses().pop().unwrap()
    }
}

fn settings_with(file: &Path) -> FleetSettings {
    let environment = Environment::from([("CORTEX_CONNECTOR_LIVE_KEY_FILE", file.display().to_string().as_str())]);
    assert!(Secrets::of(&environment).is_ok());
    let paths = Paths::below(Path::new("/virtual"));
    let file = FileSettings::parse("", Path::new("gateway.toml")).unwrap();
    FleetSettings::new(&Settings::from_parts(&Flags::default(), &environment, file, paths).unwrap())
}

/// Settings without any credential.
fn settings_without() -> FleetSettings {
    settings("")
}

async fn moment() {
    // Files are read on a thread, which virtual time does not wait for.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const CASES: [(bool, Place); 6] = [
    (false, Place::Header),
    (false, Place::Reference),
    (false, Place::File),
    (true, Place::Header),
    (true, Place::Reference),
    (true, Place::File),
];

#[tokio::test(start_paused = true)]
async fn the_first_refused_call_shows_and_a_replaced_credential_is_used_by_the_next() {
    for (modern, place) in CASES {
        for (status, state) in [(401, CredentialState::Unauthorized), (403, CredentialState::Forbidden)] {
            let case = format!("modern {modern} {place:?} {status}");
            let guarded = Guarded::new(modern, place).await;
            let server = &guarded.rig.server;
            moment().await;
            assert!(guarded.call().await.is_ok() && guarded.status().credential.is_none(), "{case}");
            server.require_bearer("second", status);
            let failed = guarded.call().await.unwrap_err();
            assert!(
                matches!(&failed, CallError::Failed { failure, .. } if failure.class == FailureClass::Auth),
                "{case}"
            );
            moment().await;
            let refused = guarded.status().credential.clone().expect(&case);
            assert_eq!((refused.state, refused.http_status), (state, status), "{case}");
            let challenge = &refused.challenges[0];
            assert_eq!((challenge.scheme.as_str(), challenge.scope.as_deref()), ("Bearer", Some("a b")));
            assert_eq!(challenge.resource_metadata.as_deref(), Some("https://live.test/metadata"));
            let named = if place == Place::File { "CORTEX_CONNECTOR_LIVE_KEY" } else { "Authorization" };
            assert!(refused.action.contains(named) && !refused.action.contains("first"), "{case}: {}", refused.action);
            let before = server.count("tools/list");
            guarded.replace("second").await;
            assert!(matches!(guarded.call().await, Ok(Outcome::Result(_))), "{case}");
            moment().await;
            assert_eq!(guarded.status().credential, None, "{case}");
            assert!(server.count("tools/list") > before, "{case}: the policy heard of no new credential");
            assert_eq!(guarded.status().failures, 0, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_list_shows_too_and_a_credential_that_is_accepted_again_clears_it() {
    for (modern, place) in CASES {
        let case = format!("modern {modern} {place:?}");
        let guarded = Guarded::new(modern, place).await;
        guarded.rig.server.require_bearer("second", 401);
        guarded.rig.fleet.pass(PassKind::Force, tokio::time::Instant::now(), |_| {}).await;
        moment().await;
        let since = guarded.status().credential.clone().expect(&case).since.clone();
        let _ = guarded.call().await;
        assert_eq!(guarded.status().credential.clone().expect(&case).since, since, "{case}");
        guarded.rig.server.require_bearer("first", 401);
        assert!(matches!(guarded.call().await, Ok(Outcome::Result(_))), "{case}");
        moment().await;
        assert_eq!((guarded.status().credential.clone(), guarded.status().failures), (None, 0), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_header_of_an_entry_goes_with_the_next_request_of_the_same_session() {
    let guarded = Guarded::new(false, Place::Header).await;
    let server = &guarded.rig.server;
    let before = server.count("initialize");
    guarded.replace("second").await;
    server.require_bearer("second", 401);
    assert!(matches!(guarded.call().await, Ok(Outcome::Result(_))));
    moment().await;
    assert_eq!((server.count("refused"), server.count("initialize"), server.count("DELETE")), (0, before, 0));
}

#[tokio::test(start_paused = true)]
async fn the_credential_of_a_reload_goes_with_the_next_request_of_the_same_session() {
    let guarded = Guarded::new(false, Place::File).await;
    let server = &guarded.rig.server;
    let (opened, listed) = (server.count("initialize"), server.count("tools/list"));
    guarded.replace("second").await;
    server.require_bearer("second", 401);
    guarded.rig.fleet.reconfigure(settings_with(&guarded.file));
    assert!(matches!(guarded.call().await, Ok(Outcome::Result(_))));
    moment().await;
    assert_eq!((server.count("refused"), server.count("initialize"), server.count("DELETE")), (0, opened, 0));
    assert_eq!(server.count("tools/list"), listed + 1, "one new credential is one list");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lets_everybody_list_shows_that_it_refuses_calls_until_it_answers_one() {
    for (modern, status) in [(false, 401), (false, 403), (true, 401), (true, 403)] {
        let case = format!("modern {modern} {status}");
        let guarded = Guarded::new(modern, Place::Header).await;
        moment().await;
        guarded.rig.server.fail_calls(Some(status));
        let listed = guarded.rig.server.count("tools/list");
        assert!(guarded.call().await.is_err());
        moment().await;
        assert!(guarded.rig.server.count("tools/list") > listed, "{case}: a list is to show it");
        assert_eq!(guarded.status().credential.as_ref().map(|refused| refused.http_status), Some(status), "{case}");
        guarded.rig.server.fail_calls(None);
        assert!(guarded.call().await.is_ok());
        moment().await;
        assert_eq!(guarded.status().credential, None, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_its_optional_stream_shows_no_refused_credential() {
    for (modern, status) in [(false, 401), (false, 403), (true, 401), (true, 403)] {
        let case = format!("modern {modern} {status}");
        let server = Live::new(modern, 1);
        server.refuse_streams(Some(status));
        let network = Arc::new(VirtualNetwork::new());
        network.set(&url(), Host::Serve(server.router()));
        let fleet = fleet(network.clone(), Arc::new(VirtualProcesses::new()), settings(""));
        let rig = Rig { fleet, server, network };
        rig.fleet.apply(vec![described("1")]).await;
        let stream = if modern { "subscriptions/listen" } else { "GET" };
        rig.until("it asks for the stream", || rig.server.count(stream) > 0).await;
        moment().await;
        assert_eq!(rig.fleet.statuses().pop().unwrap().credential, None, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_adds_or_removes_the_credential_takes_effect_at_once() {
    for modern in [false, true] {
        let guarded = Guarded::configured(modern, Place::File, |_| settings_without()).await;
        let (fleet, server) = (&guarded.rig.fleet, &guarded.rig.server);
        moment().await;
        assert!(guarded.call().await.unwrap_err().to_string().contains("CORTEX_CONNECTOR_LIVE_KEY"), "{modern}");
        fleet.reconfigure(settings_with(&guarded.file));
        guarded.rig.until("it is listed", || server.count("tools/list") == 1).await;
        assert!(guarded.call().await.is_ok(), "modern {modern}");
        fleet.reconfigure(settings_without());
        let called = server.count("tools/call");
        moment().await;
        assert!(guarded.call().await.unwrap_err().to_string().contains("CORTEX_CONNECTOR_LIVE_KEY"), "{modern}");
        assert_eq!(server.count("tools/call"), called, "modern {modern}");
        fleet.reconfigure(settings_with(&guarded.file));
        moment().await;
        assert!(guarded.call().await.is_ok(), "modern {modern}");
    }
}
