"""Runs what README and the pages for users say: every command is either run here, shortened, or named as another test's."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchnorm.analysis.__main__ import main as analysis
from batchnorm.config import split_arguments
from batchnorm.modes import MODES
from batchnorm.problems.__main__ import main as problems
from batchnorm.study.__main__ import main as study
from batchnorm.study.grid import read_study
from tests import command, images
from tests.recorded import record_run
from tests.study.commands import loaded

ROOT = Path(__file__).parent.parent
WITH_TESTS_OF_THEIR_OWN = ("architecture.md", "extending.md", "installing.md", "runs.md", "export.md", "tables.md")
PAGES = [ROOT / "README.md"]
PAGES += [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in WITH_TESTS_OF_THEIR_OWN]


@dataclass(frozen=True)
class Said:
    """A command that a page says."""

    page: str
    command: str

    def __str__(self) -> str:
        return f"{self.page}: {self.command}"

    @property
    def arguments(self) -> list[str]:
        """What follows the program's name: `python -m MODULE` or `python FILE`."""
        words = shlex.split(self.command, comments=True)
        return words[3:] if words[1] == "-m" else words[2:]


def blocks(language: str, page: Path) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands_of(page: Path) -> list[Said]:
    lines = [line.strip() for block in blocks("bash", page) for line in block.splitlines()]
    lines += [line[2:] for block in blocks("console", page) for line in block.splitlines() if line.startswith("$ ")]
    shown = [re.split(r"\s+# ", line)[0] for line in lines if line and not line.startswith("#")]
    return [Said(page.name, line) for line in shown]


COMMANDS = [said for page in PAGES for said in commands_of(page)]


def starting(prefix: str, page: str | None = None) -> list[Said]:
    return [said for said in COMMANDS if said.command.startswith(prefix) and page in (None, said.page)]


