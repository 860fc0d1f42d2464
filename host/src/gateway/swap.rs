//! Changing the policy of a gateway while it runs. Checked first, deployed whole or not at all.
//!
//! A swap is one store of a pointer: a decision under way ends with the policy that began it, the next one is made by the
//! new one, on the state that the host holds. Every policy that decided before can be gone back to by its digest.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::OwnedMutexGuard;

use super::embed::Gateway;
use super::limits;
use crate::config::ConfigError;
use crate::policy::{InstanceUse, PolicyComponent, PolicyError};
use crate::trace::{DryRun, FunctionFault, PolicyNote, dry_run};

/// The policies that decided before and do not now, the newest last. The same bytes are another policy where they are of
/// another family, or used otherwise: they decide otherwise.
#[derive(Default)]
pub(super) struct Former(VecDeque<Arc<PolicyComponent>>);

impl Former {
    /// `before` has made room for `after`.
    fn replaced(&mut self, before: Arc<PolicyComponent>, after: &PolicyComponent) {
        let (gone, come) = (PolicyNote::of(&before), PolicyNote::of(after));
        self.0.retain(|kept| ![&gone, &come].contains(&&PolicyNote::of(kept)));
        if gone != come {
            if self.0.len() == limits::FORMER_POLICIES_MAX {
                self.0.pop_front();
            }
            self.0.push_back(before);
        }
    }
}

/// A swap that took place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SwapReport {
    /// Who decided before: what to go back to.
    pub before: PolicyNote,
    /// Who decides now.
    pub after: PolicyNote,
    /// How many decisions had been made.
    pub decisions: u64,
    /// How the dry run went.
    pub dry_run: DryRun,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// It is no usable policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Settings that do not go with those that can not change while the gateway runs.
    #[error("these settings can not be put in force while the gateway runs (`listen` changes with a restart): {0}")]
    Settings(#[source] ConfigError),
    /// It faulted in the dry run.
    #[error("the policy faults when it is asked for the first time ({}); nothing was changed", faults(.0))]
    Faults(Vec<FunctionFault>),
    /// No policy with that digest decided here before.
    #[error("no policy {asked} decided here before; known are {}", listed(.known))]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: Vec<PolicyNote>,
    },
    /// Several policies are meant.
    #[error("{asked} can mean {}; name one of them, with its family and use where the digests are the same", listed(.found))]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// What it can mean.
        found: Vec<PolicyNote>,
    },
    /// It is no beginning of a digest.
    #[error(
        "{asked:?} names no policy: write the first {} or more hexadecimal digits of its digest",
        limits::DIGEST_PREFIX_MIN
    )]
    NoDigest {
        /// What was asked for.
        asked: String,
    },
    /// Nothing was swapped yet.
    #[error("there is no policy to go back to: none was swapped since the gateway started")]
    NothingBefore,
    /// Somebody else is changing the gateway.
    #[error("another change of the policy or the settings is under way; ask again when it has ended")]
    Busy,
    /// The work was cut off.
    #[error("the policy could not be checked: the gateway is ending")]
    Ending,
}

fn faults(faults: &[FunctionFault]) -> String {
    let told: Vec<String> = faults.iter().map(|one| format!("{}: {}", one.function.name(), one.fault)).collect();
    told.join("; ")
}

/// Policies for people: as they are named to the command line.
fn listed(notes: &[PolicyNote]) -> String {
    let told: Vec<String> = notes
        .iter()
        .map(|note| {
            let reuse = if note.instances == InstanceUse::Reused { " --reuse" } else { "" };
            format!("{} (--family {}{reuse})", note.digest.short(12), note.family)
        })
        .collect();
    told.join(", ")
}

