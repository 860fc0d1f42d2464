//! What one view is served: four lists as bytes, and where requests about their items go.
//!
//! The bytes depend on offers, descriptions, rules and the view alone, never on time. What a view does not show is not in
//! here, so that nothing can be asked for that is not shown.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::{BufMut, Bytes, BytesMut};

use super::limits;
use super::qualified;
use super::route::{Collision, Route};
use super::template::UriTemplate;
use crate::model::{ConnectorId, Digest, ListKind};

/// What one view is served.
#[derive(Debug)]
pub struct Served {
    pub(super) lists: [ServedList; 4],
    pub(super) own: HashSet<&'static str>,
    pub(super) routes: [HashMap<String, Route>; 4],
    /// The servers' own templates, those with the longest literals first.
    pub(super) templates: Vec<(UriTemplate, ConnectorId)>,
    /// Every connector that is seen.
    pub(super) seen: BTreeSet<ConnectorId>,
    /// Those of them that have resources.
    pub(super) readers: Vec<ConnectorId>,
    /// How many items of each connector are listed, in the order of [`ListKind::ALL`].
    pub(super) counts: HashMap<ConnectorId, [usize; 4]>,
    pub(super) collisions: Vec<Collision>,
    pub(super) cut: Cut,
}

/// Tools that are not served because there are too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// How many.
    pub count: usize,
    /// The first of them, in the order in which they would be listed.
    pub first: Vec<String>,
}

/// A list as it is served.
#[derive(Debug)]
pub struct ServedList {
    pub(super) bytes: Bytes,
    /// Where each item begins and ends.
    pub(super) items: Vec<(usize, usize)>,
    pub(super) digest: Digest,
}

impl ServedList {
    /// The whole list: a JSON array.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Tells lists apart.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// At most `most` items from the one at `from` on, as a JSON array, and where the next page begins; none after the last.
    pub fn page(&self, from: usize, most: usize) -> (Bytes, Option<usize>) {
        let end = from.saturating_add(most).min(self.items.len());
        if from == 0 && end == self.items.len() {
            return (self.bytes.clone(), None);
        }
        let mut page = BytesMut::new();
        page.put_u8(b'[');
        if let Some(([(begin, _), ..], [.., (_, finish)])) = self.items.get(from..end).map(|items| (items, items)) {
            page.put_slice(self.bytes.get(*begin..*finish).unwrap_or_default());
        }
        page.put_u8(b']');
        (page.freeze(), (end < self.items.len()).then_some(end))
    }
}

impl Served {
    /// One of the lists.
    pub fn list(&self, kind: ListKind) -> &ServedList {
        &self.lists[kind as usize]
    }

    /// Whether a tool is the gateway's own.
    pub fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// How many tools of connectors there are.
    pub fn tool_count(&self) -> usize {
        self.routes[ListKind::Tools as usize].len()
    }

    /// How many items of a connector are in a list.
    pub fn count(&self, kind: ListKind, connector: &ConnectorId) -> usize {
        self.counts.get(connector).map_or(0, |counts| counts[kind as usize])
    }

    /// Where a call of a tool goes.
    pub fn tool(&self, name: &str) -> Option<&Route> {
        self.routes[ListKind::Tools as usize].get(name)
    }

    /// Where a request for a prompt goes.
    pub fn prompt(&self, name: &str) -> Option<&Route> {
        self.routes[ListKind::Prompts as usize].get(name)
    }

    /// Where a request about a resource template goes. Every template is also known by its qualified form.
    pub fn template(&self, template: &str) -> Option<&Route> {
        self.routes[ListKind::Templates as usize].get(template)
    }

    /// Where a resource may be read, the likeliest place first. A qualified URI goes to the connector that it names; any
    /// other one to whoever lists it, else to those with a template for it, else, because results may name resources that
    /// nobody lists, to every connector that has resources, as far as [`limits::RESOURCE_ROUTES_MAX`].
    pub fn resource(&self, uri: &str) -> Vec<Route> {
        if let Some((connector, own)) = qualified::split(uri)
            && self.seen.contains(&connector)
        {
            return vec![Route { connector, original: own.to_owned() }];
        }
        if let Some(route) = self.routes[ListKind::Resources as usize].get(uri) {
            return vec![route.clone()];
        }
        let route = |connector: &ConnectorId| Route { connector: connector.clone(), original: uri.to_owned() };
        let mut with_templates: Vec<Route> = Vec::new();
        if uri.len() <= limits::TEMPLATE_URI_BYTES_MAX {
            for (template, connector) in &self.templates {
                let known = with_templates.iter().any(|route| route.connector == *connector);
                if !known && with_templates.len() < limits::RESOURCE_ROUTES_MAX && template.matches(uri) {
                    with_templates.push(route(connector));
                }
            }
        }
        if !with_templates.is_empty() {
            return with_templates;
        }
        self.readers.iter().take(limits::RESOURCE_ROUTES_MAX).map(route).collect()
    }

    /// Names, URIs and templates that two items claim.
    pub fn collisions(&self) -> &[Collision] {
        &self.collisions
    }

    /// Tools that are not served because there are too many.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }
}
