"""Texts about queries that failed: cause, and the field of the ServingProfile to check."""

import json
from typing import Final

import requests

from slipstream_operator.adapters import vectors
from slipstream_operator.core.prometheus import Server

LENGTH: Final = 500
"""Maximum characters of a text."""
_URL: Final = "Check spec.prometheus.url in the ServingProfile"
_TIMED_OUT: Final = "Read timed out"
_NO_NAME: Final = "NameResolutionError"
_NO_TRUST: Final = "CERTIFICATE_VERIFY_FAILED"


def of_connection(error: requests.RequestException, *, seconds: float) -> str:
    """Return the text about a request without an answer."""
    if isinstance(error, requests.exceptions.SSLError):
        if _NO_TRUST in str(error):
            return (
                "Prometheus did not answer: its certificate is not trusted, has expired or is for another name. Check "
                "caSecret and url of spec.prometheus in the ServingProfile"
            )
        return f"Prometheus did not answer: TLS failed. {_URL}"
    if isinstance(error, requests.TooManyRedirects):
        return (
            "Prometheus did not answer: it redirects to another address, which must not get the Secrets. Set "
            "spec.prometheus.url in the ServingProfile to that address"
        )
    # NB: while an answer is read, a timeout is a ConnectionError.
    if isinstance(error, requests.Timeout) or _TIMED_OUT in str(error):
        return f"Prometheus did not answer within {seconds:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "Prometheus did not answer to the end"
    if _NO_NAME in str(error):
        return f"Prometheus did not answer: the name of its host is not known. {_URL}"
    return f"Prometheus did not answer: {type(error).__name__}. {_URL}"


def of_answer(error: Exception, server: Server) -> str:
    """Return the text about an answer that can't be used."""
    if isinstance(error, vectors.PartialAnswerError):
        # NB: a proxy may repeat the request's headers in its answer.
        said = "" if server.secrets else f": {error}"
        return f"Prometheus answered without a part of the series{said}"[:LENGTH]
    if isinstance(error, json.JSONDecodeError):
        return f"Prometheus gave no valid answer: it is no JSON, as from a login page. {_URL}"
    return f"Prometheus gave no valid answer: {error!r}"[:LENGTH]
