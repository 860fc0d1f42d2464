//! A package of a `server.json` as a program to start: which runner fetches and starts it, and with which arguments.
//!
//! Only runners that fetch a package and start it in one go are used, and a document can choose among those of its
//! package's kind only: it never names a command of its own.

use serde_json::{Map, Value};

use super::arguments::Inputs;
use super::expand::add;
use super::report::{Note, SkipReason};

/// The entry for the first package of a server that can be started.
///
/// # Errors
/// [`SkipReason::NothingToRun`], or the first reason why that package can not be started.
pub(super) fn entry(
    server: &Map<String, Value>,
    inputs: &mut Inputs<'_, '_>,
) -> Result<Map<String, Value>, SkipReason> {
    let packages = server.get("packages").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    let mut startable =
        packages.filter(|package| is_stdio(package)).filter_map(|package| Some((kind(package)?, package)));
    let (kind, package) = startable.next().ok_or(SkipReason::NothingToRun)?;
    let text = |field: &str| package.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let identifier = text("identifier").or(text("name")).ok_or(SkipReason::Missing { field: "identifier" })?;
    // A runner would take such an identifier for one of its own options.
    if identifier.starts_with('-') {
        return Err(SkipReason::WrongKind { field: "identifier".to_owned() });
    }
    let runner = runner(kind, package.get("runtimeHint").and_then(Value::as_str), &mut inputs.notes);
    let runtime = inputs.arguments(package.get("runtimeArguments"), "runtimeArguments")?;
    let own = inputs.arguments(package.get("packageArguments"), "packageArguments")?;
    let env = inputs.named(package.get("environmentVariables"), "environmentVariables")?;
    for field in ["fileSha256", "registryBaseUrl"] {
        if text(field).is_some_and(|value| !USUAL_REGISTRIES.contains(&value.trim_end_matches('/'))) {
            add(&mut inputs.notes, Note::NotFollowed { field: field.to_owned() });
        }
    }
    let args = command_line(kind, runner, &versioned(kind, identifier, text("version")), runtime, own, &env);
    let mut entry = Map::new();
    entry.insert("transport".to_owned(), "stdio".into());
    entry.insert("command".to_owned(), runner.into());
    entry.insert("args".to_owned(), args.into());
    if !env.is_empty() {
        let env = env.into_iter().map(|(name, value)| (name, value.into())).collect();
        entry.insert("env".to_owned(), Value::Object(env));
    }
    Ok(entry)
}

/// The kinds of packages that some runner starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Npm,
    Pypi,
    Oci,
    Nuget,
}

/// Where the runners look by themselves.
const USUAL_REGISTRIES: [&str; 6] = [
    "https://registry.npmjs.org",
    "https://pypi.org",
    "https://docker.io",
    "https://ghcr.io",
    "https://api.nuget.org",
    "https://api.nuget.org/v3/index.json",
];

fn kind(package: &Map<String, Value>) -> Option<Kind> {
    let kind = package.get("registryType").or_else(|| package.get("registry_type"));
    match kind.or_else(|| package.get("registry_name")).and_then(Value::as_str)? {
        "npm" => Some(Kind::Npm),
        "pypi" => Some(Kind::Pypi),
        "oci" | "docker" => Some(Kind::Oci),
        "nuget" => Some(Kind::Nuget),
        _ => None,
    }
}

fn is_stdio(package: &Map<String, Value>) -> bool {
    let transport = package.get("transport").and_then(|transport| transport.get("type")).and_then(Value::as_str);
    transport.is_none_or(|transport| transport == "stdio")
}

/// The runner: the hinted one, if it is one for this kind of package.
fn runner(kind: Kind, hint: Option<&str>, notes: &mut Vec<Note>) -> &'static str {
    let known: &[&'static str] = match kind {
        Kind::Npm => &["npx", "bunx"],
        Kind::Pypi => &["uvx"],
        Kind::Oci => &["docker", "podman"],
        Kind::Nuget => &["dnx"],
    };
    let hinted = hint.and_then(|hint| known.iter().copied().find(|runner| *runner == hint));
    if hint.is_some() && hinted.is_none() {
        add(notes, Note::Runtime { used: known[0] });
    }
    hinted.unwrap_or(known[0])
}

/// A package with its version, as its runner is told.
fn versioned(kind: Kind, identifier: &str, version: Option<&str>) -> String {
    let Some(version) = version else { return identifier.to_owned() };
    if kind != Kind::Oci {
        return format!("{identifier}@{version}");
    }
    // An image may have its tag or digest already; a colon before the last slash belongs to a port.
    let last = identifier.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { identifier.to_owned() } else { format!("{identifier}:{version}") }
}

fn command_line(
    kind: Kind,
    runner: &str,
    package: &str,
    runtime: Vec<String>,
    own: Vec<String>,
    env: &[(String, String)],
) -> Vec<String> {
    let package = package.to_owned();
    let named = runtime.contains(&package);
    let mut args = Vec::new();
    match kind {
        Kind::Npm if runner == "npx" && !runtime.iter().any(|argument| argument == "-y" || argument == "--yes") => {
            args.push("-y".to_owned());
        }
        // Older documents spell out the whole of `docker run`.
        Kind::Oci if runtime.first().is_none_or(|argument| argument != "run") => {
            args.extend(["run", "-i", "--rm"].map(str::to_owned));
        }
        _ => {}
    }
    args.extend(runtime);
    if kind == Kind::Oci {
        // The container gets the variables of these names from the runner's environment: no value on a command line.
        for (name, _) in env {
            if !args.iter().any(|argument| argument == name) {
                args.extend(["-e".to_owned(), name.clone()]);
            }
        }
    }
    if !named {
        args.push(package);
    }
    if kind == Kind::Nuget {
        args.push("--yes".to_owned());
        if !own.is_empty() {
            args.push("--".to_owned());
        }
    }
    args.extend(own);
    args
}
