//! Labels with a closed set of values: what they are called, and their place in a table.

use std::fmt;

use prometheus_client::encoding::{EncodeLabel as _, LabelSetEncoder};

use crate::model::FailureClass;

/// A label whose values are the variants of an enum.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// The name of the label.
    const NAME: &'static str;
    /// Every value, each at its [`Self::index`].
    const ALL: &'static [Self];

    /// Returns the value as it stands in the metrics.
    fn value(self) -> &'static str;

    /// Returns the position in [`Self::ALL`].
    fn index(self) -> usize;
}

/// The labels of one series in a family that has all combinations of them.
pub trait LabelSet: Copy + fmt::Debug + Send + Sync + 'static {
    /// Returns every combination, each at its [`Self::position`].
    fn all() -> impl Iterator<Item = Self>;

    /// Returns the position among all combinations.
    fn position(self) -> usize;

    /// Writes names and values.
    ///
    /// # Errors
    /// If the writer fails.
    fn encode(self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result;
}

impl<L: Label> LabelSet for L {
    fn all() -> impl Iterator<Item = Self> {
        L::ALL.iter().copied()
    }

    fn position(self) -> usize {
        self.index()
    }

    fn encode(self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        (L::NAME, self.value()).encode(encoder.encode_label())
    }
}

impl<A: Label, B: Label> LabelSet for (A, B) {
    fn all() -> impl Iterator<Item = Self> {
        A::ALL.iter().flat_map(|a| B::ALL.iter().map(move |b| (*a, *b)))
    }

    fn position(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }

    fn encode(self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        LabelSet::encode(self.0, encoder)?;
        LabelSet::encode(self.1, encoder)
    }
}

/// No label: the family has one series.
impl LabelSet for () {
    fn all() -> impl Iterator<Item = Self> {
        std::iter::once(())
    }

    fn position(self) -> usize {
        0
    }

    fn encode(self, _: &mut LabelSetEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Declares an enum that is a [`Label`]: its name in the metrics, and the value of each variant.
macro_rules! labels {
    (
        $(#[$about:meta])*
        $visibility:vis enum $label:ident as $name:literal {
            $($(#[$what:meta])* $variant:ident = $value:expr,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $label {
            $($(#[$what])* $variant,)+
        }

        impl $crate::telemetry::Label for $label {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use labels;

impl Label for FailureClass {
    const NAME: &'static str = "class";
    const ALL: &'static [Self] = &Self::ALL;

    fn value(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_failures_stand_at_their_index() {
        assert!(FailureClass::ALL.iter().enumerate().all(|(index, class)| class.index() == index));
    }
}
