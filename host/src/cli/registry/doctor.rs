//! `cortex-mcp registry doctor`.

use std::os::unix::fs::MetadataExt;

use clap::Args;
use cortex_mcp::edge::clock::{Clock, SystemClock};
use cortex_mcp::model::style::Style;
use cortex_mcp::registry::{Examination, FileNames, Finding, RegistryPlace, Severity, examine};
use serde_json::json;

use super::open::Opening;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, Span};

/// Looks at file, permissions, locks, journals and entries, and says what is wrong and what to do. Writes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry doctor
  cortex-mcp registry doctor --probe
  cortex-mcp registry doctor --json | jq '.findings[] | select(.severity != \"ok\")'

Exit codes: 0 all is well but for warnings, 1 there are errors.")]
pub(super) struct Doctor {
    /// Also try out what the file system can do, with temporary files that are removed again.
    #[arg(long)]
    probe: bool,
}

impl Doctor {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let (place, mut findings) = where_it_is(opening);
        if let Some(place) = &place {
            findings.extend(self.folder(opening, place));
        }
        let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        let (warnings, errors) = (count(Severity::Warning), count(Severity::Error));
        output.value(&json!({
            "ok": worst < Severity::Error, "path": opening.path, "folder": place.as_ref().map(|place| &place.folder),
            "warnings": warnings, "errors": errors, "findings": findings,
        }));
        for finding in &findings {
            tell(output, finding);
        }
        output.line(format_args!("{errors} errors, {warnings} warnings"));
        Ok(if worst == Severity::Error { Exit::Failed } else { Exit::Good })
    }

    fn folder(&self, opening: &Opening, place: &RegistryPlace) -> Vec<Finding> {
        let disk = match opening.folder(place) {
            Ok(Some(disk)) => disk,
            Ok(None) => {
                let message =
                    "there is no folder yet, which is an empty registry; the first server that is added makes it";
                return vec![Finding::ok("folder", message)];
            }
            Err(error) => {
                let remedy = "check that it is a folder and that you may enter it";
                return vec![Finding::error("folder", error.to_string(), remedy)];
            }
        };
        let mut findings = vec![writable(place)];
        let how = Examination {
            now: SystemClock::new().wall(),
            user: Some(rustix::process::geteuid().as_raw()),
            probe: self.probe,
        };
        findings.extend(examine(&disk, &place.file, how));
        findings.extend(dangling(place));
        findings
    }
}

/// Where the registry is, and whether that is as it should be.
fn where_it_is(opening: &Opening) -> (Option<RegistryPlace>, Vec<Finding>) {
    let path = opening.path.display();
    match opening.place() {
        Ok(place) => {
            let target = place.folder.join(&place.file);
            let finding = if target == opening.path {
                Finding::ok("path", format!("the registry is {path}"))
            } else {
                let message = format!(
                    "{path} is a symbolic link; the registry is {}, whose folder holds its locks and journals",
                    target.display()
                );
                Finding::ok("path", message)
            };
            (Some(place), vec![finding])
        }
        Err(error) => {
            let remedy = "remove the symbolic link, or make it lead to a file or to where one may be made";
            (None, vec![Finding::error("path", error.to_string(), remedy)])
        }
    }
}

/// Locks that are symbolic links to what is not there: whoever looks through a link finds nothing.
fn dangling(place: &RegistryPlace) -> Vec<Finding> {
    let names = FileNames::of(&place.file);
    let locks = [("writers-lock", names.lock()), ("legacy-lock", names.legacy_lock())];
    let is_dangling = |name: &str| {
        let path = place.folder.join(name);
        path.is_symlink() && !path.exists()
    };
    let dangling = locks.into_iter().filter(|(_, name)| is_dangling(name));
    let told = |(check, name): (&'static str, String)| {
        let message = "it is a symbolic link that leads nowhere, and nobody can write the registry";
        Finding::error(check, message, "remove it by hand (`rm`)").of(&name)
    };
    dangling.map(told).collect()
}

/// Whether this user may write the folder. Asked, not tried.
fn writable(place: &RegistryPlace) -> Finding {
    use rustix::fs::{Access, access};
    match access(&place.folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok("folder-writable", "you may write the folder"),
        Err(rustix::io::Errno::ROFS) => Finding::error(
            "folder-writable",
            "the folder's file system is mounted read-only, so the registry can be read and not changed",
            "mount it writable, or move the registry",
        ),
        Err(error) => {
            let owner = std::fs::metadata(&place.folder).map(|metadata| metadata.uid()).unwrap_or_default();
            let message =
                format!("you may not write the folder ({error}), so the registry can be read and not changed");
            let remedy = format!(
                "run this as the user {owner}, whose it is, or make it writable for you (`chmod u+w`, `chown`)"
            );
            Finding::error("folder-writable", message, remedy)
        }
    }
}

fn tell(output: Output, finding: &Finding) {
    let (word, style) = match finding.severity {
        Severity::Ok => ("ok     ", Style::Success),
        Severity::Warning => ("warning", Style::Warning),
        Severity::Error => ("error  ", Style::Error),
    };
    let file = finding.file.as_ref().map(|file| format!("{file}: ")).unwrap_or_default();
    let about = format_args!(" {:<18} {file}{}", finding.check, finding.message);
    output.spans([Span::styled(word, style), about.into()]);
    if let Some(remedy) = &finding.remedy {
        output.line(format_args!("{:27}-> {remedy}", ""));
    }
}
