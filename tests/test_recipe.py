import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.errors import RecipeError
from acclimate.recipe import SECTIONS, Recipe, validated
from acclimate.settings import one_line

SETTINGS = [(section, key) for section, kind in SECTIONS.items() for key in kind.model_fields]


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def fault(path=None, **arguments):
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, **arguments)
    return str(caught.value)


def test_a_learning_rate_in_scientific_notation_is_a_number(write):
    recipe = Recipe.load(write("fine_tune:\n  learning_rate: 1e-4\n"))
    assert recipe.fine_tune.learning_rate == 1e-4


def test_a_class_called_no_stays_a_word(write):
    recipe = Recipe.load(write("data:\n  leave_out_classes: [no, on, yes, off, y]\n"))
    assert recipe.data.leave_out_classes == ("no", "on", "yes", "off", "y")


def test_a_domain_called_no_stays_a_word(write):
    recipe = Recipe.load(write("data:\n  test_domains: {no: dark}\n"))
    assert list(recipe.data.test_domains) == ["no"]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "~"])
def test_an_empty_recipe_is_the_defaults(write, text):
    assert Recipe.load(write(text)) == Recipe()


def test_a_byte_order_mark_and_windows_lines_are_no_part_of_a_recipe(write):
    recipe = Recipe.load(write("\ufeffname: roses\r\nseed: 3\r\n"))
    assert (recipe.name, recipe.seed) == ("roses", 3)


def test_a_section_set_to_null_is_left_out(write):
    recipe = Recipe.load(write("distill: null\nprune: ~\nquantize:\n"))
    assert (recipe.distill, recipe.prune, recipe.quantize) == (None, None, None)
    assert recipe.fine_tune is not None


def test_all_faults_are_told_at_once_each_with_its_place(write):
    path = write(
        "name: 5\n"
        "seed: x\n"
        "modell: {}\n"
        "fine_tune:\n"
        "  epoch: 3\n"
        "  learning_rate: fast\n"
        "  optimizer: adam\n"
        "  batch_size: 0\n"
        "  warmup: 1\n"
        "distill: {epochs: 1.5, temperature: .inf}\n"
        "augment:\n"
        "  operations: [blur,\n"
        "    rotat]\n"
    )
    operations = "'identity', 'shear_x', 'shear_y', 'translate_x', 'translate_y', 'rotate', "
    operations += "'brightness', 'color', 'contrast', 'sharpness', 'posterize', 'solarize', "
    operations += "'autocontrast', 'equalize', 'invert', 'blur', 'noise' or 'erase'"
    expected = {
        f"{path}:1: name must be a valid string. Got 5.",
        f"{path}:2: seed must be a valid integer, unable to parse string as an integer. Got 'x'.",
        f"{path}:3: modell is not a setting. Did you mean 'model'?",
        f"{path}:5: fine_tune.epoch is not a setting. Did you mean 'epochs'?",
        f"{path}:6: fine_tune.learning_rate must be a valid number, or 'auto' or 'find'."
        " Got 'fast'.",
        f"{path}:7: fine_tune.optimizer must be 'adamw', 'sgd', 'lion', 'muon' or 'schedule_free'."
        " Got 'adam'.",
        f"{path}:8: fine_tune.batch_size must be greater than 0. Got 0.",
        f"{path}:9: fine_tune.warmup must be less than 1. Got 1.",
        f"{path}:10: distill.epochs must be a valid integer, got a number with a fractional part."
        " Got 1.5.",
        f"{path}:10: distill.temperature must be a finite number. Got inf.",
        f"{path}:12: augment.operations.1 must be {operations}. Got 'rotat'.",
    }
    lines = fault(path).splitlines()
    assert set(lines) == expected
    assert len(lines) == len(expected)


