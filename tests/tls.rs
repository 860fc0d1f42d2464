//! TLS over real sockets: private authorities are trusted when they are named and not before, HTTP/2 is spoken where a
//! server offers it, and connections are used again. Loopback only.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cortex_mcp::config::{Environment, FileSettings, Flags, Paths, Settings};
use cortex_mcp::demo::mcp_server::{AnswerStyle, McpServer, ServerEra, ServerOptions};
use cortex_mcp::edge::http::{HttpError, HttpOptions, ReqwestHttp, within};
use cortex_mcp::gateway::Gateway;
use cortex_mcp::mcp::{Declared, Era, Nobody, Outcome, Session, Upstream, WireError};
use cortex_mcp::model::{FailureClass, ListKind};
use futures_util::future::join_all;
use http::{HeaderMap, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tower::ServiceExt;
use url::Url;

/// What nothing here takes, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// A certificate authority that no platform knows.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What a server for `localhost` needs that speaks the first of these protocols that its client speaks.
    fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        let mut config = config.unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// An MCP server behind TLS; it ends with its value.
struct Served {
    url: Url,
    server: Arc<McpServer>,
    /// How many connections were accepted, whatever became of them.
    connections: Arc<AtomicUsize>,
    versions: Arc<Mutex<Vec<Version>>>,
    _tasks: JoinSet<()>,
}

impl Served {
    async fn new(acceptor: TlsAcceptor, options: ServerOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/mcp", listener.local_addr().unwrap().port()).parse().unwrap();
        let server = McpServer::new(options);
        let (connections, versions) = <(Arc<AtomicUsize>, Arc<Mutex<Vec<Version>>>)>::default();
        let (router, accepted, seen) = (server.router(), connections.clone(), versions.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Ends with this task: a set ends what it holds.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, router, seen) = (acceptor.clone(), router.clone(), seen.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        seen.lock().unwrap().push(request.version());
                        router.clone().oneshot(request.map(axum::body::Body::new))
                    });
                    // A client that goes away is nobody's fault.
                    if is_h2 {
                        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(serving.serve_connection(TokioIo::new(stream), service).await);
                    } else {
                        let serving = hyper::server::conn::http1::Builder::new();
                        drop(serving.serve_connection(TokioIo::new(stream), service).await);
                    }
                });
            }
        });
        Self { url, server, connections, versions, _tasks: tasks }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn versions(&self) -> Vec<Version> {
        let mut versions = self.versions.lock().unwrap().clone();
        versions.dedup();
        versions
    }

    fn upstream(&self, roots: &[&Authority]) -> Upstream {
        let roots = roots.iter().map(|authority| authority.pem.clone().into_bytes()).collect();
        let http = ReqwestHttp::new(&HttpOptions { roots, ..HttpOptions::default() }).unwrap();
        Upstream::new(Arc::new(http), self.url.clone(), HeaderMap::new())
    }
}

async fn opened(upstream: &Upstream, era: Option<Era>) -> Result<Session, WireError> {
    within(DEADLINE, upstream.open(era, &Declared::default())).await
}

async fn add(session: &Session) {
    let params = r#"{"name":"add","arguments":{"a":1,"b":2}}"#.parse().unwrap();
    let called = within(DEADLINE, session.request("tools/call", params, &Nobody)).await.unwrap();
    assert!(matches!(called, Outcome::Result(_)), "{called:?}");
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_over_both_versions_of_http() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (protocols, version) in [
        (&["http/1.1"][..], Version::HTTP_11),
        (&[][..], Version::HTTP_11),
        (&["h2"][..], Version::HTTP_2),
        (&["h2", "http/1.1"][..], Version::HTTP_2),
    ] {
        let served = Served::new(authority.acceptor(protocols), ServerOptions::default()).await;
        for strangers in [&[][..], &[&other][..]] {
            let error = opened(&served.upstream(strangers), None).await.map(drop).unwrap_err();
            assert_eq!(error, WireError::Http(HttpError::Certificate), "{protocols:?}");
            assert_eq!((error.failure().class, error.was_not_sent()), (FailureClass::Refused, true));
            assert!(error.to_string().contains("ca-file"), "{error}");
        }
        assert_eq!(served.versions(), [], "nothing was said to whom nobody trusts");
        let session = opened(&served.upstream(&[&other, &authority]), None).await.unwrap();
        assert_eq!(within(DEADLINE, session.list(ListKind::Tools)).await.unwrap().items.len(), 3);
        add(&session).await;
        assert_eq!(served.versions(), [version], "{protocols:?}");
    }
}

