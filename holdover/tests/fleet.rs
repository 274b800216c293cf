//! Checks that the dashboard, the alerts and the list of metrics for fleets name metrics that there are.

use std::collections::BTreeSet;

const METRICS: &str = include_str!("../../crates/host/src/collect/actions/metrics.rs");
const DASHBOARD: &str = include_str!("../../docs/fleet/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../docs/fleet/prometheus-alerts.yml");
const LIST: &str = include_str!("../../docs/fleet/README.md");

/// The names of metrics in a text, without what all begin with.
fn named(text: &str) -> BTreeSet<&str> {
    let end = |rest: &str| rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    text.split("holdover_").skip(1).map(|rest| &rest[..end(rest).unwrap_or(rest.len())]).collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_that_there_are_and_the_list_has_all() {
    let _: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    for text in [DASHBOARD, ALERTS, LIST] {
        for name in named(text) {
            assert!(METRICS.contains(&format!("\"{name}\"")), "there is no metric holdover_{name}");
        }
    }
    let quoted = METRICS
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('(').strip_prefix('"')?.split('"').next());
    let is_name = |text: &&str| {
        text.contains('_') && text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
    };
    let missing: Vec<_> = quoted.filter(is_name).filter(|name| !named(LIST).contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(named(LIST).len() >= 9);
}
