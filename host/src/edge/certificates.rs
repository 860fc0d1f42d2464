//! The platform's certificates, where the environment names them.

use super::http::HttpSetupError;

/// Whether what the environment names as the platform's certificates is there: without it, every connection would fail with an
/// error that does not name the variable.
pub(super) fn check_variables(variable: impl Fn(&str) -> Option<String>) -> Result<(), HttpSetupError> {
    let check = |variable: &'static str, path: &str, read: std::io::Result<()>| {
        read.map_err(|error| HttpSetupError::CertificateVariable {
            variable,
            path: path.to_owned(),
            reason: error.to_string(),
        })
    };
    let file = variable("SSL_CERT_FILE").filter(|path| !path.is_empty());
    if let Some(path) = &file {
        check("SSL_CERT_FILE", path, std::fs::read(path).map(drop))?;
    }
    // A list, as PATH is one. Where there are others, one that is missing takes nothing away.
    let folders = variable("SSL_CERT_DIR").unwrap_or_default();
    let (read, mut missing): (Vec<_>, Vec<_>) = folders
        .split(':')
        .filter(|path| !path.is_empty())
        .map(|path| check("SSL_CERT_DIR", path, std::fs::read_dir(path).map(drop)))
        .partition(Result::is_ok);
    if file.is_none() && read.is_empty() {
        return missing.pop().unwrap_or(Ok(()));
    }
    for error in missing.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "a folder of certificates is missing");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_names_missing_certificates_is_named() {
        let folder = std::env::temp_dir();
        let folder = folder.to_str().unwrap();
        for (variable, value, named) in [
            ("SSL_CERT_FILE", "/missing/roots.pem", Some("/missing/roots.pem")),
            ("SSL_CERT_FILE", folder, Some(folder)),
            ("SSL_CERT_FILE", "", None),
            ("SSL_CERT_DIR", "/missing/roots", Some("/missing/roots")),
            ("SSL_CERT_DIR", folder, None),
            ("SSL_CERT_DIR", &format!("/missing/roots:{folder}"), None),
            ("SSL_CERT_DIR", "/missing/a:/missing/b", Some("/missing/b")),
        ] {
            let checked = check_variables(|name| (name == variable).then(|| value.to_owned()));
            let error = checked.err().map(|error| error.to_string());
            let expected = named.map(|path| format!("{variable} names {path}, which cannot be read: "));
            assert_eq!(error.is_some(), expected.is_some(), "{error:?}");
            assert!(error.iter().zip(&expected).all(|(error, expected)| error.starts_with(expected)), "{error:?}");
        }
    }
}
