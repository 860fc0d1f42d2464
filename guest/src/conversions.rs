//! Conversions between generated bindings and the plain types, as macros.
//!
//! Every crate that generates bindings of the WIT gets types of its own, so the conversions must be expanded where the
//! bindings are; the listing itself is written once, here. A field or case that the WIT gains and this listing lacks is
//! a compile error of the component. These macros only move values: they must never judge, clamp or default anything.
//!
//! They expand to code for WebAssembly builds alone, and to a private interface between this crate and policies that
//! build on it: `policy_conversions!(wire, clock, random)`, where the three names are modules in scope.

/// Expands to the traits `Lift` (bindings to plain types) and `Lower` (plain types to bindings), their implementations
/// for every type of the contract, and `Imports`, the [`Environment`](crate::environment::Environment) of a component.
#[macro_export]
macro_rules! policy_conversions {
    ($wire:ident, $clock:ident, $random:ident) => {
        /// From the bindings to the plain types.
        pub(crate) trait Lift {
            /// The plain type.
            type Plain;
            /// Moves the value over.
            fn lift(self) -> Self::Plain;
        }

        /// From the plain types to the bindings.
        pub(crate) trait Lower {
            /// The type of the bindings.
            type Wire;
            /// Moves the value over.
            fn lower(self) -> Self::Wire;
        }

        /// The two imports, as the pure functions wish them.
        pub(crate) struct Imports;

        impl $crate::environment::Environment for Imports {
            fn wall_ms(&mut self) -> u64 {
                $clock::wall_ms()
            }
            fn boot_ms(&mut self) -> u64 {
                $clock::boot_ms()
            }
            fn random(&mut self) -> u32 {
                $random::next()
            }
        }

        $crate::convert_identity!(u8, u32, u64, bool, String);

        impl<T: Lift> Lift for Option<T> {
            type Plain = Option<T::Plain>;
            fn lift(self) -> Self::Plain {
                self.map(Lift::lift)
            }
        }

        impl<T: Lower> Lower for Option<T> {
            type Wire = Option<T::Wire>;
            fn lower(self) -> Self::Wire {
                self.map(Lower::lower)
            }
        }

        impl<T: Lift> Lift for Vec<T> {
            type Plain = Vec<T::Plain>;
            fn lift(self) -> Self::Plain {
                self.into_iter().map(Lift::lift).collect()
            }
        }

        impl<T: Lower> Lower for Vec<T> {
            type Wire = Vec<T::Wire>;
            fn lower(self) -> Self::Wire {
                self.into_iter().map(Lower::lower).collect()
            }
        }

        impl<A: Lift, B: Lift> Lift for (A, B) {
            type Plain = (A::Plain, B::Plain);
            fn lift(self) -> Self::Plain {
                (self.0.lift(), self.1.lift())
            }
        }

        impl<A: Lower, B: Lower> Lower for (A, B) {
            type Wire = (A::Wire, B::Wire);
            fn lower(self) -> Self::Wire {
                (self.0.lower(), self.1.lower())
            }
        }

        $crate::convert_enum!($wire, FailureClass {
            Dns, Refused, Timeout, Auth, NotFound, Gone, Throttled, Server, Oversize, Redirect, Decode, Signature,
            Schema, Expiry, Rollback,
        });
        $crate::convert_enum!($wire, SubjectKind { ServiceMap, Connector });
        $crate::convert_enum!($wire, RefreshMode { Background, OnDemand });
        $crate::convert_record!($wire, RefreshConfig {
            kind, mode, interval_ms, floor_ms, jitter_permille, backoff_min_ms, backoff_max_ms, options,
        });
        $crate::convert_record!($wire, ArmedRun { run_at_boot_ms, reason });
        $crate::convert_record!($wire, ActiveRun { run_id, since_boot_ms, again });
        $crate::convert_variant!($wire, RefreshPhase { Idle, Armed(value), Running(value) });
        $crate::convert_record!($wire, RefreshState {
            phase, failures, last_class, interval_ms, next_run_id, last_end_boot_ms, boot_id, memo,
        });
        $crate::convert_enum!($wire, StartKind { Cold, Warm, WarmStale });
        $crate::convert_enum!($wire, Urgency { Background, Blocking });
        $crate::convert_record!($wire, StartedEvent { start, boot_id });
        $crate::convert_record!($wire, SucceededEvent { run_id, duration_ms, fresh_for_ms });
        $crate::convert_record!($wire, FailedEvent { run_id, class, retry_after_ms, duration_ms, serving });
        $crate::convert_variant!($wire, RefreshEvent {
            Started(value), Began, Succeeded(value), Failed(value), Cancelled(value), Wanted(value), Forced,
            Changed, Resumed, Stopped, ConfigChanged, CredentialsChanged,
        });
        $crate::convert_enum!($wire, RefreshReason {
            ColdStart, WarmStart, Steady, Freshness, Backoff, BackoffServing, BackoffServingAgain, RetryAfter,
            AuthWait, Forced, Joined, WantedBackground, WantedBlocking, Changed, Resumed, Stopped, ConfigChanged,
            CredentialsChanged, Began, Cancelled, AlreadyArmed, AlreadyRunning, OnDemand, Late,
        });
        $crate::convert_record!($wire, RefreshDecision { state, run_at_boot_ms, reason });
        $crate::convert_record!($wire, BreakerConfig {
            failure_threshold, window, rate_permille, open_min_ms, open_max_ms, probe_deadline_ms, options,
        });
        $crate::convert_record!($wire, OpenBreaker { until_boot_ms });
        $crate::convert_record!($wire, HalfOpenBreaker { probe_id, deadline_boot_ms });
        $crate::convert_variant!($wire, BreakerPhase { Closed, Open(value), HalfOpen(value) });
        $crate::convert_record!($wire, BreakerState {
            phase, consecutive, recent, recent_count, opened, next_probe_id, memo,
        });
        $crate::convert_variant!($wire, BreakerEvent { Asked, Succeeded(value), Failed(value), Cancelled(value) });
        $crate::convert_variant!($wire, BreakerVerdict { Allow, Probe(value), Reject(value) });
        $crate::convert_enum!($wire, BreakerReason {
            Closed, ConsecutiveFailures, FailureRate, Open, Probing, ProbeInFlight, ProbeSucceeded, ProbeFailed,
            ProbeLost, Late,
        });
        $crate::convert_record!($wire, BreakerDecision { state, verdict, reason });
        $crate::convert_record!($wire, PlanConfig { slow_after_ms, options });
        $crate::convert_record!($wire, Candidate { id, failures, last_class, last_duration_ms, serving, wanted });
        $crate::convert_record!($wire, PlanDecision { order, slow_after_ms });
        $crate::convert_record!($wire, ConcurrencyConfig { minimum, maximum, fixed, options });
        $crate::convert_record!($wire, ConcurrencyState {
            limit_milli, in_flight, baseline_ms, since_decrease, memo,
        });
        $crate::convert_variant!($wire, RunOutcome { Succeeded, Failed(value), Cancelled });
        $crate::convert_record!($wire, FinishedEvent { duration_ms, outcome });
        $crate::convert_variant!($wire, ConcurrencyEvent { Began, Finished(value) });
        $crate::convert_enum!($wire, ConcurrencyReason { Fixed, Initial, Increased, Decreased, Unchanged });
        $crate::convert_record!($wire, ConcurrencyDecision { state, limit, reason });
        $crate::convert_record!($wire, CacheConfig {
            kind, boot_id, ttl_min_ms, ttl_max_ms, ttl_default_ms, soft_permille, soft_jitter_permille,
            max_stale_ms, skew_ms, negative_min_ms, negative_max_ms, credential, options,
        });
        $crate::convert_enum!($wire, CacheScope { Public, Private });
        $crate::convert_record!($wire, EntityTag { tag, digest });
        $crate::convert_record!($wire, Instant { wall_ms, boot_ms, boot_id });
        $crate::convert_enum!($wire, ExpiryStanding { Within, ArrivedExpired, Frozen });
        $crate::convert_record!($wire, ValueFacts {
            digest, etag, key_id, version, signed_expiry_wall_ms, requested, stale_since, fresh_ms, soft_ms,
            invalidated, standing, scope, credential,
        });
        $crate::convert_record!($wire, Ratchet { key_id, version, digest });
        $crate::convert_record!($wire, Failing { count, class, at, until_boot_ms });
        $crate::convert_record!($wire, ExpiredArrival { digest, first });
        $crate::convert_record!($wire, CacheState { value, ratchets, failing, in_flight, expired_arrivals, memo });
        $crate::convert_enum!($wire, Freshness { Empty, Fresh, Soft, Stale, StaleError, Expired, Frozen });
        $crate::convert_enum!($wire, ServeVerdict { Serve, Withhold });
        $crate::convert_enum!($wire, Wanted { None, Background, Blocking });
        $crate::convert_enum!($wire, LookupReason {
            NoValue, WithinTtl, PastSoftPoint, PastTtl, Invalidated, ClockBehind, RefreshFailing, PastMaxStale,
            ArrivedExpired, Frozen, OtherCredential,
        });
        $crate::convert_record!($wire, LookupDecision { state, serve, wanted, until_boot_ms, reason });
        $crate::convert_record!($wire, FetchedEvent {
            digest, etag, key_id, version, signed_expiry_wall_ms, ttl_ms, scope, credential, requested, key_set,
        });
        $crate::convert_record!($wire, NotModifiedEvent { digest, requested, ttl_ms });
        $crate::convert_variant!($wire, CacheEvent {
            Began(value), Fetched(value), NotModified(value), Failed(value), Cancelled, Changed, Invalidated,
            Restored, Revoked, CredentialsChanged,
        });
        $crate::convert_enum!($wire, AdvanceOutcome { Stored, Kept, Rejected, Dropped });
        $crate::convert_enum!($wire, AdvanceReason {
            Newer, SameAgain, Confirmed, ConfirmedOther, Frozen, ArrivedExpired, RefusedExpired, Rollback,
            Equivocation, FromTheFuture, Began, Failed, Gone, Cancelled, Changed, Invalidated, Restored, Revoked,
            CredentialsChanged,
        });
        $crate::convert_record!($wire, AdvanceDecision { state, outcome, reason });
        $crate::convert_record!($wire, Hlc { wall_ms, counter });
        $crate::convert_record!($wire, ClockState { last, memo });
        $crate::convert_record!($wire, StampDecision { state, stamp });
        $crate::convert_record!($wire, Entry { name, stamp, writer, deleted, digest });
        $crate::convert_record!($wire, FoundEntry { name, digest, stamp, writer });
        $crate::convert_record!($wire, AdoptDecision { state, entries, from_the_future });
        $crate::convert_record!($wire, MergeDecision { entries, superseded });
        $crate::convert_record!($wire, Pending { changes, bytes, oldest_ms, batch_ms, closing, write_through });
    };
}

