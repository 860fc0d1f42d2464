//! Changing a gateway while it runs: another policy, other settings. Checked first, applied whole or not at all.
//!
//! A swap is one store of a pointer: a decision under way ends with the policy that began it, the next one is made by the
//! new one, on the state that the host holds. Every policy that decided before can be gone back to by its digest.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde::Serialize;

use super::builder::{configured_policy, map_upkeep};
use super::embed::Gateway;
use super::limits;
use crate::config::Settings;
use crate::connectors::FleetSettings;
use crate::model::Digest;
use crate::policy::{PolicyComponent, PolicyError};
use crate::telemetry::set_log_level;
use crate::trace::{DryRun, FunctionFault, PolicyNote, dry_run};

/// The policies that decided before, the newest last.
#[derive(Default)]
pub(super) struct Former(VecDeque<Arc<PolicyComponent>>);

impl Former {
    fn keep(&mut self, component: Arc<PolicyComponent>) {
        self.0.retain(|kept| kept.digest() != component.digest());
        if self.0.len() == limits::FORMER_POLICIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(component);
    }
}

/// A swap that took place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
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
    /// It faulted in the dry run.
    #[error("the policy faults when it is asked for the first time ({}); nothing was changed", faults(.0))]
    Faults(Vec<FunctionFault>),
    /// No policy with that digest decided here before.
    #[error("no policy {asked} decided here before; known are {}", listed(.known))]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: Vec<Digest>,
    },
    /// Nothing was swapped yet.
    #[error("there is no policy to go back to: none was swapped since the gateway started")]
    NothingBefore,
    /// The work was cut off.
    #[error("the policy could not be checked: the gateway is ending")]
    Ending,
}

fn faults(faults: &[FunctionFault]) -> String {
    let told: Vec<String> = faults.iter().map(|one| format!("{}: {}", one.function.name(), one.fault)).collect();
    told.join("; ")
}

fn listed(digests: &[Digest]) -> String {
    let told: Vec<String> = digests.iter().map(|digest| digest.short(12)).collect();
    told.join(", ")
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// Settings that are in force now, by their names in `status`.
    pub changed: Vec<String>,
    /// Settings that were changed and take effect with the next start only.
    pub needs_restart: Vec<String>,
    /// The swap, if the policy is another one.
    pub swap: Option<SwapReport>,
}

/// Settings that can not change while a gateway runs.
const FIXED: [&str; 9] =
    ["listen", "serviceMapUrl", "names", "nameLength", "sharedCredential", "logFormat", "trace", "home", "shadow"];

impl Gateway {
    /// Deploys another policy, after a dry run. Compile it before, off the async workers.
    ///
    /// # Errors
    /// [`SwapError`]; the policy in force is then still the one before.
    pub async fn swap_policy(&self, component: Arc<PolicyComponent>) -> Result<SwapReport, SwapError> {
        let _changing = self.inner.changing.lock().await;
        let dry_run = check(component.clone()).await?;
        Ok(self.swap_checked(component, dry_run))
    }

    /// Deploys a policy that decided before: the one whose digest begins with `digest`, or without one the last. The
    /// embedded default is always known.
    ///
    /// # Errors
    /// [`SwapError`].
    pub async fn swap_back(&self, digest: Option<&str>) -> Result<SwapReport, SwapError> {
        let _changing = self.inner.changing.lock().await;
        let policy = self.policy();
        let former = self.lock_former().0.clone();
        let found = match digest {
            None => former.back().cloned().ok_or(SwapError::NothingBefore)?,
            Some(asked) => {
                let others = [policy.default_component().clone(), policy.deployed()];
                let mut all = others.iter().chain(&former);
                let matching =
                    all.find(|component| !asked.is_empty() && component.digest().to_string().starts_with(asked));
                matching.cloned().ok_or_else(|| SwapError::Unknown {
                    asked: asked.chars().take(64).collect(),
                    known: others.iter().chain(&former).map(|component| component.digest()).collect(),
                })?
            }
        };
        let dry_run = check(found.clone()).await?;
        Ok(self.swap_checked(found, dry_run))
    }

    /// The policies that decided before, the newest last.
    pub fn former_policies(&self) -> Vec<PolicyNote> {
        self.lock_former().0.iter().map(|component| PolicyNote::of(component)).collect()
    }

