//! The limit of open file descriptors: raised for the gateway, which serves many connections, and kept for its children.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limits of open file descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit that the process was started with. Child processes get it: programs that use `select` or that close
    /// every possible descriptor before they start another program rely on a low one.
    pub original: u64,
    /// The limit in force.
    pub now: u64,
}

/// The limits, once they were raised: the limit belongs to the process, and its first value is lost when it is raised.
static RAISED: OnceLock<Descriptors> = OnceLock::new();

/// Raises the soft limit of open file descriptors to the hard limit, and to no more than `max`. A limit that is already
/// higher stays. Called again, it changes nothing and returns the limits of the first call.
///
/// Never fails: where the limit cannot be raised, `now` is what it was.
pub fn raise_descriptor_limit(max: u64) -> Descriptors {
    *RAISED.get_or_init(|| raise(max, getrlimit(Resource::Nofile), |limit| Ok(setrlimit(Resource::Nofile, limit)?)))
}

fn raise(max: u64, found: Rlimit, set: impl FnOnce(Rlimit) -> io::Result<()>) -> Descriptors {
    // None is "unlimited".
    let original = found.current.unwrap_or(u64::MAX);
    let wanted = found.maximum.unwrap_or(u64::MAX).min(max);
    if wanted <= original || set(Rlimit { current: Some(wanted), maximum: found.maximum }).is_err() {
        return Descriptors { original, now: original };
    }
    Descriptors { original, now: wanted }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What becomes of a soft and a hard limit, and the limit that was set.
    fn raised(soft: Option<u64>, hard: Option<u64>) -> (Descriptors, Option<Rlimit>) {
        let was_set = Cell::new(None);
        let descriptors = raise(65_536, Rlimit { current: soft, maximum: hard }, |limit| {
            was_set.set(Some(limit));
            Ok(())
        });
        (descriptors, was_set.into_inner())
    }

    mod raise {
        use super::*;

        #[test]
        fn stops_at_the_hard_limit_and_at_the_maximum() {
            for (hard, now) in [(Some(4_096), 4_096), (Some(1_000_000), 65_536), (None, 65_536)] {
                let (descriptors, was_set) = raised(Some(1_024), hard);
                assert_eq!(descriptors, Descriptors { original: 1_024, now });
                let was_set = was_set.unwrap();
                assert_eq!((was_set.current, was_set.maximum), (Some(now), hard));
            }
        }

        #[test]
        fn never_lowers() {
            for (soft, hard, original) in
                [(Some(100_000), Some(100_000), 100_000), (Some(64), Some(64), 64), (None, None, u64::MAX)]
            {
                let (descriptors, was_set) = raised(soft, hard);
                assert_eq!((descriptors, was_set.is_none()), (Descriptors { original, now: original }, true));
            }
        }

        #[test]
        fn keeps_what_cannot_be_changed() {
            let found = Rlimit { current: Some(1_024), maximum: Some(4_096) };
            let refused = raise(65_536, found, |_| Err(io::ErrorKind::PermissionDenied.into()));
            assert_eq!(refused, Descriptors { original: 1_024, now: 1_024 });
        }
    }
}
