"""The rules and the configuration of deploy/prometheus, by Prometheus' own promtool."""

import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import scraped
import yaml
from scraped import ROOT, RULES, Page, recorded, rules_of

FOLDER = ROOT / "deploy" / "prometheus"
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
SEVERITIES = {"critical", "warning", "info"}


def unit_tests() -> list[dict]:
    return [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]


def said(*command: object, **options: object) -> str:
    """What a command that succeeds says."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_accepts_the_rules(promtool: str) -> None:
    for kind in ("alert", "record"):
        assert rules_of(kind), f"no rule of kind {kind}"
    # lint-fatal: also what is only doubtful, such as a rule that is there twice.
    said(promtool, "check", "rules", "--lint=all", "--lint-fatal", *RULES)


def test_promtool_accepts_the_configuration(promtool: str) -> None:
    said(promtool, "check", "config", FOLDER / "prometheus.yml")


def test_the_configuration_scrapes_replicas_and_balancer_and_reads_all_rules() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    scraped_targets = {
        job["job_name"]: [target for targets in job["static_configs"] for target in targets["targets"]]
        for job in configuration["scrape_configs"]
    }
    assert scraped_targets == {
        "safeserve": [f"replica-{number}:8081" for number in (1, 2, 3)],
        "balancer": ["balancer:8404"],
    }
    read = {file for pattern in configuration["rule_files"] for file in FOLDER.glob(pattern)}
    assert read == set(RULES)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_do_what_their_unit_tests_say(promtool: str, file: Path) -> None:
    said(promtool, "test", "rules", file)


def test_every_alert_is_shown_firing_and_not_firing() -> None:
    """By name and labels, since one alert may be several rules."""
    fires, rests = defaultdict(list), set()
    for test in unit_tests():
        for check in test.get("alert_rule_test", []):
            if not check["exp_alerts"]:
                rests.add(check["alertname"])
            for expected in check["exp_alerts"]:
                fires[check["alertname"]].append(expected["exp_labels"])
                assert expected["exp_annotations"].keys() == {"summary", "description", "runbook_url"}
    for rule in rules_of("alert"):
        name, labels = rule["alert"], rule["labels"]
        assert name in rests, f"no unit test in which {name} does not fire"
        assert any(labels.items() <= shown.items() for shown in fires[name]), (
            f"no unit test in which {name} {labels} fires"
        )
    names = {rule["alert"] for rule in rules_of("alert")}
    assert rests | set(fires) <= names, f"tests of alerts that there are not: {(rests | set(fires)) - names}"


def test_an_alert_rests_in_a_test_of_its_own_too() -> None:
    """Before it fires is not enough: just below its threshold, or for less time, it never does."""
    rests = set()
    for test in unit_tests():
        checks = test.get("alert_rule_test", [])
        rests |= {check["alertname"] for check in checks} - {
            check["alertname"] for check in checks if check["exp_alerts"]
        }
    assert {rule["alert"] for rule in rules_of("alert")} - rests == set()


def test_every_recording_rule_has_a_unit_test() -> None:
    asked = [check for test in unit_tests() for check in test.get("promql_expr_test", []) if check["exp_samples"]]
    for rule in rules_of("record"):
        labels = [f'{name}="{value}"' for name, value in rule.get("labels", {}).items()]
        wanted = [rule["record"], *labels]
        assert any(all(part in check["expr"] for part in wanted) for check in asked), f"no unit test of {wanted}"


def test_alerts_say_how_bad_it_is_what_it_is_and_where_to_read_on() -> None:
    for rule in rules_of("alert"):
        name, notes = rule["alert"], rule["annotations"]
        assert name.startswith("Safeserve"), name
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert notes.keys() == {"summary", "description", "runbook_url"}, name
        assert len(notes["summary"]) < 90, name
        assert notes["description"].endswith("."), name


def test_rules_name_metrics_and_labels_that_there_are(known: dict[str, set[str]]) -> None:
    problems = []
    for rule in rules_of("alert") + rules_of("record"):
        name = rule.get("alert") or rule["record"]
        problems += [f"{name}: {problem}" for problem in scraped.unknown(rule["expr"], known)]
    assert not problems, "\n".join(problems)


def test_a_name_that_is_nowhere_is_found(page: Page) -> None:
    good = "sum by (model) (rate(safeserve_requests_total{code=~'5..'}[5m]))"
    assert scraped.unknown(good.replace("'", '"'), page.labels) == []
    for bad, problem in {
        "rate(safeserve_request_total[5m])": "no metric safeserve_request_total",
        'safeserve_queued_rows{code="200"}': "no label code of safeserve_queued_rows",
        "sum by (modle) (safeserve_queued_rows)": "no label modle to group by",
        "job:safeserve_errors:ratio_rate5m": "no metric job:safeserve_errors:ratio_rate5m",
        "vector(1)": "no metric",
    }.items():
        assert scraped.unknown(bad, page.labels) == [problem], bad


def test_what_is_recorded_is_named_by_level_metric_and_operation() -> None:
    for name in recorded():
        level, metric, operation = name.split(":")
        assert set(level.split("_")) <= {"job", "model", "instance", "le"}, name
        assert metric.startswith("safeserve_") and operation, name


def test_promtool_finds_nothing_wrong_with_the_page(promtool: str, page: Page) -> None:
    """With every listener on, keys, and requests that were answered and refused."""
    assert said(promtool, "check", "metrics", input=page.text) == ""
