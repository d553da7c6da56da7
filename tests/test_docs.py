"""Does what docs/extending.md says, in a copy of the package, and holds docs/architecture.md against the package's modules."""

from __future__ import annotations

import ast
import doctest
import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from batchnorm.analysis import frame
from batchnorm.store import Run
from batchnorm.study.grid import read_study
from batchnorm.study.status import as_data, standings
from tests import command
from tests.ready import ready
from tests.recorded import record_run

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@dataclass(frozen=True)
class Change:
    """A block that goes into a file: `# FILE, a new file`, `at the end`, `the last row of TABLE`, `above the line TEXT`, ..."""

    file: str
    where: str
    text: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        if self.where == "a new file":
            assert not path.exists(), path
            path.write_text(self.text)
            return
        lines = path.read_text().splitlines(keepends=True)
        place = self.place(lines)
        path.write_text("".join([*lines[:place], self.text, *lines[place:]]))

    def place(self, lines: list[str]) -> int:
        """Return how many lines stand before the block."""
        if self.where == "at the end":
            return len(lines)
        if self.where.startswith("the last row of "):
            return end_of_table("".join(lines), self.where.removeprefix("the last row of ")) - 1
        said = re.fullmatch("(above|below) the line (.+)", self.where)
        assert said, self.where
        places = [place for place, line in enumerate(lines) if line.startswith(said[2])]
        assert len(places) == 1, (self.where, places)
        return places[0] + (said[1] == "below")


def end_of_table(source: str, name: str) -> int:
    """Return the line of the bracket that closes the rows of a module's table, counted from 1."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            rows = next(part for part in ast.walk(node) if isinstance(part, (ast.Dict, ast.Tuple, ast.List)) and several(part))
            assert rows.end_lineno is not None
            return rows.end_lineno
    raise AssertionError(f"{name}: no such table")


def several(part: ast.Dict | ast.Tuple | ast.List) -> bool:
    return (part.end_lineno or 0) > part.lineno


@dataclass(frozen=True)
class Section:
    """One change of docs/extending.md: the files that it says it touches, its blocks, and commands with what they print."""

    title: str
    touches: frozenset[str]
    changes: tuple[Change, ...]
    commands: tuple[tuple[str, str], ...]


def read_section(text: str) -> Section:
    title, _, body = text.partition("\n")
    says = re.search(r"^Touches (.*)\.$", body, flags=re.MULTILINE)
    assert says, f"{title}: does not say which files it touches"
    changes, commands = [], []
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", body, flags=re.DOTALL | re.MULTILINE):
        if language == "console":
            shown = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
            commands += [(command, expected) for command, _, expected in (each.partition("\n") for each in shown)]
            continue
        first, _, rest = block.partition("\n")
        where = re.fullmatch(r"# ([\w./]+), (.+)", first)
        assert where, f"{title}: a block begins with {first!r} instead of '# FILE, where it goes'"
        changes.append(Change(where[1], where[2], rest))
    return Section(title, frozenset(re.findall(r"`([^`]+)`", says[1])), tuple(changes), tuple(commands))


SECTIONS = [
    read_section(text) for text in re.split(r"^## ", (ROOT / "docs" / "extending.md").read_text(), flags=re.MULTILINE)[1:]
]
ON_EACH_MASK = """
import itertools
from batchnorm.command import main
for mask in itertools.product("01", repeat=2):
    assert main(["POSITION=" + "".join(mask), "RANDOM_SEED=2", "MAX_STEPS=3", "THREADS=1", *{arguments}]) == 0, mask
