use std::time::{Duration, Instant};

use super::*;

fn metrics() -> Metrics {
    Metrics::new(BuildInfo {
        version: "1.2.3",
        profile: "debug",
        platform: "linux-x86_64",
    })
}

/// The page's line for a series, its name and labels as the page writes them.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let page = metrics.render().unwrap();
    let (_, value) = page
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .find(|(name, _)| *name == series)?;
    Some(value.parse().unwrap())
}

#[test]
fn every_series_is_there_before_anything_happened() {
    let metrics = metrics();
    let _model = metrics.model("iris", 1);
    let page = metrics.render().unwrap();
    for &protocol in Protocol::ALL {
        for &code in Code::ALL {
            let series = format!(
                "safeserve_requests_total{{code=\"{}\",model=\"iris\",protocol=\"{}\",version=\"1\"}} 0\n",
                code.as_str(),
                protocol.as_str()
            );
            assert!(page.contains(&series), "{series} is missing");
        }
    }
    for family in [
        "safeserve_queue_duration_seconds",
        "safeserve_compute_duration_seconds",
        "safeserve_batch_rows",
    ] {
        let series = format!("{family}_count{{model=\"iris\",version=\"1\"}} 0\n");
        assert!(page.contains(&series), "{series} is missing");
    }
    for family in [
        "safeserve_queued_rows",
        "safeserve_rows_total",
        "safeserve_panics_total",
        "safeserve_model_load_duration_seconds",
        "safeserve_model_weight_bytes",
    ] {
        let series = format!("{family}{{model=\"iris\",version=\"1\"}} 0\n");
        assert!(page.contains(&series), "{series} is missing");
    }
    for &release in Release::ALL {
        let labels = format!(
            "model=\"iris\",release=\"{}\",version=\"1\"",
            release.as_str()
        );
        assert!(page.contains(&format!("safeserve_batches_total{{{labels}}} 0\n")));
    }
    for &reason in Rejection::ALL {
        let labels = format!(
            "model=\"iris\",reason=\"{}\",version=\"1\"",
            reason.as_str()
        );
        assert!(page.contains(&format!("safeserve_rejections_total{{{labels}}} 0\n")));
    }
    for &route in Route::ALL {
        for &code in Code::ALL {
            let labels = format!("code=\"{}\",route=\"{}\"", code.as_str(), route.as_str());
            assert!(page.contains(&format!("safeserve_http_requests_total{{{labels}}} 0\n")));
        }
    }
    for &state in ModelState::ALL {
        let series = format!("safeserve_models{{state=\"{}\"}} 0\n", state.as_str());
        assert!(page.contains(&series), "{series} is missing");
    }
    for &reason in Closed::ALL {
        let labels = format!("reason=\"{}\"", reason.as_str());
        assert!(page.contains(&format!(
            "safeserve_connections_closed_total{{{labels}}} 0\n"
        )));
    }
    for series in [
        "safeserve_connections_open 0",
        "safeserve_connections_limit 0",
        "safeserve_ready 0",
        "safeserve_live 1",
        "safeserve_inflight_body_bytes 0",
        "safeserve_connections_accepted_total 0",
        "safeserve_connections_refused_total{reason=\"limit\"} 0",
        "safeserve_accept_errors_total 0",
        "safeserve_http_requests_in_flight 0",
        "safeserve_handler_panics_total 0",
        "safeserve_log_lines_dropped_total 0",
        "safeserve_build_info{platform=\"linux-x86_64\",profile=\"debug\",version=\"1.2.3\"} 1",
    ] {
        assert!(
            page.contains(&format!("\n{series}\n")),
            "{series} is missing"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_shows_its_memory_descriptors_threads_and_start() {
    let metrics = metrics();
    assert!(value(&metrics, "process_resident_memory_bytes").unwrap() > 1e5);
    assert!(value(&metrics, "process_virtual_memory_bytes").unwrap() > 1e5);
    assert!(value(&metrics, "process_open_fds").unwrap() >= 1.0);
    assert!(value(&metrics, "process_max_fds").unwrap().abs() >= 1.0);
    assert!(value(&metrics, "process_threads").unwrap() >= 1.0);
    assert!(value(&metrics, "process_cpu_seconds_total").unwrap() >= 0.0);
    // After 2020 by any clock that a test machine has.
    assert!(value(&metrics, "process_start_time_seconds").unwrap() > 1.577e9);
}

#[test]
fn what_was_counted_is_shown_exactly() {
    let metrics = metrics();
    let model = metrics.model("digits", 2);
    let (started, took) = (Instant::now(), Duration::from_micros);
    for _ in 0..3 {
        model.request(Protocol::V2, 200, started, took(20));
    }
    model.request(Protocol::V1, 503, started, took(20_000_000));
    model.request(Protocol::V1, 418, started, took(100_000));
    model.rejected(Rejection::QueueFull);
    model.batch_released(Release::Inline);
    model.batch_rows().observe(32.0);
    model.queued_rows().add(7);
    metrics.http_request(Route::Other, 404);

    let labels = |rest: &str| format!("{{{rest},version=\"2\"}}");
    let shown = |name: &str, rest: &str| value(&metrics, &format!("{name}{}", labels(rest)));
    let requests = "safeserve_requests_total";
    assert_eq!(
        shown(requests, "code=\"200\",model=\"digits\",protocol=\"v2\""),
        Some(3.0)
    );
    assert_eq!(
        shown(requests, "code=\"503\",model=\"digits\",protocol=\"v1\""),
        Some(1.0)
    );
    assert_eq!(
        shown(requests, "code=\"other\",model=\"digits\",protocol=\"v1\""),
        Some(1.0)
    );
    assert_eq!(
        shown(
            "safeserve_rejections_total",
            "model=\"digits\",reason=\"queue_full\""
        ),
        Some(1.0)
    );
    assert_eq!(
        shown(
            "safeserve_batches_total",
            "model=\"digits\",release=\"inline\""
        ),
        Some(1.0)
    );
    assert_eq!(
        shown("safeserve_queued_rows", "model=\"digits\""),
        Some(7.0)
    );
    let bucket = |name: &str, rest: &str, le: &str| {
        value(
            &metrics,
            &format!("{name}_bucket{{{rest},version=\"2\",le=\"{le}\"}}"),
        )
    };
    let v2 = "model=\"digits\",protocol=\"v2\"";
    let seconds = "safeserve_request_duration_seconds";
    assert_eq!(bucket(seconds, v2, "0.00001"), Some(0.0));
    assert_eq!(bucket(seconds, v2, "0.000025"), Some(3.0));
    let v1 = "model=\"digits\",protocol=\"v1\"";
    assert_eq!(bucket(seconds, v1, "10"), Some(1.0));
    assert_eq!(bucket(seconds, v1, "+Inf"), Some(2.0));
    let rows = "safeserve_batch_rows";
    assert_eq!(bucket(rows, "model=\"digits\"", "16"), Some(0.0));
    assert_eq!(bucket(rows, "model=\"digits\"", "32"), Some(1.0));
    assert_eq!(
        value(
            &metrics,
            "safeserve_http_requests_total{code=\"404\",route=\"other\"}"
        ),
        Some(1.0)
    );
}

#[test]
fn bounds_and_states_are_shown_as_they_are_now() {
    let metrics = metrics();
    metrics.show_bounds(&Bounds {
        cpu_cores: 3,
        workers: 2,
        memory_bytes: Some(1 << 40),
        weight_bytes: None,
        inflight_body_bytes: 5,
        queued_rows: 6,
    });
    for (series, shown) in [
        ("safeserve_cpu_budget_cores", 3.0),
        ("safeserve_workers", 2.0),
        ("safeserve_memory_limit_bytes", 1_099_511_627_776.0),
        ("safeserve_weight_limit_bytes", -1.0),
        ("safeserve_inflight_body_limit_bytes", 5.0),
        ("safeserve_queue_limit_rows", 6.0),
    ] {
        assert_eq!(value(&metrics, series), Some(shown), "{series}");
    }

    let is_ready = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let asked = Arc::clone(&is_ready);
    metrics.follow(move || ProcessState {
        is_ready: asked.load(std::sync::atomic::Ordering::Relaxed),
        is_live: false,
        inflight_body_bytes: 8,
    });
    assert_eq!(value(&metrics, "safeserve_ready"), Some(1.0));
    assert_eq!(value(&metrics, "safeserve_live"), Some(0.0));
    assert_eq!(value(&metrics, "safeserve_inflight_body_bytes"), Some(8.0));
    is_ready.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(value(&metrics, "safeserve_ready"), Some(0.0));

    let state = |state: &str| {
        value(
            &metrics,
            &format!("safeserve_model_state{{model=\"m\",state=\"{state}\",version=\"1\"}}"),
        )
    };
    metrics.show_states([("m", 1, ModelState::Loading)].into_iter());
    assert_eq!((state("loading"), state("ready")), (Some(1.0), None));
    metrics.show_states([("m", 1, ModelState::Ready)].into_iter());
    assert_eq!((state("loading"), state("ready")), (None, Some(1.0)));
    let junk = (1..=2000).map(|version| ("junk", version, ModelState::Unavailable));
    metrics.show_states(junk.chain([("m", 1, ModelState::Ready)]));
    let page = metrics.render().unwrap();
    let lines = page.lines();
    let junk = lines.filter(|line| line.starts_with("safeserve_model_state{model=\"junk\""));
    assert_eq!(junk.count(), 1000);
    assert_eq!(state("ready"), Some(1.0));
    let counted = |state: &str| value(&metrics, &format!("safeserve_models{{state=\"{state}\"}}"));
    assert_eq!(
        (counted("loading"), counted("ready")),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(counted("unavailable"), Some(2000.0));
}

#[test]
fn asking_twice_for_a_model_gives_the_same_series() {
    let metrics = metrics();
    metrics.model("iris", 1).rows_total().inc_by(2);
    metrics.model("iris", 1).rows_total().inc_by(3);
    assert_eq!(metrics.model("iris", 1).rows_total().get(), 5);
    assert_eq!(metrics.model("iris", 2).rows_total().get(), 0);
}

#[test]
fn a_reload_replaces_the_fingerprint() {
    let metrics = metrics();
    metrics.model("iris", 1).loaded("aa", 0.5, 1024);
    metrics.model("iris", 1).loaded("bb", 0.25, 2048);
    let info = |fingerprint: &str| {
        value(
            &metrics,
            &format!(
                "safeserve_model_info{{fingerprint=\"{fingerprint}\",model=\"iris\",version=\"1\"}}"
            ),
        )
    };
    assert_eq!(info("aa"), None);
    assert_eq!(info("bb"), Some(1.0));
    let of_model = |name: &str| value(&metrics, &format!("{name}{{model=\"iris\",version=\"1\"}}"));
    assert_eq!(
        of_model("safeserve_model_load_duration_seconds"),
        Some(0.25)
    );
    assert_eq!(of_model("safeserve_model_weight_bytes"), Some(2048.0));
}

#[test]
fn a_forgotten_model_leaves_no_series_behind() {
    let metrics = metrics();
    let kept = metrics.model("kept", 1);
    kept.loaded("cc", 0.5, 1);
    let before = metrics.render().unwrap().lines().count();
    let gone = metrics.model("gone", 7);
    gone.loaded("dd", 0.5, 1);
    assert!(metrics.render().unwrap().contains("model=\"gone\""));
    metrics.forget("gone", 7);
    let page = metrics.render().unwrap();
    assert!(!page.contains("model=\"gone\""), "{page}");
    assert_eq!(page.lines().count(), before);
    // A request that outlived its model still counts, unseen, and does no harm.
    gone.request(
        Protocol::V2,
        200,
        Instant::now(),
        Duration::from_millis(100),
    );
    assert!(!metrics.render().unwrap().contains("model=\"gone\""));
    assert_eq!(metrics.model("gone", 7).rows_total().get(), 0);
}

#[test]
fn histogram_buckets_are_cumulative() {
    let metrics = metrics();
    let model = metrics.model("m", 1);
    for rows in [1.0, 3.0, 64.0, 5000.0] {
        model.batch_rows().observe(rows);
    }
    let page = metrics.render().unwrap();
    let counts: Vec<u64> = page
        .lines()
        .filter(|line| line.starts_with("safeserve_batch_rows_bucket"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(counts.is_sorted());
    assert_eq!(counts.first(), Some(&1));
    assert_eq!(counts.last(), Some(&4));
}
