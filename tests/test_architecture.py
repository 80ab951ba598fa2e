"""What keeps the house standing: light start, tables equal to their literals, public names."""

import ast
import json
import os
import subprocess
import sys
import typing
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import acclimate
from acclimate import errors
from acclimate.pipeline.stages import STAGES
from acclimate.recipe import Recipe
from kit import made_once

ROOT = Path(acclimate.__file__).parent
HEAVY = (
    "torch", "torchvision", "timm", "numpy", "pyarrow", "onnx", "onnxruntime", "sklearn", "mlflow",
    "PIL", "pydantic", "rich", "yaml", "optuna",
)  # fmt: skip


LIGHT = [name for name in HEAVY if name not in ("pydantic", "yaml")]
ABSENT = {
    "": HEAVY,
    "cli.main": HEAVY,
    "recipe": LIGHT,
    "pipeline.stages": LIGHT,
    "pipeline.artifacts": LIGHT,
    "settings": LIGHT,
    "files": LIGHT,
    "progress": LIGHT,
    "cleaning.clean": ("torch", "sklearn", "mlflow"),
    "api.inputs": ("mlflow", "sqlalchemy", "sklearn", "lightning_fabric"),
    "fine_tuning.fine_tune": ("mlflow", "sklearn", "matplotlib"),
}
"""Libraries that a module must not import. One process imports all modules in this order."""

START = """
import json, sys
from importlib import import_module

found = {}
for module, absent in json.loads(sys.argv[1]).items():
    import_module(f"acclimate.{module}".rstrip("."))
    found[module] = [name for name in absent if name in sys.modules]
    found.setdefault("rooms", [name for name in sys.modules if name.startswith("acclimate.")])
print(json.dumps(found))

from onnx import TensorProto, helper
from acclimate.models.runtime import open_session

ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
body = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ends[:1], ends[1:])
opset = helper.make_opsetid("", 18)
open_session(
    helper.make_model(body, opset_imports=[opset], ir_version=10).SerializeToString(), "cpu"
)
"""


def _run(code, *arguments, **more):
    """What a new process prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **more).stdout


@pytest.fixture(scope="module")
def started(shared):
    """The home of a process that imported modules and opened an ONNX model, and what it found."""

    def make(folder):
        gone = ("XDG_CACHE_HOME", "CI", "ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY")
        kept = {k: v for k, v in os.environ.items() if k not in (*gone, "DO_NOT_TRACK")}
        home = folder / "home"
        home.mkdir()
        found = _run(START, json.dumps(ABSENT), env={**kept, "HOME": str(home)})
        (folder / "found.json").write_text(found)

    folder = made_once(shared / "started", make)
    return folder / "home", json.loads((folder / "found.json").read_text())


def test_importing_the_package_imports_no_room(started):
    assert started[1]["rooms"] == []


@pytest.mark.parametrize("module", ABSENT)
def test_no_module_imports_a_library_that_it_does_not_need(module, started):
    assert started[1][module] == []


def test_the_registry_waits_for_no_network_library_and_reports_nothing():
    code = (
        "import acclimate.registry.versions, sys; "
        "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled(); "
        "print([m for m in ('torch', 'timm') if m in sys.modules])"
    )
    gone = ("CI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {k: v for k, v in os.environ.items() if k not in gone}
    assert _run(code, env=environment).strip() == "[]"


def test_onnx_runtime_reports_nothing_to_its_makers(started):
    """It leaves an id of the device and a queue of reports in the home of its user."""
    assert not list(started[0].rglob("*onnxruntime*"))


def _modules():
    return sorted(ROOT.rglob("*.py"))


def _name(path):
    """The dotted name of a module."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [name for name in map(_name, _modules()) if not name.endswith("__main__")]
LITERALS = {
    f"{name}:{literal}": typing.get_args(value)
    for name in MODULES
    if name.endswith(".settings")
    for literal, value in vars(import_module(name)).items()
    if literal.endswith("Name") and value.__module__ == "typing"
}
"""The names that a setting takes, such as `OptimizerName`."""


@pytest.fixture(scope="session")
def tables():
    """The names in each table of the package: a dictionary or a tuple in upper case."""
    found = [vars(import_module(name)).items() for name in MODULES]
    values = [
        v for items in found for n, v in items if n.isupper() and isinstance(v, (dict, tuple))
    ]
    return [sorted(value) for value in values if value and all(type(k) is str for k in value)]


@pytest.mark.parametrize("literal", LITERALS)
def test_a_table_holds_what_its_literal_names(tables, literal):
    assert sorted(LITERALS[literal]) in tables


def test_there_are_tables():
    assert len(LITERALS) > 15


def test_every_stage_is_a_function_with_its_own_section():
    sections = Recipe.model_fields
    for stage in STAGES.values():
        assert callable(stage.load())
        assert stage.section in sections


def test_public_names_are_sorted_and_there():
    assert list(acclimate.__all__) == sorted(acclimate.__all__)
    for name in acclimate.__all__:
        assert getattr(acclimate, name) is not None
    assert set(acclimate.__all__) <= set(dir(acclimate))


def test_a_wrong_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'finetune'"):
        acclimate.finetune  # noqa: B018


def test_files_and_functions_can_be_read_without_scrolling():
    assert len(_modules()) > 60
    long = []
    for path in _modules():
        text = path.read_text()
        if text.count("\n") > 400:
            long.append(str(path.relative_to(ROOT)))
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and body[-1].end_lineno - body[0].lineno > 50:
                long.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert long == []


def test_rooms_hold_only_a_docstring_in_their_init():
    for path in ROOT.rglob("*/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def _imports(path):
    """The modules of the package that one imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "acclimate":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def test_every_module_can_be_imported_by_itself():
    """All can be imported, and none needs itself: so no order of imports is wrong."""
    for name in MODULES:
        import_module(name)
    graph = {_name(path): set(_imports(path)) for path in _modules()}
    order = list(TopologicalSorter(graph).static_order())  # refuses a circle
    assert len(order) == len(graph) > 100


def test_every_error_is_raised_somewhere():
    made = {
        node.func.id
        for path in _modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    kinds = {name for name in vars(errors) if name in errors.__doc__.split()}
    assert len(kinds) > 5
    assert kinds - made == set()
