"""Credentials of object stores, from the mounted Secret of spec.model.credentials.

They are passed to the clients as values, and never appear in a pod spec, an argument or a log.
"""

from pathlib import Path
from typing import Final

from slipstream_runtime import contract

S3_KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_REGION": "region",
    "AWS_ENDPOINT_URL": "endpoint",
}
"""Key of the Secret -> option of the S3 client."""
GS_FILES: Final = ("GOOGLE_APPLICATION_CREDENTIALS", "credentials.json", "key.json")
"""Keys of the Secret that may hold a service account's key file."""


def s3(folder: Path = Path(contract.CREDENTIALS_DIRECTORY)) -> dict[str, str]:
    """Return options of an S3 client from the Secret; the pod's identity or environment gives the others."""
    found = {option: _read(folder / key) for key, option in S3_KEYS.items()}
    return {option: value for option, value in found.items() if value}


def gs(folder: Path = Path(contract.CREDENTIALS_DIRECTORY)) -> dict[str, str]:
    """Return options of a Google Cloud Storage client from the Secret; none leave the pod's identity."""
    for name in GS_FILES:
        if value := _read(folder / name):
            return {"service_account_key": value}
    return {}


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
