"""Engine processes for tests: their log, probes and metrics. One is started with the module and its configuration."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from dev import metrics, waiting
from slipstream_runtime import contract

HANG_SECONDS: Final = 600.0
"""Time after which a process counts as hanging: far more than a slow machine needs. No test learns from it."""


class Process:
    """One engine process and what it wrote."""

    def __init__(self, module: str, folder: Path, config: dict[str, Any]) -> None:
        self.log = folder / "log"
        self.termination_log = folder / "termination-log"
        file = folder / "engine.json"
        file.write_text(json.dumps(config))
        options = ["--config", str(file), "--termination-log", str(self.termination_log)]
        self._start(module, options)

    def _start(self, module: str, options: list[str]) -> None:
        command = [sys.executable, "-m", module, *options]
        command += ["--api-port", "0", "--management-port", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=_environment())

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry["event"] == name]

    def port(self, name: str) -> int:
        port: int = self.events("listening")[0][name]
        return port

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port('api')}"

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.port('management')}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.management + path, timeout=10)

    def until_ready(self) -> list[str]:
        """The answers of the readiness probe until it says yes."""
        answers: list[str] = []

        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            if self.events("listening"):
                answer = self.get(contract.READY_PATH)
                answers.append(f"{answer.status_code} {answer.text.strip()}")
            return bool(answers) and answers[-1].startswith("200")

        waiting.until(ready, seconds=HANG_SECONDS, what="ready", log=self.log, interval=0.1)
        return answers

    def exit_code(self) -> int:
        """Wait for the end."""
        return self.process.wait(timeout=HANG_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def metrics(self) -> dict[str, float]:
        """Sums over the labels."""
        return metrics.totals(self.get(contract.METRICS_PATH).text)

    def labels(self) -> dict[str, set[str]]:
        """Names of the labels of each series."""
        found: dict[str, set[str]] = {}
        for sample in metrics.samples(self.get(contract.METRICS_PATH).text):
            found.setdefault(sample.name, set()).update(sample.labels)
        return found

    def bounds(self, histogram: str) -> tuple[float, ...]:
        """Finite upper bounds of a histogram's buckets, in order."""
        text = self.get(contract.METRICS_PATH).text
        found = {
            float(sample.labels["le"])
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"{histogram}_bucket"
        }
        return tuple(sorted(found - {math.inf}))


class Simulator(Process):
    """One process of the simulator."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.log = folder / "log"
        file = folder / "simulator.json"
        file.write_text(json.dumps(config))
        self._start(contract.SIMULATOR_MODULE, ["--config", str(file)])


class Router(Process):
    """One router process; `engines` are API port and management port of each replica of a revision."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        engines: dict[str, list[tuple[int, int]]],
        *options: str,
    ) -> None:
        self.log = folder / "log"
        settings, endpoints = folder / "router.json", folder / "endpoints.json"
        settings.write_text(json.dumps(config))
        places = {
            revision: [
                {"host": "127.0.0.1", "port": api, "managementPort": management}
                for api, management in found
            ]
            for revision, found in engines.items()
        }
        endpoints.write_text(json.dumps({"revisions": places}))
        self._start(
            contract.ROUTER_MODULE,
            ["--config", str(settings), "--endpoints", str(endpoints), *options],
        )


def _environment() -> dict[str, str]:
    runtime = str(Path(__file__).parents[2] / "runtime")
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([runtime, *filter(None, others)])}
