//! A connector's definitions between its server and the catalog: which of them are served, and what changed.
//!
//! Two rules, in this order. A definition that came back to this gateway, or passed through too many others, is left out.
//! The rest is compared with what was approved: a change is logged, counted, shown in `status` and kept across restarts
//! until it is approved, and with `on-change = "hide"` it is not served before that. The connector keeps what its server
//! sent; nothing here changes a definition.

mod baseline;
mod kind;
mod record;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

pub use self::baseline::Selection;
use self::baseline::{Baseline, Listed, Transition, TransitionKind, digests};
pub use self::kind::DefinitionKind;
pub(crate) use self::record::RECORD_PREFIX;
pub(super) use self::record::{of_records, record_name};
pub use self::status::{ChangeKind, ChangedDefinition, DefinitionsStatus, LeftOutDefinitions};
use super::limits::{DEFINITION_LINES, DEFINITION_NAME_CHARACTERS, LOGGED_CHANGES_MAX, STATUS_CHANGES_MAX};
use super::metrics::ConnectorMetrics;
use crate::config::OnChange;
use crate::edge::state::{StateRecord, StateSink};
use crate::mcp::envelope::error_object;
use crate::mcp::protocol::{
    COMPLETION_COMPLETE, INVALID_PARAMS, PROMPTS_GET, RESOURCES_READ, RESOURCES_SUBSCRIBE, TOOLS_CALL,
};
use crate::model::raw::{self, RawObject};
use crate::model::{Connector, ConnectorId, Digest, HiddenKeys, InstanceId, ItemList, ListKind, Offer, WallMs};
use crate::telemetry::{LogLimit, labels};

labels! {
    /// Why a line about definitions is logged.
    enum DefinitionLine as "line" {
        Changed = "changed",
        Unstable = "unstable",
        LeftOut = "left-out",
    }
}

/// Why an approval is refused, or not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// There is nothing to approve.
    #[error("connector {connector} has no such change; `cortex-mcp status` lists what is to be approved")]
    NoChange {
        /// The connector.
        connector: ConnectorId,
    },
    /// The digest is not the one of what is listed now.
    #[error(
        "the digest of this change of connector {connector} is {current} now; look at the change again before you approve it"
    )]
    OtherDigest {
        /// The connector.
        connector: ConnectorId,
        /// The digest by which the change is approved now.
        current: Digest,
    },
    /// It cannot be written.
    #[error(
        "the approval of connector {connector} cannot be saved: {cause}; it is in force until the gateway ends, and saved when the state folder can be written again"
    )]
    NotSaved {
        /// The connector.
        connector: ConnectorId,
        /// Why.
        cause: String,
    },
}

/// The definitions of one connector.
pub(super) struct Definitions {
    id: ConnectorId,
    server: Digest,
    own: InstanceId,
    sink: Arc<dyn StateSink>,
    metrics: Arc<ConnectorMetrics>,
    lines: LogLimit<DefinitionLine>,
    state: Mutex<State>,
}

/// What was approved, and the end of its writing.
type Approving<'a> = (Vec<ChangedDefinition>, BoxFuture<'a, Result<(), ApprovalError>>);

#[derive(Default)]
struct State {
    on_change: OnChange,
    /// What was kept and is not read yet.
    unread: Option<StateRecord>,
    baseline: Option<Baseline>,
    /// What an earlier process observed, and has not been compared with a list yet.
    observed: Option<(Digest, InstanceId)>,
    /// What the server sent last, and the items of it that passed through no wrong gateway.
    raw: Option<(Offer, Digest)>,
    passed: Option<[ItemList; 4]>,
    left_out: LeftOutDefinitions,
    served: Option<Offer>,
    hidden: HiddenKeys,
    status: Arc<DefinitionsStatus>,
    phase: Phase,
}

/// Whether the connector still uses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    InUse,
    /// The next connector of the name has its own.
    HandedOver,
}

