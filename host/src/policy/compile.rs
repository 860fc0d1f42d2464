//! Compiling, contained. A compiler can not be interrupted: a component that takes it minutes is given up, and goes on
//! costing until the compiler is done with it. So a deployed component is compiled in a pool of its own, which yields the
//! processors to the gateway's work, and yields all of them once it is given up; and there is one such compilation in
//! the process, under way or given up, and never a second one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compiled_cache::{CacheAccess, CacheError, CompiledCache};
use super::embedded::EMBEDDED_COMPONENT;
use super::engine::engine;
use super::fault::PolicyError;
use super::limits;
use super::priority::Threads;
use super::structure;
use crate::model::Digest;

/// The embedded default, compiled once: trusted, and needed before anything else can run. With a folder for compiled code,
/// the first to ask takes it from there, and leaves it there.
///
/// # Errors
/// [`PolicyError`] if it is no component, or the engine does not run here.
pub(super) fn embedded(folder: Option<(&Path, CacheAccess)>) -> Result<&'static Component, PolicyError> {
    static EMBEDDED: OnceLock<Result<Component, String>> = OnceLock::new();
    let engine = engine()?;
    let compiled = EMBEDDED.get_or_init(|| match folder {
        Some((folder, access)) => cached(engine, folder, access),
        None => fresh(engine),
    });
    compiled.as_ref().map_err(|reason| PolicyError::Compile { reason: reason.clone() })
}

fn fresh(engine: &Engine) -> Result<Component, String> {
    Component::new(engine, EMBEDDED_COMPONENT).map_err(|error| format!("{error:#}"))
}

/// The embedded default from the folder, if that holds it, else into the folder. A folder that cannot be used costs the time
/// of a compilation, and nothing else.
fn cached(engine: &Engine, folder: &Path, access: CacheAccess) -> Result<Component, String> {
    let component = Digest::of(EMBEDDED_COMPONENT);
    let unused = |error: &CacheError| tracing::warn!(%error, "compiled policy code is not cached");
    let cache = match CompiledCache::open(folder, access) {
        Ok(Some(cache)) => cache,
        Ok(None) => return fresh(engine),
        Err(error) => {
            unused(&error);
            return fresh(engine);
        }
    };
    match cache.read(component) {
        Ok(Some(code)) => match deserialize(engine, &code) {
            Ok(component) => return Ok(component),
            Err(reason) => tracing::debug!(reason, "the cached code is of another engine; it is compiled again"),
        },
        Ok(None) => {}
        Err(error) => {
            unused(&error);
            return fresh(engine);
        }
    }
    let compiled = fresh(engine)?;
    if access == CacheAccess::Read {
        return Ok(compiled);
    }
    let written = compiled.serialize().map(|code| cache.write(component, &code));
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => unused(&error),
        Err(error) => tracing::debug!(%error, "compiled code cannot be serialized"),
    }
    Ok(compiled)
}

#[allow(unsafe_code, reason = "compiled code is trusted like the program itself")]
fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    // SAFETY: the bytes must be what `Component::serialize` gave, unchanged. They are this buffer, not
    // a file that can change under it; a keyed digest over them was checked, whose key and file only this user can have
    // written (`CompiledCache`). Code of another engine or version is refused by wasmtime.
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| format!("{error:#}"))
}

/// Compiles any other component, and gives it up after `limit`. It waits for its turn behind a compilation that is under
/// way; behind one that was given up it does not wait.
///
/// # Errors
/// [`PolicyError`].
pub(super) fn compile(bytes: &[u8], limit: Duration) -> Result<Component, PolicyError> {
    static GATE: Gate = Gate::new();
    structure::check(bytes)?;
    let engine = engine()?;
    let owned = bytes.to_vec();
    contained(&GATE, limit, move || Component::new(engine, owned))?
        .map_err(|error| PolicyError::Compile { reason: format!("{error:#}") })
}

/// Does `work` in a pool of its own, and waits for it no longer than `limit`.
fn contained<T, W>(gate: &'static Gate, limit: Duration, work: W) -> Result<T, PolicyError>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let threads = Threads::default();
    let turn = gate.enter()?;
    let number = turn.number;
    let pool = pool(&threads)?;
    let (sender, receiver) = mpsc::sync_channel(1);
    pool.spawn(move || {
        // A panic ends here: rayon would end the process. The receiver may have given up.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        drop(turn);
    });
    match receiver.recv_timeout(limit) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(PolicyError::Compile { reason: "the compiler panicked".to_owned() }),
        Err(_) => {
            gate.give_up(number);
            threads.yield_everything();
            drop(pool);
            tracing::warn!(
                ?limit,
                "a policy was given up that took too long to compile; no other is compiled meanwhile"
            );
            Err(PolicyError::CompileTime { limit })
        }
    }
}

