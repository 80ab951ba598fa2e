"""What keeps the house standing: light start, tables equal to their literals, public names."""

import ast
import os
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import pytest

import acclimate
from acclimate.pipeline.stages import STAGES, find
from acclimate.recipe import Recipe

ROOT = Path(acclimate.__file__).parent
HEAVY = (
    "torch", "torchvision", "timm", "numpy", "pyarrow", "onnx", "onnxruntime", "sklearn", "mlflow",
    "PIL", "pydantic", "rich", "yaml", "optuna",
)  # fmt: skip


def imported_by(module, names):
    """Which of the names are there once a module of ours is, as a printed list."""
    code = f"import acclimate.{module}, sys; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_command_starts_without_anything_heavy():
    assert imported_by("cli.main", HEAVY) == "[]"


def test_importing_the_package_imports_no_room():
    code = (
        "import acclimate, sys; print(sorted(m for m in sys.modules if m.startswith('acclimate.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_library_reports_to_its_makers(tmp_path):
    """ONNX Runtime leaves an id of the device and a queue of reports in the home of its user."""
    code = (
        "import torch; from acclimate.models.onnx.export import graph_of; "
        "from acclimate.models.runtime import open_session; "
        "open_session(graph_of(torch.nn.Conv2d(3, 2, 1), 4, 'logits'), 'cpu'); "
        "from mlflow.telemetry.utils import is_telemetry_disabled; "
        "import acclimate.registry.versions; assert is_telemetry_disabled()"
    )
    gone = ("XDG_CACHE_HOME", "CI", "ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY")
    kept = {k: v for k, v in os.environ.items() if k not in (*gone, "DO_NOT_TRACK")}
    subprocess.run([sys.executable, "-c", code], env={**kept, "HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*onnxruntime*"))


@pytest.mark.parametrize(
    "module", ["recipe", "pipeline.stages", "pipeline.artifacts", "settings", "files", "progress"]
)
def test_light_modules_import_nothing_heavy(module):
    heavy = [name for name in HEAVY if name not in ("pydantic", "yaml")]
    assert imported_by(module, heavy) == "[]"


@pytest.mark.parametrize(
    ("module", "heavy"),
    {
        "cleaning.clean": ["torch", "sklearn", "mlflow"],
        "registry.versions": ["torch", "timm"],
        "api.inputs": ["mlflow", "sqlalchemy", "sklearn", "lightning_fabric"],
        "fine_tuning.fine_tune": ["mlflow", "sklearn", "matplotlib"],
    }.items(),
)
def test_no_command_waits_for_a_library_it_does_not_use(module, heavy):
    assert imported_by(module, heavy) == "[]"


TABLES = {
    "acclimate.cleaning.clean:CHECKS": "acclimate.cleaning.settings:CheckName",
    "acclimate.inspection.inspect:INSPECTIONS": "acclimate.inspection.settings:InspectionName",
    "acclimate.inspection.label_errors:ESTIMATORS": "acclimate.inspection.settings:EstimatorName",
    "acclimate.augmentation.operations:OPERATIONS": "acclimate.augmentation.settings:OperationName",
    "acclimate.augmentation.policy:POLICIES": "acclimate.augmentation.settings:PolicyName",
    "acclimate.models.runtime:RUNTIMES": "acclimate.models.settings:RuntimeName",
    "acclimate.evaluation.metrics:METRICS": "acclimate.evaluation.settings:MetricName",
    "acclimate.training.optim.weight_averaging:AVERAGES": (
        "acclimate.training.settings:AveragingName"
    ),
    "acclimate.training.optim.losses:LOSSES": "acclimate.fine_tuning.settings:LossName",
    "acclimate.distillation.methods:DISTILLATIONS": (
        "acclimate.distillation.settings:DistillationName"
    ),
    "acclimate.training.optim.optimizers:OPTIMIZERS": "acclimate.training.settings:OptimizerName",
    "acclimate.models.heads:HEADS": "acclimate.fine_tuning.settings:HeadName",
    "acclimate.fine_tuning.trainable_layers:TRAINABLE": (
        "acclimate.fine_tuning.settings:TrainableName"
    ),
    "acclimate.training.optim.schedules:SCHEDULES": "acclimate.training.settings:ScheduleName",
    "acclimate.compression.prune:PRUNERS": "acclimate.compression.settings:PrunerName",
    "acclimate.compression.importance:IMPORTANCES": "acclimate.compression.settings:ImportanceName",
    "acclimate.compression.quantize:QUANTIZERS": "acclimate.compression.settings:QuantizerName",
    "acclimate.registry.signing:SIGNERS": "acclimate.registry.settings:SignerName",
}


@pytest.mark.parametrize(("table", "literal"), TABLES.items())
def test_a_table_holds_what_its_literal_names(table, literal):
    assert sorted(find(table)) == sorted(typing.get_args(find(literal)))


def test_every_stage_is_a_function_with_its_own_section():
    sections = Recipe.model_fields
    for stage in STAGES.values():
        assert callable(stage.load())
        assert stage.section in sections
        default = getattr(Recipe(), stage.section)
        assert type(default) is find(stage.settings)


def test_public_names_are_sorted_and_there():
    assert list(acclimate.__all__) == sorted(acclimate.__all__)
    for name in acclimate.__all__:
        assert getattr(acclimate, name) is not None
    assert set(acclimate.__all__) <= set(dir(acclimate))


def test_a_wrong_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'finetune'"):
        acclimate.finetune  # noqa: B018


def _modules():
    return sorted(ROOT.rglob("*.py"))


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
    for path in ROOT.glob("*/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_every_module_can_be_imported_by_itself():
    for path in ROOT.glob("*.py"):
        if path.stem not in ("__main__",):
            import_module("acclimate" if path.stem == "__init__" else f"acclimate.{path.stem}")
