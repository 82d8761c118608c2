"""Reports of finished stages, as one line of JSON in the pod's termination message. Pure."""

import json
from collections.abc import Mapping
from typing import Any, Final

_OPTIONAL: Final = ("datasets", "versions", "facts", "note", "uri")
"""Keys that are left out, in this order, if a report is too long; the record of the stage has them all.

The operator knows the URI of the output from the spec.
"""


def text(report: Mapping[str, Any], *, limit: int) -> str:
    """Return the report within the limit of bytes: with fewer hashes of files first, then without optional parts."""
    kept = dict(report)
    written = _json(kept)
    if "files" in kept:
        files: dict[str, str] = dict(kept["files"])
        while len(written) > limit and files:
            # A file takes at least the 64 digits of its hash.
            excess = max(1, (len(written) - limit) // 200)
            for name in list(files)[-excess:]:
                del files[name]
            kept |= {"files": files, "omitted": len(report["files"]) - len(files)}
            written = _json(kept)
    for key in _OPTIONAL:
        if len(written) > limit and key in kept:
            del kept[key]
            written = _json(kept)
    if len(written) > limit and "metrics" in kept:
        metrics = list(kept["metrics"])
        while len(written) > limit and metrics:
            metrics.pop()
            kept["metrics"] = metrics
            written = _json(kept)
    if len(written) > limit and "reason" in kept:
        # NB: JSON writes a character in at most six bytes.
        kept["reason"] = kept["reason"][: -((len(written) - limit) // 6 + 1)]
        while len(written := _json(kept)) > limit and kept["reason"]:
            kept["reason"] = kept["reason"][:-10]
    return written


def _json(report: Mapping[str, Any]) -> str:
    # NB: ASCII, so that characters are bytes.
    return json.dumps(report, separators=(",", ":"), ensure_ascii=True)
