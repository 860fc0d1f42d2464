use super::*;

fn waits(headers: &[(header::HeaderName, &'static str)]) -> Option<Duration> {
    let headers = headers.iter().map(|(name, value)| (name.clone(), header::HeaderValue::from_static(value)));
    let body = Body::new(futures_util::stream::empty());
    Response { status: StatusCode::SERVICE_UNAVAILABLE, headers: headers.collect(), body, proxy: None }.retry_after()
}

#[test]
fn the_wish_for_a_pause_is_read_in_seconds_and_as_a_date_of_the_servers_own_clock() {
    let date = (header::DATE, "Fri, 31 Dec 1999 23:59:30 GMT");
    for (wish, seconds) in [
        ("120", Some(120)),
        ("  0 ", Some(0)),
        ("86401", Some(86_400)),
        ("99999999999999999999999", Some(86_400)),
        ("Fri, 31 Dec 1999 23:59:59 GMT", Some(29)),
        ("Friday, 31-Dec-99 23:59:59 GMT", Some(29)),
        ("Fri Dec 31 23:59:59 1999", Some(29)),
        ("Fri, 31 Dec 1999 23:00:00 GMT", Some(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400)),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
    ] {
        let expected = seconds.map(Duration::from_secs);
        assert_eq!(waits(&[date.clone(), (header::RETRY_AFTER, wish)]), expected, "{wish:?}");
    }
    let dated = (header::RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT");
    assert_eq!(waits(std::slice::from_ref(&dated)), None);
    assert_eq!(waits(&[(header::DATE, "yesterday"), dated]), None);
    assert_eq!(waits(&[date]), None);
}

#[test]
fn what_is_no_certificate_is_no_private_authority() {
    for bundle in [b"".as_slice(), b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let made = ReqwestHttp::new(&HttpOptions { roots: vec![bundle.to_vec()], ..HttpOptions::default() });
        assert!(made.is_err(), "{bundle:?}");
    }
}

/// A server that accepts connections and never says a word, so that no TLS handshake ends.
fn silent() -> (std::net::TcpListener, Url) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    (listener, url)
}

#[tokio::test]
async fn neither_an_address_nor_a_name_leads_to_a_metadata_service() {
    for url in ["http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "http://metadata.google.internal/"] {
        let http = ReqwestHttp::new(&HttpOptions::default()).unwrap();
        let url = Url::parse(url).unwrap();
        let request =
            Request { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new(), lane: Lane::default() };
        let error = http.send(request).await.err();
        assert_eq!(error, Some(HttpError::LinkLocal));
        assert!(error.is_some_and(|error| error.was_not_sent()));
    }
}

/// Numbers are resolved like names here: no network is needed to see what a resolver's answer leads to.
#[tokio::test]
async fn what_resolves_to_link_local_addresses_is_refused_with_that_reason() {
    let resolved = |name: &'static str| async move {
        GuardedResolver.resolve(name.parse().unwrap()).await.map(|found| found.map(|at| at.ip()).collect::<Vec<_>>())
    };
    assert!(resolved("169.254.169.254").await.is_err_and(|error| error.is::<OnlyLinkLocal>()));
    assert!(
        resolved("localhost").await.is_ok_and(|found| !found.is_empty() && found.iter().all(|ip| ip.is_loopback()))
    );
    let refused = reqwest::Client::builder().no_proxy().dns_resolver(OnlyMetadata).build().unwrap();
    assert_eq!(classify(&refused.get("http://name.test/").send().await.unwrap_err()), HttpError::LinkLocal);
}

/// A resolver as an attacker who answers for a name would have it.
struct OnlyMetadata;

impl Resolve for OnlyMetadata {
    fn resolve(&self, _name: Name) -> Resolving {
        GuardedResolver.resolve("169.254.169.254".parse().unwrap())
    }
}

fn get(url: &str) -> Request {
    let (url, headers) = (url.parse().unwrap(), HeaderMap::new());
    Request { method: Method::GET, url, headers, body: Bytes::new(), lane: Lane::default() }
}

/// A proxy that answers everything with this status; its address.
async fn proxy(status: &'static str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.read(&mut [0; 4096]).await);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    address.to_string()
}

#[tokio::test]
async fn a_proxy_that_fails_is_named_without_its_password() {
    let behind = |address: String| {
        let url = format!("http://user:secret@{address}");
        let proxies = Proxies::new(|name| matches!(name, "HTTP_PROXY" | "HTTPS_PROXY").then(|| url.clone()));
        ReqwestHttp::with_proxies(&[], LinkLocal::Refused, proxies).unwrap()
    };
    for status in ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"] {
        let address = proxy(status).await;
        let http = behind(address.clone());
        let error = http.send(get("https://server.test/")).await.err().unwrap();
        let named = format!("through the proxy {address} of HTTPS_PROXY");
        assert!(error.to_string().contains(&named) && error.was_not_sent(), "{error}");
        let answered = http.send(get("http://server.test/")).await.unwrap();
        assert_eq!(answered.status.as_str(), &status[..3]);
        assert_eq!(answered.proxy.unwrap().to_string(), format!("{address} of HTTP_PROXY"));
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = behind(closed.clone()).send(get("http://server.test/")).await.err().unwrap().to_string();
    assert!(error.contains(&format!("{closed} of HTTP_PROXY")) && !error.contains("secret"), "{error}");
    // What is on this machine is reached without it.
    let (here, there) = (proxy("204 No Content").await, proxy("502 Bad Gateway").await);
    let answered = behind(there).send(get(&format!("http://{here}/"))).await.unwrap();
    assert_eq!((answered.status, answered.proxy), (StatusCode::NO_CONTENT, None));
}

// The clock is virtual and the socket is real: only timers can end this wait, so nothing races.
#[tokio::test(start_paused = true)]
async fn connecting_may_take_as_long_as_the_caller_allows() {
    let (_listener, url) = silent();
    let http = ReqwestHttp::new(&HttpOptions::default()).unwrap();
    let request =
        Request { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new(), lane: Lane::default() };
    let began = tokio::time::Instant::now();
    let limit = Duration::from_secs(60);
    assert_eq!(within(limit, http.send(request)).await.err(), Some(HttpError::Timeout));
    assert_eq!(began.elapsed(), limit);
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_a_timeout_and_no_refusal() {
    let (_listener, url) = silent();
    let client = reqwest::Client::builder().connect_timeout(Duration::from_millis(20)).build().unwrap();
    let error = client.get(url).send().await.unwrap_err();
    assert!(error.is_connect());
    assert_eq!(classify(&error), HttpError::Timeout);
}
