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
    pip = dict(split(entry) for entry in environment["dependencies"][-1]["pip"])
    assert conda.pop("python") == project()["requires-python"]
    assert conda.pop("pip") == ""
    conda["torch"] = conda.pop("pytorch-gpu")
    assert not set(conda) & set(pip)
    assert {**conda, **pip} == dict(map(split, project()["dependencies"]))


def test_every_dependency_has_a_tried_lower_bound_and_no_upper_one() -> None:
    for requirement in project()["dependencies"]:
        assert re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", requirement), requirement


def test_rooms_that_must_load_no_torch_do_not_import_it_and_one_room_imports_deepobs() -> None:
    torch_free = {"config.py", "store.py", "masks.py", "errors.py", "rundir.py", "command.py", "study.py"}
    for file in Path("batchnorm").rglob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.parse(file.read_text()).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        if file.name in torch_free or "analysis" in file.parts or "study" in file.parts:
            assert not imported & {"torch", "torchvision"}, file
        assert "deepobs" not in imported, file
        mentions = re.findall(r"import_module\(.?[\"']?deepobs", file.read_text())
        assert not mentions or file.name == "deepobs.py", file
        if file.name not in ("config.py", "machine.py") and "study" not in file.parts:
            written = 'os.environ["MPLBACKEND"] = '  # for matplotlib, which reads it; nothing of ours does
            assert "os.environ" not in file.read_text().replace(written, ""), file
