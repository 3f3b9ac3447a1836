"""The plan of the house: every module lives in a room, imports go one way, and whatever is added is one new file."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import models
import pipeline.data
import pipeline.devices
import pipeline.targets
from pipeline.core.dataset import DatasetSource
from pipeline.core.device import Device
from pipeline.core.spec import ModelSpec, Network
from pipeline.core.target import Target
from pipeline.targets import targets
from tests.conftest import ROOT

FLOORS = """
core
tflite heads weights data models calib
rewrites drivers
quantize
compilers
targets devices
convert train measure report predict check gate bundle
api
cli
"""
"""A room may import from itself, from its own floor where BESIDE says so, and from every floor above its line."""
BESIDE = {
    "verbs": ("convert", "train", "measure", "report", "predict", "check", "gate", "bundle"),
    "mask": ("tflite", "heads"),
    "files": ("weights", "models"),
}
"""Rooms of one floor that may import from each other: what lies in them still forms no circle."""
OUTSIDE = ("models", "calib")
"""Rooms that lie beside pipeline/."""


def floor_of(room):
    (floor,) = (n for n, rooms in enumerate(FLOORS.split("\n")) if room in rooms.split())
    return floor


def room_of(file):
    """'pipeline/core/run.py' → 'core', 'models/blocks.py' → 'models', 'cli.py' → 'entry'."""
    parts = file.relative_to(ROOT).parts
    return "entry" if parts == ("cli.py",) else parts[0] if parts[0] in OUTSIDE else parts[1]


def sources():
    house = [f for d in ("pipeline", *OUTSIDE) for f in (ROOT / d).rglob("*.py")]
    return [ROOT / "cli.py", *(f for f in house if f != ROOT / "pipeline" / "__init__.py")]


def for_types_alone(tree):
    """What lies under ``if TYPE_CHECKING``: names that annotations need and no run imports."""
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }


def imported_files(file, only_at_the_top=False):
    """The files of this project that a file imports, those inside its functions included."""
    tree = ast.parse(file.read_text())
    skipped = for_types_alone(tree)
    for node in tree.body if only_at_the_top else ast.walk(tree):
        names = []
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports in full"
            names = [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        for name in names:
            module = file_of(name) or file_of(name.rpartition(".")[0])
            if module:
                yield module


def file_of(name):
    path = ROOT / name.replace(".", "/")
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if name and f.is_file()), None)


def may_import(here, other):
    if here == other:
        return True
    if any(here in rooms and other in rooms for rooms in BESIDE.values()):
        return True
    return floor_of(other) < floor_of(here)


def wrong_arrows(files):
    return sorted(
        f"{file.relative_to(ROOT)} imports {imported.relative_to(ROOT)}"
        for file in files
        if room_of(file) != "entry"
        for imported in set(imported_files(file))
        if room_of(imported) == "entry" or not may_import(room_of(file), room_of(imported))
    )


def test_every_folder_is_a_room():
    rooms = {room_of(f) for f in sources()} - {"entry"}
    assert rooms == set(FLOORS.split()), "name a new room in FLOORS, on the floor where it lies"


def test_imports_go_one_way():
    assert not wrong_arrows(sources())


def test_a_wrong_arrow_is_seen(monkeypatch, tmp_path):
    """The test above can fail: a noun that imports a verb, at the top or inside a function."""
    for place in ("pipeline/core/wrong.py", "pipeline/tflite/wrong.py", "models/wrong.py"):
        for text in ("from pipeline.measure import bench", "def f():\n    import pipeline.cli.options as o"):
            monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
            for name in ("pipeline/measure/bench.py", "pipeline/cli/options.py", place):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text if name == place else "")
            assert len(wrong_arrows([tmp_path / place])) == 1


def test_nothing_imports_in_a_circle():
    """Also inside a room and on a floor whose rooms import from each other."""
    arrows = {f: {g for g in imported_files(f, only_at_the_top=True) if g != f} for f in sources()}
    checked = set()

    def visit(file, way):
        assert file not in way, " → ".join(str(f.relative_to(ROOT)) for f in [*way[way.index(file) :], file])
        if file not in checked:
            for other in sorted(arrows.get(file, ())):
                visit(other, [*way, file])
            checked.add(file)

    for file in arrows:
        visit(file, [])


@pytest.mark.parametrize(("room", "noun"), [("targets", Target), ("devices", Device)])
def test_only_targets_and_devices_live_in_their_rooms(room, noun):
    package = importlib.import_module(f"pipeline.{room}")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        assert any(isinstance(value, noun) for value in vars(module).values()), f"{module.__name__} registers none"


def test_nouns_have_no_algorithms():
    """What lies in core loads neither a framework nor the reader of .tflite files."""
    script = (
        "import pkgutil, importlib, sys, pipeline.core as core\n"
        "[importlib.import_module(f'pipeline.core.{m.name}') for m in pkgutil.iter_modules(core.__path__)]\n"
        "print([n for n in ('tensorflow', 'tf_keras', 'ai_edge_litert', 'flatbuffers') if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_file_outgrows_its_subject():
    assert len((ROOT / "cli.py").read_text().splitlines()) <= 60
    assert not [str(f) for f in sources() if f.stem in ("utils", "helpers", "misc", "common")]


NO_TESTS = {"support", "torture", "fuzz"}
"""Folders of tests/ that pytest finds nothing in: what tests share, what `make torture` runs, and mutated files."""


def test_the_tests_mirror_the_house():
    assert not {f.parent.name for f in (ROOT / "tests").glob("*/*.py")} - {*FLOORS.split(), *NO_TESTS}
    assert not [
        str(f)
        for f in (ROOT / "tests").glob("*/*.py")
        if (f.stem[:4] == "test") == (f.parent.name in NO_TESTS) and f.stem != "__init__"
    ]


HEAVY = ("tensorflow", "tf_keras", "numpy", "ai_edge_litert")


def test_help_loads_nothing_heavy_and_knows_every_command():
    """Each command is a file of pipeline/cli that is loaded when it is called; --help has their first lines without."""
    from pipeline.cli import COMMANDS, main

    script = f"""
