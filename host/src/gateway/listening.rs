//! Where the gateways of a home listen, for commands in other processes: a lock file for each address, held as long as a
//! gateway listens there. A lock outlives no process, however that ends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use crate::config::Settings;
use crate::edge::files::{Directory, LockGuard, SystemDirectory};
use crate::registry::{OwnAddresses, TargetRules};

const PREFIX: &str = "listening-";
const SUFFIX: &str = ".lock";

/// Keeps an address known to other processes until it is dropped.
pub struct ListeningRecord {
    directory: Arc<dyn Directory>,
    name: String,
    _lock: LockGuard,
}

impl ListeningRecord {
    /// Makes the address of a listener known to the commands of the same home; none if the folder cannot be written.
    pub fn hold(settings: &Settings, address: SocketAddr) -> Option<Self> {
        let directory: Arc<dyn Directory> = Arc::new(SystemDirectory::open(&settings.paths.state()).ok()?);
        for (name, _) in addresses(directory.as_ref()) {
            // What can be locked was left by a process that was killed.
            if let Ok(Some(_lock)) = directory.try_lock(&name) {
                let _ = directory.remove(&name);
            }
        }
        let name = format!("{PREFIX}{address}{SUFFIX}");
        let lock = directory.try_lock(&name).ok()??;
        Some(Self { directory, name, _lock: lock })
    }
}

impl Drop for ListeningRecord {
    fn drop(&mut self) {
        // One that stays is recognized by its lock, which nothing holds.
        let _ = self.directory.remove(&self.name);
    }
}

/// The rules for entries of a registry: what leads to a gateway of these settings, which listens there. One that does not run
/// will listen where it is configured to.
pub fn target_rules(settings: &Settings, listening: &[SocketAddr]) -> TargetRules {
    let own = OwnAddresses {
        listen: if listening.is_empty() { vec![settings.listen] } else { listening.to_vec() },
        hosts: settings.allowed_hosts.clone(),
        machine: machine_name(),
        is_of_machine,
    };
    TargetRules { own, allows_link_local: settings.allow_link_local }
}

/// The addresses on which gateways with this state folder listen now.
pub fn listening(folder: &Path) -> Vec<SocketAddr> {
    // Opening one that is missing would make it.
    let directory = if folder.is_dir() { SystemDirectory::open(folder).ok() } else { None };
    let Some(directory) = directory else { return Vec::new() };
    let held = addresses(&directory).into_iter().filter(|(name, _)| matches!(directory.try_lock(name), Ok(None)));
    held.map(|(_, address)| address).collect()
}

fn addresses(directory: &dyn Directory) -> Vec<(String, SocketAddr)> {
    let names = directory.names().unwrap_or_default().into_iter();
    let named = names.filter_map(|name| {
        let address = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()?;
        Some((name, address))
    });
    named.collect()
}

/// The name of this machine, as Linux and other Unix systems keep it; empty if neither does.
fn machine_name() -> String {
    let name =
        ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Only addresses of this machine can be bound. No packet is sent.
fn is_of_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Settings};

    fn settings(home: &Path) -> Settings {
        let home = home.display().to_string();
        Settings::from_environment(&Environment::from([("CORTEX_HOME", home.as_str())])).unwrap()
    }

    #[test]
    fn an_address_is_known_for_as_long_as_its_record_is_held() {
        let home = tempfile::tempdir().unwrap();
        let settings = settings(home.path());
        let state = settings.paths.state();
        assert_eq!(listening(&state), []);
        assert!(!state.exists(), "looking makes nothing");
        let addresses: Vec<SocketAddr> = vec!["127.0.0.1:9000".parse().unwrap(), "[::1]:9001".parse().unwrap()];
        let records: Vec<_> = addresses.iter().map(|address| ListeningRecord::hold(&settings, *address)).collect();
        assert!(records.iter().all(Option::is_some));
        assert_eq!(listening(&state), addresses);
        assert_eq!(target_rules(&settings, &listening(&state)).own.listen, addresses);
        drop(records);
        assert_eq!(listening(&state), []);
        assert_eq!(target_rules(&settings, &listening(&state)).own.listen, [settings.listen]);
        // What a process that was killed left is not taken for a listener, and goes with the next.
        std::fs::write(state.join("listening-127.0.0.1:9000.lock"), "").unwrap();
        assert_eq!(listening(&state), []);
        let _record = ListeningRecord::hold(&settings, addresses[1]).unwrap();
        assert!(!state.join("listening-127.0.0.1:9000.lock").exists());
    }

    #[test]
    fn addresses_of_this_machine_can_be_bound_and_others_cannot() {
        assert!(is_of_machine([127, 0, 0, 1].into()));
        assert!(!is_of_machine([192, 0, 2, 1].into()), "TEST-NET-1 (RFC 5737) is no machine's");
    }
}
