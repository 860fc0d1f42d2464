//! Files that hold one secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::SecretString;

use super::limits::SECRET_BYTES_MAX;

/// What is wrong with the file of a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileFault {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// Nothing is in it.
    #[error("the file is empty")]
    Empty,
    /// It is larger than a secret can be.
    #[error("the file has more than {SECRET_BYTES_MAX} bytes")]
    TooLarge,
    /// It is no text.
    #[error("the file is not UTF-8 text")]
    Encoding,
}

/// Reads a secret. The line break at the end of the file is not part of it.
///
/// # Errors
/// [`SecretFileFault`].
pub fn read_secret(path: &Path) -> Result<SecretString, SecretFileFault> {
    let mut bytes = Vec::new();
    // One byte more than is accepted shows that there is too much.
    File::open(path)?.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > SECRET_BYTES_MAX) {
        return Err(SecretFileFault::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| SecretFileFault::Encoding)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    match text.strip_suffix('\r').unwrap_or(text) {
        "" => Err(SecretFileFault::Empty),
        secret => Ok(SecretString::from(secret)),
    }
}
