//! Redirects: followed within one origin, else reported with the address to register.

use http::{Method, StatusCode, header};
use url::Url;

use super::http::{Http, HttpError, Request, Response};
use crate::model::redaction::mask_address;
use crate::model::text;

/// How many redirects within one origin are followed.
pub const MAX_REDIRECTS: usize = 3;

/// Characters of an address that a failure names: the server chooses it.
const SHOWN_ADDRESS_MAX: usize = 160;

/// Why a redirect is not followed. Addresses are escaped, without query, fragment and user, and
/// parts of their paths that look like keys are masked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectFault {
    /// It does not keep the method (RFC 9110, 15.4.2): the body would be lost.
    #[error("the server answers {status} to {target}; register that address")]
    Method {
        /// The status.
        status: u16,
        /// The address that it names.
        target: String,
    },
    /// It leads to another origin, to which no credential is sent.
    #[error(
        "the server answers {status} to another origin, {origin}; register the address there if it is the same server"
    )]
    Origin {
        /// The status.
        status: u16,
        /// The origin.
        origin: String,
    },
    /// There is no end of them.
    #[error("the server answers with more than {MAX_REDIRECTS} redirects, the last of them to {target}")]
    TooMany {
        /// The last address.
        target: String,
    },
    /// It names no address.
    #[error("the server answers {status}, a redirect, without an address")]
    NoAddress {
        /// The status.
        status: u16,
    },
}

/// Sends a request and follows redirects, as long as they stay within the origin of `request.url`.
///
/// Only redirects that keep the method are followed (307, 308), and for GET the others too.
///
/// # Errors
/// [`HttpError::Redirect`] for any other redirect, or what [`Http::send`] fails with.
pub async fn send_within_origin(http: &dyn Http, mut request: Request) -> Result<Response, HttpError> {
    let origin = request.url.origin();
    let mut followed = 0;
    loop {
        let response = http.send(request.clone()).await?;
        if !response.status.is_redirection() || response.status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let status = response.status.as_u16();
        let keeps_method = matches!(response.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let location = response.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| request.url.join(location).ok());
        let target = target.ok_or(RedirectFault::NoAddress { status })?;
        if target.origin() != origin {
            let origin = text::escape(&target.origin().ascii_serialization()).into_owned();
            return Err(RedirectFault::Origin { status, origin }.into());
        }
        if !(keeps_method || request.method == Method::GET) {
            return Err(RedirectFault::Method { status, target: shown(&target) }.into());
        }
        if followed == MAX_REDIRECTS {
            return Err(RedirectFault::TooMany { target: shown(&target) }.into());
        }
        followed += 1;
        request.url = target;
    }
}

/// An address as a failure may name it: without what may hold a secret, and at most [`SHOWN_ADDRESS_MAX`] long.
fn shown(url: &Url) -> String {
    let address = format!("{}{}", url.origin().ascii_serialization(), url.path());
    text::escape(&mask_address(&address)).chars().take(SHOWN_ADDRESS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::edge::http::{Body, Lane};

    /// Answers the nth request with a redirect to the target of that number.
    struct Redirecting<F>(u16, AtomicUsize, F);

    impl<F: Fn(usize) -> String + Send + Sync + 'static> Http for Redirecting<F> {
        fn send(&self, _: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
            let asked = self.1.fetch_add(1, Ordering::Relaxed);
            let location = HeaderValue::try_from((self.2)(asked)).unwrap();
            let headers = std::iter::once((header::LOCATION, location)).collect();
            let (status, body) = (StatusCode::from_u16(self.0).unwrap(), Body::new(futures_util::stream::empty()));
            Box::pin(async move { Ok(Response { status, headers, body, proxy: None }) })
        }
    }

    #[tokio::test]
    async fn a_redirect_that_is_not_followed_names_what_to_register_and_no_secret() {
        let post = async |status, target: fn(usize) -> String| {
            let url = "https://up.test/mcp".parse().unwrap();
            let (method, headers, body) = (Method::POST, HeaderMap::new(), Bytes::new());
            let http = Redirecting(status, Default::default(), target);
            let sent = send_within_origin(&http, Request { method, url, headers, body, lane: Lane::Call }).await;
            sent.err().unwrap().to_string()
        };
        for status in [301, 302, 303] {
            let text = post(status, |_| "/mcp/?token=s3cret#part".into()).await;
            assert_eq!(text, format!("the server answers {status} to https://up.test/mcp/; register that address"));
        }
        for status in [301, 302, 307, 308] {
            for target in ["http://up.test/mcp/", "https://u:s3cret@other.test/x?token=s3cret"] {
                let text = match target.starts_with("http:") {
                    true => post(status, |_| "http://up.test/mcp/".into()).await,
                    false => post(status, |_| "https://u:s3cret@other.test/x?token=s3cret".into()).await,
                };
                let origin = if target.starts_with("http:") { "http://up.test" } else { "https://other.test" };
                assert!(text.contains(&format!("{status} to another origin, {origin};")), "{text}");
                assert!(!text.contains("s3cret"), "{text}");
            }
        }
        let text = post(308, |asked| format!("/{asked}")).await;
        assert_eq!(text, "the server answers with more than 3 redirects, the last of them to https://up.test/3");
        assert!(post(301, |_| "http://[".into()).await.ends_with("without an address"));
        let key = post(301, |_| "/s/4f9a81c2d7e64b0fa3c5b7d9e1f20344/mcp/".into()).await;
        assert!(!key.contains("4f9a81c2"), "{key}");
    }
}