/// The right to change policy and settings: one has it at a time, until it is dropped.
pub(super) struct Changing(#[expect(dead_code, reason = "it is held, not read")] OwnedMutexGuard<()>);

impl Gateway {
    /// Deploys another policy, after a dry run. Compile it before, off the async workers.
    ///
    /// # Errors
    /// [`SwapError`]; the policy in force is then still the one before.
    pub async fn swap_policy(&self, component: Arc<PolicyComponent>) -> Result<SwapReport, SwapError> {
        let changing = self.begin_change().await;
        self.swap_loaded(changing, move || Ok(component)).await
    }

    /// Deploys a policy that decided before: the one whose digest begins with `digest`, or without one the last. The
    /// embedded default is always known.
    ///
    /// # Errors
    /// [`SwapError`].
    pub async fn swap_back(&self, digest: Option<&str>) -> Result<SwapReport, SwapError> {
        let changing = self.begin_change().await;
        self.swap_former(changing, digest, None).await
    }

    /// The same, where policies of one digest were deployed with several families or uses.
    ///
    /// # Errors
    /// [`SwapError`].
    pub async fn swap_to(&self, digest: &str, family: &str, instances: InstanceUse) -> Result<SwapReport, SwapError> {
        let changing = self.begin_change().await;
        self.swap_former(changing, Some(digest), Some((family, instances))).await
    }

    /// The policies that decided before and do not now, the newest last.
    pub fn former_policies(&self) -> Vec<PolicyNote> {
        self.lock_former().0.iter().map(|component| PolicyNote::of(component)).collect()
    }

    fn lock_former(&self) -> MutexGuard<'_, Former> {
        self.inner.former.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else changes the gateway.
    pub(super) async fn begin_change(&self) -> Changing {
        Changing(self.inner.changing.clone().lock_owned().await)
    }

    /// Does not wait: whoever is not trusted to ask only once would make many wait.
    ///
    /// # Errors
    /// [`SwapError::Busy`].
    pub(super) fn try_begin_change(&self) -> Result<Changing, SwapError> {
        self.inner.changing.clone().try_lock_owned().map(Changing).map_err(|_| SwapError::Busy)
    }

    /// Loads a policy, asks it every function once, and deploys it.
    pub(super) async fn swap_loaded(
        &self,
        changing: Changing,
        load: impl FnOnce() -> Result<Arc<PolicyComponent>, PolicyError> + Send + 'static,
    ) -> Result<SwapReport, SwapError> {
        let (checked, _changing) = off_the_workers(changing, move || check(load()?)).await?;
        let (component, dry_run) = checked?;
        Ok(self.swap_checked(component, dry_run))
    }

    pub(super) async fn swap_former(
        &self,
        changing: Changing,
        digest: Option<&str>,
        deployed_as: Option<(&str, InstanceUse)>,
    ) -> Result<SwapReport, SwapError> {
        let found = match digest {
            None => self.lock_former().0.back().cloned().ok_or(SwapError::NothingBefore)?,
            Some(asked) => self.find(asked, deployed_as)?,
        };
        self.swap_loaded(changing, move || Ok(found)).await
    }

    /// The one policy that is meant.
    fn find(&self, asked: &str, deployed_as: Option<(&str, InstanceUse)>) -> Result<Arc<PolicyComponent>, SwapError> {
        let asked = asked.to_ascii_lowercase();
        let told = || asked.chars().take(DIGEST_LENGTH).collect::<String>();
        let is_beginning =
            asked.len() >= limits::DIGEST_PREFIX_MIN && asked.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_beginning {
            return Err(SwapError::NoDigest { asked: told() });
        }
        let deployed = self.policy().deployed();
        let former = self.lock_former().0.clone();
        let mut known: Vec<Arc<PolicyComponent>> = Vec::new();
        for component in [self.policy().default_component()].into_iter().chain(&former).chain([&deployed]) {
            if !known.iter().any(|known| PolicyNote::of(known) == PolicyNote::of(component)) {
                known.push(component.clone());
            }
        }
        let is_meant = |component: &Arc<PolicyComponent>| {
            component.digest().to_string().starts_with(&asked)
                && deployed_as.is_none_or(|wanted| wanted == (component.family(), component.instance_use()))
        };
        let mut found: Vec<_> = known.iter().filter(|component| is_meant(component)).cloned().collect();
        if found.len() > 1 {
            // Nobody asks for the one that decides already, if another one can be meant.
            found.retain(|component| PolicyNote::of(component) != PolicyNote::of(&deployed));
        }
        let notes = |components: &[Arc<PolicyComponent>]| components.iter().map(|one| PolicyNote::of(one)).collect();
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(SwapError::Unknown { asked: told(), known: notes(&known) }),
            several => Err(SwapError::Ambiguous { asked: told(), found: notes(several) }),
        }
    }

    /// Deploys what was checked. It does not wait.
    pub(super) fn swap_checked(&self, component: Arc<PolicyComponent>, dry_run: DryRun) -> SwapReport {
        let policy = self.policy();
        let before = policy.deployed();
        let decisions = policy.status().decisions;
        policy.swap(component.clone());
        let report =
            SwapReport { before: PolicyNote::of(&before), after: PolicyNote::of(&component), decisions, dry_run };
        tracing::info!(
            before = %before.digest(), after = %component.digest(), decisions,
            "policy swapped; `cortex-mcp policy swap --back` undoes it"
        );
        self.lock_former().replaced(before, &component);
        report
    }
}

/// The digits of a digest.
const DIGEST_LENGTH: usize = 64;

/// Works off the async workers. The change is under way until that work ends, also if nobody waits for it any more: who
/// asks again and again does not pile up work.
pub(super) async fn off_the_workers<T: Send + 'static>(
    changing: Changing,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, Changing), SwapError> {
    tokio::task::spawn_blocking(move || (work(), changing)).await.map_err(|_| SwapError::Ending)
}

/// Asks every function once. Not on an async worker: a policy may use up all its fuel ten times.
pub(super) fn check(component: Arc<PolicyComponent>) -> Result<(Arc<PolicyComponent>, DryRun), SwapError> {
    let ran = dry_run(&component);
    if ran.faults.is_empty() { Ok((component, ran)) } else { Err(SwapError::Faults(ran.faults)) }
}

#[cfg(test)]
mod tests;
