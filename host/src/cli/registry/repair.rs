//! `cortex-mcp registry repair`.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use clap::Args;
use cortex_mcp::edge::clock::{Clock, SystemClock};
use cortex_mcp::edge::disk::{DIRECTORY_MODE, Disk};
use cortex_mcp::model::style::Style;
use cortex_mcp::registry::{Mending, MendingAction, MendingState, RegistryPlace, mend, plan};
use serde_json::json;

use super::open::{Opening, in_file};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span};

/// Mends what the doctor reports as mendable: permissions, owners, forgotten locks, what ended programs left,
/// and, with --yes, a file that can not be read and the loss in a damaged journal. The only copy of anything is never
/// removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry repair --dry-run
  cortex-mcp registry repair
  cortex-mcp registry repair --yes

A file that can not be read is kept as servers.json.bad-..., and a new one is written of what can be had: the entries
of it that are whole, the latest former file, and all journals. A journal in which acknowledged changes are damaged is
kept as servers.json.kept-..., and given up but for what is good in it. Without --yes both are only told.

Exit codes: 0 nothing is left to mend, 1 nothing could be mended, 3 something is left.")]
pub(super) struct Repair {
    /// Tell what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,

    /// Also replace a file that can not be read, and give up what is lost in damaged journals.
    #[arg(long)]
    yes: bool,
}

impl Repair {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let place = opening.place()?;
        let steps = match opening.folder(&place)? {
            None => Vec::new(),
            Some(disk) => self.steps(opening, &place, Arc::new(disk))?,
        };
        let left = |step: &&Mending| !matches!(step.state, MendingState::Done | MendingState::Planned);
        let left = steps.iter().filter(left).count();
        let done = steps.iter().filter(|step| step.state == MendingState::Done).count();
        output.value(&json!({ "ok": left == 0, "dryRun": self.dry_run, "steps": steps }));
        for step in &steps {
            tell(output, step);
        }
        if steps.is_empty() {
            output.line("there is nothing to mend");
        }
        Ok(match (left, done) {
            (0, _) => Exit::Good,
            (_, 0) if !self.dry_run => Exit::Failed,
            (_, 0) => Exit::Good,
            _ => Exit::Partly,
        })
    }

    fn steps(
        &self,
        opening: &Opening,
        place: &RegistryPlace,
        disk: Arc<dyn Disk>,
    ) -> Result<Vec<Mending>, CommandError> {
        let folder = make_folder_private(place, &*disk, self.dry_run)?;
        let steps = if self.dry_run {
            plan(&*disk, &place.file, SystemClock::new().wall()).map_err(in_file(&place.folder))?
        } else {
            mend(&opening.store(disk, place.file.clone())?, self.yes)?
        };
        Ok(folder.into_iter().chain(steps).collect())
    }
}

/// Makes the folder its owner's alone, if others may enter it.
fn make_folder_private(place: &RegistryPlace, disk: &dyn Disk, is_dry: bool) -> Result<Option<Mending>, CommandError> {
    let look = disk.look_at_folder().map_err(in_file(&place.folder))?;
    if look.mode & 0o077 == 0 {
        return Ok(None);
    }
    let mut step = Mending {
        action: MendingAction::MakePrivate,
        file: ".".to_owned(),
        message: "give the folder the mode 0700".to_owned(),
        state: MendingState::Planned,
        details: Vec::new(),
    };
    if !is_dry {
        match std::fs::set_permissions(&place.folder, PermissionsExt::from_mode(DIRECTORY_MODE)) {
            Ok(()) => step.state = MendingState::Done,
            Err(error) => {
                step.state = MendingState::Failed;
                step.details.push(error.to_string());
            }
        }
    }
    Ok(Some(step))
}

fn tell(output: Output, step: &Mending) {
    let (word, style) = match step.state {
        MendingState::Planned => ("planned", Style::Warning),
        MendingState::NeedsConsent => ("needs --yes", Style::Warning),
        MendingState::Done => ("done", Style::Success),
        MendingState::Failed => ("failed", Style::Error),
        MendingState::ByHand => ("by hand", Style::Error),
    };
    output.spans([Span::styled(word, style), format_args!(" {}: {}", step.file, step.message).into()]);
    for detail in &step.details {
        output.line(format_args!("    {detail}"));
    }
}