def test_a_bad_name_is_told_beside_the_other_faults(write):
    path = write("name: a/b\nseed: x\n")
    text = fault(path)
    assert f"{path}:1: name 'a/b' cannot name a run." in text
    assert f"{path}:2: seed must be a valid integer" in text


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a b", "x" * 65, "rosé", "a\nb"])
def test_a_name_that_is_no_folders_name_is_refused(name):
    with pytest.raises(RecipeError) as caught:
        validated(Recipe, {"name": name}, {}, None)
    assert str(caught.value) == (
        f"name {name!r} cannot name a run. "
        "Use letters, digits, dots, dashes and underscores, 64 at most."
    )


@pytest.mark.parametrize("name", ["a", "roses-v1.2_b", "7", "x" * 64])
def test_a_plain_name_is_taken(name):
    assert validated(Recipe, {"name": name}, {}, None).name == name


def test_a_key_no_setting_resembles_lists_what_there_is(write):
    path = write("registry:\n  colour: red\n")
    assert fault(path) == (
        f"{path}:2: registry.colour is not a setting. Known: "
        "allow_unsigned, key, name, signer, store, tracking_uri."
    )


@pytest.mark.parametrize("line", ["1: 2", "null: 2", "true: {}", "1.5: x"])
def test_a_key_that_is_no_word_is_a_fault_like_any_other(write, line):
    path = write(f"seed: 1\n{line}\n")
    text = fault(path)
    assert text.startswith(f"{path}:2: ")
    assert "is not a setting." in text


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_a_wrong_type_is_told_in_the_users_words(section, key):
    wrong = 5 if key == "test_domains" else {"x": 1}
    with pytest.raises(RecipeError) as caught:
        validated(Recipe, {section: {key: wrong}}, {(section, key): "recipe.yaml:7"}, None)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"recipe.yaml:7: {section}.{key} must be ")
    for word in ("<class", "instance of", "Input", "pydantic", "dictionary", "tuple"):
        assert word not in lines[0]


def test_every_setting_was_tried_with_a_wrong_type():
    assert len(SECTIONS) == 16
    assert len(SETTINGS) == len(set(SETTINGS)) > 60


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_no_section_is_told_in_the_users_words(write, section):
    path = write(f"seed: 1\n{section}: 5\n")
    text = fault(path)
    assert text.startswith(f"{path}:2: {section} must be ")
    assert text.endswith(" Got 5.")
    assert "instance of" not in text


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: &x 1\nb: *x\n", 1, "anchors, aliases and tags are not allowed."),
        ("name: x\nb: *x\n", 2, "anchors, aliases and tags are not allowed."),
        ("name: x\nseed: !!int '3'\n", 2, "anchors, aliases and tags are not allowed."),
        ("name: !!python/name:os.system\n", 1, "anchors, aliases and tags are not allowed."),
        ("seed: 1\nname: x\nseed: 2\n", 3, "seed is set twice."),
        ("fine_tune:\n  epochs: 3\n  epochs: 4\n", 3, "fine_tune.epochs is set twice."),
        ("fine_tune: {epochs: 3, epochs: 4}\n", 1, "fine_tune.epochs is set twice."),
        ("seed: 1\nfine_tune: {epochs: [1\n", 3, "not valid YAML ("),
        ("seed: 1\n  name: x\n", 2, "not valid YAML ("),
        ("seed: 1\n---\nseed: 2\n", 2, "not valid YAML ("),
        ("seed: 1\n? [a]\n: 2\n", 2, "not valid YAML ("),
        ("seed: 1\n\tname: x\n", 2, "not valid YAML ("),
    ],
)
def test_what_a_recipe_does_not_need_is_refused_at_its_line(write, text, line, message):
    path = write(text)
    assert fault(path).startswith(f"{path}:{line}: {message}")


@pytest.mark.parametrize("text", ["- 1\n", "roses\n", "5\n"])
def test_what_is_no_mapping_is_no_recipe(write, text):
    path = write(text)
    assert fault(path) == f"{path}: a recipe is a mapping (key: value)."


