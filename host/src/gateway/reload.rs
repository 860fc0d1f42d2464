//! Other settings for a gateway while it runs. Checked first, put in force whole or not at all.

use std::sync::Arc;

use serde::Serialize;

use super::builder::{configured_policy, map_upkeep, warn_of_recorded_options};
use super::embed::Gateway;
use super::publish::{note, obey};
use super::registry_tools;
use super::swap::{SwapError, SwapReport, check, off_the_workers};
use crate::config::{RegistrySettings, Settings};
use crate::connectors::FleetSettings;
use crate::policy::PolicyComponent;
use crate::telemetry::set_log_level;
use crate::trace::PolicyNote;

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// Settings that are in force now, by their names in `status`.
    pub changed: Vec<String>,
    /// Settings that were changed and take effect with the next start only.
    pub needs_restart: Vec<String>,
    /// The swap, if the policy is another one.
    pub swap: Option<SwapReport>,
}

/// Settings that can not change while a gateway runs.
const FIXED: [&str; 13] = [
    "listen",
    "serviceMapUrl",
    "caFile",
    "allowLinkLocal",
    "names",
    "nameLength",
    "sharedCredential",
    "logFormat",
    "trace",
    "registry.writeThrough",
    "registry.batchMs",
    "home",
    "shadow",
];

impl Gateway {
    /// Puts other settings in force, as far as a running gateway can: the report names what needs a restart. Everything
    /// is checked first; after an error nothing has changed, and neither if this future is dropped before its end.
    ///
    /// A policy that was given to the builder is left alone, unless the settings name a file; when they name none any
    /// more, it is deployed again.
    ///
    /// # Errors
    /// [`SwapError`], if the configured policy is not usable, or the settings do not go with those that stay.
    pub async fn reload(&self, settings: Settings) -> Result<ReloadReport, SwapError> {
        let changing = self.begin_change().await;
        let parts = &self.inner.parts;
        let before = parts.settings.load_full();
        let (changed, needs_restart) = differences(&before, &settings);
        let settings = with_what_is_fixed(&before, settings);
        settings.validate().map_err(SwapError::Settings)?;
        let wanted = Wanted::of(parts.policy_given.as_ref(), &before, &settings);
        let deployed = PolicyNote::of(&parts.policy.deployed());
        let work = move || -> Result<_, SwapError> {
            let component = match wanted {
                Wanted::AsItIs => return Ok(None),
                Wanted::Given(component) => component,
                Wanted::Configured(settings) => configured_policy(&settings)?,
            };
            if PolicyNote::of(&component) == deployed { Ok(None) } else { check(component).map(Some) }
        };
        let (checked, _changing) = off_the_workers(changing, work).await?;
        let checked = checked?;
        // From here on nothing fails and nothing waits: this future can not be dropped in between.
        set_log_level(settings.log_level);
        parts.fleet.reconfigure(FleetSettings::new(&settings));
        if let Some(map) = &parts.map {
            map.reconfigure(map_upkeep(&settings, &parts.policy));
        }
        if parts.trace.is_some() && settings.policy.options != before.policy.options {
            warn_of_recorded_options(&settings);
        }
        parts.catalog.serve_first(registry_tools::served(&settings.registry));
        for (id, names) in obey(&parts.catalog, &settings) {
            note(parts.trace.as_ref(), parts.edge.clock.as_ref(), &id, names);
        }
        self.inner.rates.keep(&settings.tokens);
        self.inner.grants.keep(&settings.tokens);
        parts.settings.store(Arc::new(settings));
        self.end_revoked_sessions();
        let swap = checked.map(|(component, dry_run)| self.swap_checked(component, dry_run));
        tracing::info!(?changed, ?needs_restart, swapped = swap.is_some(), "configuration reloaded");
        Ok(ReloadReport { changed, needs_restart, swap })
    }
}

/// Which policy is to decide after a reload.
enum Wanted {
    /// Whichever does.
    AsItIs,
    /// The one that the builder was given.
    Given(Arc<PolicyComponent>),
    /// The one that the settings name.
    Configured(Box<Settings>),
}

impl Wanted {
    fn of(given: Option<&Arc<PolicyComponent>>, before: &Settings, settings: &Settings) -> Self {
        match given {
            Some(given) if settings.policy.file.is_none() => match &before.policy.file {
                Some(_) => Self::Given(given.clone()),
                None => Self::AsItIs,
            },
            _ => Self::Configured(Box::new(settings.clone())),
        }
    }
}

/// The new settings, with those that can not change kept as they are.
fn with_what_is_fixed(before: &Settings, mut settings: Settings) -> Settings {
    settings.listen = before.listen;
    settings.service_map_url.clone_from(&before.service_map_url);
    settings.ca_file.clone_from(&before.ca_file);
    settings.allow_link_local = before.allow_link_local;
    settings.names = before.names;
    settings.name_length = before.name_length;
    settings.shared_credential = before.shared_credential;
    settings.log_format = before.log_format;
    settings.trace.clone_from(&before.trace);
    let RegistrySettings { write_through, batch, .. } = before.registry;
    settings.registry = RegistrySettings { write_through, batch, ..settings.registry };
    settings.paths = before.paths.clone();
    // Connectors' credentials are replaced while their sessions are open.
    settings.secrets = before.secrets.clone().with_credentials_of(settings.secrets);
    settings.policy.shadow.clone_from(&before.policy.shadow);
    settings.policy.shadow_family.clone_from(&before.policy.shadow_family);
    settings.policy.compiled_cache.clone_from(&before.policy.compiled_cache);
    settings
}

/// The names of settings that differ: those that take effect, and those that need a restart.
fn differences(before: &Settings, after: &Settings) -> (Vec<String>, Vec<String>) {
    let (shown_before, shown_after) = (before.redacted(), after.redacted());
    let mut names: Vec<String> = Vec::new();
    for (name, value) in shown_after.as_object().into_iter().flatten() {
        let former = &shown_before[name];
        if name == "policy" || name == "registry" {
            let fields = value.as_object().into_iter().flatten();
            let changed = fields.filter(|(field, value)| former[field.as_str()] != **value);
            names.extend(changed.map(|(field, _)| match (name.as_str(), field.as_str()) {
                ("policy", "shadow" | "shadowFamily") => "shadow".to_owned(),
                (table, field) => format!("{table}.{field}"),
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
