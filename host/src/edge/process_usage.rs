//! What this process uses of the machine, as the system tells it: time, memory, descriptors, threads.
//!
//! Linux tells all of it (`proc_pid_stat(5)`); another Unix the processor time and the descriptors.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What this process uses now. What the system does not tell is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Processor time of all threads, user and system.
    pub cpu: Duration,
    /// Memory that is in use, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Descriptors that are open.
    pub open_descriptors: Option<u64>,
    /// Descriptors that may be open; none if there is no limit.
    pub max_descriptors: Option<u64>,
    /// When it was started, in seconds since 1970.
    pub started_unix_seconds: Option<f64>,
    /// Its threads.
    pub threads: Option<u64>,
}

/// Asks the system.
pub fn read() -> ProcessUsage {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Duration::new(cpu.tv_sec.try_into().unwrap_or(0), cpu.tv_nsec.try_into().unwrap_or(0));
    let common = ProcessUsage {
        cpu,
        open_descriptors: open_descriptors(),
        max_descriptors: getrlimit(Resource::Nofile).current,
        ..ProcessUsage::default()
    };
    let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| Stat::parse(&stat)) else {
        return common;
    };
    ProcessUsage {
        resident_bytes: Some(stat.resident_pages * rustix::param::page_size() as u64),
        virtual_bytes: Some(stat.virtual_bytes),
        started_unix_seconds: fs::read_to_string("/proc/stat").ok().and_then(|machine| {
            Some(boot_unix_seconds(&machine)? as f64 + stat.start_ticks as f64 / ticks_per_second() as f64)
        }),
        threads: Some(stat.threads),
        ..common
    }
}

/// How many descriptors are open, without the one that they are counted with.
fn open_descriptors() -> Option<u64> {
    let folder = ["/proc/self/fd", "/dev/fd"].into_iter().find(|folder| Path::new(folder).is_dir())?;
    let count = fs::read_dir(folder).ok()?.count();
    u64::try_from(count.saturating_sub(1)).ok()
}

#[cfg(target_os = "linux")]
fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Only Linux counts in ticks; it never comes to this elsewhere.
#[cfg(not(target_os = "linux"))]
fn ticks_per_second() -> u64 {
    100
}

/// What is read of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Reads the fields after the name, which is in parentheses and may hold any character.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
        // The first one here is the third of the manual.
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Self {
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine was booted, of `/proc/stat`.
fn boot_unix_seconds(machine: &str) -> Option<u64> {
    machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_after_a_name_that_may_look_like_fields() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 12 0 4321 8192000 300 18446744073709551615 1";
        let expected = Stat { threads: 12, start_ticks: 4321, virtual_bytes: 8_192_000, resident_pages: 300 };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("7 (cut off) S 1"), None);
    }

    #[test]
    fn the_time_of_the_boot_is_found_among_the_counters() {
        assert_eq!(boot_unix_seconds("cpu 1 2 3\nbtime 1767225600\nprocesses 9\n"), Some(1_767_225_600));
        assert_eq!(boot_unix_seconds("cpu 1 2 3\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_everything() {
        let usage = read();
        let told = [usage.resident_bytes, usage.virtual_bytes, usage.open_descriptors, usage.threads];
        assert!(told.iter().all(|value| value.is_some_and(|value| value > 0)), "{usage:?}");
        assert!(usage.started_unix_seconds.is_some_and(|started| started > 1_700_000_000.0), "{usage:?}");
    }
}