@pytest.mark.parametrize(
    "content",
    [
        b"\x01",
        b"name: \xff\xfe",
        b"seed: " + b"9" * 5000,
        b"x: " + b"[" * 2_000,
        b"# " + b"x" * (1 << 20),
    ],
    ids=["control character", "not UTF-8", "endless number", "endless nesting", "too large"],
)
def test_hostile_bytes_are_refused_with_the_files_name(write, content):
    path = write(content)
    assert fault(path).startswith(f"{path}:")


def test_a_strangers_recipe_cannot_keep_the_reader_busy(write):
    path = write("x: " + "[" * 50_000)
    code = "import pathlib, sys; from acclimate.recipe import Recipe; "
    code += "Recipe.load(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=8,
        check=False,
    )
    assert done.stderr.splitlines()[-1].startswith(f"acclimate.errors.RecipeError: {path}:")


def test_a_missing_recipe_is_told(tmp_path):
    assert fault(tmp_path / "no.yaml") == f"{tmp_path / 'no.yaml'}: no such recipe."


def test_a_folder_is_no_recipe(tmp_path):
    assert fault(tmp_path) == f"{tmp_path}: recipe cannot be read as text."


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60) | st.text(st.sampled_from("ab:-[]{}!&*?|>'\"#%@` \n\t1.~"), max_size=40)
)
def test_no_bytes_end_in_anything_but_a_recipe_or_a_fault(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        Recipe.load(path)
    except RecipeError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - either answer is right


def test_paths_start_from_the_recipes_own_folder(write, tmp_path):
    recipe = Recipe.load(
        write(
            "data:\n"
            "  path: photos\n"
            "  test_domains: {night: ../night, far: /srv/far}\n"
            "model: {weights: w.safetensors}\n"
            "registry: {store: store, key: keys/me.pem}\n"
        )
    )
    assert recipe.data.path == tmp_path / "photos"
    assert recipe.data.test_domains == {"night": tmp_path / "../night", "far": Path("/srv/far")}
    assert recipe.model.weights == tmp_path / "w.safetensors"
    assert recipe.registry.store == tmp_path / "store"
    assert recipe.registry.key == tmp_path / "keys/me.pem"


@pytest.mark.parametrize(("section", "key"), [("model", "name"), ("distill", "student")])
def test_a_models_folder_starts_from_the_recipes_own_folder_too(write, tmp_path, section, key):
    (tmp_path / "mine.model").mkdir()
    recipe = Recipe.load(write(f"{section}: {{{key}: ./mine.model}}\n"))
    assert Path(getattr(getattr(recipe, section), key)) == tmp_path / "mine.model"


@pytest.mark.parametrize(("section", "key"), [("distill", "teachers"), ("inspect", "extra_models")])
def test_folders_in_a_list_of_models_start_from_there_as_well(write, tmp_path, section, key):
    names = "./mine.model, ../far.onnx, efficientnet-lite1, models:leaf@champion"
    recipe = Recipe.load(write(f"{section}: {{{key}: [{names}]}}\n"))
    mine, far, *named = getattr(getattr(recipe, section), key)
    assert (Path(mine), Path(far)) == (tmp_path / "mine.model", tmp_path / "../far.onnx")
    assert named == ["efficientnet-lite1", "models:leaf@champion"]


def test_a_models_name_is_no_path(write):
    recipe = Recipe.load(write("model: {name: efficientnet-lite1}\n"))
    assert recipe.model.name == "efficientnet-lite1"


def test_an_assigned_path_starts_from_where_the_command_runs(write):
    recipe = Recipe.load(write("data: {path: photos}\n"), assignments=["data.path=other"])
    assert recipe.data.path == Path("other")


def test_assignments_win_over_the_file_and_the_last_one_wins(write):
    path = write("seed: 1\nfine_tune: {epochs: 3, optimizer: sgd}\n")
    recipe = Recipe.load(
        path, assignments=["fine_tune.epochs=5", "seed=2", "seed=3", "prune.ratio=1e-1"]
    )
    assert recipe.seed == 3
    assert (recipe.fine_tune.epochs, recipe.fine_tune.optimizer) == (5, "sgd")
    assert recipe.prune.ratio == 0.1


@pytest.mark.parametrize(
    ("text", "section", "found"),
    [
        ("fine_tune.epochs=5", None, 5),
        ("fine-tune.epochs=5", None, 5),
        ("epochs=5", "fine_tune", 5),
        ("fine_tune.epochs=5", "fine_tune", 5),
        ("fine_tune.epochs=auto", None, "auto"),
        (" fine_tune.epochs = 5", None, 5),
    ],
)
def test_an_assignment_finds_its_setting(text, section, found):
    recipe = Recipe.load(assignments=[text], section=section)
    assert recipe.fine_tune.epochs == found


def test_an_assignment_takes_a_whole_yaml_value():
    recipe = Recipe.load(
        assignments=[
            "data.leave_out_classes=[no, 'a b', \"7\"]",
            "probe.regularization=[1e-2, 1]",
            "distill=null",
            "prune={ratio: 0.5}",
            "data.path=a=b",
        ]
    )
    assert recipe.data.leave_out_classes == ("no", "a b", "7")
    assert recipe.probe.regularization == (0.01, 1.0)
    assert recipe.distill is None
    assert recipe.prune.ratio == 0.5
    assert recipe.data.path == Path("a=b")


def test_an_assignment_brings_back_a_section_that_was_left_out(write):
    recipe = Recipe.load(write("distill: null\n"), assignments=["distill.epochs=2"])
    assert recipe.distill.epochs == 2


def test_a_domains_name_keeps_its_dashes():
    recipe = Recipe.load(assignments=["data.test_domains.night-shift=photos"])
    assert recipe.data.test_domains == {"night-shift": Path("photos")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fine_tune.epochs",
            "--set: 'fine_tune.epochs' is not key=value. Example: --set fine_tune.epochs=5.",
        ),
        ("=3", "--set: '=3' is not key=value. Example: --set fine_tune.epochs=5."),
        ("seed=[1", "--set seed: value '[1' is not valid YAML."),
        (
            "fine_tune.epoch=3",
            "--set fine_tune.epoch: fine_tune.epoch is not a setting. Did you mean 'epochs'?",
        ),
        (
            "finetune.epochs=3",
            "--set finetune.epochs: finetune is not a setting. Did you mean 'fine_tune'?",
        ),
        (
            "fine-tune.epochs=many",
            "--set fine-tune.epochs: fine_tune.epochs must be a valid integer, or 'auto'."
            " Got 'many'.",
        ),
    ],
)
def test_a_wrong_assignment_is_told(text, message):
    told = fault(assignments=[text])
    assert told == message


