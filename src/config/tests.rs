use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A settings file that is removed when the test ends.
struct File(PathBuf);

impl File {
    fn new(test: &str, text: &str) -> Self {
        let name = format!("safeserve-config-{}-{test}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn file(path: &Path) -> Overrides {
    Overrides {
        file: Some(path.to_owned()),
        ..Overrides::default()
    }
}

fn variables(pairs: &[(&str, &str)]) -> Overrides {
    Overrides {
        environment: pairs
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect(),
        ..Overrides::default()
    }
}

fn assignment(text: &str) -> Overrides {
    Overrides {
        assignments: vec![text.to_owned()],
        ..Overrides::default()
    }
}

fn refusal(overrides: Overrides) -> String {
    Settings::load(overrides).unwrap_err().to_string()
}

#[test]
fn each_layer_overrides_the_ones_before_it() {
    let file = File::new(
        "precedence",
        "[limits]\nmax_headers = 11\nmax_connections = 11\nheader_timeout_ms = 11\nidle_timeout_ms = 11\n",
    );
    let settings = Settings::load(Overrides {
        file: Some(file.0.clone()),
        environment: vec![
            ("SAFESERVE__LIMITS__MAX_CONNECTIONS".into(), "22".into()),
            ("SAFESERVE__LIMITS__HEADER_TIMEOUT_MS".into(), "22".into()),
            ("SAFESERVE__LIMITS__IDLE_TIMEOUT_MS".into(), "22".into()),
            ("SAFESERVE_PORT".into(), "tcp://10.0.0.1:80".into()),
            ("PATH".into(), "/bin".into()),
        ],
        flags: vec![
            ("--a-flag", "limits.header_timeout_ms".into(), "33".into()),
            ("--a-flag", "limits.idle_timeout_ms".into(), "33".into()),
        ],
        assignments: vec!["limits.idle_timeout_ms = 44".into()],
    })
    .unwrap();
    let limits = &settings.config.limits;
    assert_eq!(limits.write_timeout_ms, 10_000);
    assert_eq!(limits.max_headers, 11);
    assert_eq!(limits.max_connections, 22);
    assert_eq!(limits.header_timeout_ms, 33);
    assert_eq!(limits.idle_timeout_ms, 44);

    let origin = |key: &str| settings.origin(key).unwrap().clone();
    assert_eq!(origin("limits.write_timeout_ms"), Origin::Default);
    assert_eq!(
        origin("limits.max_headers"),
        Origin::File {
            path: file.0.clone(),
            line: 2
        }
    );
    assert_eq!(
        origin("limits.max_connections"),
        Origin::Variable("SAFESERVE__LIMITS__MAX_CONNECTIONS".into())
    );
    assert_eq!(
        origin("limits.header_timeout_ms"),
        Origin::Flag("--a-flag".into())
    );
    assert_eq!(
        origin("limits.idle_timeout_ms"),
        Origin::Flag("--set limits.idle_timeout_ms = 44".into())
    );
    assert_eq!(settings.origin("limits.nothing"), None);
}

#[test]
fn every_type_can_be_set_from_text() {
    let config = Settings::load(variables(&[
        ("SAFESERVE__SERVER__BIND", "[::1]:0"),
        ("SAFESERVE__MODELS__STRICT", "true"),
        ("SAFESERVE__MODELS__DIR", "/srv/my models"),
        ("SAFESERVE__LOG__LEVEL", "debug"),
        ("SAFESERVE__LOG__FORMAT", "json"),
    ]))
    .unwrap()
    .config;
    assert_eq!(config.server.bind, "[::1]:0".parse().unwrap());
    assert!(config.models.strict);
    assert_eq!(config.models.dir, Path::new("/srv/my models"));
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.log.format, Format::Json);
}

#[test]
fn zero_sets_no_default_deadline() {
    let mut limits = Config::defaults().limits;
    assert_eq!(limits.default_deadline(), Some(Duration::from_secs(30)));
    limits.default_deadline_ms = 0;
    assert_eq!(limits.default_deadline(), None);
}

#[test]
fn what_print_shows_loads_to_the_same_settings() {
    let settings = Settings::load(variables(&[
        (
            "SAFESERVE__MODELS__DIR",
            "a \"quoted\" \\ path\nwith a line # and more",
        ),
        ("SAFESERVE__LIMITS__MAX_HEADERS", "64"),
    ]))
    .unwrap();
    let printed = File::new("printed", &settings.to_toml());
    let again = Settings::load(file(&printed.0)).unwrap();
    assert_eq!(again.config, settings.config);
}

#[test]
fn a_line_break_in_an_argument_does_not_break_the_print() {
    let settings = Settings::load(assignment("models.dir=a\nbind = 1")).unwrap();
    let printed = File::new("line-break", &settings.to_toml());
    assert_eq!(
        Settings::load(file(&printed.0)).unwrap().config,
        settings.config
    );
}

#[test]
fn print_shows_where_each_value_came_from() {
    let printed = Settings::load(variables(&[("SAFESERVE__LIMITS__MAX_HEADERS", "64")]))
        .unwrap()
        .to_toml();
    let comment = |key: &str| {
        let line = printed.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_once("  # ").unwrap().1.to_owned()
    };
    assert_eq!(
        comment("max_headers"),
        "environment variable SAFESERVE__LIMITS__MAX_HEADERS"
    );
    assert_eq!(comment("bind"), "default");
    assert!(printed.starts_with("[server]\nbind = \"127.0.0.1:8080\" "));
    assert!(!printed.ends_with("\n\n"));
}

#[test]
fn every_default_is_printed_in_the_order_of_the_file() {
    let printed = Settings::load(Overrides::default()).unwrap().to_toml();
    let keys = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys(&printed), keys(DEFAULT_TOML));
}

