//! `cortex-mcp registry former`.

use clap::Args;
use cortex_mcp::model::WallMs;
use cortex_mcp::registry::formats::Secrets;
use cortex_mcp::registry::{FormerValue, former_values};
use serde::Serialize;
use serde_json::value::RawValue;

use super::open::{Opening, in_file};
use super::show::{masked, raw, secrets, target};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span, notice, shorten};

/// Lists the values that edits of programs without a lock replaced or removed, the oldest first, so that one can be had
/// back. Writes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry former
  cortex-mcp registry former wiki --reveal
  cortex-mcp registry former wiki --json --reveal | jq '.former[-1].entry' |
    cortex-mcp registry add --from-json - --overwrite

About the latest 2 MiB are kept, in servers.json.superseded and servers.json.superseded-older.

Exit codes: 0 listed, 1 nothing of that name is kept.")]
pub(super) struct Former {
    /// Only the values of this server.
    name: Option<String>,

    /// Show secrets too.
    #[arg(long)]
    reveal: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    former: Vec<ToldValue<'a>>,
    torn: usize,
}

/// A former value for machines: its numbers are spelt as they were.
#[derive(Serialize)]
struct ToldValue<'a> {
    at: WallMs,
    name: &'a str,
    how: &'a str,
    entry: Option<Box<RawValue>>,
}

impl Former {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let place = opening.place()?;
        let (found, torn) = match opening.folder(&place)? {
            Some(disk) => former_values(&disk, &place.file).map_err(in_file(&place.folder))?,
            None => Default::default(),
        };
        let is_wanted = |value: &&FormerValue| self.name.as_ref().is_none_or(|name| *name == value.name);
        let wanted: Vec<_> = found.iter().filter(is_wanted).collect();
        let secrets = secrets(self.reveal);
        output.value(&Told { former: wanted.iter().map(|one| told(one, secrets)).collect(), torn });
        if !output.is_json() {
            if wanted.is_empty() {
                output.line("no former values are kept");
            } else if self.reveal {
                for one in &wanted {
                    let entry = one.former.as_ref().map_or("null", |entry| entry.get());
                    output.line(format_args!("{}  {}  {}", one.at, one.name, one.by));
                    output.line(format_args!("  {entry}"));
                }
            } else {
                let mut table = output.table(&["when", "name", "how", "former endpoint or command"]);
                for one in &wanted {
                    let former = one.former.as_ref().map(|entry| target(&masked(entry.get()))).unwrap_or_default();
                    let former = shorten(&former, 80);
                    table.add_row([Span::from(one.at), (&one.name).into(), (&one.by).into(), former.into()]);
                }
                output.rows(&table);
            }
            if torn > 0 {
                notice(format_args!("{torn} lines were torn when they were written, and are left out"));
            }
        }
        Ok(if wanted.is_empty() && self.name.is_some() { Exit::Failed } else { Exit::Good })
    }
}

fn told(value: &FormerValue, secrets: Secrets) -> ToldValue<'_> {
    let entry = value.former.as_ref().map(|entry| raw(entry.get(), secrets));
    ToldValue { at: value.at, name: &value.name, how: &value.by, entry }
}
