//! The text exposition of /metrics, read back.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
#[derive(Debug)]
pub struct Metrics {
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Of the exposition format 0.0.4.
    pub fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(series);
        Self { series: series.collect() }
    }

    /// The sum over all series of a family that carry these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| found.get(*key).is_some_and(|v| v == value))
        };
        self.series.iter().filter(|(n, l, _)| n == name && carries(l)).map(|(_, _, v)| v).sum()
    }

    /// Whether the family has any series.
    pub fn has(&self, name: &str) -> bool {
        self.series.iter().any(|(n, _, _)| n == name)
    }

    /// Every series by name and labels, without its value.
    pub fn names(&self) -> BTreeSet<String> {
        self.series.iter().map(|(name, labels, _)| format!("{name}{labels:?}")).collect()
    }

    /// Mean of a histogram in its own unit; `None` when nothing was observed.
    pub fn mean(&self, histogram: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let count = self.sum(&format!("{histogram}_count"), labels);
        (count > 0.0).then(|| self.sum(&format!("{histogram}_sum"), labels) / count)
    }
}

fn series(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (front, value) = line.rsplit_once(' ')?;
    let (name, labels) = match front.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}')),
        None => (front, ""),
    };
    let labels = labels
        .split("\",")
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect();
    Some((name.to_owned(), labels, value.parse().ok()?))
}

#[test]
fn an_exposition_is_read_back() {
    let metrics = Metrics::parse(
        "# TYPE a counter\na{x=\"1\",y=\"b c\"} 2\na{x=\"2\",y=\"b c\"} 3\nplain 7\n\
         h_sum{s=\"p\"} 0.5\nh_count{s=\"p\"} 2\n",
    );
    assert_eq!(metrics.sum("a", &[]), 5.0);
    assert_eq!(metrics.sum("a", &[("x", "2"), ("y", "b c")]), 3.0);
    assert_eq!(metrics.sum("plain", &[]), 7.0);
    assert_eq!(metrics.mean("h", &[("s", "p")]), Some(0.25));
    assert_eq!(metrics.mean("h", &[("s", "q")]), None);
    assert!(!metrics.has("b"));
    assert_eq!(metrics.names().len(), 5);
}
