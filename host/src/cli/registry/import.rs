//! `cortex-mcp registry import`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use cortex_mcp::config::Environment;
use cortex_mcp::model::style::Style;
use cortex_mcp::registry::formats::{
    ImportFormat, ImportedReferences, MAX_IMPORT_BYTES, Note, Preview, Proposed, import,
};
use cortex_mcp::registry::{Acknowledged, Change, RegistryEntry, Store, StoreError, TargetRules};
use serde::Serialize;
use serde_json::{Value, json};

use super::add::parsed;
use super::open::{Opening, read_input};
use super::show::{masked, target};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span, notice, shorten};

/// Takes servers over from the file of another program (Claude, Cursor, VS Code, Gemini, Zed, Windsurf and others),
/// from a registry's file, or from an official server.json. What would change is always told first; secrets are not
/// shown.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry import ~/.cursor/mcp.json --dry-run
  cortex-mcp registry import .vscode/mcp.json --only wiki --only files
  curl -s https://registry.example/server.json | cortex-mcp registry import - --format server-json
  cortex-mcp registry import backup.json --overwrite

`${VAR}`, `${VAR:-default}` and `${env:VAR}` in a client's file are replaced by this command's environment. A server that
refers to files (`${file:/path}`) or variables (`${env:NAME}`) in its headers or its environment would get what they hold each time
that the gateway connects to it: it is skipped. With --allow-references the references are stored, those of a client's file too.

Exit codes: 0 all imported, 1 none, 3 some were skipped or could not be taken.")]
pub(super) struct Import {
    /// The file; `-` is stdin.
    file: PathBuf,

    /// Its format: registry, client or server-json. By default its shape shows it.
    #[arg(long, value_name = "FORMAT")]
    format: Option<ImportFormat>,

    /// Tell what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,

    /// Replace servers that are there and differ.
    #[arg(long)]
    overwrite: bool,

    /// Take servers that refer to files or variables of this machine, which their servers get.
    #[arg(long)]
    allow_references: bool,

    /// Only the server of that name. Repeatable.
    #[arg(long = "only", value_name = "NAME")]
    only: Vec<String>,
}

/// What becomes of one server.
#[derive(Serialize)]
struct Row {
    name: Option<String>,
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Created,
    Updated,
    Unchanged,
    Skipped,
}

impl Import {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let environment = Environment::of_process();
        let bytes = read_input(&self.file, MAX_IMPORT_BYTES)?;
        let references = if self.allow_references { ImportedReferences::Allowed } else { ImportedReferences::Refused };
        let preview = import(&bytes, self.format, references, &|name| environment.get(name).map(str::to_owned))?;
        let store = if self.dry_run { opening.to_read()? } else { opening.to_write()? };
        let (mut rows, changes) = self.rows(&store, &preview, &opening.target_rules());
        if !output.is_json() {
            tell(output, &preview, &rows, self.dry_run);
        }
        let is_in_order = self.dry_run || apply(output, &store, &mut rows, changes)?;
        let count = |action| rows.iter().filter(|row| row.action == action).count();
        let skipped = count(Action::Skipped);
        let taken = rows.len() - skipped;
        output.value(&json!({
            "ok": skipped == 0 && is_in_order, "dryRun": self.dry_run, "format": preview.format.as_str(),
            "created": count(Action::Created), "updated": count(Action::Updated),
            "unchanged": count(Action::Unchanged), "skipped": skipped, "servers": rows,
            "notes": preview.notes.iter().map(Note::to_string).collect::<Vec<_>>(),
        }));
        let would = if self.dry_run { "would be " } else { "" };
        output.line(format_args!(
            "{would}created {}, updated {}, unchanged {}, skipped {skipped}",
            count(Action::Created),
            count(Action::Updated),
            count(Action::Unchanged)
        ));
        Ok(match (taken, skipped) {
            (_, 0) if is_in_order => Exit::Good,
            (0, _) => Exit::Failed,
            _ => Exit::Partly,
        })
    }

    /// What becomes of each server, and the changes for those that become something.
    fn rows(&self, store: &Store, preview: &Preview, rules: &TargetRules) -> (Vec<Row>, Vec<(usize, Change)>) {
        let is_wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        let (mut rows, mut changes) = (Vec::new(), Vec::new());
        for proposed in preview.servers.iter().filter(|proposed| is_wanted(&proposed.name)) {
            let (row, change) = self.row(store, proposed, rules);
            changes.extend(change.map(|change| (rows.len(), change)));
            rows.push(row);
        }
        let named = |name: &Option<String>| name.as_deref().map_or(self.only.is_empty(), is_wanted);
        for skipped in preview.skipped.iter().filter(|skipped| named(&skipped.name)) {
            rows.push(skip(skipped.name.clone(), skipped.reason.code(), skipped.reason.to_string()));
        }
        for only in &self.only {
            if !rows.iter().any(|row| row.name.as_ref() == Some(only)) {
                rows.push(skip(Some(only.clone()), "not_in_file", "is not in the file".to_owned()));
            }
        }
        (rows, changes)
    }

    fn row(&self, store: &Store, proposed: &Proposed, rules: &TargetRules) -> (Row, Option<Change>) {
        let entry = match parsed(&proposed.entry) {
            Ok(entry) => entry,
            Err(rule) => return (skip(Some(proposed.name.clone()), "entry_rule", rule.to_string()), None),
        };
        if let Err(fault) = rules.check(&entry) {
            return (skip(Some(entry.name), fault.code(), fault.to_string()), None);
        }
        let there: Option<Arc<RegistryEntry>> = store.get(&entry.name);
        let shown = masked(entry.json());
        let mut row = Row {
            name: Some(entry.name.clone()),
            action: Action::Created,
            transport: shown.get("transport").and_then(Value::as_str).map(str::to_owned),
            target: Some(target(&shown)),
            code: None,
            reason: None,
            notes: proposed.notes.iter().map(Note::to_string).collect(),
        };
        let change = match there {
            None => Some(Change::put_new(entry)),
            Some(there) if there.digest == entry.digest => {
                row.action = Action::Unchanged;
                None
            }
            Some(_) if self.overwrite => {
                row.action = Action::Updated;
                Some(Change::put(entry))
            }
            Some(_) => {
                row.action = Action::Skipped;
                (row.code, row.reason) =
                    (Some("exists"), Some("is there already and differs; replace it with --overwrite".to_owned()));
                None
            }
        };
        (row, change)
    }
}