def test_an_endless_number_in_an_assignment_is_a_fault():
    assert fault(assignments=["seed=" + "9" * 5000]).startswith("--set seed: ")


def test_faults_of_the_file_and_of_assignments_are_told_together(write):
    path = write("sed: 1\n")
    lines = fault(path, assignments=["prune.ratio=2", "fine_tune.epoch=3"]).splitlines()
    assert sorted(lines) == sorted(
        [
            f"{path}:1: sed is not a setting. Did you mean 'seed'?",
            "--set prune.ratio: prune.ratio must be less than or equal to 0.9. Got 2.",
            "--set fine_tune.epoch: fine_tune.epoch is not a setting. Did you mean 'epochs'?",
        ]
    )


def test_the_written_recipe_says_what_every_setting_means():
    text = Recipe().to_yaml() + Recipe(distill={}, prune={}, quantize={}).to_yaml()
    for section, kind in SECTIONS.items():
        assert f"\n{section}:\n" in text
        for name, field in kind.model_fields.items():
            assert re.search(
                rf"^  {name}: .*  # {re.escape(one_line(field.description))}$", text, re.MULTILINE
            ), f"{section}.{name}"


def test_the_default_recipe_comes_back_from_its_yaml(write):
    text = Recipe().to_yaml()
    again = Recipe.load(write(text))
    assert again.to_yaml() == text
    assert again == Recipe.load(
        assignments=[f"registry.store={Path('acclimate-store').absolute()}"]
    )


