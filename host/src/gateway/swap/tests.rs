//! Who may change the gateway when, and which policies are kept.

use std::net::SocketAddr;
use std::sync::mpsc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::FutureExt;
use http::{Request, StatusCode};
use tower::ServiceExt;

use super::*;
use crate::config::{Environment, Settings};
use crate::edge::disk::MemoryDisk;
use crate::edge::files::MemoryDirectory;
use crate::policy::EMBEDDED_COMPONENT;

async fn gateway() -> Gateway {
    let mut settings = Settings::from_environment(&Environment::default()).unwrap();
    settings.trace = None;
    let builder = Gateway::builder(settings).state_directory(Arc::new(MemoryDirectory::new()));
    builder.registry_disk(Arc::new(MemoryDisk::new())).start().await.unwrap()
}

/// Posts from this machine, and returns the answer.
async fn post(router: &Router, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let mut request = Request::post(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from("no component")).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, String::from_utf8(body.to_vec()).unwrap())
}

const WASM: (&str, &str) = ("content-type", "application/wasm");
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn while_one_changes_the_gateway_others_are_told_so_before_anything_is_compiled() {
    let gateway = gateway().await;
    let router = gateway.router(SocketAddr::from(([127, 0, 0, 1], 8420)));
    let changing = gateway.try_begin_change().unwrap();
    for (path, kind) in [("/policy", WASM), ("/policy/back", JSON)] {
        let (status, said) = post(&router, path, &[kind]).await;
        assert_eq!(status, StatusCode::CONFLICT, "{path}: {said}");
        assert!(said.contains("another change") && said.contains("ask again"), "{said}");
    }
    // Who embeds the gateway waits.
    let back = gateway.swap_back(None);
    let mut back = std::pin::pin!(back);
    assert!(back.as_mut().now_or_never().is_none());
    drop(changing);
    assert!(matches!(back.await, Err(SwapError::NothingBefore)));
    let (status, said) = post(&router, "/policy", &[WASM]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
    gateway.shut_down().await;
}

#[tokio::test]
async fn a_change_is_under_way_until_its_work_ends_also_when_nobody_waits_for_it_any_more() {
    let gateway = gateway().await;
    let (end, told) = mpsc::channel::<()>();
    let load = move || {
        told.recv().unwrap();
        Err(PolicyError::TooLarge)
    };
    let swap = gateway.swap_loaded(gateway.try_begin_change().unwrap(), load);
    assert!(swap.now_or_never().is_none(), "it is waited for once, and dropped: its client went away");
    assert!(matches!(gateway.try_begin_change(), Err(SwapError::Busy)));
    end.send(()).unwrap();
    drop(gateway.begin_change().await);
    gateway.shut_down().await;
}

#[tokio::test]
async fn what_has_no_body_needs_a_type_that_a_page_can_not_send_unasked() {
    let gateway = gateway().await;
    let router = gateway.router(SocketAddr::from(([127, 0, 0, 1], 8420)));
    for headers in [&[][..], &[("content-type", "text/plain")], &[("content-type", "text/plain;application/json")]] {
        let (status, said) = post(&router, "/policy/back", headers).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{headers:?}");
        assert!(said.contains("application/json"), "{said}");
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        let (status, said) = post(&router, "/policy/back", &[("content-type", kind)]).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
        assert!(said.contains("no policy to go back to"), "{said}");
    }
    for header in [("origin", "http://localhost:3000"), ("x-forwarded-for", "192.0.2.1"), ("via", "1.1 a")] {
        for (path, kind) in [("/policy", WASM), ("/policy/back", JSON)] {
            let (status, said) = post(&router, path, &[kind, header]).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{header:?}");
            assert!(said.contains("[[token]] with admin = true"), "{said}");
        }
    }
    gateway.shut_down().await;
}

#[test]
fn only_the_newest_former_policies_are_kept_each_of_them_once() {
    let of = |number: usize| {
        let family = format!("family-{number}");
        Arc::new(PolicyComponent::load(EMBEDDED_COMPONENT, &family, InstanceUse::Fresh).unwrap())
    };
    let last = of(limits::FORMER_POLICIES_MAX + 1);
    let mut former = Former::default();
    let numbers: Vec<_> = (0..=limits::FORMER_POLICIES_MAX).map(of).collect();
    for component in numbers.iter().chain(&numbers) {
        former.replaced(component.clone(), &last);
    }
    let families = |former: &Former| former.0.iter().map(|one| one.family().to_owned()).collect::<Vec<_>>();
    let newest: Vec<_> = (1..=limits::FORMER_POLICIES_MAX).map(|number| format!("family-{number}")).collect();
    assert_eq!(families(&former), newest);
    // Who is deployed again is no former one.
    former.replaced(last.clone(), &numbers[1]);
    assert_eq!(families(&former)[..], [&newest[1..], &[last.family().to_owned()]].concat());
    former.replaced(last.clone(), &last);
    assert_eq!(families(&former)[..], newest[1..]);
}
