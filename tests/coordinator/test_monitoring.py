"""What is shipped for Prometheus and Grafana speaks of metrics that a running coordinator really shows."""

from __future__ import annotations

import asyncio
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from coordinator_rig import GATEWAY_TOKEN, HASTY, OPERATOR_TOKEN, Rig, rig
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from test_settings_and_parts import certificate

ROOT = Path(__file__).parents[2]
SHIPPED = files("coordinator").joinpath("monitoring")
DASHBOARD = json.loads(SHIPPED.joinpath("dashboard.json").read_text("utf-8"))
ALERTS = [r for g in yaml.safe_load(SHIPPED.joinpath("alerts.yaml").read_text("utf-8"))["groups"] for r in g["rules"]]
PANELS = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
_UNITS = ("_seconds", "_bytes", "_total", "_ratio", "_info")
_COUNTS = re.compile(r"_(jobs|slots|records|used|up|wanted|fault|fds)$|^consortium_(jobs|slots)$")
_GRAFANA = {"$__rate_interval": "5m", "$instance": ".*"}


def expressions() -> list[tuple[str, str]]:
    found = [(f"panel {p['title']}", t["expr"]) for p in PANELS for t in p["targets"]]
    found += [(f"annotation {a['name']}", a["expr"]) for a in DASHBOARD["annotations"]["list"]]
    return found + [(f"alert {a['alert']}", a["expr"]) for a in ALERTS]


def plain(expression: str) -> str:
    for name, value in _GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


