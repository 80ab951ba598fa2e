"""Whatever is given to a public function: an answer, or a sentence of acclimate's."""

import inspect

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import acclimate
from acclimate.errors import AcclimateError
from kit import CONTRACT, tiny_classifier

WRONG = st.one_of(
    st.sampled_from(
        [None, True, 3, -1, 2.5, "text", "", b"bytes", object(), len, int, [], [1], ["a"], (), {},
         {"a": 1}, {1}, np.zeros(3), np.zeros((2, 2), np.uint8), [None], [("a", 1)], range(3)]
    ),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip
SETTINGS = {
    "fine_tune": "epochs", "augment": "policy", "clean": "val", "compare": "margin",
    "compress": "goal", "distill": "student", "evaluate": "bootstrap", "export": "check_images",
    "inspect": "estimators", "probe": "regularization", "prune": "ratio", "quantize": "percentile",
    "read_onnx": "classes", "run": "fine_tune", "search": "epochs",
}  # fmt: skip
"""A setting of each function that takes settings."""
UNCHECKED = {"limit_threads", "silent", "__version__", "AcclimateError", "LogProgress"}
"""Take nothing, or are no functions."""


@pytest.fixture(scope="module")
def values(dataset, evaluations, tmp_path_factory):
    """Of the classes whose methods are tried."""
    return {
        "Classifier": tiny_classifier(dataset.classes),
        "Dataset": dataset,
        "Evaluation": evaluations[0],
        "Policy": acclimate.augment(policy="basic"),
        "InputContract": CONTRACT,
        "Context": acclimate.Context(),
        "Comparison": acclimate.compare(*evaluations),
        "Recipe": acclimate.Recipe(),
        "Registry": acclimate.Registry(tmp_path_factory.mktemp("wrong") / "store"),
    }


NAMES = sorted(set(acclimate.__all__) - UNCHECKED)


def functions(name, values):
    """A public function, or the constructor and the public methods of a public class."""
    found = getattr(acclimate, name)
    if not isinstance(found, type):
        return [found]
    members = [found] if name not in ("Recipe", "Registry") else []
    holder = values.get(name, found)
    for part, _ in inspect.getmembers(found, callable):
        known = part in vars(found) and not part.startswith("_")
        if known and (name in values or isinstance(vars(found)[part], classmethod)):
            members.append(getattr(holder, part))
    return members


def arguments(function):
    """Names of the arguments that can be given by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = inspect.signature(function).parameters.values()
    names = [p.name for p in known if p.kind in kinds]
    setting = SETTINGS.get(getattr(function, "__name__", ""))
    return (
        [*names, setting] if setting and "settings" in str(inspect.signature(function)) else names
    )


def call(function, arguments):
    """Calls it; only what acclimate says itself, and Python on missing arguments, is allowed."""
    try:
        function(**arguments)
    except AcclimateError:
        pass
    except TypeError as error:
        if "required" not in str(error):
            raise


@pytest.mark.parametrize("name", NAMES)
def test_an_argument_of_a_wrong_type_is_a_sentence(name, values, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Nothing runs for long: where all arguments are right, there is no such model and no such data.
    base = {"model": "no-such-model", "data": "no-such-data", "images": [], "recipe": {},
            "teacher": "no-such-model", "folder": "no-such-folder", "path": "no-such-file",
            "before": "no-such-folder", "after": "no-such-folder", "trials": 1}  # fmt: skip

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data):
        function = data.draw(st.sampled_from(functions(name, values)))
        known = arguments(function)
        if not known:
            return
        wrong = data.draw(st.sampled_from(known))
        usual = {n: value for n, value in base.items() if n in known}
        call(function, {**usual, wrong: data.draw(WRONG)})

    check()


@pytest.mark.parametrize("name", ["fine_tune", "probe", "evaluate", "prune", "export", "augment"])
def test_data_of_a_wrong_type_is_a_sentence(name, values):
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(WRONG)
    def check(wrong):
        call(getattr(acclimate, name), {"model": values["Classifier"], "data": wrong})

    check()


@pytest.mark.parametrize("name", ["predict", "extract_features"])
def test_images_of_a_wrong_type_are_a_sentence(name, values):
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(WRONG)
    def check(wrong):
        call(getattr(acclimate, name), {"model": values["Classifier"], "images": wrong})

    check()
