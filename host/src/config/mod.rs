//! Configuration: flags before environment before `gateway.toml`, strictly read, resolved once.
//!
//! An unknown key, or a value that does not parse, is an error that names it and says what is accepted. Secrets come
//! from the environment only and are typed so that they can not be printed.

mod environment;
mod error;
mod file;
mod paths;
mod settings;

pub use environment::Environment;
pub use error::ConfigError;
pub use file::FileSettings;
pub use paths::Paths;
pub use settings::{Flags, NameStyle, PolicySettings, RefreshMode, Secrets, Settings, SignatureKeys, Token, limits};
