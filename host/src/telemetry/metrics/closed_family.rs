//! A metric family whose series are known when it is registered: a table instead of a map.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::label::LabelSet;

/// The series of a family, one for each combination of its labels. Clones share them.
///
/// ```
/// use cortex_mcp::telemetry::{ClosedFamily, MetricRegistry, RefreshOutcome};
/// use prometheus_client::metrics::counter::Counter;
///
/// let refreshes: ClosedFamily<RefreshOutcome, Counter> = ClosedFamily::complete(Counter::default);
/// MetricRegistry::default().register("refreshes", "Refreshes by outcome", refreshes.clone());
/// refreshes.get(RefreshOutcome::Failed).inc();
/// assert_eq!(refreshes.get(RefreshOutcome::Failed).get(), 1);
/// ```
pub struct ClosedFamily<L, M> {
    series: Arc<[OnceLock<M>]>,
    make: fn() -> M,
    labels: PhantomData<fn() -> L>,
}

impl<L: LabelSet, M> ClosedFamily<L, M> {
    /// Every series exists from the start: for counters, whose first increase would be missed otherwise.
    pub fn complete(make: fn() -> M) -> Self {
        let series = L::all().map(|_| OnceLock::from(make()));
        Self { series: series.collect(), make, labels: PhantomData }
    }

    /// A series exists once it was asked for: for histograms of which few are ever used.
    pub fn on_demand(make: fn() -> M) -> Self {
        Self { series: L::all().map(|_| OnceLock::new()).collect(), make, labels: PhantomData }
    }

    /// Returns a series.
    pub fn get(&self, labels: L) -> &M {
        self.series[labels.position()].get_or_init(self.make)
    }

    /// Whether no series exists yet.
    fn is_blank(&self) -> bool {
        self.series.iter().all(|series| series.get().is_none())
    }
}

impl<L: LabelSet, M: EncodeMetric> ClosedFamily<L, M> {
    /// Writes every series that exists, with `common` before its own labels.
    ///
    /// # Errors
    /// If the writer fails.
    pub(crate) fn encode_with(&self, common: &impl EncodeLabelSet, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        for (labels, series) in L::all().zip(self.series.iter()) {
            if let Some(metric) = series.get() {
                metric.encode(encoder.encode_family(&Labels { common, own: labels })?)?;
            }
        }
        Ok(())
    }
}

struct Labels<'a, C, L> {
    common: &'a C,
    own: L,
}

impl<C: EncodeLabelSet, L: LabelSet> EncodeLabelSet for Labels<'_, C, L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.common.encode(encoder)?;
        self.own.encode(encoder)
    }
}

/// No labels before those of the family.
const NONE: [(&str, &str); 0] = [];

impl<L: LabelSet, M: EncodeMetric + TypedMetric> EncodeMetric for ClosedFamily<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.encode_with(&NONE, &mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.is_blank()
    }
}

impl<L, M> Clone for ClosedFamily<L, M> {
    fn clone(&self) -> Self {
        Self { series: self.series.clone(), make: self.make, labels: PhantomData }
    }
}

impl<L: LabelSet, M> fmt::Debug for ClosedFamily<L, M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClosedFamily").field("series", &self.series.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;
    use crate::telemetry::{Label as _, RefreshOutcome, RefreshSubject};

    type Pairs = (RefreshSubject, RefreshOutcome);

    #[test]
    fn each_combination_has_a_series_of_its_own() {
        let family: ClosedFamily<Pairs, Counter> = ClosedFamily::complete(Counter::default);
        for (count, labels) in (1..).zip(Pairs::all()) {
            family.get(labels).inc_by(count);
        }
        let counts: Vec<u64> = Pairs::all().map(|labels| family.get(labels).get()).collect();
        assert_eq!(counts, [1, 2, 3, 4]);
        assert_eq!(RefreshSubject::ALL.len() * RefreshOutcome::ALL.len(), counts.len());
    }

    #[test]
    fn one_on_demand_is_blank_until_a_series_is_used() {
        let family: ClosedFamily<Pairs, Counter> = ClosedFamily::on_demand(Counter::default);
        assert!(family.is_empty());
        family.get((RefreshSubject::Connector, RefreshOutcome::Failed)).inc();
        assert!(!family.is_empty());
    }
}
