"""Reader of an engine's configuration file, which validates it once."""

import json
from pathlib import Path
from typing import TypeVar

import pydantic

from slipstream_runtime.errors import UnsuitableError, one_line
from slipstream_runtime.part import Part

Config = TypeVar("Config", bound=Part)


def load(path: Path, form: type[Config]) -> Config:
    """Read and validate the file; UnsuitableError names the file and every wrong key."""
    try:
        return form.model_validate(json.loads(path.read_text()))
    except OSError as error:
        raise UnsuitableError(f"{path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnsuitableError(f"{path}: is not JSON: {error}") from error
    except pydantic.ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'file'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        )
        raise UnsuitableError(one_line(f"{path}: {wrong}")) from error
