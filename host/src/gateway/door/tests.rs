//! Who is let in, and who may change the gateway.

use super::*;
use crate::config::Environment;

fn door(change: impl FnOnce(&mut Settings)) -> Rules {
    let mut settings = Settings::from_environment(&Environment::default()).unwrap();
    change(&mut settings);
    Rules::new(&settings, "192.0.2.7:8420".parse().unwrap())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn judge<'a>(rules: &'a Rules, headers: &HeaderMap) -> Result<Option<&'a Token>, Refused> {
    rules.judge(headers).map(|known| known.map(|known| &known.token))
}

fn judge_admin<'a>(
    rules: &'a Rules,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
) -> Result<Option<&'a Token>, Refused> {
    let token = judge(rules, headers)?;
    may_change(token, headers, peer)?;
    Ok(token)
}

#[test]
fn only_known_hosts_are_served() {
    let door = door(|settings| settings.allowed_hosts = vec!["Gateway.example".into()]);
    for host in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:8420",
        "127.9.9.9",
        "[::1]:80",
        "192.0.2.7:8420",
        "192.0.2.7",
        "gateway.example",
        "gateway.example:443",
    ] {
        assert_eq!(judge(&door, &headers(&[("host", host)])), Ok(None), "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[::2]",
        "[[[::1]]]",
        "::1",
        "[127.0.0.1]",
        "localhost:99999",
        "localhost:",
        "localhost:80:80",
    ] {
        assert_eq!(judge(&door, &headers(&[("host", host)])), Err(Refused::Host), "{host}");
    }
    assert_eq!(judge(&door, &HeaderMap::new()), Err(Refused::Host));
}

#[test]
fn a_listen_address_is_known_with_every_port_in_both_families() {
    let settings = Settings::from_environment(&Environment::default()).unwrap();
    for (listen, hosts) in [
        ("192.0.2.7:8420", ["192.0.2.7", "192.0.2.7:8420", "192.0.2.7:9000"]),
        ("[fd00::1]:8420", ["[fd00::1]", "[fd00::1]:8420", "[fd00::1]:9000"]),
    ] {
        let rules = Rules::new(&settings, listen.parse().unwrap());
        for host in hosts {
            assert_eq!(judge(&rules, &headers(&[("host", host)])), Ok(None), "{host} on {listen}");
        }
    }
}

#[test]
fn host_and_origin_may_occur_once() {
    let door = door(|_| {});
    for repeated in [HOST, ORIGIN] {
        for second in ["localhost", "http://localhost", "evil.example"] {
            let mut headers = headers(&[("host", "localhost"), ("origin", "http://localhost")]);
            headers.append(&repeated, second.parse().unwrap());
            assert_eq!(judge(&door, &headers), Err(Refused::RepeatedHeader), "{repeated} {second}");
            assert_eq!(Refused::RepeatedHeader.told().0, StatusCode::BAD_REQUEST);
        }
    }
}

#[test]
fn only_known_origins_are_served() {
    let door = door(|settings| settings.allowed_origins = vec!["https://app.example".into()]);
    for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:1", "https://APP.example"] {
        assert_eq!(judge(&door, &headers(&[("host", "localhost"), ("origin", origin)])), Ok(None), "{origin}");
    }
    for origin in ["https://evil.example", "null", "https://app.example.evil", "file://localhost"] {
        let judged = judge(&door, &headers(&[("host", "localhost"), ("origin", origin)]));
        assert_eq!(judged, Err(Refused::Origin), "{origin}");
    }
}

#[test]
fn once_tokens_are_configured_everybody_needs_one() {
    let token = Token::new("agent", Digest::of(b"secret"));
    let door = door(|settings| settings.tokens = vec![token.clone()]);
    for (authorization, expected) in [
        ("Bearer secret", Ok(Some(&token))),
        ("bearer secret", Ok(Some(&token))),
        ("Bearer other", Err(Refused::UnknownToken)),
        ("Basic secret", Err(Refused::Token)),
        ("secret", Err(Refused::Token)),
    ] {
        let headers = headers(&[("host", "localhost"), ("authorization", authorization)]);
        assert_eq!(judge(&door, &headers), expected, "{authorization}");
    }
    assert_eq!(judge(&door, &headers(&[("host", "localhost")])), Err(Refused::Token));
}