impl Definitions {
    /// Those of a connector. `saved` is what was kept of them; it is not read before [`Self::begin`].
    pub(super) fn new(
        connector: &Connector,
        own: InstanceId,
        sink: Arc<dyn StateSink>,
        metrics: Arc<ConnectorMetrics>,
        saved: Option<StateRecord>,
    ) -> Self {
        let (id, server) = (connector.id.clone(), connector.server_digest());
        let lines = LogLimit::new(DEFINITION_LINES);
        let state = Mutex::new(State { unread: saved, ..State::default() });
        Self { id, server, own, sink, metrics, lines, state }
    }

    /// Reads what was kept of them.
    pub(super) fn begin(&self, on_change: OnChange, now: WallMs) {
        self.set_on_change(on_change);
        let unread = self.lock().unread.take();
        if let Some(record) = unread {
            self.restore(&record, now);
        }
    }

    /// Takes what was kept of them, in the place of what is known. What the server has sent is compared with it.
    pub(super) fn restore(&self, record: &StateRecord, now: WallMs) {
        let Some((header, baseline)) = record::restore(record, self.server) else { return };
        let mut state = self.lock();
        (state.baseline, state.observed) = (Some(baseline), header.observed);
        let raw = state.raw.take();
        state.passed = None;
        state.refresh(&self.id);
        if let Some((offer, digest)) = raw {
            self.observe_in(&mut state, &offer, digest, now);
        }
    }

    /// Takes what the server sent, whose digest is `digest`. What changed is logged, counted and kept.
    pub(super) fn observe(&self, offer: &Offer, digest: Digest, now: WallMs) {
        self.observe_in(&mut self.lock(), offer, digest, now);
    }

    /// Other settings are in force.
    pub(super) fn set_on_change(&self, on_change: OnChange) {
        let mut state = self.lock();
        if state.on_change != on_change || state.status.on_change != on_change {
            state.on_change = on_change;
            state.refresh(&self.id);
        }
    }

    /// What is served of the offer that was observed last: the very same lists as before where they hold the same items.
    pub(super) fn served(&self) -> Option<Offer> {
        self.lock().served.clone()
    }

    /// The keys of what is listed and not served until it is approved.
    pub(super) fn hidden_keys(&self) -> HiddenKeys {
        self.lock().hidden.clone()
    }

    /// What `status` shows.
    pub(super) fn status(&self) -> Arc<DefinitionsStatus> {
        self.lock().status.clone()
    }

    /// Every change, with all definitions of its name that the server lists now, in the order of the list: they are
    /// approved together.
    pub(super) fn changes(&self) -> Vec<(ChangedDefinition, Vec<Box<RawValue>>)> {
        let state = self.lock();
        let mut listed: HashMap<(DefinitionKind, &str), Vec<&RawValue>> = HashMap::new();
        for (kind, list) in ListKind::ALL.into_iter().zip(state.passed.iter().flatten()) {
            for item in list.items() {
                listed.entry((kind.into(), &item.key)).or_default().push(&item.definition);
            }
        }
        let instructions = state.instructions().map(raw::string);
        if let Some(instructions) = &instructions {
            listed.insert((DefinitionKind::Instructions, self.id.as_str()), vec![instructions]);
        }
        let changes = state.baseline.iter().flat_map(Baseline::changes);
        let with_definitions = changes.map(|change| {
            let definitions = listed.get(&(change.kind, change.name.as_str())).into_iter().flatten();
            let definitions = definitions.map(|definition| (*definition).to_owned()).collect();
            (change, definitions)
        });
        with_definitions.collect()
    }

    /// The JSON-RPC error for a request about an item that is hidden until it is approved; none for any other request.
    /// However it was routed: by the list, by a template, by its qualified form, or because nothing lists it.
    pub(super) fn refusal(&self, method: &str, params: &RawObject) -> Option<Box<RawValue>> {
        let state = self.lock();
        if state.status.hidden == 0 {
            return None;
        }
        let (kind, name) = subject(method, params)?;
        let is_hidden = match kind {
            ListKind::Tools | ListKind::Prompts => state.hides(kind, &name),
            ListKind::Resources => state.hides(kind, &name) || state.hides_template_of(&name),
            // A client may complete a resource, too.
            ListKind::Templates => state.hides(kind, &name) || state.hides(ListKind::Resources, &name),
        };
        let message = format!("{} {name:?} changed and is not served until it is approved", kind.singular());
        is_hidden.then(|| error_object(INVALID_PARAMS, &message, None))
    }

