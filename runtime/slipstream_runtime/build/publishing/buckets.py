"""Artifacts in S3 and Google Cloud Storage. config.json and the manifest are uploaded last."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import obstore

from slipstream_runtime import contract
from slipstream_runtime.build import manifest
from slipstream_runtime.build.manifest import Manifest
from slipstream_runtime.build.publishing import place
from slipstream_runtime.errors import EngineError, UnsuitableError
from slipstream_runtime.model_files import buckets

_MARK: Final = ".slipstream-build.part"
"""Object that a build uploads first and deletes last. Its content is the build's identity."""
_PART_BYTES: Final = 32 << 20
"""Bytes of one part of a large object. S3 allows 10,000 parts."""


@dataclass(frozen=True)
class Bucket:
    """Prefix of a bucket."""

    uri: str
    scheme: str
    bucket: str
    prefix: str
    owner: str
    """Identity of the build."""

    def existing(self) -> Manifest | None:
        """Return the manifest below the prefix, after a check that it holds no object of another owner."""
        try:
            return self._existing()
        except EngineError:
            raise
        except Exception as error:
            raise self._explained(error) from error

    def write(self, folder: Path, made: Manifest, count: place.Count) -> place.Published:
        """Upload the artifact."""
        try:
            store = buckets.store_of(self.scheme, self.bucket)
            obstore.put(store, self._key(_MARK), self.owner.encode())
            for name in place.files(made):
                obstore.put(store, self._key(name), folder / name, chunk_size=_PART_BYTES)
                count(made.files[name].bytes)
            obstore.put(store, self._key(contract.BUILD_MANIFEST), made.text().encode())
            obstore.delete(store, self._key(_MARK))
        except EngineError:
            raise
        except Exception as error:
            raise self._explained(error) from error
        return self.published()

    def published(self) -> place.Published:
        """Return the address."""
        return place.Published(self.uri)

    def _existing(self) -> Manifest | None:
        store = buckets.store_of(self.scheme, self.bucket)
        names = {
            entry["path"].removeprefix(f"{self.prefix}/")
            for batch in obstore.list(store, prefix=self.prefix or None)
            for entry in batch
        }
        if contract.BUILD_MANIFEST in names:
            # NB: a build that was killed after the manifest left its mark.
            if self._owner(store, names) == self.owner:
                obstore.delete(store, self._key(_MARK))
            content = obstore.get(store, self._key(contract.BUILD_MANIFEST)).bytes()
            return manifest.parse(bytes(content), place=self.uri)
        if not names:
            return None
        if self._owner(store, names) != self.owner:
            raise UnsuitableError(
                f'spec.output: "{self.uri}" can\'t work because it holds objects that this build did not write, such '
                f"as {min(names)[:200]}. Use an empty prefix."
            )
        return None

    def _owner(self, store: "obstore.store.ObjectStore", names: Collection[str]) -> str | None:
        """Return the build that has begun to write here."""
        if _MARK not in names:
            return None
        return bytes(obstore.get(store, self._key(_MARK)).bytes()).decode(errors="replace")

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _explained(self, error: Exception) -> EngineError:
        text = buckets.explain(error, uri=self.uri, bucket=self.bucket)
        return EngineError(
            f"spec.output: {text.replace('listing and reading', 'listing, reading and writing')}"
        )
