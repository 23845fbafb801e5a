//! A family of series of one name, each with its own values of the same labels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

use super::sharded::{Counter, Histogram, UpDown};

/// What a series can be.
pub(super) trait Series: Clone + Send + Sync + 'static {
    const TYPE: MetricType;

    /// Its value now, without labels.
    fn read(&self) -> Metric;
}

impl Series for Counter {
    const TYPE: MetricType = MetricType::COUNTER;

    fn read(&self) -> Metric {
        let mut value = proto::Counter::default();
        value.set_value(self.get() as f64);
        let mut metric = Metric::default();
        metric.set_counter(value);
        metric
    }
}

impl Series for UpDown {
    const TYPE: MetricType = MetricType::GAUGE;

    fn read(&self) -> Metric {
        let mut value = proto::Gauge::default();
        value.set_value(self.get() as f64);
        Metric::from_gauge(value)
    }
}

impl Series for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn read(&self) -> Metric {
        let buckets = self.cumulative().map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut value = proto::Histogram::default();
        value.set_bucket(buckets.collect());
        value.set_sample_sum(self.sum());
        value.set_sample_count(self.count());
        let mut metric = Metric::default();
        metric.set_histogram(value);
        metric
    }
}

/// A family, as the registry collects it and as models add their series to it. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Family<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    desc: Desc,
    labels: Vec<&'static str>,
    make: fn() -> S,
    series: Mutex<BTreeMap<Vec<String>, S>>,
}

impl<S: Series> Family<S> {
    /// A family without series; `make` starts one at zero.
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: &[&'static str],
        make: fn() -> S,
    ) -> prometheus::Result<Self> {
        let names = labels.iter().map(|&label| label.to_owned()).collect();
        Ok(Self(Arc::new(Inner {
            desc: Desc::new(name.to_owned(), help.to_owned(), names, <_>::default())?,
            labels: labels.to_vec(),
            make,
            series: Mutex::default(),
        })))
    }

    /// The series with these values of the labels; it is on the page from now on.
    pub(super) fn with(&self, values: &[&str]) -> S {
        debug_assert_eq!(values.len(), self.0.labels.len(), "a value a label");
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.series()
            .entry(values)
            .or_insert_with(self.0.make)
            .clone()
    }

    /// Removes from the page each series whose first values are these.
    pub(super) fn remove(&self, first: &[&str]) {
        self.series().retain(|values, _| {
            !values
                .iter()
                .zip(first)
                .all(|(value, first)| value == first)
        });
    }

    fn series(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, S>> {
        self.0.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Series> Collector for Family<S> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics: Vec<Metric> = self
            .series()
            .iter()
            .map(|(values, series)| {
                let mut metric = series.read();
                metric.set_label(labels(&self.0.labels, values));
                metric
            })
            .collect();
        gathered(&self.0.desc, S::TYPE, metrics)
    }
}

/// A family of these series as the registry wants it; none without series.
pub(super) fn gathered(desc: &Desc, kind: MetricType, metrics: Vec<Metric>) -> Vec<MetricFamily> {
    if metrics.is_empty() {
        return Vec::new();
    }
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    vec![family]
}

/// The labels in the order of their names, as the page shows them.
pub(super) fn labels(names: &[&str], values: &[String]) -> Vec<LabelPair> {
    let mut pairs: Vec<(&&str, &String)> = names.iter().zip(values).collect();
    pairs.sort_unstable();
    let pairs = pairs.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    });
    pairs.collect()
}