import sys
from click.testing import CliRunner
from cli import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
print([n for n in {HEAVY} if n in sys.modules], [n for n in sys.modules if n.startswith("pipeline.cli.")])
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = [f"pipeline.cli.{name}" for name in ("streams", "substitute", "screen", "group", "options")]
    assert result.stdout.strip() == f"[] {loaded}"
    for name, line in COMMANDS.items():
        command = main.get_command(None, name)
        assert command.name == name and inspect.cleandoc(command.help or "").partition("\n")[0] == line
    files = {f.stem.removesuffix("_") for f in (ROOT / "pipeline" / "cli").glob("*.py") if f.stem != "__init__"}
    shared = {"options", "resolve", "configuration", "completion", "screen", "streams", "bars", "substitute"}
    assert files - {*shared, "bad_images", "given", "group", "workers"} == set(COMMANDS)


REGISTRIES = ((models, Network), (pipeline.targets, Target), (pipeline.devices, Device), (pipeline.data, DatasetSource))
DEFAULTS = {"cpu", "host", "fast-scnn", "synthetic"}
"""What is taken where nobody says otherwise, and what everything is compared with: LiteRT on this machine's CPU."""
OTHER_MEANINGS = {
    "gpu": {"pipeline/devices/host_gpu.py", "pipeline/drivers/litert_worker.py", "pipeline/targets/gpu_delegate.py"},
    "ssh": {"pipeline/drivers/openssh.py", "pipeline/compilers/elsewhere.py"},
    "web": {"pipeline/compilers/browser.py"},
    "openvino": {"pipeline/compilers/openvino_ir.py"},
    "nnapi": {"pipeline/devices/android.py"},
    "android": {"pipeline/drivers/survey.py", *(f"pipeline/targets/{name}.py" for name in ("cpu", "gpu", "nnapi"))},
    "folder": {"pipeline/cli/calibrate.py", "pipeline/cli/options.py", "pipeline/cli/qat.py"},
    "openvino-ir": {"pipeline/devices/host_openvino.py"},
}
"""A registered name that stands elsewhere: a program, a package, a folder, a key, a word that people say for several
targets; or what a device says it runs."""


