//! `cortex-mcp registry snippet`.

use clap::Args;
use cortex_mcp::model::redaction::mask_text;
use cortex_mcp::registry::formats::{ExportFormat, snippet};
use serde_json::json;
use url::Url;

use super::export::notes;
use super::open::Opening;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{Output, notice};

/// Prints what makes a client use the gateway: the one entry that its file needs. Clients: claude-desktop, claude-code,
/// cursor, vscode, codex, gemini, zed, windsurf, generic, registry.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp registry snippet cursor
  cortex-mcp registry snippet vscode --url http://127.0.0.1:8420/mcp
  cortex-mcp registry snippet claude-code --token-env CORTEX_GATEWAY_TOKEN")]
pub(super) struct Snippet {
    /// The client.
    client: ExportFormat,

    /// The gateway's address; by default the one that it is configured to listen at.
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// The variable that holds the token of the gateway, where it wants one.
    #[arg(long, value_name = "VARIABLE")]
    token_env: Option<String>,
}

impl Snippet {
    pub(super) fn run(self, output: Output, opening: &Opening) -> Result<Exit, CommandError> {
        let listen = opening.settings.listen;
        // Who listens everywhere is reached here.
        let host = match listen.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => "127.0.0.1".to_owned(),
            ip if ip.is_unspecified() => "[::1]".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        let text = self.url.unwrap_or_else(|| format!("http://{host}:{}/mcp", listen.port()));
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| CommandError::Usage("--url: write an http or https URL".to_owned()))?;
        if mask_text(url.as_str()) != url.as_str() {
            let reason =
                "--url: the address holds a secret, which no snippet shows; name its variable with --token-env";
            return Err(CommandError::Usage(reason.to_owned()));
        }
        let written = snippet(self.client, &url, self.token_env.as_deref());
        output.value(&json!({ "client": self.client.as_str(), "file": self.client.file(), "text": written.text,
                              "notes": notes(&written.notes) }));
        if !output.is_json() {
            output.document(written.text.trim_end());
            notice(format_args!("this belongs into {}", self.client.file()));
            for note in &written.notes {
                notice(note);
            }
        }
        Ok(Exit::Good)
    }
}
