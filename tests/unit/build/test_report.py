"""Termination reports: complete if they fit, and valid JSON within the limit in any case."""

import json

from slipstream_runtime.build import report

HASH = "0" * 64


def test_a_short_report_is_complete() -> None:
    given = {"stage": "publish", "uri": "s3://b/p", "files": {"a": HASH}, "omitted": 0}
    assert json.loads(report.text(given)) == given


def test_hashes_that_do_not_fit_are_counted() -> None:
    files = {f"model-{number:05d}-of-00200.safetensors": HASH for number in range(200)}
    written = report.text(
        {"stage": "publish", "uri": "u", "files": files, "omitted": 0, "versions": {"torch": "2"}}
    )
    assert len(written.encode()) <= report.LIMIT_BYTES
    found = json.loads(written)
    assert len(found["files"]) + found["omitted"] == 200
    assert len(found["files"]) > 20
    assert found["versions"] == {"torch": "2"}


def test_long_facts_are_left_out_whole() -> None:
    found = json.loads(report.text({"stage": "0-prune", "bytes": 7, "facts": {"é": "é" * 5000}}))
    assert found == {"stage": "0-prune", "bytes": 7}
