//! The programs that entries are exported to: their names, where their files are, and what they can speak.
//!
//! Facts only; how an entry is written is told by `export` and `snippet`.

use std::fmt;
use std::str::FromStr;

/// A format to export to. Its text form is what [`ExportFormat::as_str`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExportFormat {
    /// The registry's own: `{"servers": [...]}`.
    Registry,
    /// Claude Desktop: started programs only; others go through the bridge `mcp-remote`.
    ClaudeDesktop,
    /// Claude Code.
    ClaudeCode,
    /// Cursor.
    Cursor,
    /// VS Code: `{"servers": {...}}`.
    VsCode,
    /// Codex: TOML.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// Zed: `{"context_servers": {...}}`.
    Zed,
    /// Windsurf.
    Windsurf,
    /// What most other clients read: `{"mcpServers": {...}}`.
    Generic,
}

impl ExportFormat {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Registry,
        Self::ClaudeDesktop,
        Self::ClaudeCode,
        Self::Cursor,
        Self::VsCode,
        Self::Codex,
        Self::Gemini,
        Self::Zed,
        Self::Windsurf,
        Self::Generic,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::ClaudeDesktop => "claude-desktop",
            Self::ClaudeCode => "claude-code",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Zed => "zed",
            Self::Windsurf => "windsurf",
            Self::Generic => "generic",
        }
    }

    /// Where the program looks for such a file, to tell a person.
    pub fn file(self) -> &'static str {
        match self {
            Self::Registry => "mcp/servers.json",
            Self::ClaudeDesktop => "claude_desktop_config.json",
            Self::ClaudeCode => ".mcp.json",
            Self::Cursor => ".cursor/mcp.json",
            Self::VsCode => ".vscode/mcp.json",
            Self::Codex => "~/.codex/config.toml",
            Self::Gemini => "~/.gemini/settings.json",
            Self::Zed => "~/.config/zed/settings.json",
            Self::Windsurf => "~/.codeium/windsurf/mcp_config.json",
            Self::Generic => "the client's own file",
        }
    }

    /// Whether the program speaks a transport by itself: `http`, `stdio`, `sse` or `ws`.
    pub(super) fn speaks(self, transport: &str) -> bool {
        match transport {
            "stdio" => true,
            "http" => self != Self::ClaudeDesktop,
            "sse" => !matches!(self, Self::ClaudeDesktop | Self::Codex | Self::Zed),
            _ => matches!(self, Self::Registry | Self::Generic),
        }
    }

    /// The member that the servers stand under.
    pub(super) fn root(self) -> &'static str {
        match self {
            Self::Registry | Self::VsCode => "servers",
            Self::Zed => "context_servers",
            Self::Codex => "mcp_servers",
            _ => "mcpServers",
        }
    }

    /// The member that a server's address stands under.
    pub(super) fn address(self, transport: &str) -> &'static str {
        match self {
            Self::Gemini if transport == "http" => "httpUrl",
            Self::Windsurf => "serverUrl",
            _ => "url",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A text names no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such format; use one of those that the help lists")]
pub struct UnknownFormat;

impl FromStr for ExportFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(UnknownFormat)
    }
}