#[tokio::test]
async fn connections_are_used_again_and_over_http_2_shared() {
    let authority = Authority::new();
    for era in [ServerEra::Modern, ServerEra::Legacy] {
        for answers in [AnswerStyle::Json, AnswerStyle::Sse] {
            let options = ServerOptions { era, answers, ..ServerOptions::default() };
            let remembered = if era == ServerEra::Modern { Era::Modern } else { Era::Legacy };

            let one_after_the_other = Served::new(authority.acceptor(&["http/1.1"]), options.clone()).await;
            let session = opened(&one_after_the_other.upstream(&[&authority]), Some(remembered)).await.unwrap();
            for _ in 0..20 {
                add(&session).await;
            }
            // What is left of an event stream after its answer may still be on its way when the next request leaves.
            let most = if answers == AnswerStyle::Json { 1 } else { 10 };
            assert!((1..=most).contains(&one_after_the_other.connections()), "{era:?} {answers:?}");

            let at_once = Served::new(authority.acceptor(&["h2"]), options).await;
            let session = opened(&at_once.upstream(&[&authority]), Some(remembered)).await.unwrap();
            add(&session).await;
            join_all((0..50).map(|_| add(&session))).await;
            assert_eq!((at_once.connections(), at_once.server.counts().calls), (1, 51), "{era:?} {answers:?}");
        }
    }
}

/// A gateway of this machine with one connector, as far as its first pass: how many are ready and how many failed.
async fn first_pass(home: &Path, url: &Url, toml: &str) -> (usize, usize) {
    let paths = Paths::below(home);
    std::fs::create_dir_all(paths.registry().parent().unwrap()).unwrap();
    let entry = format!(r#"{{"servers":[{{"name":"private","transport":"http","endpoint":"{url}"}}]}}"#);
    std::fs::write(paths.registry(), entry).unwrap();
    let gateway = Gateway::builder(settings(paths, toml)).start().await.unwrap();
    let report = tokio::time::timeout(DEADLINE, gateway.first_pass()).await.unwrap();
    gateway.shut_down().await;
    (report.ready, report.failed)
}

fn settings(paths: Paths, toml: &str) -> Settings {
    let file = FileSettings::parse(toml, Path::new("gateway.toml")).unwrap();
    Settings::from_parts(&Flags::default(), &Environment::default(), file, paths).unwrap()
}

#[tokio::test]
async fn the_configured_file_of_authorities_decides_whether_a_connector_is_reached() {
    let authority = Authority::new();
    let served = Served::new(authority.acceptor(&["h2", "http/1.1"]), ServerOptions::default()).await;
    let home = tempfile::tempdir().unwrap();
    let file: PathBuf = home.path().join("private.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    assert_eq!(first_pass(&home.path().join("without"), &served.url, "").await, (0, 1));
    let toml = format!("ca-file = {:?}", file.display().to_string());
    assert_eq!(first_pass(&home.path().join("with"), &served.url, &toml).await, (1, 0));
    let shown = settings(Paths::below(home.path()), &toml).redacted();
    assert_eq!(shown["caFile"], file.display().to_string());
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none_is_an_error_that_names_the_key() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("empty.pem"), "no certificate here").unwrap();
    for name in ["missing.pem", "empty.pem"] {
        let toml = format!("ca-file = {:?}", home.path().join(name).display().to_string());
        let settings = settings(Paths::below(home.path()), &toml);
        let error = Gateway::builder(settings).start().await.map(drop).unwrap_err().to_string();
        assert!(error.contains("ca-file") && error.contains("PEM"), "{error}");
    }
}