def python_block(page: str, word: str) -> str:
    """Return the one block of a page that has a word in it."""
    (code,) = (block for block in blocks("python", ROOT / page) if word in block)
    return code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the repository's files for users."""
    for name in ("configs", "sbatch"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_known_to_a_test() -> None:
    rooms = (f"python -m batchnorm.{room} " for room in ("analysis", "study", "problems"))
    run_here = ("python run_trainingLoop.py ", "mkdir ", "for ", *rooms)
    run_elsewhere = ("make check", "make test", "make quickstart", "apt-get install ")  # by .ci/run
    on_a_cluster = ("sbatch sbatch/",)  # by tests/slurm
    known = (*run_here, *run_elsewhere, *on_a_cluster)
    assert [str(said) for said in COMMANDS if not said.command.startswith(known)] == []


def test_make_has_the_targets_that_are_named() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        named = re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(named) <= set(targets), page


def test_contributing_tells_each_target_of_make() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    told = re.findall(r"make ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert set(targets) <= set(told)


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8")):
            if not link.startswith(("https:", "http:")):
                assert (page.parent / link).exists(), (page.name, link)


def test_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("said", starting("python run_trainingLoop.py"), ids=str)
def test_runs(said: Said, folder: Path, small_images: Path) -> None:
    # Small images in place of the real ones, and two steps in place of many epochs; a small network where much is measured.
    shorter = ["MAX_STEPS=2", "BATCH_SIZE=20", "THREADS=1", f"OBS_DATASETS={small_images}"]
    shorter += ["PROBLEM=fmnist_mlp_bn"] if "MEASURE=full" in said.command else []
    code, printed = command.run([*said.arguments, *(shorter if "--help" not in said.arguments else [])], folder / "printed")
    assert code == 0, printed


def test_reading_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = starting("python run_trainingLoop.py", "README.md")[0]
    shorter = ["BATCH_SIZE=8", "MAX_STEPS=30"]
    code, printed = command.run([*first.arguments, *shorter, "THREADS=1"], folder / "printed")
    assert code == 0, printed
    shown = python_block("README.md", "import Run")
    named = "__".join(["/fixed_gamma", *shorter])  # a run that is cut short lies beside the whole one
    exec(shown.replace("/fixed_gamma", named), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fixed_gamma (0, 1, 1) ('conv1', 'conv2', 'dense1') FINISHED"
    assert lines[2] == "(7,) (7, 64) (7, 32)"


def record_a_study(output: Path) -> None:
    """Invent what most pages show: Fashion-MNIST without BatchNorm, and with it everywhere in each mode."""
    for seed in (1, 2):
        for position, mode in (("none", "trained_bn"), *(("all", mode) for mode in MODES)):
            record_run(output, problem="fmnist_2c2d_bn", random_seed=seed, position=position, ablation=mode)


def record_all_masks(output: Path) -> None:
    """Invent what effects need: pairs of masks that differ in one slot, gamma and beta each trained or not."""
    for seed in (1, 2):
        for number in range(8):
            for mode in ("trained_bn", "fixed_bn", "fixed_gamma", "fixed_beta") if number else ("trained_bn",):
                record_run(output, problem="fmnist_2c2d_bn", random_seed=seed, position=f"{number:03b}", ablation=mode)


def record_measurements(output: Path) -> None:
    """Invent the two runs that the page on measurements draws."""
    keys: dict[str, Any] = {"problem": "fmnist_2c2d_bn", "epochs": 3, "measure": "full,sharpness", "measured": True}
    for position in ("none", "all"):
        record_run(output, position=position, **keys)


RECORDED = {"effects.md": record_all_masks, "measurements.md": record_measurements}
PAGES_WITH_TABLES = sorted({said.page for said in starting("python -m batchnorm.analysis")})


@pytest.mark.parametrize("page", PAGES_WITH_TABLES)
def test_figures_and_tables_from_the_shell(page: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    RECORDED.get(page, record_a_study)(folder / "output")
    for said in starting("python -m batchnorm.analysis", page):
        if said.arguments[0] not in ("laws", "measure"):
            assert_answers(said, capfd)


def assert_answers(said: Said, capfd: pytest.CaptureFixture[str]) -> None:
    code = analysis(said.arguments)
    shown = capfd.readouterr()
    assert code == 0, (str(said), shown.err)
    assert shown.out, str(said)


def test_laws(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record_a_study(folder / "output")
    for said in starting("python -m batchnorm.analysis laws"):
        assert_answers(said, capfd)


def test_measuring_afterwards(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    page = "measurements.md"
    trains = starting("python run_trainingLoop.py PROBLEM=digits_2c2d_bn", page)[0]
    shorter = ["BATCH_SIZE=20", "MAX_STEPS=135", "THREADS=1"]  # two epochs and a step
    code, printed = command.run([*trains.arguments, *shorter], folder / "printed")
    assert code == 0, printed
    for said in starting("python -m batchnorm.analysis measure", page):
        assert_answers(said, capfd)


def test_figures_in_python(folder: Path) -> None:
    seed: dict[str, Any] = {"random_seed": 4842821, "lr": 0.16579130972807002, "epochs": 350, "recorded_epochs": 3}
    for position, mode in (("none", "trained_bn"), *(("00111", mode) for mode in MODES)):
        record_run(folder / "output", problem="cifar100_3c3d_bn", position=position, ablation=mode, **seed)
    for mode in ("trained_bn", "fixed_gamma"):
        record_run(folder / "output", problem="cifar100_allcnnc_bn", position="100000000", ablation=mode, **seed)
    exec(python_block("docs/figures.md", "model_paths"), {})
    assert len(list((folder / "output" / "plots").glob("*.png"))) == 3
    exec(python_block("docs/figures.md", "import frame"), {})
    assert len(list((folder / "output" / "plots").glob("*__neurips.png"))) == 1
    assert len(list((folder / "output" / "plots").glob("*.svg"))) == 1


def test_the_study_that_is_shown_is_the_one_that_is_shipped(folder: Path) -> None:
    (shown,) = (block for block in blocks("yaml", ROOT / "README.md") if "quickstart_digits" in block)
    (folder / "study.yaml").write_text(shown)
    assert read_study(folder / "study.yaml", {}).runs == read_study(Path("configs/studies/quickstart_digits.yaml"), {}).runs


STUDIES = [
    said for said in starting("python -m batchnorm.study") if "submit" not in said.arguments or "--dry-run" in said.arguments
]


@pytest.mark.parametrize("said", STUDIES, ids=str)  # tests/slurm submits
def test_studies(
    said: Said, folder: Path, small_images: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in loaded().items():  # workers have torch loaded
        monkeypatch.setenv(name, value)
    # Two steps of a small network in place of three epochs.
    small = ["PROBLEM=mnist_mlp_bn", "MAX_STEPS=2", "BATCH_SIZE=20", f"OBS_DATASETS={small_images}"]
    shorter = small if said.arguments[0] == "run" else []
    code = study([*said.arguments, *shorter])
    shown = capfd.readouterr()
    assert code == 0, shown.err
    assert shown.out


@pytest.mark.parametrize("said", starting("python -m batchnorm.problems"), ids=str)
def test_problems(said: Said, capfd: pytest.CaptureFixture[str]) -> None:
    assert problems(said.arguments) == 0
    assert capfd.readouterr().out


def test_overrides_that_are_named_in_the_text() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"`run STUDY.yaml ([^`]+)`", text)
    (first, *_) = read_study(Path("configs/studies/quickstart_digits.yaml"), split_arguments(shown.split())).runs
    assert (first.config.num_epochs, first.config.output_dir) == (1, "trial")


def test_fashion_mnist_from_debians_package(folder: Path, fashion_mnist: Path) -> None:
    for said in [*starting("mkdir"), *starting("for file")]:
        assert subprocess.run(["bash", "-c", said.command], cwd=folder).returncode == 0
    for name in images.IDX_FILES:
        there = (folder / "data" / "FashionMNIST" / "raw" / name).read_bytes()
        assert there == (fashion_mnist / "FashionMNIST" / "raw" / name).read_bytes()