/// Types that are the same on both sides.
#[doc(hidden)]
#[macro_export]
macro_rules! convert_identity {
    ($($name:ty),*) => {$(
        impl Lift for $name {
            type Plain = $name;
            fn lift(self) -> $name {
                self
            }
        }
        impl Lower for $name {
            type Wire = $name;
            fn lower(self) -> $name {
                self
            }
        }
    )*};
}

/// A record: every field by its name.
#[doc(hidden)]
#[macro_export]
macro_rules! convert_record {
    ($wire:ident, $name:ident { $($field:ident),* $(,)? }) => {
        impl Lift for $wire::$name {
            type Plain = $crate::types::$name;
            fn lift(self) -> Self::Plain {
                $crate::types::$name { $($field: self.$field.lift()),* }
            }
        }
        impl Lower for $crate::types::$name {
            type Wire = $wire::$name;
            fn lower(self) -> Self::Wire {
                $wire::$name { $($field: self.$field.lower()),* }
            }
        }
    };
}

/// An enum: every case by its name.
#[doc(hidden)]
#[macro_export]
macro_rules! convert_enum {
    ($wire:ident, $name:ident { $($case:ident),* $(,)? }) => {
        impl Lift for $wire::$name {
            type Plain = $crate::types::$name;
            fn lift(self) -> Self::Plain {
                match self { $($wire::$name::$case => $crate::types::$name::$case),* }
            }
        }
        impl Lower for $crate::types::$name {
            type Wire = $wire::$name;
            fn lower(self) -> Self::Wire {
                match self { $($crate::types::$name::$case => $wire::$name::$case),* }
            }
        }
    };
}

/// A variant: every case by its name, with or without a value.
#[doc(hidden)]
#[macro_export]
macro_rules! convert_variant {
    ($wire:ident, $name:ident { $($case:ident $(($value:ident))?),* $(,)? }) => {
        impl Lift for $wire::$name {
            type Plain = $crate::types::$name;
            fn lift(self) -> Self::Plain {
                match self {
                    $($wire::$name::$case $(($value))? => $crate::types::$name::$case $(($value.lift()))?),*
                }
            }
        }
        impl Lower for $crate::types::$name {
            type Wire = $wire::$name;
            fn lower(self) -> Self::Wire {
                match self {
                    $($crate::types::$name::$case $(($value))? => $wire::$name::$case $(($value.lower()))?),*
                }
            }
        }
    };
}
