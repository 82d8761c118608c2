"""Cause of a failed transfer, from the chain of exceptions that a library raises.

A message never contains a library's complete text, which may hold a signed URL or a header.
"""

import errno
import re
from collections.abc import Iterator
from typing import Final

_LIMIT: Final = 16
"""Exceptions of a chain that are read, at most; this also ends a cycle."""

_UNTRUSTED: Final = (
    "certificate verify failed{detail}. A company's certificate authority is trusted by SSL_CERT_FILE in "
    "spec.template.env, the path of a file that spec.template.volumes mounts"
)
_CAUSES: Final[tuple[tuple[str, str], ...]] = (
    (r"certificate verify failed(?:: (?P<detail>[a-z0-9 '.,_-]+))?", _UNTRUSTED),
    (r"invalid peer certificate: (?P<detail>\w+)", _UNTRUSTED),
    (r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?(?P<detail>\w+)", _UNTRUSTED),
    (
        r"name or service not known|name resolution|nodename nor servname|no address associated|dns error",
        "its host name can't be resolved (DNS)",
    ),
    (
        r"proxyerror|tunnel (?:error|connection failed)|proxy .*(?:refused|40[37])|unsuccessful tunnel",
        "the proxy of HTTPS_PROXY refused the connection",
    ),
    (r"connection refused|os error 111", "the connection was refused"),
    (r"no space left on device", "the disk is full"),
    (r"disk quota exceeded", "the disk quota is used up"),
    (r"network is unreachable|no route to host", "there is no route to it"),
    (r"timed ?out|timeouterror|timeoutexception|kind: timeout", "it did not answer in time"),
    (
        r"connection reset|broken pipe|incompletemessage|peer closed|server disconnected",
        "the connection broke off",
    ),
)
"""(pattern, cause), in order: the first pattern that matches an exception of the chain gives the cause."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_LOCAL: Final = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EACCES,
    errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
"""Error numbers of the local disk, as opposed to the network."""


def cause(error: BaseException) -> str | None:
    """Return the cause in plain words; None if no exception of the chain shows one."""
    chain = list(_chain(error))
    texts = [f"{type(each).__name__}: {each}" for each in chain]
    for pattern, words in _CAUSES:
        for text in texts:
            if match := re.search(pattern, text, re.IGNORECASE):
                found = match.groupdict().get("detail")
                return words.format(detail=f" ({found.strip()})" if found else "")
    return None


def is_disk(error: BaseException) -> bool:
    """Whether the local disk is full."""
    return any(isinstance(each, OSError) and each.errno in _FULL for each in _chain(error))


def local(error: BaseException) -> str | None:
    """Return the system's message if the local disk refused a file, else None."""
    found = (one for one in _chain(error) if isinstance(one, OSError) and one.errno in _LOCAL)
    return next((one.strerror for one in found), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and its causes, outermost first."""
    following: BaseException | None = error
    for _ in range(_LIMIT):
        if following is None:
            return
        yield following
        following = following.__cause__ or following.__context__
