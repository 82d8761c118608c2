"""Work of one pod: fetch or inspect a model and its draft, one after the other."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from slipstream_runtime import logs
from slipstream_runtime.fetch import report
from slipstream_runtime.model_files import selection, sources
from slipstream_runtime.model_files.progress import Progress


@dataclasses.dataclass(frozen=True)
class Work:
    """Sources whose files are downloaded, or only inspected."""

    model: str | None
    draft: str | None
    cache: Path
    inspect: bool
    progress: Progress

    def run(self) -> str:
        """Fetch or inspect the sources and return the report; EngineError after a failure."""
        model, draft = self._one(self.model), self._one(self.draft)
        return report.text(model, draft)

    def _one(self, uri: str | None) -> dict[str, Any] | None:
        if uri is None:
            return None
        source = sources.parse(uri)
        if self.inspect and source.remote:
            download = sources.downloader(source, cache=self.cache, token=sources.token())
            sizes, config = download.inspect()
            return report.facts(uri, sizes, config)
        folder = sources.resolve(
            source, cache=self.cache, token=sources.token(), progress=self.progress
        )
        logs.event("complete", uri=uri, folder=str(folder))
        # NB: a checkpoint in Mistral's own format can lack it.
        config = folder / selection.CONFIG
        return report.facts(uri, _sizes(folder), config.read_bytes() if config.is_file() else None)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the files of a folder that an engine would read, with their sizes."""
    found = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for directory, _, names in os.walk(folder)
        for path in (Path(directory, name) for name in names)
        if path.is_file()
    }
    # NB: an index may list files below a linked folder, which the walk skips.
    return {name: (folder / name).stat().st_size for name in sources.wanted(folder, found)}
