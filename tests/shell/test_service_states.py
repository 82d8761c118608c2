"""The state of scaling has one writer: the reconciler and the scaling loop hand it what they decided."""

import ast
from pathlib import Path

from slipstream_operator import shell

FILES = sorted(Path(next(iter(shell.__path__))).glob("*.py"))


def _writes(file: Path, attribute: str) -> list[str]:
    """Functions of the file that assign the attribute of some object."""
    return [
        function.name
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and node.attr == attribute
    ]


def test_only_the_record_of_a_service_replaces_its_state_of_scaling() -> None:
    found = {(file.name, name) for file in FILES for name in _writes(file, "scaling")}
    assert found == {("service_states.py", "record")}


def test_the_scaling_loop_assigns_no_field_of_a_service() -> None:
    file = next(file for file in FILES if file.name == "scaler.py")
    tree = ast.parse(file.read_text())
    targets = [
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
    ]
    assert set(targets) == {"self"}
