//! One `/metrics` page being written: numbers by family and labels, then text (Prometheus text
//! format 0.0.4). Numbers under the same labels are added, so that two upstreams of one provider in
//! one service make one line.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily};
use prometheus::{Encoder, TextEncoder, proto::MetricType};

use super::families::{Family, Kind};

/// `Content-Type` of a page.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Numbers so far.
#[derive(Debug, Default)]
pub struct Page {
    families: BTreeMap<&'static str, Rows>,
}

#[derive(Debug)]
struct Rows {
    family: &'static Family,
    by_labels: BTreeMap<Vec<String>, Value>,
}

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    Histogram(Distribution),
}

/// Counts by upper bound, as a page shows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Upper bounds, growing.
    pub bounds: &'static [f64],
    /// How many fell under each bound and over the one before; then those over the last.
    pub counts: Vec<u64>,
    /// Of everything observed.
    pub sum: f64,
}

impl Page {
    /// Adds a number to the line with these labels.
    pub fn add(&mut self, family: &'static Family, labels: &[&str], number: f64) {
        match self.row(family, labels) {
            Value::Number(sum) => *sum += number,
            Value::Histogram(_) => debug_assert!(false, "{} is a histogram", family.name),
        }
    }

    /// 1 on the line with these labels where any says so, else 0.
    pub fn flag(&mut self, family: &'static Family, labels: &[&str], raised: bool) {
        match self.row(family, labels) {
            Value::Number(flag) => *flag = flag.max(f64::from(u8::from(raised))),
            Value::Histogram(_) => debug_assert!(false, "{} is a histogram", family.name),
        }
    }

    /// The larger one of the numbers under these labels.
    pub fn largest(&mut self, family: &'static Family, labels: &[&str], number: f64) {
        match self.row(family, labels) {
            Value::Number(largest) => *largest = largest.max(number),
            Value::Histogram(_) => debug_assert!(false, "{} is a histogram", family.name),
        }
    }

    /// Adds counts to the histogram with these labels.
    pub fn distribution(&mut self, family: &'static Family, labels: &[&str], more: Distribution) {
        match self.row(family, labels) {
            Value::Histogram(sum) if sum.counts.is_empty() => *sum = more,
            Value::Histogram(sum) => {
                for (count, more) in sum.counts.iter_mut().zip(more.counts) {
                    *count += more;
                }
                sum.sum += more.sum;
            }
            Value::Number(_) => debug_assert!(false, "{} is not a histogram", family.name),
        }
    }

    /// The text, together with families gathered elsewhere, by name.
    ///
    /// # Errors
    /// When a family cannot be written; none of ours is such.
    pub fn render(self, gathered: Vec<MetricFamily>) -> prometheus::Result<Vec<u8>> {
        let ours = self.families.into_values().map(Rows::into_family);
        let mut families: Vec<MetricFamily> = ours.chain(gathered).collect();
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    fn row(&mut self, family: &'static Family, labels: &[&str]) -> &mut Value {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let rows = self
            .families
            .entry(family.name)
            .or_insert_with(|| Rows { family, by_labels: BTreeMap::new() });
        let values = labels.iter().map(|value| (*value).to_owned()).collect();
        rows.by_labels.entry(values).or_insert_with(|| match family.kind {
            Kind::Counter | Kind::Gauge => Value::Number(0.0),
            Kind::Histogram => Value::Histogram(Distribution::default()),
        })
    }
}

impl Rows {
    fn into_family(self) -> MetricFamily {
        let Self { family, by_labels } = self;
        let metrics = by_labels.into_iter().map(|(labels, value)| metric(family, labels, value));
        let mut out = MetricFamily::default();
        out.set_name(family.name.to_owned());
        out.set_help(family.help.to_owned());
        out.set_field_type(match family.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        out.set_metric(metrics.collect());
        out
    }
}

fn metric(family: &Family, labels: Vec<String>, value: Value) -> Metric {
    let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    match value {
        Value::Histogram(distribution) => metric.set_histogram(histogram(&distribution)),
        Value::Number(number) if family.kind == Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(number);
            metric.set_counter(counter);
        }
        Value::Number(number) => {
            let mut gauge = Gauge::default();
            gauge.set_value(number);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn histogram(distribution: &Distribution) -> Histogram {
    let mut so_far = 0;
    let buckets = distribution.bounds.iter().zip(&distribution.counts).map(|(bound, count)| {
        so_far += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(so_far);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(distribution.counts.iter().sum());
    histogram.set_sample_sum(distribution.sum);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::families;

    fn text(page: Page) -> String {
        String::from_utf8(page.render(Vec::new()).expect("render")).expect("text")
    }

    #[test]
    fn numbers_under_the_same_labels_make_one_line() {
        let mut page = Page::default();
        page.add(&families::REQUESTS, &["portal", "2xx"], 2.0);
        page.add(&families::REQUESTS, &["portal", "2xx"], 3.0);
        page.flag(&families::GRAY_ALERT, &["portal", "bunny"], true);
        page.flag(&families::GRAY_ALERT, &["portal", "bunny"], false);
        let text = text(page);
        assert!(
            text.contains("bascule_requests_total{service=\"portal\",code=\"2xx\"} 5\n"),
            "{text}"
        );
        assert!(
            text.contains("} 1\n") && text.contains("# TYPE bascule_gray_alert gauge"),
            "{text}"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_end_without_a_bound() {
        let mut page = Page::default();
        let part = Distribution { bounds: &[0.5, 1.0], counts: vec![1, 2, 4], sum: 9.5 };
        page.distribution(&families::REQUEST_DURATION, &["portal"], part.clone());
        page.distribution(&families::REQUEST_DURATION, &["portal"], part);
        let lines: Vec<_> = text(page).lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "bascule_request_duration_seconds_bucket{service=\"portal\",le=\"0.5\"} 2",
                "bascule_request_duration_seconds_bucket{service=\"portal\",le=\"1\"} 6",
                "bascule_request_duration_seconds_bucket{service=\"portal\",le=\"+Inf\"} 14",
                "bascule_request_duration_seconds_sum{service=\"portal\"} 19",
                "bascule_request_duration_seconds_count{service=\"portal\"} 14",
            ]
        );
    }
}