fn skip(name: Option<String>, code: &'static str, reason: String) -> Row {
    let (code, reason) = (Some(code), Some(reason));
    Row { name, action: Action::Skipped, transport: None, target: None, code, reason, notes: Vec::new() }
}

/// Makes the changes together, and tells whether the registry could be closed in good order.
fn apply(
    output: Output,
    store: &Arc<Store>,
    rows: &mut [Row],
    changes: Vec<(usize, Change)>,
) -> Result<bool, CommandError> {
    let (places, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
    let answers = store.change_all(changes);
    let closed = store.close();
    let is_any_done = answers.iter().any(Result::is_ok);
    for place in note_refused(rows, places.into_iter().zip(answers).collect())? {
        if !output.is_json() {
            let (name, reason) = (rows[place].name.as_deref(), rows[place].reason.as_deref());
            notice(format_args!("{} {}", name.unwrap_or_default(), reason.unwrap_or_default()));
        }
    }
    match closed {
        Err(error) if is_any_done => {
            // What was taken is in the file already.
            notice(format_args!("the registry was not closed in good order: {error}"));
            Ok(false)
        }
        other => Ok(other.map(|()| true)?),
    }
}

/// Makes the rows of changes that were refused skipped, and tells which. Nothing is left to tell but the error itself if
/// nothing was done, and not for a reason of the entry's own.
fn note_refused(
    rows: &mut [Row],
    answers: Vec<(usize, Result<Acknowledged, StoreError>)>,
) -> Result<Vec<usize>, CommandError> {
    let is_any_done = answers.iter().any(|(_, answer)| answer.is_ok());
    let mut refused = Vec::new();
    for (place, answer) in answers {
        let Err(error) = answer else { continue };
        let is_its_own =
            matches!(error, StoreError::Exists { .. } | StoreError::Full { .. } | StoreError::Overruled { .. });
        let error = CommandError::from(error);
        if !is_its_own && !is_any_done {
            return Err(error);
        }
        let row = &mut rows[place];
        let reason = format!("was not taken: {error}");
        (row.action, row.code, row.reason) = (Action::Skipped, Some(error.class()), Some(reason));
        refused.push(place);
    }
    Ok(refused)
}

fn tell(output: Output, preview: &Preview, rows: &[Row], is_dry: bool) {
    let will = if is_dry { "would become" } else { "becomes" };
    output.line(format_args!("a file of the format {}; what {will} of its servers:", preview.format));
    for note in &preview.notes {
        output.line(format_args!("  {note}"));
    }
    let mut table = output.table(&["name", "", "transport", "endpoint or command"]);
    for row in rows {
        let (word, style) = match row.action {
            Action::Created => ("created", Style::Success),
            Action::Updated => ("updated", Style::Warning),
            Action::Unchanged => ("unchanged", Style::Success),
            Action::Skipped => ("skipped", Style::Error),
        };
        let target = shorten(row.target.as_deref().unwrap_or_default(), 80);
        let name = row.name.as_deref().unwrap_or_default();
        let transport = row.transport.as_deref().unwrap_or_default();
        table.add_row([name.into(), Span::styled(word, style), transport.into(), target.into()]);
    }
    output.rows(&table);
    for row in rows {
        let name = row.name.as_deref().unwrap_or("a server without a name");
        for text in row.reason.iter() {
            output.line(format_args!("  {name} {text}"));
        }
        for text in &row.notes {
            output.line(format_args!("  {name}: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<Row> {
        let created =
            |index: usize| Row { action: Action::Created, ..skip(Some(format!("n{index}")), "", String::new()) };
        (0..count).map(created).collect()
    }

    #[test]
    fn an_error_in_the_middle_leaves_what_was_done_to_be_told() {
        use cortex_mcp::registry::Outcome;
        let mut told = rows(3);
        let done = Acknowledged { name: "n0".to_owned(), outcome: Outcome::Created };
        let exists = StoreError::Exists { name: "n2".to_owned() };
        let answers = vec![(0, Ok(done)), (1, Err(StoreError::Contended)), (2, Err(exists))];
        assert_eq!(note_refused(&mut told, answers).unwrap(), [1, 2]);
        assert!(told[0].action == Action::Created && told[1].action == Action::Skipped);
        assert_eq!((told[1].code, told[2].code), (Some("busy"), Some("exists")));
        assert!(told[1].reason.as_ref().unwrap().starts_with("was not taken: another program"));
        let nothing = vec![(0, Err(StoreError::Busy))];
        assert!(note_refused(&mut rows(1), nothing).is_err(), "nothing was done");
    }
}
