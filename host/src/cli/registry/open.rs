//! How the subcommands open the registry. Those that read make nothing, not even a folder that is missing.

use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortex_mcp::config::{Environment, Flags, Settings};
use cortex_mcp::edge::disk::{Disk, MemoryDisk, SystemDisk};
use cortex_mcp::edge::entropy::{Entropy, SystemEntropy};
use cortex_mcp::gateway::{listening, policy_for_commands, target_rules};
use cortex_mcp::registry::{
    Acknowledge, RegistryMetrics, RegistryPlace, RegistrySnapshot, Store, StoreOptions, StoreParts, TargetRules,
};
use cortex_mcp::telemetry::init_logs;

use super::Configuration;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, notice};

/// A registry that is to be opened.
pub(super) struct Opening {
    pub(super) settings: Settings,
    /// The file's path, before links are followed.
    pub(super) path: PathBuf,
}

impl Opening {
    /// The registry that the settings name; logs are on afterwards.
    pub(super) fn of(configuration: &Configuration) -> Result<Self, CommandError> {
        let flags = Flags { configuration: configuration.config.clone(), ..Flags::default() };
        let settings = Settings::resolve(&flags, &Environment::of_process())?;
        init_logs(settings.log_level, settings.log_format);
        let path = settings.paths.registry();
        Ok(Self { settings, path })
    }

    /// What an entry may not point at.
    pub(super) fn target_rules(&self) -> TargetRules {
        target_rules(&self.settings, &listening(&self.settings.paths.state()))
    }

    /// Where the file is, links followed.
    pub(super) fn place(&self) -> Result<RegistryPlace, CommandError> {
        RegistryPlace::of(&self.path).map_err(in_file(&self.path))
    }

    /// The folder, as it is; none if it is missing.
    pub(super) fn folder(&self, place: &RegistryPlace) -> Result<Option<SystemDisk>, CommandError> {
        match SystemDisk::open_existing(&place.folder) {
            Ok(disk) => Ok(Some(disk)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(in_file(&place.folder)(error)),
        }
    }

    /// The registry as it stands. Nothing is written, and a missing folder is an empty registry.
    pub(super) fn to_read(&self) -> Result<Arc<Store>, CommandError> {
        let place = self.place()?;
        match self.folder(&place)? {
            Some(disk) => self.store(Arc::new(disk), place.file),
            None => self.store(Arc::new(MemoryDisk::new()), place.file),
        }
    }

    /// The registry, to be changed. The folder is made if it is missing.
    pub(super) fn to_write(&self) -> Result<Arc<Store>, CommandError> {
        let place = self.place()?;
        let disk = place.open().map_err(in_file(&place.folder))?;
        self.store(Arc::new(disk), place.file)
    }

    /// The registry in a folder that was opened.
    pub(super) fn store(&self, disk: Arc<dyn Disk>, file: String) -> Result<Arc<Store>, CommandError> {
        Ok(Store::open(StoreParts {
            disk,
            file,
            policy: policy_for_commands(&self.settings)?,
            writer: format!("command-{:013x}", SystemEntropy.seed()),
            metrics: RegistryMetrics::default(),
            // It ends at once: what it tells to be done is in the document.
            options: StoreOptions { acknowledge: Acknowledge::Snapshot, ..StoreOptions::default() },
        })?)
    }
}

/// Why not all may be there, if so: told to people, and as part of the exit code.
pub(super) fn partly(output: Output, snapshot: &RegistrySnapshot) -> Exit {
    let Some(reason) = snapshot.standing.reason() else { return Exit::Good };
    if !output.is_json() {
        notice(format_args!("{reason}; what can be had is shown, and `cortex-mcp registry doctor` tells more"));
    }
    if snapshot.count() == 0 { Exit::Failed } else { Exit::Partly }
}

/// Names the file in an error that came of it.
pub(super) fn in_file(path: &Path) -> impl FnOnce(io::Error) -> CommandError + '_ {
    |source| CommandError::File { path: path.display().to_string(), source }
}

/// Reads a file, or stdin for `-`: at most one byte more than `most`, by which too much is noticed.
pub(super) fn read_input(path: &Path, most: usize) -> Result<Vec<u8>, CommandError> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes).map_err(in_file(path))?;
    } else {
        let file = std::fs::File::open(path).map_err(in_file(path))?;
        file.take(limit).read_to_end(&mut bytes).map_err(in_file(path))?;
    }
    Ok(bytes)
}
