//! `cortex-mcp tools`: what a running gateway serves.

use clap::{Args, ValueEnum};
use cortex_mcp::model::ListKind;
use cortex_mcp::model::raw::RawObject;
use serde_json::value::RawValue;

use super::client::GatewayAddress;
use super::error::{CommandError, Exit};
use super::output::{Output, Span, shorten};

/// Lists the tools of a running gateway, or its prompts, resources or resource templates.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp tools
  cortex-mcp tools --connector wikidata
  cortex-mcp tools --kind resources
  cortex-mcp tools --json | jq -r '.tools[].name'")]
pub(crate) struct Tools {
    /// Only those of this connector.
    #[arg(long, value_name = "ID")]
    connector: Option<String>,

    /// What to list.
    #[arg(long, value_enum, default_value_t = Kind::Tools)]
    kind: Kind,

    #[command(flatten)]
    address: GatewayAddress,
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
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
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

/// The connector that a definition says it is of.
pub(crate) fn connector_of(tool: &RawObject) -> Option<String> {
    let meta = RawObject::parse(tool.get("_meta")?).ok()?;
    RawObject::parse(meta.get("com.brainwav.cortex/connector")?).ok()?.get_str("id")
}