    fn lock_former(&self) -> MutexGuard<'_, Former> {
        self.inner.former.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other settings in force, as far as a running gateway can: the report names what needs a restart. Everything
    /// is checked first; after an error nothing has changed.
    ///
    /// # Errors
    /// [`SwapError`], if the configured policy is not usable.
    pub async fn reload(&self, settings: Settings) -> Result<ReloadReport, SwapError> {
        let parts = &self.inner.parts;
        let _changing = self.inner.changing.lock().await;
        let read = settings.clone();
        let component = tokio::task::spawn_blocking(move || configured_policy(&read)).await;
        let component = component.map_err(|_| SwapError::Ending)??;
        let deployed = parts.policy.deployed();
        let swap = if PolicyNote::of(&component) == PolicyNote::of(&deployed) {
            None
        } else {
            let dry_run = check(component.clone()).await?;
            Some((component, dry_run))
        };
        // From here on nothing fails.
        let before = parts.settings.load_full();
        let (changed, needs_restart) = differences(&before, &settings);
        let settings = with_what_is_fixed(&before, settings);
        set_log_level(settings.log_level);
        parts.settings.store(Arc::new(settings.clone()));
        parts.fleet.reconfigure(FleetSettings::new(&settings)).await;
        if let Some(map) = &parts.map {
            map.reconfigure(map_upkeep(&settings, &parts.policy));
        }
        let swap = swap.map(|(component, dry_run)| self.swap_checked(component, dry_run));
        tracing::info!(?changed, ?needs_restart, swapped = swap.is_some(), "configuration reloaded");
        Ok(ReloadReport { changed, needs_restart, swap })
    }

    fn swap_checked(&self, component: Arc<PolicyComponent>, dry_run: DryRun) -> SwapReport {
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
        if before.digest() != component.digest() {
            self.lock_former().keep(before);
        }
        report
    }
}

/// Asks every function once, off the async workers: a policy may use up all its fuel ten times.
async fn check(component: Arc<PolicyComponent>) -> Result<DryRun, SwapError> {
    let ran = tokio::task::spawn_blocking(move || dry_run(&component)).await.map_err(|_| SwapError::Ending)?;
    if ran.faults.is_empty() { Ok(ran) } else { Err(SwapError::Faults(ran.faults)) }
}

/// The new settings, with those that can not change kept as they are.
fn with_what_is_fixed(before: &Settings, mut settings: Settings) -> Settings {
    settings.listen = before.listen;
    settings.service_map_url.clone_from(&before.service_map_url);
    settings.names = before.names;
    settings.name_length = before.name_length;
    settings.shared_credential = before.shared_credential;
    settings.log_format = before.log_format;
    settings.trace.clone_from(&before.trace);
    settings.paths = before.paths.clone();
    settings.secrets = before.secrets.clone();
    settings.policy.shadow.clone_from(&before.policy.shadow);
    settings.policy.shadow_family.clone_from(&before.policy.shadow_family);
    settings
}

/// The names of settings that differ: those that take effect, and those that need a restart.
fn differences(before: &Settings, after: &Settings) -> (Vec<String>, Vec<String>) {
    let (shown_before, shown_after) = (before.redacted(), after.redacted());
    let mut names: Vec<String> = Vec::new();
    for (name, value) in shown_after.as_object().into_iter().flatten() {
        let former = &shown_before[name];
        if name == "policy" {
            let fields = value.as_object().into_iter().flatten();
            let changed = fields.filter(|(field, value)| former[field.as_str()] != **value);
            names.extend(changed.map(|(field, _)| match field.as_str() {
                "shadow" | "shadowFamily" => "shadow".to_owned(),
                other => format!("policy.{other}"),
            }));
        } else if former != value && name != "secrets" {
            names.push(name.clone());
        }
    }
    // What is not shown can differ all the same.
    let hidden =
        [("policy.options", before.policy.options != after.policy.options), ("tokens", before.tokens != after.tokens)];
    names.extend(hidden.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()));
    names.sort();
    names.dedup();
    names.into_iter().partition(|name| !FIXED.contains(&name.as_str()))
}
