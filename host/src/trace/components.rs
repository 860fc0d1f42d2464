//! The components that a trace names: the embedded default, those beside the trace, and what a caller brings.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::error::TraceError;
use super::format::PolicyNote;
use super::segments::component_file;
use crate::model::Digest;
use crate::policy::{EMBEDDED_COMPONENT, PolicyComponent};

/// Finds components by their digests, and compiles each once.
#[derive(Debug, Default)]
pub struct Components {
    found: HashMap<Digest, Option<Arc<PolicyComponent>>>,
}

impl Components {
    /// Knows none yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one that need not be looked for.
    pub fn add(&mut self, component: Arc<PolicyComponent>) {
        self.found.insert(component.digest(), Some(component));
    }

    /// The one that was found by that digest before.
    pub fn get(&self, digest: Digest) -> Option<&Arc<PolicyComponent>> {
        self.found.get(&digest)?.as_ref()
    }

    /// Looks for a component: among those known, then the embedded one, then in `folder`. None if it is nowhere.
    ///
    /// # Errors
    /// [`TraceError::WrongComponent`] for a file that is not what its name says, and [`TraceError::Policy`].
    pub fn find(&mut self, note: &PolicyNote, folder: &Path) -> Result<Option<Arc<PolicyComponent>>, TraceError> {
        if let Some(Some(component)) = self.found.get(&note.digest) {
            return Ok(Some(component.clone()));
        }
        let component = if note.digest == Digest::of(EMBEDDED_COMPONENT) {
            Some(PolicyComponent::load(EMBEDDED_COMPONENT, &note.family, note.instances)?)
        } else {
            let path = folder.join(component_file(note.digest));
            if path.exists() {
                let component = PolicyComponent::read(&path, Some(&note.family), note.instances)?;
                if component.digest() != note.digest {
                    return Err(TraceError::WrongComponent { path });
                }
                Some(component)
            } else {
                None
            }
        };
        let component = component.map(Arc::new);
        self.found.insert(note.digest, component.clone());
        Ok(component)
    }
}