"""


def trains_with_each_mask(*arguments: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        code, printed = python(folder, "-c", ON_EACH_MASK.format(arguments=list(arguments)))
        assert code == 0, printed
        masks = {run_of(path).mask for path in folder.glob("output/2__*/**/run.h5")}
        assert masks == set(itertools.product((0, 1), repeat=2))

    return check


def run_of(record: Path) -> Run:
    recorded = Run(record)
    assert recorded.length.steps == 3
    assert recorded.batches["step"][0] == 0
    return recorded


def only_run(folder: Path) -> Run:
    (record,) = folder.glob("output/**/run.h5")
    return run_of(record)


def gamma_stays_half_and_beta_is_trained(folder: Path) -> None:
    recorded = only_run(folder)
    for slot in recorded.layers:
        assert (recorded.gamma(slot) == 0.5).all()
        assert (recorded.beta(slot)[-1] != 0).any()


def last_norms_of_blocks_alone_are_there(folder: Path) -> None:
    recorded = only_run(folder)
    assert [slot for slot in recorded.layers if slot in recorded.slots_with("gamma")] == ["block1.norm2", "block2.norm2"]


READ_WEIGHT_SUMS = """
import json, sys
from batchnorm.store import Run
run = Run(sys.argv[1])
print(json.dumps({slot: run.read("weight_l1", slot).tolist() for slot in run.slots_with("weight_l1")}))
"""


def weight_sums_are_those_of_the_weights(folder: Path) -> None:
    import torch

    recorded = only_run(folder)
    sums = json.loads(python(folder, "-c", READ_WEIGHT_SUMS, str(recorded.directory))[1])
    assert tuple(sums) == recorded.layers
    weights = torch.load(recorded.directory / "final_model.pth", weights_only=True)
    for slot, over_time in sums.items():
        (weight,) = (value.numpy() for name, value in weights.items() if name.startswith(slot) and value.ndim > 1)
        assert len(set(over_time)) == len(over_time) == len(recorded.snapshot_steps) == 4
        np.testing.assert_allclose(over_time[-1], np.abs(weight.astype(np.float64)).sum(), rtol=1e-6)


MORE_CHECKS: dict[str, Callable[[Path], None]] = {
    "A problem, in the catalog": trains_with_each_mask("PROBLEM=digits_shallow_bn"),
    "A problem, in a file of your own": trains_with_each_mask("PROBLEM=mine.py:two_layers", "TUNING_CONF=mine.yaml"),
    "A residual network": last_norms_of_blocks_alone_are_there,
    "A mode": gamma_stays_half_and_beta_is_trained,
    "A quantity": weight_sums_are_those_of_the_weights,
}
"""What the commands in the text do not show."""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def python(folder: Path, *arguments: str) -> tuple[int, str]:
    return command.python(list(arguments), folder.with_name(f"{folder.name}-printed"), folder=folder)


def copy_of_the_package(folder: Path) -> Path:
    """Copy the files that git tracks."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files but what runs leave."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    made = ("output", "__pycache__", ".ruff_cache")
    return {str(name): path.read_bytes() for name, path in found.items() if not any(part in made for part in name.parts)}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_change(section: Section, tmp_path: Path) -> None:
    folder = copy_of_the_package(tmp_path)
    before = contents(folder)
    for change in section.changes:
        change.apply(folder)
    touched = {name for name, content in contents(folder).items() if before.get(name) != content}
    assert touched == section.touches
    code = [name for name in touched if name.endswith(".py")]
    assert len(code) == 1, "one file of code"
    assert len(touched) <= 2, "and an entry of hyperparameters"
    for check in (["check"], ["format", "--check"]):
        done = run(folder, sys.executable, "-m", "ruff", *check, *code)
        assert done.returncode == 0, done.stdout

    assert section.commands
    for line, expected in section.commands:
        more = ["THREADS=1"] if "run_trainingLoop.py" in line and "--help" not in line else []
        ended, printed = python(folder, *shlex.split(line.removeprefix("python ")), *more)
        assert ended == 0, (line, printed)
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(expected, printed, flags), (line, printed)
    if more_checks := MORE_CHECKS.get(section.title):
        more_checks(folder)
    assert contents(folder).keys() - before.keys() <= touched


def blocks_of_export(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), flags=re.DOTALL)


