//! Where a secret may stand: in a variable, in a file that a second variable names, or in a credential of the systemd unit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{ConfigError, Environment};
use crate::edge::secret_file::read_secret;

/// What the name of a variable ends with that names the file of a secret.
const FILE_SUFFIX: &str = "_FILE";

/// The folder of the credentials that systemd hands to a unit
/// (<https://systemd.io/CREDENTIALS/>). A credential has the name of the variable that it replaces.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

impl Environment {
    /// A secret: the value of the variable `name`, the content of the file that `name` with `_FILE` names, or the systemd
    /// credential `name`. Of a file, the line break at its end is not part of the secret.
    ///
    /// # Errors
    /// [`ConfigError::SecretFile`], and [`ConfigError::SecretTwice`] if more than one of them is there.
    pub fn secret(&self, name: &str) -> Result<Option<SecretString>, ConfigError> {
        let (named, credential) = (self.named_file(name), self.systemd_credential(name));
        let value = self.get(name).map(SecretString::from);
        if [value.is_some(), named.is_some(), credential.is_some()].into_iter().filter(|there| *there).count() > 1 {
            return Err(ConfigError::SecretTwice { name: name.to_owned() });
        }
        match named.or(credential) {
            None => Ok(value),
            Some(path) => match read_secret(&path) {
                Ok(secret) => Ok(Some(secret)),
                Err(fault) => Err(ConfigError::SecretFile { name: name.to_owned(), path, fault }),
            },
        }
    }

    /// The file that a secret stands in, if it does.
    pub(super) fn secret_file(&self, name: &str) -> Option<PathBuf> {
        self.named_file(name).or_else(|| self.systemd_credential(name))
    }

    fn named_file(&self, name: &str) -> Option<PathBuf> {
        self.get(&format!("{name}{FILE_SUFFIX}")).map(PathBuf::from)
    }

    fn systemd_credential(&self, name: &str) -> Option<PathBuf> {
        self.credentials_folder().map(|folder| folder.join(name)).filter(|path| path.exists())
    }

    /// The names of all secrets that are there and that `is_wanted`, wherever they stand.
    pub(super) fn secret_names(&self, is_wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let variables = self.names().map(|name| name.strip_suffix(FILE_SUFFIX).unwrap_or(name).to_owned());
        // A folder that cannot be listed holds nothing for this process.
        let credentials = self.credentials_folder().and_then(|folder| std::fs::read_dir(folder).ok());
        let credentials = credentials.into_iter().flatten().flatten();
        let credentials = credentials.filter_map(|entry| entry.file_name().into_string().ok());
        variables.chain(credentials).filter(|name| is_wanted(name)).collect()
    }

    fn credentials_folder(&self) -> Option<&Path> {
        self.get(CREDENTIALS_DIRECTORY).map(Path::new)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::edge::limits::SECRET_BYTES_MAX;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn secret(environment: &Environment) -> Result<Option<String>, ConfigError> {
        Ok(environment.secret("KEY")?.map(|secret| secret.expose_secret().to_owned()))
    }

    mod secret {
        use super::*;

        #[test]
        fn stands_in_a_variable_a_file_or_a_credential() {
            let folder = folder(&[("KEY", b"from a credential"), ("key.txt", b"from a file\n")]);
            let path = folder.path().display().to_string();
            let file = format!("{path}/key.txt");
            for (variables, expected) in [
                (("KEY", "from a variable"), Some("from a variable")),
                (("KEY_FILE", file.as_str()), Some("from a file")),
                (("CREDENTIALS_DIRECTORY", path.as_str()), Some("from a credential")),
                (("KEY_FILE", ""), None),
                (("CREDENTIALS_DIRECTORY", "/nowhere"), None),
            ] {
                assert_eq!(secret(&Environment::from([variables])).unwrap().as_deref(), expected, "{variables:?}");
            }
        }

        #[test]
        fn loses_one_line_break_at_its_end() {
            for (content, expected) in
                [(&b"a b"[..], "a b"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a \n", " a "), (b"a\nb\n", "a\nb")]
            {
                let folder = folder(&[("key", content)]);
                let file = folder.path().join("key").display().to_string();
                let environment = Environment::default().plus("KEY_FILE", &file);
                assert_eq!(secret(&environment).unwrap().as_deref(), Some(expected));
            }
        }

        #[test]
        fn that_stands_in_two_places_is_refused() {
            let folder = folder(&[("KEY", b"canary")]);
            let path = folder.path().display().to_string();
            let file = format!("{path}/KEY");
            let all = [("KEY", "canary"), ("KEY_FILE", &file), ("CREDENTIALS_DIRECTORY", &path)];
            for left_out in 0..all.len() {
                let two = all.iter().enumerate().filter(|(at, _)| *at != left_out);
                let environment = two.fold(Environment::default(), |all, (_, (name, value))| all.plus(name, value));
                let error = secret(&environment).unwrap_err().to_string();
                assert!(error.contains("KEY_FILE") && !error.contains("canary"), "{error}");
            }
        }

        #[test]
        fn is_refused_by_name_and_without_its_content() {
            let large = vec![b'x'; usize::try_from(SECRET_BYTES_MAX).unwrap() + 1];
            let folder = folder(&[("empty", b"\n"), ("binary", b"canary\xff"), ("large", &large)]);
            for (file, part) in
                [("empty", "empty"), ("binary", "UTF-8"), ("large", "65536 bytes"), ("missing", "No such file")]
            {
                let path = folder.path().join(file).display().to_string();
                let error = secret(&Environment::default().plus("KEY_FILE", &path)).unwrap_err().to_string();
                assert!(error.contains("KEY_FILE") && error.contains(&path) && error.contains(part), "{error}");
                assert!(!error.contains("canary"), "{error}");
            }
        }
    }

    #[test]
    fn names_are_found_wherever_the_secrets_stand() {
        let folder = folder(&[("C_KEY", b"c"), ("other", b"")]);
        let path = folder.path().display().to_string();
        let environment =
            Environment::from([("A_KEY", "a"), ("B_KEY_FILE", "/b"), ("X", "x"), ("CREDENTIALS_DIRECTORY", &path)]);
        let names = environment.secret_names(|name| name.ends_with("_KEY"));
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["A_KEY", "B_KEY", "C_KEY"]);
    }
}