def test_a_written_recipe_can_be_read_from_another_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = Recipe.load(assignments=["data.path=photos", "data.test_domains={a: n}"]).to_yaml()
    elsewhere = tmp_path / "runs" / "roses"
    elsewhere.mkdir(parents=True)
    (elsewhere / "recipe.yaml").write_text(text)
    recipe = Recipe.load(elsewhere / "recipe.yaml")
    assert recipe.data.path == tmp_path / "photos"
    assert recipe.data.test_domains == {"a": tmp_path / "n"}


ODD_WORDS = (
    "no", "True", "~", "null", "1e-4", "0x1", "7", ".5", ".inf", ".NaN", "-", "?", "=", "<<",
    "a: b", "- a", "# a", "a #b", " a ", "'a'", '"a"', "a\\b", "a\\", "{a}", "[a", "a,b",
    "&a", "*a", "!a", "%a", "@a", "`a", "|", ">", "a\nb", "a\tb", "a\x07b", "a\x85b", "a\u2028b",
    "\ufeffa", "Gänseblümchen", "向日葵", "🌼", "e\u0301",
)  # fmt: skip


def test_any_class_name_comes_back_from_the_written_recipe(write):
    lost = []
    for word in ODD_WORDS:
        text = Recipe(data={"leave_out_classes": [word]}).to_yaml()
        section = text[text.index("data:\n") : text.index("\n\n# Which images are left out")]
        try:
            found = Recipe.load(write(section)).data.leave_out_classes
        except RecipeError:
            found = None
        if found != (word,):
            lost.append(word)
    assert lost == []


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@settings(max_examples=50, deadline=None)
@given(
    name=NAMES,
    seed=st.integers(),
    classes=st.lists(WORDS, max_size=3),
    domains=st.dictionaries(WORDS, WORDS, max_size=2),
    rate=st.floats(min_value=1e-12, max_value=1e12) | st.just("auto"),
    flip=st.booleans(),
    left_out=st.sets(st.sampled_from(["fine_tune", "distill", "prune", "quantize", "registry"])),
)
def test_any_recipe_comes_back_from_its_yaml(
    tmp_path_factory, name, seed, classes, domains, rate, flip, left_out
):
    folder = tmp_path_factory.getbasetemp()
    values = {
        "name": name,
        "seed": seed,
        "data": {
            "path": folder / "photos",
            "leave_out_classes": classes,
            "test_domains": {key: folder / "domains" / word for key, word in domains.items()},
        },
        "augment": {"horizontal_flip": flip},
        "fine_tune": {"learning_rate": rate},
        "registry": {"store": folder / "store"},
        **dict.fromkeys(left_out),
    }
    recipe = Recipe(**values)
    path = folder / "round-trip.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.load(path) == recipe


def test_a_wrong_word_is_answered_with_all_that_there_are(write):
    path = write("fine_tune:\n  schedule: cos\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert str(caught.value) == (
        f"{path}:2: fine_tune.schedule must be 'cosine', 'linear', 'one_cycle', 'constant' or "
        "'auto'. Got 'cos'."
    )


def test_a_limit_holds_for_every_training_that_is_on():
    given = ["prune={}", "quantize={}", "fine_tune.max_minutes=9"]
    recipe = Recipe.load(assignments=given)
    short = recipe.limited(epochs=3)
    assert [short.fine_tune.epochs, short.prune.epochs, short.quantize.epochs] == [3, 3, 3]
    assert short.fine_tune.max_minutes is None
    assert short.distill is None
    timed = recipe.limited(max_minutes=16)
    found = [timed.fine_tune.max_minutes, timed.prune.max_minutes, timed.quantize.max_minutes]
    assert found == [10, 4, 2]
    assert recipe.limited() == recipe
    with pytest.raises(RecipeError, match="epochs and max_minutes are both set"):
        recipe.limited(epochs=3, max_minutes=16)
