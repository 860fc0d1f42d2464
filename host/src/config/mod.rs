//! Configuration: flags before environment before `gateway.toml`, strictly read, resolved once.
//!
//! An unknown key, or a value that does not parse, is an error that names it and says what is accepted. Secrets come
//! from the environment, or from files that it names, and are typed so that they can not be printed.

mod connector;
mod environment;
mod error;
mod file;
pub mod limits;
mod paths;
mod secret_sources;
mod secrets;
mod settings;
mod token;

pub use connector::{CallLimits, ConnectorSettings, FileConnector, OnChange, ToolFilter};
pub use environment::Environment;
pub use error::ConfigError;
pub use file::FileSettings;
pub use paths::Paths;
pub use secrets::{Secrets, SignatureKeys};
pub use settings::{
    Flags, NameStyle, PolicySettings, RefreshMode, RegistrySettings, Settings, TraceFlag, TraceSettings,
};
pub use token::Token;

#[cfg(test)]
mod tests {
    #[test]
    fn the_configuration_knows_the_model_and_where_secrets_are_read() {
        let sources = [
            include_str!("connector.rs"),
            include_str!("environment.rs"),
            include_str!("error.rs"),
            include_str!("file.rs"),
            include_str!("limits.rs"),
            include_str!("paths.rs"),
            include_str!("secret_sources.rs"),
            include_str!("secrets.rs"),
            include_str!("settings.rs"),
            include_str!("token.rs"),
        ];
        for source in sources {
            // Tests may use more.
            let source = source.split("#[cfg(test)]").next().unwrap();
            let is_known = |path: &str| {
                ["model::", "edge::secret_file::", "edge::references::"].iter().any(|known| path.starts_with(known))
            };
            assert!(source.split("crate::").skip(1).all(is_known), "{source}");
        }
    }
}