#[test]
fn who_changes_the_gateway_is_an_admin_or_on_this_machine() {
    let token = |name: &str, admin| Token { admin, ..Token::new(name, Digest::of(name.as_bytes())) };
    let (agent, admin) = (token("agent", false), token("admin", true));
    let with_tokens = door(|settings| settings.tokens = vec![agent, admin.clone()]);
    let peer = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
    let shown = |token: &str| headers(&[("host", "localhost"), ("authorization", &format!("Bearer {token}"))]);
    for peer in [None, peer("127.0.0.1:1"), peer("192.0.2.9:1")] {
        assert_eq!(judge_admin(&with_tokens, &shown("admin"), peer), Ok(Some(&admin)));
        assert_eq!(judge_admin(&with_tokens, &shown("agent"), peer), Err(Refused::NoAdmin));
        assert_eq!(judge_admin(&with_tokens, &shown("other"), peer), Err(Refused::UnknownToken));
    }
    let without = door(|_| {});
    let nobody = headers(&[("host", "localhost")]);
    for local in ["127.0.0.1:1", "[::1]:1"] {
        assert_eq!(judge_admin(&without, &nobody, peer(local)), Ok(None));
    }
    for elsewhere in [None, peer("192.0.2.9:1")] {
        assert_eq!(judge_admin(&without, &nobody, elsewhere), Err(Refused::NotLocal));
    }
    assert_eq!(judge_admin(&without, &headers(&[("host", "evil.example")]), peer("127.0.0.1:1")), Err(Refused::Host));
}

#[test]
fn without_tokens_neither_a_proxy_nor_a_page_of_this_machine_changes_the_gateway() {
    let admin = Token { admin: true, ..Token::new("admin", Digest::of(b"admin")) };
    let (without, with) = (door(|_| {}), door(|settings| settings.tokens = vec![admin.clone()]));
    let local = Some("127.0.0.1:1".parse::<SocketAddr>().unwrap());
    for (name, value, refused) in [
        ("forwarded", "for=192.0.2.60", Refused::Proxied),
        ("x-forwarded-for", "192.0.2.60", Refused::Proxied),
        ("x-forwarded-proto", "https", Refused::Proxied),
        ("x-real-ip", "127.0.0.1", Refused::Proxied),
        ("via", "1.1 proxy", Refused::Proxied),
        ("cf-connecting-ip", "192.0.2.60", Refused::Proxied),
        ("cf-ray", "230b030023ae2822-SJC", Refused::Proxied),
        ("cdn-loop", "cloudflare", Refused::Proxied),
        ("x-original-forwarded-for", "192.0.2.60", Refused::Proxied),
        ("x-envoy-external-address", "192.0.2.60", Refused::Proxied),
        ("x-amzn-trace-id", "Root=1-67891233", Refused::Proxied),
        ("fly-client-ip", "192.0.2.60", Refused::Proxied),
        ("fastly-client-ip", "192.0.2.60", Refused::Proxied),
        ("tailscale-user-login", "a@example.com", Refused::Proxied),
        ("ngrok-trace-id", "1", Refused::Proxied),
        ("origin", "http://localhost:3000", Refused::Page),
        ("origin", "http://127.0.0.1:8420", Refused::Page),
    ] {
        let plain = headers(&[("host", "localhost"), (name, value)]);
        assert_eq!(judge_admin(&without, &plain, local), Err(refused), "{name}: {value}");
        assert_eq!(judge(&without, &plain), Ok(None), "what does not change it is not concerned: {name}");
        let shown = headers(&[("host", "localhost"), (name, value), ("authorization", "Bearer admin")]);
        assert_eq!(judge_admin(&with, &shown, local), Ok(Some(&admin)), "a token is worth more: {name}");
    }
}

#[test]
fn each_of_several_tokens_is_known_wherever_it_stands() {
    let tokens: Vec<Token> = (0..5)
        .map(|number| Token::new(&format!("t{number}"), Digest::of(format!("secret-{number}").as_bytes())))
        .collect();
    let door = door(|settings| settings.tokens = tokens.clone());
    let shown = |secret: &str| headers(&[("host", "localhost"), ("authorization", &format!("Bearer {secret}"))]);
    for (number, token) in tokens.iter().enumerate() {
        assert_eq!(judge(&door, &shown(&format!("secret-{number}"))), Ok(Some(token)));
    }
    for other in ["secret-5", "secret-", "", &tokens[0].sha256.to_string()] {
        assert_eq!(judge(&door, &shown(other)), Err(Refused::UnknownToken), "{other}");
    }
}

#[test]
fn what_a_token_shows_is_nobody_elses() {
    let limited = Token { deny_tools: vec!["x".parse().unwrap()], ..Token::new("limited", Digest::of(b"1")) };
    let whole = Token::new("whole", Digest::of(b"2"));
    let door = door(|settings| settings.tokens = vec![whole, limited]);
    let shown = door.tokens.iter().map(|known| (known.view.sees_everything(), known.view.is_everybodys()));
    assert_eq!(shown.collect::<Vec<_>>(), [(true, false), (false, false)]);
}
