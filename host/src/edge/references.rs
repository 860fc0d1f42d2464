//! Resolves the references of values (`model::reference`): what a file holds, or a variable of this process's environment.
//!
//! Values are read each time, so that a rotated secret is used by the next connection. The gateway's own secrets cannot be
//! referred to: a server would get them.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::secret_file::read_secret;
use crate::model::reference::{Piece, has_reference, pieces};
use crate::model::{VariableName, VariableNameFault};

/// Where the system shows processes (the gateway's environment among them) and devices as files.
const SYSTEM_FOLDERS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Why a reference cannot be resolved. It names the file or the variable, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceFault {
    /// The variable is not set.
    #[error("the variable {name}, which ${{env:{name}}} refers to, is not set; set it where the gateway is started")]
    Unset {
        /// Its name.
        name: String,
    },
    /// The variable may not be referred to.
    #[error("a reference ${{env:NAME}} cannot be resolved: {0}")]
    Name(VariableNameFault),
    /// The file cannot be read.
    #[error("the file {path}, which a reference ${{file:...}} names, cannot be used: {reason}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The value cannot be sent.
    #[error(
        "the header {header} cannot be sent: what its reference resolves to is no header value; write one line of text"
    )]
    Header {
        /// The name of the header.
        header: String,
    },
    /// The credential beside the references cannot be sent.
    #[error("{0}")]
    Credential(String),
    /// The work was given up.
    #[error("references were not resolved: the gateway shuts down")]
    Interrupted,
}

/// Resolves the references of each value, off the async workers: a disk may hang. Without any, nothing is done.
///
/// # Errors
/// The first [`ReferenceFault`].
pub async fn resolve<K: Send + 'static>(values: Vec<(K, String)>) -> Result<Vec<(K, String)>, ReferenceFault> {
    if !values.iter().any(|(_, value)| has_reference(value)) {
        return Ok(values);
    }
    let resolving = tokio::task::spawn_blocking(move || {
        values.into_iter().map(|(key, value)| resolve_value(&value).map(|value| (key, value))).collect()
    });
    resolving.await.unwrap_or(Err(ReferenceFault::Interrupted))
}

/// Resolves the references of one value.
///
/// # Errors
/// [`ReferenceFault`].
pub fn resolve_value(value: &str) -> Result<String, ReferenceFault> {
    let mut resolved = String::new();
    for piece in pieces(value) {
        match piece {
            Piece::Text(text) => resolved.push_str(text),
            Piece::File(path) => resolved.push_str(&file(path)?),
            Piece::Variable(name) => {
                let name: VariableName = name.parse().map_err(ReferenceFault::Name)?;
                let value = std::env::var(name.as_str()).ok().filter(|value| !value.is_empty());
                let unset = || ReferenceFault::Unset { name: name.as_str().to_owned() };
                resolved.push_str(&value.ok_or_else(unset)?);
            }
        }
    }
    Ok(resolved)
}

fn file(path: &str) -> Result<String, ReferenceFault> {
    let unusable = |reason: String| ReferenceFault::File { path: path.to_owned(), reason };
    if !Path::new(path).is_absolute() {
        return Err(unusable("the path is not absolute".to_owned()));
    }
    // Links are followed here, so that what is checked is what is read.
    let found = std::fs::canonicalize(path).map_err(|error| unusable(error.to_string()))?;
    if SYSTEM_FOLDERS.iter().any(|folder| found.starts_with(folder)) || is_own_secret(&found) {
        return Err(unusable("a server may not get what it holds; name a file of the server's own secret".to_owned()));
    }
    // A pipe would be waited for.
    if !found.is_file() {
        return Err(unusable("it is no regular file".to_owned()));
    }
    let secret = read_secret(&found).map_err(|fault| unusable(fault.to_string()))?;
    Ok(secret.expose_secret().to_owned())
}

/// Whether a file is that of a secret of the gateway: named by one of its `..._FILE` variables, or a systemd credential with the
/// name of one of its variables.
fn is_own_secret(found: &Path) -> bool {
    let is_own = |name: &str| matches!(name.parse::<VariableName>(), Err(VariableNameFault::Gateway(_)));
    let is_same = |path: PathBuf| std::fs::canonicalize(path).is_ok_and(|path| path == found);
    std::env::vars_os().any(|(name, value)| match name.to_str() {
        Some("CREDENTIALS_DIRECTORY") => {
            let name = found.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| is_own(name) && is_same(PathBuf::from(value).join(name)))
        }
        Some(name) => name.ends_with("_FILE") && is_own(name) && is_same(PathBuf::from(value)),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_and_files_and_variables_are_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let value = format!("Bearer ${{file:{}}} ${{HOME}}", path.display());
        for secret in ["first", "second"] {
            std::fs::write(&path, format!("{secret}\n")).unwrap();
            assert_eq!(resolve_value(&value).unwrap(), format!("Bearer {secret} ${{HOME}}"));
        }
        let expected = std::env::var("PATH").unwrap();
        assert_eq!(resolve_value("${env:PATH}").unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("empty"), "\n").unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", path("link")).unwrap();
        for (reference, part) in [
            ("${env:CORTEX_TEST_UNSET}".to_owned(), "CORTEX_TEST_UNSET is a variable of the gateway"),
            ("${env:CONNECTORS_SIGNATURE_KEY}".to_owned(), "CONNECTORS_SIGNATURE_KEY is a variable of the gateway"),
            ("${env:connectors_api_key}".to_owned(), "connectors_api_key"),
            ("${env:NO_SUCH_VARIABLE_OF_TESTS}".to_owned(), "NO_SUCH_VARIABLE_OF_TESTS"),
            ("${env:A B}".to_owned(), "names of variables"),
            ("${file:relative}".to_owned(), "relative"),
            ("${file:/proc/self/environ}".to_owned(), "/proc/self/environ"),
            ("${file:/dev/null}".to_owned(), "/dev/null"),
            (format!("${{file:{}}}", path("link")), "may not get"),
            (format!("${{file:{}}}", path("missing")), "No such file"),
            (format!("${{file:{}}}", path("empty")), "empty"),
            (format!("${{file:{}}}", path(".")), "no regular file"),
        ] {
            let fault = resolve_value(&reference).unwrap_err().to_string();
            assert!(fault.contains(part), "{reference}: {fault}");
        }
    }
}