def names_in(expression: str) -> set[str]:
    """Metrics that an expression selects. Raises ValueError when it is not PromQL."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)
        for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
            if (inner := getattr(node, part, None)) is not None and not isinstance(inner, (str, float, int)):
                walk(inner)
        for inner in getattr(node, "args", None) or []:
            walk(inner)

    walk(promql_parser.parse(plain(expression)))
    return found


async def scrape(r: Rig, party: str) -> str:
    return (await r.http.get(f"http://127.0.0.1:{r.ports[party][0]}/metrics")).text


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """/metrics of a coordinator that has run one job, runs another, has refused a message and missed a peer."""
    folder = tmp_path_factory.mktemp("metrics")
    certificates = folder / "gateway.crt"

    async def run() -> str:
        certificates.write_bytes(certificate(10) + certificate(900))
        async with rig(folder, certificate_file=str(certificates)) as r:
            ended = await r.submit("alice")
            assert await r.end(ended) == "succeeded"
            await r.call("alice", "GET", "jobs/20261124-none-aaaaaa")
            running = await r.submit("alice", parameters={"seconds": 30})
            await r.until(running, "running")
            await asyncio.sleep(0.5)
            r.cut |= {("alice", "bob"), ("bob", "alice")}
            await r.call("alice", "POST", f"jobs/{running}/cancel")
            for _ in range(100):
                if "consortium_delivery_failures_total{" in (text := await scrape(r, "alice")):
                    return text
                await asyncio.sleep(0.05)
            raise AssertionError("no delivery has failed")

    return asyncio.run(run())


def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def value(text: str, name: str, **labels: str) -> float:
    (found,) = [s.value for f in families(text) for s in f.samples if s.name == name and s.labels == labels]
    return found


def test_the_text_is_well_formed_and_well_named(shown: str) -> None:
    seen: set[str] = set()
    for family in families(shown):
        assert family.name not in seen, f"{family.name} twice"
        seen.add(family.name)
        assert family.documentation.strip(), f"{family.name} has no HELP"
        if not family.name.startswith("consortium_"):
            assert family.name.startswith("process_")
            continue
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert not re.search(r"_(ms|milliseconds|minutes|hours|days|kb|mb)(_|$)", family.name), "base units only"
        full = family.name + ("_total" if family.type == "counter" else "")
        assert full.endswith(_UNITS) or _COUNTS.search(full), f"{full}: which unit?"
        assert full.endswith("_total") == (family.type == "counter"), f"{full} is a {family.type}"
        assert family.documentation.endswith("."), f"{family.name}: HELP is a sentence"


def test_labels_come_from_closed_sets_and_there_is_no_secret(shown: str) -> None:
    assert OPERATOR_TOKEN not in shown
    assert GATEWAY_TOKEN not in shown
    assert "20261124-none" not in shown, "an id that a request made up became a label"
    allowed = {"peer": {"bob", "alice", "unknown"}, "party": {"alice"}, "consortium": {"demo"}, "slot": {"0"}}
    for family in families(shown):
        for sample in family.samples:
            for name, label in sample.labels.items():
                assert label in allowed.get(name, {label}), f"{sample.name}: {name}={label}"
                assert len(label) < 60


def test_the_numbers_are_those_of_what_happened(shown: str) -> None:
    assert value(shown, "consortium_jobs", phase="succeeded") == 1
    assert value(shown, "consortium_jobs_ended_total", outcome="succeeded") == 1
    assert value(shown, "consortium_attempts_ended_total", status="succeeded") == 1
    assert value(shown, "consortium_start_skew_seconds_count") == 1
    assert value(shown, "consortium_start_skew_seconds_sum") < 2
    assert value(shown, "consortium_driver_launch_seconds_count") == 2
    assert 0 < value(shown, "consortium_peer_round_trip_seconds", peer="bob") < 2
    assert value(shown, "consortium_delivery_failures_total", peer="bob") >= 1
    assert value(shown, "consortium_messages_refused_total", peer="unknown", status="404") == 1
    assert value(shown, "consortium_audit_records") > 10
    assert value(shown, "process_resident_memory_bytes") > 10_000_000
    gateway = value(shown, "consortium_certificate_expiry_timestamp_seconds", certificate="gateway")
    authority = value(shown, "consortium_certificate_expiry_timestamp_seconds", certificate="ca")
    assert authority - gateway == pytest.approx(890 * 86400, abs=100)
    routes = {"interface": "operator", "route": "/api/v1/jobs/{job_id}", "method": "GET"}
    assert value(shown, "consortium_http_request_seconds_count", **routes, status="404") == 1
    assert value(shown, "consortium_http_request_seconds_count", **routes, status="200") > 1


def test_a_lease_ages_while_a_peer_is_silent(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path, timeouts=HASTY) as r:
            job_id = await r.submit("alice", parameters={"seconds": 30})
            await r.until(job_id, "running")
            await asyncio.sleep(0.5)
            young = value(await scrape(r, "alice"), "consortium_lease_age_seconds", slot="0", peer="bob")
            assert value(await scrape(r, "alice"), "consortium_peer_up", peer="bob") == 1
            r.cut |= {("alice", "bob"), ("bob", "alice")}
            await asyncio.sleep(1.4)
            old = value(await scrape(r, "alice"), "consortium_lease_age_seconds", slot="0", peer="bob")
            assert young < 0.9 < old
            await r.until(job_id, {"ending", "failed"}, "alice")
            text = await scrape(r, "alice")
            assert value(text, "consortium_peer_up", peer="bob") == 0
            assert "consortium_lease_age_seconds{" not in text, "a lease outlives its attempt"

    asyncio.run(run())


def test_a_job_that_waits_for_a_person_is_seen(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path, policy=lambda _: {"default": "person"}) as r:
            job_id = await r.submit("alice")
            await r.until(job_id, "proposed", "bob")
            await asyncio.sleep(0.2)
            text = await scrape(r, "bob")
            assert value(text, "consortium_approvals_wanted") == 1
            assert 0.1 < value(text, "consortium_approval_wait_seconds") < 30
            assert value(await scrape(r, "alice"), "consortium_approvals_wanted") == 0
            while (await r.call("bob", "POST", f"jobs/{job_id}/approve")).status_code != 200:
                await asyncio.sleep(0.05)
            assert value(await scrape(r, "bob"), "consortium_approvals_wanted") == 0

    asyncio.run(run())


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_an_expression_is_promql_over_metrics_that_exist(shown: str, where: str, expression: str) -> None:
    available = {s.name for f in families(shown) for s in f.samples} | {f.name for f in families(shown)}
    used = names_in(expression)
    assert used, f"{where} selects nothing"
    assert used <= available, f"{where}: {sorted(used - available)} are not shown by a coordinator"


@pytest.mark.parametrize("broken", ["sum(rate(consortium_jobs[5m])", "consortium_jobs{phase=}", "1 +"])
def test_a_broken_expression_is_found_out(broken: str) -> None:
    with pytest.raises(ValueError):
        names_in(broken)


def test_the_names_in_an_expression_are_found_wherever_they_stand() -> None:
    nested = "topk(3, histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m])))) > on (x) (-b * 2) and delta(c[1m]) < 0"
    assert names_in(nested) == {"a_bucket", "b", "c"}


def test_the_dashboard_can_be_imported() -> None:
    ids = [p["id"] for p in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(p["title"] and p["description"] and p["targets"] for p in PANELS)
    assert {v["name"] for v in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
    assert all(t["datasource"]["uid"] == "${datasource}" for p in PANELS for t in p["targets"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        g = panel["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.parametrize("alert", ALERTS, ids=lambda a: a["alert"])
def test_an_alert_says_what_and_what_to_do(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"Consortium[A-Za-z]+", alert["alert"])
    assert alert["labels"]["severity"] in ("warning", "critical")
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert all(notes.values())
    path, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
    assert anchor in anchors
    assert re.fullmatch(r"\d+[smh]", alert.get("for", "1m"))


def test_every_alert_has_its_own_name_and_every_runbook_entry_an_alert() -> None:
    names = [a["alert"] for a in ALERTS]
    assert len(set(names)) == len(names)
    linked = {a["annotations"]["runbook_url"].partition("#")[2] for a in ALERTS}
    headings = re.findall(r"^### (Alert: .+)$", (ROOT / "docs/runbook.md").read_text("utf-8"), re.MULTILINE)
    assert {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings} == linked


def test_the_document_names_every_metric(shown: str) -> None:
    text = (ROOT / "docs/monitoring.md").read_text("utf-8")
    documented = set(re.findall(r"`(consortium_\w+)", text))
    shown_names = {f.name + ("_total" if f.type == "counter" else "") for f in families(shown)}
    assert documented == {n for n in shown_names if n.startswith("consortium_")}