#[test]
fn every_setting_has_its_reason_above_it() {
    let mut above = "";
    for line in DEFAULT_TOML.lines() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(above.starts_with('#'), "{line} has no comment");
        }
        above = line;
    }
}

/// Every refusal, as the user reads it.
#[test]
fn refusals_name_place_expected_given_and_hint() {
    let in_file = |name: &str, text: &str| {
        let settings = File::new(name, text);
        refusal(file(&settings.0)).replace(settings.0.to_str().unwrap(), "FILE")
    };
    let table = [
        (
            in_file("misspelt", "\n[limits]\nmax_conections = 1\n"),
            "FILE:3: unknown setting limits.max_conections; did you mean limits.max_connections? \
             Known: limits.max_connections, limits.max_headers, limits.max_header_bytes, \
             limits.header_timeout_ms, limits.idle_timeout_ms, limits.write_timeout_ms, \
             limits.max_body_bytes, limits.body_timeout_ms, limits.max_inflight_body_bytes, \
             limits.max_request_rows, limits.default_deadline_ms, limits.max_deadline_ms",
        ),
        (
            in_file("section", "[serve]\nbind = \"x\"\n"),
            "FILE:2: unknown setting serve.bind; did you mean server.bind? \
             Known: server.*, tls.*, operations.*, admin.*, grpc.*, models.*, vertex.*, \
             scheduler.*, limits.*, log.*",
        ),
        (
            in_file("bare", "strict = true\n"),
            "FILE:1: unknown setting strict; did you mean models.strict? \
             Known: server.*, tls.*, operations.*, admin.*, grpc.*, models.*, vertex.*, \
             scheduler.*, limits.*, log.*",
        ),
        (
            in_file("empty-section", "[rpc]\n"),
            "FILE:1: unknown setting rpc; Known: server.*, tls.*, operations.*, admin.*, grpc.*, models.*, vertex.*, \
             scheduler.*, limits.*, log.*",
        ),
        (
            in_file("nested", "[log.level]\nx = 1\n"),
            "FILE:1: log.level: expected text, got a TOML table; put it in quotes",
        ),
        (
            in_file("syntax", "[server]\nbind 127\n"),
            "FILE:2: not valid TOML: key with no value, expected `=`",
        ),
        (
            in_file("type", "[limits]\nmax_headers = \"many\"\n"),
            "FILE:2: limits.max_headers: expected a whole number, got text \"many\"; \
             write digits only, without quotes, unit or fraction",
        ),
        (
            in_file("fraction", "[limits]\nmax_headers = 10.5\n"),
            "FILE:2: limits.max_headers: expected a whole number, got a TOML float; \
             write digits only, without quotes, unit or fraction",
        ),
        (
            in_file("huge", "[limits]\nmax_headers = 99999999999999999999\n"),
            "FILE:2: limits.max_headers: expected a whole number, got 99999999999999999999; \
             write digits only, without quotes, unit or fraction",
        ),
        (
            in_file("unquoted", "[models]\ndir = 5\n"),
            "FILE:2: models.dir: expected text, got a whole number 5; put it in quotes",
        ),
        (
            in_file("not-bool", "[models]\nstrict = \"yes\"\n"),
            "FILE:2: models.strict: expected true or false, got text \"yes\"; \
             write true or false, without quotes",
        ),
        (
            refusal(variables(&[("SAFESERVE__SERVER__BINDD", "x")])),
            "environment variable SAFESERVE__SERVER__BINDD: unknown setting server.bindd; \
             did you mean SAFESERVE__SERVER__BIND? Known: SAFESERVE__SERVER__BIND, \
             SAFESERVE__SERVER__IO_THREADS, SAFESERVE__SERVER__DRAIN_DELAY_MS, \
             SAFESERVE__SERVER__DRAIN_TIMEOUT_MS, SAFESERVE__SERVER__API_KEYS",
        ),
        (
            refusal(variables(&[("SAFESERVE__LIMITS__MAX_HEADERS", "1e3")])),
            "environment variable SAFESERVE__LIMITS__MAX_HEADERS: limits.max_headers: \
             expected a whole number, got \"1e3\"; \
             write digits only, without quotes, unit or fraction",
        ),
        (
            refusal(assignment("limits.max_headers")),
            "--set limits.max_headers: expected SECTION.KEY=VALUE, got no \"=\"; \
             write for example --set limits.max_connections=1024",
        ),
        (
            refusal(assignment("limits.max_headers=7")),
            "flag --set limits.max_headers=7: limits.max_headers: \
             expected a whole number from 8 to 1024, got 7; clients and proxies send 5 to 30",
        ),
        (
            refusal(assignment("limits.max_headers=-1")),
            "flag --set limits.max_headers=-1: limits.max_headers: \
             expected a whole number, 0 or more, got -1; take the sign away",
        ),
        (
            refusal(assignment("server.bind=localhost")),
            "flag --set server.bind=localhost: server.bind: expected an IP address and a port, \
             got \"localhost\"; write for example \"0.0.0.0:8080\" or \"[::1]:8080\"",
        ),
        (
            refusal(assignment("operations.bind=8081")),
            "flag --set operations.bind=8081: operations.bind: \
             expected an IP address and a port, or \"\" for none, got \"8081\"; \
             write for example \"127.0.0.1:8081\"",
        ),
        (
            refusal(assignment("admin.bind=127.0.0.1:8082")),
            "default: admin.keys: expected a file, got \"\"; \
             without it anyone who reaches admin.bind could unload models",
        ),
        (
            refusal(assignment("tls.certificate=chain.pem")),
            "default: tls.key: expected a file, got \"\"; \
             tls.certificate needs its private key",
        ),
        (
            refusal(assignment("tls.client_ca=clients.pem")),
            "default: tls.certificate: expected a file, got \"\"; \
             without it nothing is encrypted, and the other files of tls do nothing",
        ),
        (
            refusal(assignment("models.dir=")),
            "flag --set models.dir=: models.dir: expected a directory, got \"\"; \
             write for example \"models\"",
        ),
        (
            refusal(assignment("models.name=two words")),
            "flag --set models.name=two words: models.name: \
             expected up to 128 of A-Z a-z 0-9 _ . -, not beginning with ., got \"two words\"; \
             or write \"\" for the directory's name",
        ),
        (
            refusal(assignment("log.level=loud")),
            "flag --set log.level=loud: log.level: \
             expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", got \"loud\"; \
             use one of them",
        ),
        (
            refusal(assignment("log.format=xml")),
            "flag --set log.format=xml: log.format: expected \"auto\", \"text\" or \"json\", \
             got \"xml\"; use one of them",
        ),
        (
            refusal(assignment("limits.max_request_rows=8193")),
            "flag --set limits.max_request_rows=8193: limits.max_request_rows: \
             expected a whole number from 1 to 8192, got 8193; \
             a request is queued whole: raise scheduler.max_queued_rows too",
        ),
        (
            refusal(assignment("limits.default_deadline_ms=60001")),
            "flag --set limits.default_deadline_ms=60001: limits.default_deadline_ms: \
             expected a whole number from 0 to 60000, got 60001; \
             0 sets none; else it is at most limits.max_deadline_ms",
        ),
    ];
    for (actual, expected) in table {
        assert_eq!(actual, expected);
    }
}