    /// What is to be kept of them. Nothing is approved here any more: the next connector of the name takes it.
    pub(super) fn hand_over(&self) -> Option<StateRecord> {
        let mut state = self.lock();
        state.phase = Phase::HandedOver;
        self.record_of(&state).or_else(|| state.unread.take())
    }

    /// Approves a selection, if `digest` is that of its state now. What is returned ends once that is durable.
    ///
    /// # Errors
    /// [`ApprovalError`]; nothing is approved then. What is returned fails if the approval cannot be saved.
    pub(super) fn approve(&self, selection: &Selection, digest: Digest) -> Result<Approving<'_>, ApprovalError> {
        let connector = || self.id.clone();
        let mut state = self.lock();
        let phase = state.phase;
        let Some(baseline) = state.baseline.as_mut().filter(|_| phase == Phase::InUse) else {
            return Err(ApprovalError::NoChange { connector: connector() });
        };
        let current =
            baseline.digest_of(selection).ok_or_else(|| ApprovalError::NoChange { connector: connector() })?;
        if current != digest {
            return Err(ApprovalError::OtherDigest { connector: connector(), current });
        }
        let is_selected = |change: &ChangedDefinition| match selection {
            Selection::All => true,
            Selection::Item(kind, name) => change.kind == *kind && change.name == *name,
        };
        let approved = baseline.changes().filter(is_selected).collect();
        baseline.approve(selection);
        state.refresh(&self.id);
        let not_saved = |cause: String| ApprovalError::NotSaved { connector: connector(), cause };
        let record = self.record_of(&state).ok_or_else(|| not_saved("it cannot be written as JSON".to_owned()))?;
        // Handed in under the lock: a later state is written later.
        let written = self.sink.keep_now(&record_name(&self.id), record);
        let id = self.id.clone();
        let written = async move {
            let written = written.await;
            written.map_err(|error| ApprovalError::NotSaved { connector: id, cause: error.to_string() })
        };
        Ok((approved, Box::pin(written)))
    }

    fn observe_in(&self, state: &mut State, offer: &Offer, digest: Digest, now: WallMs) {
        let before = state.passed.take();
        let passed = self.pass(state, offer, before.as_ref());
        let is_new = |kind: ListKind| {
            before.as_ref().is_none_or(|before| !before[kind as usize].is_same(&passed[kind as usize]))
        };
        let known = state.observed.take().is_some_and(|observed| observed == (digest, self.own));
        let instructions = offer.about().instructions.as_deref();
        let listed = |kind: DefinitionKind| match kind.list() {
            Some(list) => digests(&passed[list as usize]),
            None => Listed::from_iter(instructions.map(|text| (self.id.as_str(), Digest::of(text.as_bytes())))),
        };
        // A server that is not ready yet may list nothing.
        let is_ready = passed.iter().any(|list| !list.items().is_empty());
        let mut transitions = Vec::new();
        let mut is_changed = false;
        for kind in DefinitionKind::ALL {
            let is_given = is_ready || (kind == DefinitionKind::Instructions && instructions.is_some());
            if is_given && state.baseline.as_ref().is_none_or(|baseline| !baseline.has(kind)) {
                state.baseline.get_or_insert_with(|| Baseline::new(now)).approve_first(kind, &listed(kind));
                is_changed = true;
            } else if !known
                && kind.list().is_none_or(is_new)
                && let Some(baseline) = &mut state.baseline
            {
                transitions.extend(baseline.observe(kind, listed(kind)));
            }
        }
        (state.raw, state.passed) = (Some((offer.clone(), digest)), Some(passed));
        state.refresh(&self.id);
        self.report(&transitions);
        if (is_changed || !transitions.is_empty())
            && let Some(record) = self.record_of(state)
        {
            self.sink.keep(&record_name(&self.id), record);
        }
    }

    /// Leaves out what passed through the wrong gateways. Lists that hold the same as before are the same lists.
    fn pass(&self, state: &mut State, offer: &Offer, before: Option<&[ItemList; 4]>) -> [ItemList; 4] {
        let mut left_out = LeftOutDefinitions::default();
        for fault in
            ListKind::ALL.iter().flat_map(|kind| offer.list(*kind).items()).filter_map(|it| it.path.fault(self.own))
        {
            left_out.add(fault);
        }
        if left_out != state.left_out
            && left_out.count() > 0
            && let Some(line) = self.lines.admit(DefinitionLine::LeftOut)
        {
            let LeftOutDefinitions { own_instance, path_too_long, path_malformed } = left_out;
            tracing::warn!(
                connector = %self.id, count = left_out.count(), own_instance, path_too_long, path_malformed,
                left_out = line.left_out, "definitions that came through this gateway or too many others are not served"
            );
        }
        state.left_out = left_out;
        ListKind::ALL.map(|kind| {
            let list = offer.list(kind).filtered(|item| item.path.fault(self.own).is_none());
            match before.map(|before| &before[kind as usize]) {
                Some(before) if before.bytes() == list.bytes() => before.clone(),
                _ => list,
            }
        })
    }

    fn report(&self, transitions: &[Transition]) {
        let mut kinds: BTreeMap<DefinitionKind, usize> = BTreeMap::new();
        let counted = transitions.iter().filter(|transition| transition.to != TransitionKind::Return);
        counted.for_each(|transition| *kinds.entry(transition.kind).or_default() += 1);
        kinds.into_iter().for_each(|(kind, count)| self.metrics.definitions_changed(kind, count));
        let changed = |to: &TransitionKind| matches!(to, TransitionKind::Change(_));
        let (count, items) = named(transitions, changed);
        if count > 0
            && let Some(line) = self.lines.admit(DefinitionLine::Changed)
        {
            let left_out = line.left_out;
            tracing::warn!(
                connector = %self.id, count, items, left_out,
                "definitions differ from what was approved; `cortex-mcp status` shows how to approve them"
            );
        }
        let (count, items) = named(transitions, |to| *to == TransitionKind::Unstable);
        if count > 0
            && let Some(line) = self.lines.admit(DefinitionLine::Unstable)
        {
            let left_out = line.left_out;
            tracing::warn!(connector = %self.id, count, items, left_out, "definitions are unstable: they alternate");
        }
    }

    fn record_of(&self, state: &State) -> Option<StateRecord> {
        let baseline = state.baseline.as_ref()?;
        let observed = state.raw.as_ref().map(|(_, digest)| (*digest, self.own)).or(state.observed);
        record::record(&record::Header { server: self.server, observed }, baseline).ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether an item is listed by the server and not approved.
    fn hides(&self, kind: ListKind, name: &str) -> bool {
        let (Some(baseline), Some(passed)) = (&self.baseline, &self.passed) else { return false };
        !baseline.is_approved(kind.into(), name) && passed[kind as usize].items().iter().any(|item| item.key == name)
    }

    /// What the server wants a model to know.
    fn instructions(&self) -> Option<&str> {
        self.raw.as_ref()?.0.about().instructions.as_deref()
    }

    /// Whether the template that fits a URI best, of those of the server, is not approved and the URI is not listed by
    /// itself. The text before the first variable decides, and an approved template of equal length.
    fn hides_template_of(&self, uri: &str) -> bool {
        let (Some(baseline), Some(passed)) = (&self.baseline, &self.passed) else { return false };
        let longest = |is_approved: bool| {
            let templates = passed[ListKind::Templates as usize].items().iter();
            let of_kind =
                templates.filter(|item| baseline.is_approved(DefinitionKind::Templates, &item.key) == is_approved);
            let literal = of_kind.filter_map(|item| item.key.split('{').next());
            literal.filter(|literal| uri.starts_with(literal)).map(str::len).max()
        };
        !baseline.is_approved(DefinitionKind::Resources, uri) && longest(false) > longest(true)
    }

    /// Makes what is served and shown from what is known.
    fn refresh(&mut self, id: &ConnectorId) {
        let mut hidden = 0;
        let mut hidden_keys: [Vec<String>; 4] = Default::default();
        if let (Some((raw, _)), Some(passed)) = (&self.raw, &self.passed) {
            let hiding = self.baseline.as_ref().filter(|_| self.on_change == OnChange::Hide);
            let hides_instructions =
                hiding.is_some_and(|baseline| !baseline.is_approved(DefinitionKind::Instructions, id.as_str()));
            let raw = match &raw.about().instructions {
                Some(_) if hides_instructions => {
                    hidden += 1;
                    raw.without_instructions()
                }
                _ => raw.clone(),
            };
            let lists = ListKind::ALL.map(|kind| {
                let passed = &passed[kind as usize];
                let list = match hiding {
                    Some(baseline) => passed.filtered(|item| baseline.is_approved(kind.into(), &item.key)),
                    None => passed.clone(),
                };
                hidden += passed.items().len() - list.items().len();
                if let Some(baseline) = self.baseline.as_ref().filter(|_| list.items().len() < passed.items().len()) {
                    let unapproved = passed.items().iter().filter(|item| !baseline.is_approved(kind.into(), &item.key));
                    hidden_keys[kind as usize] = unapproved.map(|item| item.key.clone()).collect();
                }
                match self.served.as_ref().map(|served| served.list(kind)) {
                    Some(served) if served.bytes() == list.bytes() => served.clone(),
                    _ => list,
                }
            });
            self.served = Some(raw.with_lists(lists, self.served.as_ref()));
            self.hidden = Arc::new(hidden_keys);
        }
        let changes = self.baseline.iter().flat_map(Baseline::changes);
        self.status = Arc::new(DefinitionsStatus {
            on_change: self.on_change,
            baseline_taken_at: self.baseline.as_ref().map(|baseline| baseline.taken_at.to_string()),
            changes: changes.count(),
            digest: self.baseline.as_ref().and_then(Baseline::digest_of_changes),
            first: self.baseline.iter().flat_map(Baseline::changes).take(STATUS_CHANGES_MAX).collect(),
            hidden,
            left_out: self.left_out,
        });
    }
}

