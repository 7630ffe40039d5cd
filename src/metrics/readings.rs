//! What the registry says at one moment: the numbers of `/metrics`, for what shows them in another form.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::families::Family;

/// All series at one moment.
pub struct Readings(Vec<MetricFamily>);

/// A histogram: how many values there were, and estimates of how large they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many values were observed.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Half of them are at most this; `None` without values.
    pub median: Option<f64>,
    /// 99 of 100 are at most this.
    pub percentile_99: Option<f64>,
}

impl Readings {
    pub(super) const fn new(gathered: Vec<MetricFamily>) -> Self {
        Self(gathered)
    }

    /// The series of a family: those of one upstream, or all.
    fn series<'a>(
        &'a self,
        family: &'a str,
        upstream: Option<&'a str>,
    ) -> impl Iterator<Item = (MetricType, &'a Metric)> {
        let families = self.0.iter().filter(move |it| it.name() == family);
        let series =
            families.flat_map(|family| family.get_metric().iter().map(|it| (family.get_field_type(), it)));
        series.filter(move |(_, metric)| upstream.is_none_or(|name| label(metric, "upstream") == name))
    }

    /// The sum of the counters or gauges of a family: of one upstream, or of all.
    pub fn number(&self, family: &Family, upstream: Option<&str>) -> f64 {
        self.series(family.name, upstream).map(|(kind, metric)| value(kind, metric)).sum()
    }

    /// A number by its name, whole: for what the process exports beside the table. 0 where there is none.
    pub fn whole_number_of(&self, name: &str) -> u64 {
        whole(self.series(name, None).map(|(kind, metric)| value(kind, metric)).sum())
    }

    /// The same as a whole number; 0 for a negative one.
    pub fn count(&self, family: &Family, upstream: Option<&str>) -> u64 {
        whole(self.number(family, upstream))
    }

    /// The numbers of a family by the words of one label.
    pub fn by_word(&self, family: &Family, upstream: Option<&str>, name: &str) -> BTreeMap<String, u64> {
        let series = self.series(family.name, upstream);
        series.map(|(kind, metric)| (label(metric, name).to_owned(), whole(value(kind, metric)))).collect()
    }

    /// The histogram of one upstream.
    pub fn distribution(&self, family: &Family, upstream: &str) -> Distribution {
        let Some((_, metric)) = self.series(family.name, Some(upstream)).next() else {
            return Distribution::default();
        };
        let histogram = metric.get_histogram();
        let count = histogram.get_sample_count();
        let buckets: Vec<(f64, u64)> =
            histogram.get_bucket().iter().map(|it| (it.upper_bound(), it.cumulative_count())).collect();
        Distribution {
            count,
            sum: histogram.get_sample_sum(),
            median: quantile(&buckets, count, 0.5),
            percentile_99: quantile(&buckets, count, 0.99),
        }
    }
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|it| it.name() == name).map_or("", |it| it.value())
}

fn value(kind: MetricType, metric: &Metric) -> f64 {
    match kind {
        MetricType::COUNTER => metric.get_counter().get_value(),
        MetricType::GAUGE => metric.get_gauge().get_value(),
        _ => 0.0,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast from a float saturates, and counters are exact up to 2⁵³"
)]
const fn whole(number: f64) -> u64 {
    number as u64
}

/// The value that the part `q` of all is at most, as the function `histogram_quantile` of Prometheus estimates it: values are taken to be
/// spread evenly within a bucket, and those beyond the last bound are taken for that bound. `buckets` are bounds with cumulative counts.
fn quantile(buckets: &[(f64, u64)], count: u64, q: f64) -> Option<f64> {
    let rank = q * count as f64;
    let finite = buckets.iter().take_while(|(bound, _)| bound.is_finite());
    let (mut lower, mut below) = (0.0, 0);
    if count == 0 {
        return None;
    }
    for (bound, cumulative) in finite {
        if *cumulative as f64 >= rank {
            let within = (cumulative - below).max(1) as f64;
            return Some(lower + (bound - lower) * (rank - below as f64) / within);
        }
        (lower, below) = (*bound, *cumulative);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_the_bucket_of_its_rank() {
        let buckets = [(0.1, 50), (0.2, 90), (1.0, 99), (f64::INFINITY, 100)];
        let is_near = |q, expected: f64| {
            let found = quantile(&buckets, 100, q).unwrap();
            assert!((found - expected).abs() < 1e-9, "{q}: {found}");
        };
        is_near(0.25, 0.05);
        is_near(0.5, 0.1);
        is_near(0.7, 0.15);
        is_near(0.99, 1.0);
        is_near(1.0, 1.0);
        assert_eq!(quantile(&[(0.1, 0), (f64::INFINITY, 0)], 0, 0.5), None);
    }
}
