//! The components that a trace names: the embedded default, those beside the trace, and what a caller brings.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::TraceError;
use super::format::PolicyNote;
use super::limits;
use super::segments::component_file;
use crate::model::Digest;
use crate::policy::{EMBEDDED_COMPONENT, PolicyComponent};

/// Finds components as they were deployed (the same bytes may have been, as of another family), and compiles each once.
#[derive(Debug, Default)]
pub struct Components {
    found: HashMap<Digest, Vec<(PolicyNote, Found)>>,
    known: usize,
}

/// What came of looking for one.
#[derive(Debug)]
enum Found {
    Here(Arc<PolicyComponent>),
    Nowhere,
    /// It is in this folder, and can not be used.
    Unusable(PathBuf, String),
}

impl Components {
    /// Knows none yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one that need not be looked for.
    pub fn add(&mut self, component: Arc<PolicyComponent>) {
        self.note(&PolicyNote::of(&component), Found::Here(component));
    }

    /// The one that was found before, deployed like this.
    pub fn get(&self, note: &PolicyNote) -> Option<&Arc<PolicyComponent>> {
        if let Some(Found::Here(component)) = self.known(note) { Some(component) } else { None }
    }

    /// Why it can not be used, if it was found and can not.
    pub fn reason(&self, note: &PolicyNote) -> Option<&str> {
        if let Some(Found::Unusable(_, reason)) = self.known(note) { Some(reason) } else { None }
    }

    /// Looks for a component: among those known, then the embedded one, then in `folder`. None if it is nowhere.
    ///
    /// # Errors
    /// [`TraceError::WrongComponent`] for a file that is not what its name says, and [`TraceError::Policy`].
    pub fn find(&mut self, note: &PolicyNote, folder: &Path) -> Result<Option<Arc<PolicyComponent>>, TraceError> {
        match self.known(note) {
            Some(Found::Here(component)) => return Ok(Some(component.clone())),
            // It is no better for being compiled again.
            Some(Found::Unusable(known, _)) if known == folder => return Ok(None),
            _ => {}
        }
        let looked = look_for(note, folder);
        let found = match &looked {
            Ok(Some(component)) => Found::Here(component.clone()),
            Ok(None) => Found::Nowhere,
            Err(error) => Found::Unusable(folder.to_owned(), error.to_string()),
        };
        self.note(note, found);
        looked
    }

    fn known(&self, note: &PolicyNote) -> Option<&Found> {
        let (_, found) = self.found.get(&note.digest)?.iter().find(|(known, _)| known == note)?;
        Some(found)
    }

    fn note(&mut self, note: &PolicyNote, found: Found) {
        let known = self.found.entry(note.digest).or_default();
        if let Some((_, before)) = known.iter_mut().find(|(known, _)| known == note) {
            *before = found;
        } else if self.known < limits::COMPONENTS_KNOWN_MAX {
            self.known += 1;
            known.push((note.clone(), found));
        }
    }
}

fn look_for(note: &PolicyNote, folder: &Path) -> Result<Option<Arc<PolicyComponent>>, TraceError> {
    if note.digest == Digest::of(EMBEDDED_COMPONENT) {
        return Ok(Some(Arc::new(PolicyComponent::load(EMBEDDED_COMPONENT, &note.family, note.instances)?)));
    }
    let path = folder.join(component_file(note.digest));
    if !path.exists() {
        return Ok(None);
    }
    let component = PolicyComponent::read(&path, Some(&note.family), note.instances)?;
    if component.digest() != note.digest {
        return Err(TraceError::WrongComponent { path });
    }
    Ok(Some(Arc::new(component)))
}
