//! Which URLs may be connected to.
//!
//! Credentials travel to these addresses, so plain http is for this machine's loopback only, unless the user's own file
//! asks for it; user names, passwords and fragments have no business in them (defect L9). Names are not resolved here.

use url::{Host, Url};

/// Why a text is no acceptable address, as the predicate of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// It is no URL.
    #[error("must be an absolute URL without spaces")]
    Form,
    /// Its scheme is neither http nor https.
    #[error("must be an http or https URL")]
    Scheme,
    /// It is plain http to another machine.
    #[error("must be https; http is for loopback only")]
    Plain,
    /// It holds a user name or a password.
    #[error("must hold no user name and no password")]
    UserInfo,
    /// It has a fragment.
    #[error("must have no fragment")]
    Fragment,
}

/// Reads an address from a document of others: https, or http on loopback, and no fragment.
///
/// # Errors
/// [`AddressFault`].
pub(crate) fn read(text: &str) -> Result<Url, AddressFault> {
    let url = read_own(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(AddressFault::Plain);
    }
    if url.fragment().is_some() {
        return Err(AddressFault::Fragment);
    }
    Ok(url)
}

/// Reads an address from the user's own file: http or https, anywhere.
///
/// # Errors
/// [`AddressFault`].
pub(crate) fn read_own(text: &str) -> Result<Url, AddressFault> {
    // The URL standard drops tabs and line feeds silently; an address that needs that is not what it seems.
    if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(AddressFault::Form);
    }
    let url = Url::parse(text).map_err(|_| AddressFault::Form)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(AddressFault::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressFault::UserInfo);
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_accepted_anywhere_and_http_on_loopback_only() {
        for good in [
            "https://example.com/mcp?x=1",
            "http://127.0.0.1:8080/",
            "http://127.9.9.9",
            "http://[::1]:1/mcp",
            "http://localhost:3000",
            "HTTP://LOCALHOST",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for (bad, fault) in [
            ("http://example.com", AddressFault::Plain),
            ("http://localhost.example.com", AddressFault::Plain),
            ("http://10.0.0.1", AddressFault::Plain),
            ("http://0.0.0.0", AddressFault::Plain),
            ("javascript:alert(1)", AddressFault::Scheme),
            ("ftp://example.com", AddressFault::Scheme),
            ("file:///etc/passwd", AddressFault::Scheme),
            ("https://user@example.com", AddressFault::UserInfo),
            ("https://:password@example.com", AddressFault::UserInfo),
            ("https://example.com/#x", AddressFault::Fragment),
            ("/mcp", AddressFault::Form),
            ("", AddressFault::Form),
            ("https://", AddressFault::Form),
            ("https://exa\nmple.com", AddressFault::Form),
            (" https://example.com", AddressFault::Form),
        ] {
            assert_eq!(read(bad), Err(fault), "{bad}");
        }
    }

    #[test]
    fn the_users_own_file_may_name_plain_http_but_no_password() {
        assert!(read_own("http://192.168.1.2:8080/mcp#note").is_ok());
        assert_eq!(read_own("http://user:pass@192.168.1.2"), Err(AddressFault::UserInfo));
        assert_eq!(read_own("ws://192.168.1.2"), Err(AddressFault::Scheme));
    }
}
