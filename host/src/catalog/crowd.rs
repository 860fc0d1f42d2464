//! Says when there are more tools than clients take: once when the list goes above the bound, and again only after it went
//! below. The same for tools that are cut off.

use super::view_snapshot::ViewSnapshot;
use crate::model::ListKind;

/// How many tools are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolBounds {
    /// More than so many are warned of.
    pub warn_above: usize,
    /// More than so many are not served; none: all are.
    pub most: Option<usize>,
}

impl Default for ToolBounds {
    fn default() -> Self {
        Self { warn_above: crate::config::limits::TOOLS_WARN_ABOVE_DEFAULT, most: None }
    }
}

/// What was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crowd {
    above: bool,
    cut: bool,
}

impl Crowd {
    /// Looks at what is served now, and says what is new.
    pub(super) fn look(&mut self, bounds: ToolBounds, served: &ViewSnapshot) {
        let (tools, cut) = (served.list(ListKind::Tools).len(), served.cut_count());
        let before = std::mem::replace(self, Self { above: tools > bounds.warn_above, cut: cut > 0 });
        if self.above && !before.above {
            tracing::warn!(
                tools,
                warn_above = bounds.warn_above,
                "more tools are served than common clients accept: serve fewer with allow-tools, deny-tools or tools-max, \
                 show fewer to each token, or raise tools-warn-above; `status` tells how many there are"
            );
        }
        if self.cut && !before.cut {
            let cut = served.cut();
            tracing::warn!(
                cut = cut.count, first = ?cut.first, most = bounds.most,
                "tools are not served because there are more than tools-max; `status` tells which"
            );
        }
    }
}
