//! `cortex-mcp tools`: what a running gateway serves.

mod approve;

use clap::{Args, Subcommand, ValueEnum};
use cortex_mcp::model::ListKind;
use cortex_mcp::model::raw::RawObject;
use serde_json::value::RawValue;

use super::client::GatewayAddress;
use super::error::{CommandError, Exit};
use super::output::{Output, Span, shorten};

/// Lists the tools of a running gateway, or its prompts, resources or resource templates.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  cortex-mcp tools
  cortex-mcp tools --connector wikidata
  cortex-mcp tools --kind resources
  cortex-mcp tools --changed
  cortex-mcp tools --json | jq -r '.tools[].name'",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Tools {
    #[command(subcommand)]
    command: Option<Command>,

    /// Only those of this connector.
    #[arg(long, value_name = "ID")]
    connector: Option<String>,

    /// What to list.
    #[arg(long, value_enum, default_value_t = Kind::Tools)]
    kind: Kind,

    /// List the definitions that differ from what was approved, with the digests to approve them by.
    #[arg(long, conflicts_with = "kind")]
    changed: bool,

    #[command(flatten)]
    address: GatewayAddress,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Approve changed definitions.
    Approve(approve::Approve),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Kind {
    fn list(self) -> ListKind {
        match self {
            Self::Tools => ListKind::Tools,
            Self::Prompts => ListKind::Prompts,
            Self::Resources => ListKind::Resources,
            Self::Templates => ListKind::Templates,
        }
    }

    /// One, and several.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Tools => ("tool", "tools"),
            Self::Prompts => ("prompt", "prompts"),
            Self::Resources => ("resource", "resources"),
            Self::Templates => ("template", "templates"),
        }
    }
}

impl Tools {
    pub(crate) async fn run(mut self, output: &Output) -> Result<Exit, CommandError> {
        if let Some(Command::Approve(command)) = self.command.take() {
            return command.run(output).await;
        }
        if self.changed {
            return self.changed(output).await;
        }
        let gateway = self.address.open()?;
        let session = gateway.session().await?;
        let kind = self.kind.list();
        let list = gateway.list(&session, kind).await?;
        let (one, several) = self.kind.words();
        let mut table = output.table(&[one, "connector", "description"]);
        let mut items: Vec<Box<RawValue>> = Vec::new();
        for item in list.items {
            let Ok(object) = RawObject::parse(&item) else { continue };
            let connector = connector_of(&object);
            if self.connector.is_some() && self.connector != connector {
                continue;
            }
            let description = shorten(&object.get_str("description").unwrap_or_default(), 70);
            let name = object.get_str(kind.key()).unwrap_or_default();
            table.add_row([name, connector.unwrap_or_default(), description].map(Span::from));
            items.push(item);
        }
        output.rows(&table);
        output.line(format_args!("{} {several}", items.len()));
        output.value(&std::collections::BTreeMap::from([(kind.member(), items)]));
        Ok(Exit::Good)
    }
}

impl Tools {
    /// Lists what is to be approved: the text of each definition is what a model would read.
    async fn changed(self, output: &Output) -> Result<Exit, CommandError> {
        let body = self.address.open()?.admin(http::Method::GET, "/definitions").await?;
        // Raw: a definition is shown as the server wrote it.
        let mut changed: Vec<Box<RawValue>> =
            serde_json::from_slice(&body).map_err(|error| CommandError::Refused(error.to_string()))?;
        let object = |one: &RawValue| RawObject::parse(one).unwrap_or_default();
        changed.retain(|one| self.connector.is_none() || self.connector == object(one).get_str("connector"));
        for one in &changed {
            let one = object(one);
            let text = |member: &str| one.get_str(member).unwrap_or_default();
            let unstable = if one.get("unstable").is_some_and(|it| it.get() == "true") { ", unstable" } else { "" };
            output.line(format_args!(
                "{}: {:?} of the {} ({}{unstable})",
                text("connector"),
                text("name"),
                text("kind"),
                text("change")
            ));
            let definitions = one.get("definitions").and_then(|all| serde_json::from_str(all.get()).ok());
            let definitions: Vec<Box<RawValue>> = definitions.unwrap_or_default();
            definitions.iter().for_each(|definition| output.line(format_args!("  {definition}")));
            output.line(format_args!("  digest {}", text("digest")));
        }
        let word = if changed.len() == 1 { "definition" } else { "definitions" };
        output.line(format_args!("{} changed {word}", changed.len()));
        output.value(&changed);
        Ok(Exit::Good)
    }
}

/// The connector that a definition says it is of.
pub(crate) fn connector_of(tool: &RawObject) -> Option<String> {
    let meta = RawObject::parse(tool.get("_meta")?).ok()?;
    RawObject::parse(meta.get("com.brainwav.cortex/connector")?).ok()?.get_str("id")
}
