//! Where things are: `$CORTEX_HOME`, else `$XDG_CONFIG_HOME/cortex-os`, else `~/.config/cortex-os`; below it `mcp/`.

use std::path::{Path, PathBuf};

use super::Environment;

/// The folders of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    mcp: PathBuf,
}

impl Paths {
    /// The folders that the environment names.
    pub fn of(environment: &Environment) -> Self {
        let base = match (environment.get("CORTEX_HOME"), environment.get("XDG_CONFIG_HOME")) {
            (Some(home), _) => PathBuf::from(home),
            (None, Some(configuration)) => Path::new(configuration).join("cortex-os"),
            (None, None) => Path::new(environment.get("HOME").unwrap_or(".")).join(".config").join("cortex-os"),
        };
        Self::below(&base)
    }

    /// The folders below a base.
    pub fn below(base: &Path) -> Self {
        Self { mcp: base.join("mcp") }
    }

    /// The folder of everything.
    pub fn mcp(&self) -> &Path {
        &self.mcp
    }

    /// The configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.mcp.join("gateway.toml")
    }

    /// The folder of last known good state.
    pub fn state(&self) -> PathBuf {
        self.mcp.join("state")
    }

    /// The folder of the decisions on record.
    pub fn trace(&self) -> PathBuf {
        self.mcp.join("trace")
    }

    /// The folder of what can be made again at any time: compiled code.
    pub fn cache(&self) -> PathBuf {
        self.mcp.join("cache")
    }

    /// The name of the registry's file, within [`Self::mcp`].
    pub fn registry(&self) -> PathBuf {
        self.mcp.join("servers.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_and_not_empty_names_the_base() {
        let all = [("CORTEX_HOME", "/c"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")];
        for (environment, expected) in [
            (Environment::from(all), "/c/mcp"),
            (Environment::from([("CORTEX_HOME", ""), all[1], all[2]]), "/x/cortex-os/mcp"),
            (Environment::from([all[2]]), "/h/.config/cortex-os/mcp"),
            (Environment::default(), "./.config/cortex-os/mcp"),
        ] {
            assert_eq!(Paths::of(&environment).mcp(), Path::new(expected));
        }
    }
}
