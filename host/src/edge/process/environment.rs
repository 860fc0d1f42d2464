//! The environment of a child process: a documented list of variables, those that the configuration adds, and the
//! command's own.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::model::{ChildRules, CommandLine};

/// Some variables that every child gets, where the gateway has them, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedVariables {
    /// What servers need them for.
    pub purpose: &'static str,
    /// Their names.
    pub names: &'static [&'static str],
}

/// The variables that every child gets: names of places, programs, languages and proxies. None of them is meant for a
/// secret, and none of them changes what code a program runs (`LD_PRELOAD`, `NODE_OPTIONS`, `PYTHONPATH`).
pub const INHERITED: [InheritedVariables; 8] = [
    InheritedVariables {
        purpose: "user, programs, temporary files",
        names: &["HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "USER"],
    },
    InheritedVariables {
        purpose: "language, time zone, terminal",
        names: &["LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "NO_COLOR", "TERM", "TZ"],
    },
    InheritedVariables {
        purpose: "certificate authorities",
        names: &[
            "CURL_CA_BUNDLE",
            "GIT_SSL_CAINFO",
            "NODE_EXTRA_CA_CERTS",
            "NODE_USE_SYSTEM_CA",
            "PIP_CERT",
            "REQUESTS_CA_BUNDLE",
            "SSL_CERT_DIR",
            "SSL_CERT_FILE",
            "UV_NATIVE_TLS",
            "UV_SYSTEM_CERTS",
        ],
    },
    InheritedVariables {
        purpose: "proxies, without user name and password",
        names: &[
            "ALL_PROXY",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "NODE_USE_ENV_PROXY",
            "NO_PROXY",
            "all_proxy",
            "http_proxy",
            "https_proxy",
            "no_proxy",
        ],
    },
    InheritedVariables {
        purpose: "folders of a desktop session",
        names: &[
            "XDG_CACHE_HOME",
            "XDG_CONFIG_DIRS",
            "XDG_CONFIG_HOME",
            "XDG_DATA_DIRS",
            "XDG_DATA_HOME",
            "XDG_RUNTIME_DIR",
            "XDG_STATE_HOME",
        ],
    },
    InheritedVariables {
        purpose: "display, session bus, SSH agent",
        names: &["DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "SSH_AUTH_SOCK", "WAYLAND_DISPLAY", "XAUTHORITY"],
    },
    InheritedVariables {
        purpose: "package managers and language runtimes: caches, folders, configuration files",
        names: &[
            "BUN_INSTALL",
            "CARGO_HOME",
            "DENO_DIR",
            "GOPATH",
            "JAVA_HOME",
            "NPM_CONFIG_CACHE",
            "NPM_CONFIG_PREFIX",
            "NPM_CONFIG_USERCONFIG",
            "NVM_DIR",
            "PIP_CACHE_DIR",
            "PIP_CONFIG_FILE",
            "PNPM_HOME",
            "PYENV_ROOT",
            "RUSTUP_HOME",
            "UV_CACHE_DIR",
            "UV_CONFIG_FILE",
            "UV_PYTHON_INSTALL_DIR",
            "UV_TOOL_DIR",
            "VOLTA_HOME",
            "npm_config_cache",
            "npm_config_prefix",
            "npm_config_userconfig",
        ],
    },
    InheritedVariables {
        purpose: "clusters, containers, clouds: which one, and where its configuration is",
        names: &[
            "AWS_CONFIG_FILE",
            "AWS_DEFAULT_REGION",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AZURE_CONFIG_DIR",
            "CLOUDSDK_CONFIG",
            "DOCKER_CERT_PATH",
            "DOCKER_CONFIG",
            "DOCKER_CONTEXT",
            "DOCKER_HOST",
            "DOCKER_TLS_VERIFY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "KUBECONFIG",
        ],
    },
];

/// Returns the whole environment of a child. `source` is the gateway's environment; what the command sets wins.
pub(super) fn child_environment(
    source: impl Fn(&str) -> Option<OsString>,
    command: &CommandLine,
    rules: &ChildRules,
) -> BTreeMap<OsString, OsString> {
    let always = INHERITED.iter().flat_map(|group| group.names).copied();
    let added = rules.pass_environment.iter().map(|name| name.as_str());
    let passed = always.chain(added).filter_map(|name| {
        let value = source(name)?;
        let value = if names_a_proxy(name) { without_user_info(value) } else { value };
        Some((name.into(), value))
    });
    let own = command.environment.iter().map(|(name, value)| (name.into(), value.into()));
    passed.chain(own).collect()
}

fn names_a_proxy(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("proxy")
}

/// Removes the user name and the password from the URL of a proxy. Some programs accept URLs without a scheme, and
/// passwords whose `/` or `@` is not escaped, so everything between the scheme and the last `@` is taken for them.
fn without_user_info(url: OsString) -> OsString {
    let bytes = url.as_bytes();
    let Some(at) = bytes.iter().rposition(|byte| *byte == b'@') else { return url };
    let is_scheme = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    let colon = bytes[..at].windows(3).position(|three| three == b"://");
    let scheme = colon.filter(|colon| is_scheme(&bytes[..*colon])).map_or(0, |colon| colon + 3);
    OsString::from_vec([&bytes[..scheme], &bytes[at + 1..]].concat())
}

/// Whether every child gets the variable of this name.
pub fn is_inherited(name: impl AsRef<OsStr>) -> bool {
    INHERITED.iter().flat_map(|group| group.names).any(|known| OsStr::new(known) == name.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Privileges;

    fn environment(pass: &[&str], own: &[(&str, &str)]) -> BTreeMap<String, String> {
        let gateway = |name: &str| match name {
            "PATH" => Some("/bin".into()),
            "HTTPS_PROXY" | "CUSTOM_PROXY" => Some("http://user:canary@proxy:3128".into()),
            "EXTRA" => Some("extra".into()),
            "SECRET" => Some("canary".into()),
            _ => None,
        };
        let text = |text: &OsString| text.to_str().unwrap().to_owned();
        let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let command = CommandLine { program: "p".to_owned(), arguments: Vec::new(), environment: own };
        let pass_environment = pass.iter().map(|name| name.parse().unwrap()).collect();
        let rules = ChildRules { pass_environment, privileges: Privileges::Drop };
        child_environment(gateway, &command, &rules).iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn expected(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    mod child {
        use super::*;

        #[test]
        fn gets_what_is_listed_and_nothing_else() {
            let listed = [("PATH", "/bin"), ("HTTPS_PROXY", "http://proxy:3128")];
            assert_eq!(environment(&[], &[]), expected(&listed));
        }

        #[test]
        fn gets_what_is_passed_on_but_no_proxys_password() {
            let passed = environment(&["EXTRA", "CUSTOM_PROXY", "MISSING"], &[]);
            assert_eq!(passed["EXTRA"], "extra");
            assert_eq!(passed["CUSTOM_PROXY"], "http://proxy:3128");
            assert!(!passed.contains_key("MISSING"));
        }

        #[test]
        fn gets_its_own_values_as_they_are() {
            let own = [("PATH", "/own"), ("HTTPS_PROXY", "http://a:b@own"), ("CORTEX_HOME", "/h")];
            assert_eq!(environment(&[], &own), expected(&own));
        }
    }

    mod proxy {
        use super::*;

        #[test]
        fn loses_its_user_and_password() {
            for (url, stripped) in [
                ("http://user:canary@proxy:3128", "http://proxy:3128"),
                ("http://canary@proxy/", "http://proxy/"),
                ("user:canary@proxy:3128", "proxy:3128"),
                ("socks5h://u:can@ary@[::1]:1080", "socks5h://[::1]:1080"),
                ("http://u:can/ary@proxy", "http://proxy"),
                ("http://u:x://canary@proxy", "http://proxy"),
                ("u:canary://x@proxy", "proxy"),
                ("http://proxy:3128", "http://proxy:3128"),
                ("proxy", "proxy"),
                ("", ""),
                ("@", ""),
            ] {
                assert_eq!(without_user_info(url.into()), stripped, "{url}");
            }
            let broken = without_user_info(OsString::from_vec(b"http://u:\xff@proxy".to_vec()));
            assert_eq!(broken, "http://proxy");
        }
    }

    mod list {
        use super::*;

        #[test]
        fn names_each_variable_once_and_none_of_the_gateways() {
            let mut names: Vec<&str> = INHERITED.iter().flat_map(|group| group.names).copied().collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
            // What could not be passed on by the configuration is not passed on by default either.
            assert!(names.iter().all(|name| name.parse::<crate::model::VariableName>().is_ok()));
            assert!(is_inherited("SSL_CERT_FILE") && !is_inherited("AWS_SECRET_ACCESS_KEY"));
        }

        #[test]
        fn stands_in_the_readme() {
            let readme = include_str!("../../../../README.md");
            for InheritedVariables { purpose, names } in INHERITED {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let row = format!("| {purpose} | {} |", names.join(", "));
                assert!(readme.contains(&row), "the README has no row {row}");
            }
        }
    }
}
