"""Termination reports: complete if they fit, and valid JSON within the limit in any case."""

import json

from slipstream_runtime import contract
from slipstream_runtime.build import report

HASH = "0" * 64
LIMIT = contract.report_bytes(1)


def test_a_short_report_is_complete() -> None:
    given = {"stage": "publish", "uri": "s3://b/p", "files": {"a": HASH}, "omitted": 0}
    assert json.loads(report.text(given, limit=LIMIT)) == given


def test_hashes_that_do_not_fit_are_counted() -> None:
    files = {f"model-{number:05d}-of-00200.safetensors": HASH for number in range(200)}
    written = report.text(
        {"stage": "publish", "uri": "u", "files": files, "omitted": 0, "versions": {"torch": "2"}},
        limit=LIMIT,
    )
    assert len(written.encode()) <= LIMIT
    found = json.loads(written)
    assert len(found["files"]) + found["omitted"] == 200
    assert len(found["files"]) > 20
    assert found["versions"] == {"torch": "2"}


def test_long_facts_are_left_out_whole() -> None:
    found = json.loads(
        report.text({"stage": "0-prune", "bytes": 7, "facts": {"é": "é" * 5000}}, limit=LIMIT)
    )
    assert found == {"stage": "0-prune", "bytes": 7}


def test_a_build_of_many_stages_has_short_reports_because_the_kubelet_divides_12_kib_by_containers() -> (
    None
):
    metrics = [{"name": f"metric {number}", "candidate": 0.5} for number in range(40)]
    rejected = {"stage": "7-quality", "verdict": "Failed", "metrics": metrics, "reason": "é" * 900}
    limit = contract.report_bytes(18)
    found = report.text(rejected, limit=limit)
    assert len(found.encode()) <= limit <= 12 * 1024 // 18
    assert json.loads(found)["verdict"] == "Failed"
    assert json.loads(found)["reason"].startswith("éé")


def test_a_long_uri_is_left_out_because_the_operator_knows_it() -> None:
    limit = contract.report_bytes(18)
    published = {
        "stage": "publish",
        "seconds": 12345.6,
        "peakMemory": 10**11,
        "bytes": 10**12,
        "uri": f"oci://registry.example/{'a' * 400}:1",
        "digest": f"sha256:{HASH}",
        "sha256": HASH,
        "files": {},
        "omitted": 3,
    }
    written = report.text(published, limit=limit)
    assert len(written) <= limit
    assert json.loads(written)["digest"] == f"sha256:{HASH}"