def test_tables_for_other_programs(tmp_path: Path) -> None:
    modes = [("none", "trained_bn"), ("all", "trained_bn"), ("all", "fixed_bn"), ("all", "fixed_gamma"), ("all", "fixed_beta")]
    for seed in (1, 2):
        for position, mode in modes:
            keys = {"problem": "digits_2c2d_bn", "random_seed": seed, "position": position, "ablation": mode}
            record_run(tmp_path / "output", epochs=3, **keys)  # type: ignore[arg-type]
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for line in "".join(blocks_of_export("bash")).splitlines():
        assert line.startswith("python -m batchnorm.")
        done = run_elsewhere(tmp_path, *shlex.split(line.removeprefix("python ")))
        assert (done.returncode, done.stderr) == (0, "") and done.stdout, line
    assert {path.name for path in tmp_path.glob("*.*")} == {"runs.csv", "some.json", "short.csv.gz", "gamma.csv.gz"}
    for block in blocks_of_export("python"):
        done = run_elsewhere(tmp_path, "-c", block)
        assert (done.returncode, done.stderr) == (0, "") and "vanilla" in done.stdout, done.stderr


def test_the_columns_and_fields_that_are_told_are_there(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    first, second = (part.partition("\n\n")[0] for part in page.split("|---|---|\n")[1:])
    record_run(tmp_path, problem="digits_2c2d_bn", measured=True, measure="full,sharpness")
    columns = set(frame(tmp_path))
    told = {name for row in first.splitlines() for name in re.findall("`([^`]+)`", row.split("|")[1])}
    assert told <= columns
    study = tmp_path / "one.yaml"
    study.write_text(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nNUM_EPOCHS: 4\nOUTPUT_DIR: {tmp_path}\n")
    read = read_study(study, {})
    data = as_data(read, standings(read))
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", second, flags=re.MULTILINE))
    assert list(rows) == list(data)
    assert set(re.findall("`([^`]+)`", rows["counts"])) == set(data["counts"])
    assert set(re.findall("`([^`]+)`", rows["runs"])) - {"null"} == set(data["runs"][0])


def run_elsewhere(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder without the package."""
    environment = ready({**os.environ, "PYTHONPATH": str(ROOT)})
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_each_further_check_has_its_section() -> None:
    assert MORE_CHECKS.keys() <= {section.title for section in SECTIONS}


def modules() -> dict[str, Path]:
    """Return the package's modules by their dotted names; a room stands under its own name."""
    files = (path for path in (ROOT / "batchnorm").rglob("*.py") if "__pycache__" not in path.parts)
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports_of(name: str, path: Path) -> set[str]:
    """Return the package's modules that a module imports, for types and inside functions too."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module for alias in node.names
            }
    return {each for each in found if each in known and each != name}


def test_no_module_imports_one_that_imports_it() -> None:
    left = {name: imports_of(name, path) for name, path in modules().items()}
    while free := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_the_architecture_names_each_module_and_no_other() -> None:
    rooms = {path.relative_to(ROOT / "batchnorm").parts[0] for path in modules().values()} - {"__init__.py"}
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", ARCHITECTURE.partition("## The contracts")[0]))
    assert {room if room.endswith(".py") else f"{room}/" for room in rooms} <= named
    for line in ARCHITECTURE.splitlines():
        if room := re.match(r"\| `(\w+)/` \|", line):
            inside = {path.stem for path in (ROOT / "batchnorm" / room[1]).iterdir() if path.suffix == ".py"}
            named_there = re.findall(r"`(\w+)`(?:: | and )", line)
            assert len(named_there) > 2, line
            assert set(named_there) <= inside, line


TORCH_FREE = """
import importlib, pkgutil, sys
import batchnorm
for module in pkgutil.walk_packages(batchnorm.__path__, "batchnorm."):
    if module.name.split(".")[1] in {rooms} and module.name.split(".")[-1] != "__main__" and module.name not in {torches}:
        importlib.import_module(module.name)
        assert "torch" not in sys.modules, module.name
"""


def test_the_torch_free_rooms_load_no_torch() -> None:
    (line,) = (line for line in ARCHITECTURE.splitlines() if line.endswith("load no torch when they are imported."))
    rooms = re.findall(r"`(\w+)`", line)
    torches = [
        name for name in modules() if name.startswith("batchnorm.problems.") and not name.endswith(("catalog", "registry"))
    ]
    done = run(ROOT, sys.executable, "-c", TORCH_FREE.format(rooms=rooms, torches=torches))
    assert done.returncode == 0, done.stdout


WITH_EXAMPLES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in (ROOT / "batchnorm").rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_give_what_they_show(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
