from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml


def split(requirement: str) -> tuple[str, str]:
    name, at_least, version = requirement.partition(">=")
    return name.strip(), at_least + version.strip()


def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml takes Python 3.11")
    return dict(tomllib.loads(Path("pyproject.toml").read_text())["project"])


def test_conda_environment_and_pyproject_agree() -> None:
    environment = yaml.safe_load(Path("conda_env.yml").read_text())
    assert environment["channels"][0] == "conda-forge"
    conda = dict(split(entry) for entry in environment["dependencies"] if isinstance(entry, str))
    assert environment["dependencies"][-1] == {"pip": ["-e ."]}  # the project itself, and with it all that it needs
    assert conda.pop("python") == project()["requires-python"]
    assert conda.pop("pip") == ""
    conda["torch"] = conda.pop("pytorch-gpu")
    needed = dict(map(split, project()["dependencies"]))
    assert conda == {name: needed[name] for name in ("torch", "torchvision")}


def test_every_dependency_has_a_tried_lower_bound_and_no_upper_one() -> None:
    for requirement in project()["dependencies"]:
        assert re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", requirement), requirement


def test_rooms_that_must_load_no_torch_do_not_import_it_and_one_room_imports_deepobs() -> None:
    torch_free = {
        "config.py",
        "tuning.py",
        "modes.py",
        "quantities.py",
        "errors.py",
        "command.py",
        "optim.py",
        "registry.py",
        "catalog.py",
    }
    for file in Path("batchnorm").rglob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.parse(file.read_text()).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        if file.name in torch_free or {"analysis", "study", "store"} & set(file.parts):
            assert not imported & {"torch", "torchvision"}, file
        assert "deepobs" not in imported, file
        mentions = re.findall(r"import_module\(.?[\"']?deepobs", file.read_text())
        assert not mentions or file.name == "deepobs.py", file
        if file.name not in ("config.py", "logs.py", "machine.py") and "study" not in file.parts:
            text = file.read_text().replace('os.environ["MPLBACKEND"] = ', "")  # matplotlib is told nothing otherwise
            assert "os.environ" not in text, file


@pytest.mark.parametrize(
    ("room", "later"),
    [
        ("config", ("store", "assembly", "slots", "study", "analysis")),
        ("problems", ("config", "store", "assembly", "training")),
        ("quantities", ("store", "slots", "recording")),
        ("store", ("slots", "recording", "training", "study", "analysis")),
        ("slots", ("store", "assembly", "recording")),
        ("assembly", ("recording", "checkpoint", "training", "command")),
        ("training", ("command", "study", "analysis")),
        ("study", ("analysis",)),
        ("analysis", ("training", "recording", "assembly")),
    ],
)
def test_data_flows_one_way(room: str, later: tuple[str, ...]) -> None:
    for file in Path("batchnorm").rglob("*.py"):
        if file.with_suffix("").parts[1] == room:
            behind = set(re.findall(r"^\s*(?:from|import) batchnorm\.(\w+)", file.read_text(), re.MULTILINE))
            assert not behind & set(later), file


def test_the_analysis_takes_from_studies_what_their_files_say_alone() -> None:
    for file in Path("batchnorm/analysis").rglob("*.py"):
        assert set(re.findall(r"batchnorm\.study\.(\w+)", file.read_text())) <= {"grid", "values"}, file


def test_the_version_stands_in_one_place_and_is_repeated_right() -> None:
    import batchnorm

    assert project()["dynamic"] == ["version"]
    assert yaml.safe_load(Path("CITATION.cff").read_text())["version"] == batchnorm.__version__
    assert f"## {batchnorm.__version__} - " in Path("CHANGELOG.md").read_text()