def words_of(file):
    return {
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_no_module_knows_what_another_registers():
    """A list of names somewhere is what a new file would have to be entered in."""
    home: dict[str, set[str]] = {}
    for package, noun in REGISTRIES:
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            for value in vars(module).values():
                if isinstance(value, noun):
                    home.setdefault(value.name, set()).add(str(Path(module.__file__).relative_to(ROOT)))
    assert set(home) >= DEFAULTS | set(OTHER_MEANINGS) | {"edgetpu", "fcn8", "unet", "camvid", "nnapi"}
    meanings: dict[str, set[str]] = {}
    for file in sources():
        here = str(file.relative_to(ROOT))
        for word in words_of(file) & set(home) - DEFAULTS:
            if here not in home[word]:
                meanings.setdefault(word, set()).add(here)
    assert meanings == OTHER_MEANINGS


def test_no_module_knows_a_layer_s_name():
    layers = set()
    for name in models.networks():
        spec = ModelSpec(name, *models.network(name).min_size, 3, alpha=0.02)
        layers |= {layer.name for layer in models.build(spec).layers}
    knowing = {
        str(file.relative_to(ROOT)): words
        for file in sources()
        if file.parent.name != "models" and (words := words_of(file) & layers - {"image"})  # every network's input
    }
    assert {"logits_resize", "head_logits", "up4_concat"} <= layers and knowing == {}


MOST_FILE_LINES, MOST_LINES, MOST_PARAMETERS = 400, 60, 7
REASON = re.compile(r"# long: \S.{5,}")
"""What a longer one carries: a file in its first five lines, a function above or in its head."""


def is_command(function):
    """A command has a parameter for each of its options."""
    return any(ast.unparse(decorator) == "click.command()" for decorator in function.decorator_list)


def too_long(text):
    """{what: (whether it is beyond the house's size, whether it gives a reason)} of a file and its functions."""
    lines = text.splitlines()
    verdicts = {"the file": (len(lines) > MOST_FILE_LINES, bool(REASON.search("\n".join(lines[:5]))))}
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        all_of = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        names = [parameter.arg for parameter in (*all_of, node.args.vararg, node.args.kwarg) if parameter is not None]
        parameters = 0 if is_command(node) else len(names) - (names[:1] in (["self"], ["cls"]))
        beyond = node.end_lineno - node.lineno + 1 > MOST_LINES or parameters > MOST_PARAMETERS
        head = "\n".join(lines[max(0, node.lineno - 2) : node.body[0].lineno - 1]) or lines[node.lineno - 1]
        verdicts[f"{node.name} (line {node.lineno})"] = beyond, bool(REASON.search(head))
    return verdicts


def test_files_and_functions_are_short_or_say_why_not():
    """400 lines, 60 lines and 7 parameters; ``# long: reason`` lifts it for one, and stands only where it is needed."""
    wrong = []
    for file in sources():
        for what, (beyond, reasoned) in too_long(file.read_text()).items():
            if beyond != reasoned:
                wrong.append(
                    f"{file.relative_to(ROOT)}: {what} {'is too long' if beyond else 'is marked long in vain'}"
                )
    assert not wrong, "\n".join(wrong)


def test_what_is_too_long_is_seen():
    def of(text):
        return [verdict for name, verdict in too_long(text).items() if name != "the file"]

    body = "    pass\n"
    assert of("def f(a, b, c, d, e, f, g):\n" + 59 * body) == [(False, False)]
    assert of("def f(a):\n" + 60 * body) == [(True, False)]
    assert of("async def f(a, b, c, d, e, f, *g, **h):\n" + body) == [(True, False)]
    assert of("class C:\n  def f(self, a, b, c, d, e, f, *, g):\n" + body) == [(False, False)]
    assert of("def f(a, b, c, d, e, f, g, h):  # long: because of that\n" + body) == [(True, True)]
    assert of("# long: because of that\ndef f(a):\n" + 60 * body) == [(True, True)]
    assert of("def f(  # long: because of that\n    a,\n):\n" + 60 * body) == [(True, True)]
    assert of("def f(a):\n    # long: because of that\n" + 60 * body) == [(True, True)]
    assert of("def f(a):  # long:\n" + 60 * body) == [(True, False)]
    assert of("@click.command()\ndef f(a, b, c, d, e, f, g, h):\n" + body) == [(False, False)]
    assert too_long("x = 1\n" * 401)["the file"] == (True, False)
    assert too_long("# long: because of that\n" + "x = 1\n" * 400)["the file"] == (True, True)


NEW_FILES = {
    "models/two_layers.py": """
import tf_keras
from models.blocks import Blocks
from pipeline.core.spec import Network

def build(spec):
    b = Blocks(spec)
    image = tf_keras.layers.Input((spec.height, spec.width, 3), name="photograph")
    x = b.conv(image, spec.num_classes, 1, 4, norm=False, relu=False, bias=True, scaled=False, name="guess_all")
    return tf_keras.Model(image, b.resize(x, spec.height, spec.width, name="zoom"))

NEW = Network("two-layers", "Two layers", "nowhere", build, (1, 1), logits_stride=4, stages={"guess": "a wild guess"})
""",
    "pipeline/targets/toaster.py": """
import shutil
from pipeline.core.target import CompileResult, Target

def toast(artifact):
    made = artifact.with_name(artifact.stem + "_toast.tflite")
    shutil.copy(artifact, made)
    made.with_suffix(".crumbs").write_bytes(bytes(1 << 20))
    return CompileResult(made, "toasted")

NEW = Target(
    "toaster", "A toaster", "int8", ("int8",), source="its manual", compile=toast, compiled_suffix="_toast.tflite",
    companions=(".crumbs",), delegate="heat",
)
""",
    "pipeline/devices/kitchen.py": """
import dataclasses
from pipeline.devices.host import HOST, Host
from pipeline.core.errors import DeviceError

class Kitchen(Host):
    identity = "kitchen"
    def describe(self):
        return {**super().describe(), "device": "kitchen", "caution": "mind your fingers"}
    def open(self, file, how):
        if how.delegate != ("heat" if how.target == "toaster" else "xnnpack"):
            raise DeviceError(f"the toaster is cold: {how}")
        return super().open(file, how)

NEW = dataclasses.replace(
    HOST, name="kitchen", rank=-1, connect=lambda selector, settings: Kitchen(), runs_compiled=("toaster",)
)
""",
    "pipeline/targets/grill.py": """
from pipeline.core.errors import CompilerError
from pipeline.core.target import Target
def burn(artifact):
    raise CompilerError("it burnt")
NEW = Target("grill", "A grill", "int8", ("int8",), source="its manual", compile=burn)
""",
    "pipeline/devices/drawer.py": """
from pipeline.core.device import Device
NEW = Device("drawer", "The phone in the drawer", 9, lambda: None, None)
""",
    "pipeline/data/plain.py": """
import numpy as np
from pipeline.core.dataset import Dataset, DatasetSource, Sample, TrainingDefaults

def open_plain(_):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]
    samples = tuple(
        Sample(str(i), lambda x=x: x, lambda x=x: (x[..., 0] > 127).astype(np.uint8)) for i, x in enumerate(images)
    )
    return Dataset("plain", ("dark", "bright"), ((0, 0, 0), (255, 0, 0)), {"train": samples, "val": samples})

NEW = DatasetSource("plain", "Noise", "", open_plain, TrainingDefaults("16x16", 4, 2, 0.01, 0.001, 1))
""",
}


CALLS = """
import json, sys
from click.testing import CliRunner
from cli import main
results = [CliRunner().invoke(main, words) for words in json.loads(sys.argv[1])]
print(json.dumps([(result.exit_code, result.stdout, result.stderr + repr(result.exception)) for result in results]))
"""
QUICK = "--runs 3 --seconds 0 --starts 2"


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project with one new file of each kind and nothing else changed."""
    copy = tmp_path_factory.mktemp("extended")
    compiled = shutil.ignore_patterns("__pycache__")  # another process may write there meanwhile
    for name in ("pipeline", "models", "calib"):
        shutil.copytree(ROOT / name, copy / name, ignore=compiled)
    shutil.copy(ROOT / "cli.py", copy)
    for name, text in NEW_FILES.items():
        (copy / name).write_text(text)

    def call(*commands):
        """Each command in turn, in one process, which loads TensorFlow once: (exit code, output, errors) of each."""
        words = json.dumps([command.split() for command in commands])
        result = subprocess.run(
            [sys.executable, "-c", CALLS, words], cwd=copy, capture_output=True, text=True, check=True
        )
        return json.loads(result.stdout.splitlines()[-1])

    return call, copy


def test_a_new_model_target_device_and_dataset_are_one_file_each(extended):
    """None of them is named like one that is there: neither its layers, nor its delegate, nor what it compiles to."""
    call, copy = extended
    listed, qat, convert = call(
        "list", "qat --model two-layers --data plain --batch 2", "convert --target all --json made.json"
    )
    for name in ("two-layers", "toaster", "drawer", "kitchen", "plain"):
        assert name in listed[1], listed
    assert qat[0] == 0, qat[2]
    assert convert[0] == 1 and f"1 of {len(targets()) + 2} targets failed: grill" in convert[2], convert[2]
    outcomes = {outcome["target"]: outcome for outcome in json.loads((copy / "made.json").read_text())["targets"]}
    assert "it burnt" in outcomes["grill"]["note"] and outcomes["toaster"]["coverage"] is None
    assert outcomes["cpu"]["coverage"]["by"].startswith("LiteRT") and outcomes["nnapi"]["coverage"]["by"] == "rule"
    assert all((copy / outcome["file"]).is_file() for outcome in outcomes.values() if not outcome["failed"])
    (file,) = copy.glob("runs/*/artifacts/toaster/*-int8.tflite")
    bench, profile, missing = call(
        f"bench --target toaster --device kitchen {QUICK} --json measured.json",
        f"profile {file.relative_to(copy)} --runs 4",
        "bench --device drawer",
    )
    assert bench[0] == 0, bench[2]
    measured = json.loads((copy / "measured.json").read_text())
    compiled = file.with_name(f"{file.stem}_toast.tflite")
    assert measured["artifact"]["file"].endswith(compiled.name)
    assert measured["artifact"]["size_bytes"] == compiled.stat().st_size + (1 << 20)
    assert {"mind your fingers", "latency is of this device's CPU, not of toaster"} <= set(measured["notes"])
    assert profile[0] == 0 and "a wild guess" in profile[1], profile
    assert missing[0] == 2 and "not attached" in missing[2]
