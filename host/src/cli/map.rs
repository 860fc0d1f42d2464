//! `cortex-mcp map`: signing, verifying and showing service maps.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cortex_mcp::config::{Environment, Secrets, SignatureKeys};
use cortex_mcp::model::redaction::mask_address;
use cortex_mcp::model::style::Style;
use cortex_mcp::model::text::escape_json;
use cortex_mcp::model::{Connector, Reach, WallMs};
use cortex_mcp::service_map::{KeyRing, MAX_MAP_BYTES, VerifiedMap, signed_document, verify};
use secrecy::ExposeSecret;
use serde_json::json;

use super::error::{CommandError, Exit};
use super::output::{Output, Span};

/// Signs, verifies and shows service maps.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map sign map.json > signed.json
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map verify signed.json
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map verify signed.json --at 2026-01-01T00:00:00Z
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map show signed.json

The key comes from CONNECTORS_SIGNATURE_KEY, or CONNECTORS_SIGNATURE_KEYS as id=key,... FILE may be `-` for stdin.")]
pub(crate) struct Map {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the map with its signature; an earlier one is replaced. A map that `verify` refuses is not signed.
    #[command(after_help = "Examples:
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map sign map.json > signed.json")]
    Sign {
        /// The map.
        file: PathBuf,
    },
    /// Tells whether a map is valid: decode, signature, schema, in that order. Exit code 0 or 1.
    #[command(after_help = "Examples:
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map verify signed.json
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map verify signed.json --at 2026-01-01T00:00:00Z --json")]
    Verify {
        /// The map.
        file: PathBuf,
        /// Also judge whether it is in force at this time (UTC, as in 2026-01-01T00:00:00Z).
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Shows the connectors of a valid map.
    #[command(after_help = "Examples:
  CONNECTORS_SIGNATURE_KEY=... cortex-mcp map show signed.json")]
    Show {
        /// The map.
        file: PathBuf,
    },
}

impl Map {
    pub(crate) fn run(self, output: &Output) -> Result<Exit, CommandError> {
        match self.command {
            Command::Sign { file } => sign(*output, &file),
            Command::Verify { file, at } => {
                let at = at.map(|text| WallMs::parse(&text)).transpose();
                let at = at.map_err(|error| CommandError::Usage(format!("--at: {error}")))?;
                verify_file(*output, &file, at)
            }
            Command::Show { file } => show(*output, &file),
        }
    }
}

fn sign(output: Output, file: &Path) -> Result<Exit, CommandError> {
    let keys = keys()?;
    let document = read(file)?;
    let text = String::from_utf8_lossy(&document);
    let signed = signed_document(&text, keys.first().1)?;
    // What `verify` refuses, no gateway takes.
    verify(signed.as_bytes(), &keys)?;
    output.document(&escape_json(&signed));
    Ok(Exit::Good)
}

fn verify_file(output: Output, file: &Path, at: Option<WallMs>) -> Result<Exit, CommandError> {
    let keys = keys()?;
    let document = read(file)?;
    let fault = match verify(&document, &keys) {
        Err(error) => Some((error.group().as_str(), error.to_string())),
        Ok(map) => at.and_then(|at| judge_time(&map, at)),
    };
    match fault {
        None => {
            output.value(&json!({ "verdict": "valid" }));
            output.spans([Span::styled("valid", Style::Success)]);
            Ok(Exit::Good)
        }
        Some((class, message)) => {
            output.value(&json!({ "verdict": "invalid", "error": class, "message": message }));
            output.spans([Span::styled("invalid", Style::Error), format_args!(" ({class}): {message}").into()]);
            Ok(Exit::Failed)
        }
    }
}

fn judge_time(map: &VerifiedMap, at: WallMs) -> Option<(&'static str, String)> {
    let map = &map.map;
    if at >= map.expires {
        return Some(("expiry", format!("it expired at {}", map.expires)));
    }
    (at < map.generated_at).then(|| ("schema", format!("it is generated at {}, later than that", map.generated_at)))
}

fn show(output: Output, file: &Path) -> Result<Exit, CommandError> {
    let verified = verify(&read(file)?, &keys()?)?;
    let map = &verified.map;
    let connectors: Vec<_> = map
        .connectors
        .iter()
        .map(|connector| {
            json!({
                "id": connector.id, "name": connector.name, "version": connector.version,
                "enabled": connector.enabled, "endpoint": endpoint(connector), "auth": connector.auth.kind,
                "scopes": connector.scopes,
            })
        })
        .collect();
    output.value(&json!({
        "id": map.id, "dialect": map.dialect.as_str(), "generatedAt": map.generated_at.to_string(),
        "expires": map.expires.to_string(), "keyId": verified.key_id, "digest": verified.digest,
        "connectors": connectors,
    }));
    output.line(format_args!(
        "map {} ({}), generated {}, expires {}, key {}",
        map.id,
        map.dialect.as_str(),
        map.generated_at,
        map.expires,
        verified.key_id
    ));
    let mut table = output.table(&["connector", "name", "version", "enabled", "endpoint", "scopes"]);
    for connector in &map.connectors {
        table.add_row([
            Span::from(&connector.id),
            Span::from(&connector.name),
            Span::from(&connector.version),
            Span::from(if connector.enabled { "yes" } else { "no" }),
            endpoint(connector).unwrap_or_default().into(),
            Span::from(connector.scopes.join(" ")),
        ]);
    }
    output.rows(&table);
    Ok(Exit::Good)
}

/// The address of a connector, without secrets.
fn endpoint(connector: &Connector) -> Option<String> {
    connector.reach.as_ref().and_then(Reach::url).map(|url| mask_address(url.as_str()))
}

fn keys() -> Result<KeyRing, CommandError> {
    Ok(match Secrets::of(&Environment::of_process())?.signature_keys {
        Some(SignatureKeys::Single(key)) => KeyRing::single(key)?,
        Some(SignatureKeys::List(list)) => KeyRing::parse_list(list.expose_secret())?,
        None => return Err(CommandError::NoKey),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |source| CommandError::File { path: file.display().to_string(), source };
    // One byte more than is accepted shows that there is too much.
    let limit = u64::try_from(MAX_MAP_BYTES).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(file).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}