#[test]
fn every_number_has_a_range_beyond_which_it_is_refused() {
    let defaults = Settings::load(Overrides::default()).unwrap();
    for (section, settings) in &defaults.sections {
        for setting in settings.iter().filter(|setting| setting.value.is_integer()) {
            let huge = format!("{section}.{}={}", setting.key, i64::MAX);
            let message = refusal(assignment(&huge));
            assert!(
                message.contains("a whole number from "),
                "{huge}: {message}"
            );
        }
    }
}

#[test]
fn an_unreadable_file_is_named_with_its_cause() {
    let error = Settings::load(file(Path::new("no/such/file.toml"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the settings file no/such/file.toml"
    );
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("No such file"), "{cause}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let overrides = Overrides {
        environment: vec![(
            "SAFESERVE__MODELS__DIR".into(),
            OsString::from_vec(vec![0xff]),
        )],
        ..Overrides::default()
    };
    assert_eq!(
        refusal(overrides),
        "environment variable SAFESERVE__MODELS__DIR: expected UTF-8 text, got other bytes; \
         unset it or set it again"
    );
}

#[test]
fn the_page_of_limits_has_every_limit_with_its_default() {
    let page = include_str!("../../docs/limits.md");
    let defaults = Settings::load(Overrides::default()).unwrap();
    for (section, settings) in &defaults.sections {
        for setting in settings {
            let is_limit = section == "limits" || setting.key.starts_with("max_");
            let row = format!("| `{section}.{}` | {} |", setting.key, setting.value);
            assert!(!is_limit || page.contains(&row), "{row}");
        }
    }
    for line in page.lines().filter(|line| line.contains("| `")) {
        let key = line.split('`').nth(1).unwrap();
        let value = line.split(" | ").nth(2).unwrap();
        let (section, key) = key.split_once('.').unwrap();
        let (_, settings) = defaults
            .sections
            .iter()
            .find(|(s, _)| s == section)
            .unwrap();
        let setting = settings.iter().find(|setting| setting.key == key).unwrap();
        assert_eq!(setting.value.to_string(), value, "{line}");
    }
}

#[test]
fn a_platforms_variables_are_settings_below_the_operators() {
    let bind = |pairs: &[(&str, &str)]| {
        let settings = Settings::load(variables(pairs)).unwrap();
        let origin = settings.origin("server.bind").unwrap().to_string();
        (settings.config.server.bind.to_string(), origin)
    };
    let port = ("AIP_HTTP_PORT", "8081");
    assert_eq!(
        bind(&[port]),
        (
            "0.0.0.0:8081".into(),
            "environment variable AIP_HTTP_PORT".into()
        )
    );
    assert_eq!(
        bind(&[("SAGEMAKER_BIND_TO_PORT", "9000")]).0,
        "0.0.0.0:9000"
    );
    assert_eq!(bind(&[("AIP_HTTP_PORT", "")]).0, "127.0.0.1:8080");
    let own = ("SAFESERVE__SERVER__BIND", "127.0.0.1:1");
    assert_eq!(bind(&[own, port]).0, "127.0.0.1:1");

    let routes = [
        ("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/8"),
        (
            "AIP_PREDICT_ROUTE",
            "/v1/endpoints/7/deployedModels/8:predict",
        ),
    ];
    let settings = Settings::load(variables(&routes)).unwrap();
    let vertex = &settings.config.vertex;
    assert_eq!(vertex.health_route.as_deref(), Some(routes[0].1));
    assert_eq!(vertex.predict_route.as_deref(), Some(routes[1].1));
    assert!(
        settings
            .to_toml()
            .contains("# environment variable AIP_PREDICT_ROUTE\n"),
        "print-config says where it is from"
    );
    assert_eq!(
        refusal(variables(&[("AIP_HTTP_PORT", "http")])),
        "environment variable AIP_HTTP_PORT: server.bind: expected an IP address and a port, got \
         \"0.0.0.0:http\"; write for example \"0.0.0.0:8080\" or \"[::1]:8080\""
    );
    assert_eq!(
        refusal(variables(&[("AIP_HEALTH_ROUTE", "health")])),
        "environment variable AIP_HEALTH_ROUTE: vertex.health_route: expected a path, or \"\" for \
         none, got \"health\"; write for example \"/predict\""
    );
    assert_eq!(
        refusal(assignment("models.labels=stable=1")),
        "flag --set models.labels=stable=1: models.labels: expected MODEL/LABEL=VERSION, each label of \
         a model once, got \"stable=1\"; write for example \"digits/stable=1, digits/canary=2\""
    );
}

#[test]
fn the_budget_of_bodies_fits_the_memory_unless_it_is_set() {
    let mut limits = Config::defaults().limits;
    let mebibytes = |limits: &Limits, memory: Option<u64>| {
        limits.inflight_bytes(memory.map(|mebibytes| mebibytes << 20)) >> 20
    };
    assert_eq!(mebibytes(&limits, None), 256);
    assert_eq!(mebibytes(&limits, Some(64 << 10)), 256);
    assert_eq!(mebibytes(&limits, Some(512)), 64);
    assert_eq!(mebibytes(&limits, Some(64)), 16, "one body");
    limits.max_inflight_body_bytes = 20 << 20;
    assert_eq!(mebibytes(&limits, Some(64 << 10)), 20);
}