/// Which item of a connector a request is about, by its server's own name or URI.
fn subject(method: &str, params: &RawObject) -> Option<(ListKind, String)> {
    match method {
        TOOLS_CALL => Some((ListKind::Tools, params.get_str("name")?)),
        PROMPTS_GET => Some((ListKind::Prompts, params.get_str("name")?)),
        RESOURCES_READ | RESOURCES_SUBSCRIBE => Some((ListKind::Resources, params.get_str("uri")?)),
        COMPLETION_COMPLETE => {
            let reference = RawObject::parse(params.get("ref")?).ok()?;
            match reference.get_str("type").as_deref() {
                Some("ref/prompt") => Some((ListKind::Prompts, reference.get_str("name")?)),
                _ => Some((ListKind::Templates, reference.get_str("uri")?)),
            }
        }
        _ => None,
    }
}

/// How many transitions are of a kind, and the first of them for a line of the log.
fn named(transitions: &[Transition], is_of_kind: impl Fn(&TransitionKind) -> bool) -> (usize, String) {
    let of_kind: Vec<&Transition> = transitions.iter().filter(|transition| is_of_kind(&transition.to)).collect();
    let items = of_kind.iter().take(LOGGED_CHANGES_MAX).map(|Transition { kind, name, to }| {
        let change = match to {
            TransitionKind::Change(change) => change.as_str(),
            _ => "unstable",
        };
        let name: String = name.chars().take(DEFINITION_NAME_CHARACTERS).collect();
        // Escaped: a server chooses its names.
        format!("{} {name:?} {change}", kind.singular())
    });
    (of_kind.len(), items.collect::<Vec<_>>().join(", "))
}

impl fmt::Debug for Definitions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Definitions").field("connector", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
