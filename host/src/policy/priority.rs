//! Threads that yield to the gateway's: those that compile a policy, and the one that a shadow policy decides on.

pub(super) use self::system::Threads;
pub(crate) use self::system::lower_thread;

#[cfg(target_os = "linux")]
mod system {
    //! Linux gives each thread a niceness of its own.

    use std::sync::{Arc, Mutex, PoisonError};

    use rustix::process::setpriority_process;
    use rustix::thread::{Pid, gettid};

    use crate::policy::limits;

    /// The calling thread has this niceness from now on, and no other has.
    pub(crate) fn lower_thread(niceness: i32) {
        lower(gettid(), niceness);
    }

    fn lower(thread: Pid, niceness: i32) {
        // It fails if the thread is nicer already, and need not succeed then.
        let _ = setpriority_process(Some(thread), niceness);
    }

    /// The threads of one compilation.
    #[derive(Clone, Default)]
    pub(in crate::policy) struct Threads(Arc<Mutex<Members>>);

    #[derive(Default)]
    struct Members {
        given_up: bool,
        threads: Vec<Pid>,
    }

    impl Threads {
        /// The calling thread becomes one of them, and yields to the gateway's.
        pub(in crate::policy) fn join(&self) {
            let own = gettid();
            let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lower(own, if members.given_up { limits::GIVEN_UP_NICENESS } else { limits::COMPILE_NICENESS });
            members.threads.push(own);
        }

        /// All of them yield to everything. To be called while their pool is held: a thread's number may be another's
        /// once it has ended.
        pub(in crate::policy) fn yield_everything(&self) {
            let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            members.given_up = true;
            for thread in &members.threads {
                lower(*thread, limits::GIVEN_UP_NICENESS);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! Elsewhere niceness is the process's, and lowering it would slow the gateway down. What these threads take is
    //! bounded by their number alone.

    /// Nothing can be done for one thread.
    pub(crate) fn lower_thread(_niceness: i32) {}

    /// The threads of one compilation.
    #[derive(Clone, Default)]
    pub(in crate::policy) struct Threads;

    impl Threads {
        /// The calling thread becomes one of them.
        pub(in crate::policy) fn join(&self) {}

        /// Nothing can be done.
        pub(in crate::policy) fn yield_everything(&self) {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;
    use rustix::thread::gettid;

    use super::*;

    #[test]
    fn a_thread_is_lowered_and_the_others_are_not() {
        let own = || getpriority_process(Some(gettid())).unwrap();
        let before = own();
        let lowered = std::thread::spawn(move || {
            lower_thread(19);
            own()
        });
        assert_eq!(lowered.join().unwrap(), 19);
        assert_eq!(own(), before);
    }
}