/// A pool for one compilation. Its threads end when that does.
fn pool(threads: &Threads) -> Result<ThreadPool, PolicyError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let started = threads.clone();
    ThreadPoolBuilder::new()
        .num_threads(cores.min(limits::COMPILE_THREADS_MAX))
        .thread_name(|number| format!("policy-compile-{number}"))
        .stack_size(limits::COMPILE_STACK_BYTES)
        .start_handler(move |_| started.join())
        .build()
        .map_err(|error| PolicyError::Compile { reason: error.to_string() })
}

/// Lets one in at a time.
struct Gate {
    place: Mutex<Place>,
    left: Condvar,
}

struct Place {
    turns: u64,
    taken: Taken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Nobody is in.
    No,
    /// One is under way: its number.
    UnderWay(u64),
    /// One was given up, and still runs.
    GivenUp,
}

impl Gate {
    const fn new() -> Self {
        Self { place: Mutex::new(Place { turns: 0, taken: Taken::No }), left: Condvar::new() }
    }

    /// Waits for a turn.
    fn enter(&'static self) -> Result<Turn, PolicyError> {
        let mut place = self.place();
        while matches!(place.taken, Taken::UnderWay(_)) {
            place = self.left.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
        if place.taken == Taken::GivenUp {
            return Err(PolicyError::CompileBusy);
        }
        place.turns += 1;
        let number = place.turns;
        place.taken = Taken::UnderWay(number);
        Ok(Turn { gate: self, number })
    }

    /// Whoever waits for that turn to end waits in vain, unless it has ended by now.
    fn give_up(&self, number: u64) {
        let mut place = self.place();
        if place.taken == Taken::UnderWay(number) {
            place.taken = Taken::GivenUp;
            self.left.notify_all();
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to compile, until it is dropped.
struct Turn {
    gate: &'static Gate,
    number: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let taken = std::mem::replace(&mut self.gate.place().taken, Taken::No);
        self.gate.left.notify_all();
        if taken == Taken::GivenUp {
            tracing::info!("the compilation that was given up has ended; others are compiled again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn one_that_is_given_up_keeps_the_next_out_until_it_ends() {
        static GATE: Gate = Gate::new();
        let (end, told) = channel::<()>();
        let slow = contained(&GATE, Duration::ZERO, move || told.recv().unwrap());
        assert!(matches!(slow, Err(PolicyError::CompileTime { limit: Duration::ZERO })));
        for _ in 0..3 {
            assert!(matches!(contained(&GATE, LONG, || 7), Err(PolicyError::CompileBusy)));
        }
        end.send(()).unwrap();
        let mut place = GATE.place();
        while place.taken != Taken::No {
            place = GATE.left.wait(place).unwrap();
        }
        drop(place);
        assert_eq!(contained(&GATE, LONG, || 7).unwrap(), 7);
    }

    #[test]
    fn one_that_is_under_way_is_waited_for() {
        static GATE: Gate = Gate::new();
        let (end, told) = channel::<()>();
        let (begun, begins) = channel();
        let first = std::thread::spawn(move || {
            contained(&GATE, LONG, move || {
                begun.send(()).unwrap();
                told.recv().unwrap();
            })
        });
        begins.recv().unwrap();
        let second = std::thread::spawn(|| contained(&GATE, LONG, || 7));
        end.send(()).unwrap();
        first.join().unwrap().unwrap();
        assert_eq!(second.join().unwrap().unwrap(), 7);
    }

    #[test]
    fn a_compiler_that_panics_ends_its_own_turn_and_nothing_else() {
        static GATE: Gate = Gate::new();
        let panicked = contained(&GATE, LONG, || panic!("as told"));
        let Err(PolicyError::Compile { reason }) = panicked.map(|(): ()| ()) else { panic!("it did not fail") };
        assert_eq!(reason, "the compiler panicked");
        assert_eq!(contained(&GATE, LONG, || 7).unwrap(), 7);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn its_threads_yield_to_the_others_and_once_given_up_to_everything() {
        use rustix::process::getpriority_process;
        use rustix::thread::gettid;

        static GATE: Gate = Gate::new();
        let own = getpriority_process(Some(gettid())).unwrap();
        let (end, told) = channel::<()>();
        let (ended, seen) = channel();
        let slow = contained(&GATE, Duration::ZERO, move || {
            told.recv().unwrap();
            ended.send(getpriority_process(Some(gettid())).unwrap()).unwrap();
        });
        assert!(slow.is_err());
        end.send(()).unwrap();
        assert_eq!(seen.recv().unwrap(), limits::GIVEN_UP_NICENESS);
        assert_eq!(getpriority_process(Some(gettid())).unwrap(), own);
    }
}
