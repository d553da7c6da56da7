from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from batchnorm.analysis import frame
from batchnorm.analysis.bn_plot_functions import performance_across_ablations
from batchnorm.analysis.effects import table_of
from batchnorm.analysis.runs import (
    RunPaths,
    distinct,
    find_runs,
    group_seeds,
    of_one_setting,
    one_run,
    open_runs,
    progress_mark,
    read_each,
    setting_note,
    shared_steps,
    slot_facts,
    sort_ablations,
)
from batchnorm.analysis.summary import paired_difference, summary
from batchnorm.errors import RunError
from batchnorm.modes import format_mask
from batchnorm.store import Run, RunDirectory, Status
from tests.analysis.conftest import cut_off, record
from tests.recorded import as_version_1, record_run


def test_runs_are_found_by_folder_run_record_and_pattern(output: Path, at: Callable[..., Path]) -> None:
    run = at("0,0,1")
    assert len(find_runs(output)) == 20
    assert find_runs([run, run / "run.h5", str(run)]) == [run]
    assert find_runs(f"{output}/1__*__0,0,1/*/*/trained_*") == [run]


@pytest.mark.parametrize("path", ["nowhere", "nowhere/*", "empty"])
def test_a_path_without_runs_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=f"{path.replace('*', '.')}: "):
        find_runs(tmp_path / path)


def test_no_runs_at_all_is_an_error() -> None:
    with pytest.raises(RunError, match="empty"):
        open_runs([])


def test_a_run_of_another_problem_is_named(tmp_path: Path, at: Callable[..., Path]) -> None:
    stranger = record(tmp_path, problem="fmnist_2c2d_bn")
    with pytest.raises(RunError, match=rf"{stranger}: is a run of fmnist_2c2d_bn, .* one of digits_2c2d_bn"):
        open_runs([at("0,0,1"), stranger])


def test_vanilla_in_two_modes_is_one_run(tmp_path: Path) -> None:
    whole = record(tmp_path, position="none", ablation="trained_bn")
    part = cut_off(tmp_path, position="none", ablation="fixed_gamma")
    assert [run.directory for run in open_runs([part, whole])] == [whole]


def test_a_run_is_the_same_in_a_record_of_format_version_1(tmp_path: Path) -> None:
    new = record(tmp_path / "new")
    old = as_version_1(record(tmp_path / "old", recorded_epochs=3))
    assert [run.directory for run in open_runs([old, new])] == [new]


def test_seeds_of_both_format_versions_are_one_group(tmp_path: Path) -> None:
    paths = [as_version_1(record(tmp_path, random_seed=1)), record(tmp_path, random_seed=2)]
    (group,) = group_seeds(open_runs(paths))
    assert [run.config.random_seed for run in group.runs] == [1, 2]
    sort_ablations(open_runs([*paths, record(tmp_path, position="none")]))


@pytest.mark.parametrize("version", [1, 2])
def test_max_steps_shortens_the_run_that_is_shown(tmp_path: Path, version: int) -> None:
    keys: dict[str, object] = {"epochs": 3, "max_steps": 30}
    cut = record(tmp_path, recorded_epochs=1, status=Status.CUT_OFF, **keys)
    whole = record(tmp_path, random_seed=2, **keys)
    if version == 1:
        as_version_1(cut), as_version_1(whole)
    assert progress_mark(Run(cut)) == "interrupted, epoch 1 of 2"
    assert group_seeds([Run(cut), Run(whole)])[0].epochs == 2


def test_a_run_given_twice_counts_once(at: Callable[..., Path]) -> None:
    assert len(distinct([Run(at("0,0,1")), Run(at("0,0,1"))])) == 1


def test_groups_differ_in_more_than_seeds(output: Path) -> None:
    groups = group_seeds(open_runs(find_runs(output)))
    assert len(groups) == 10
    assert all([run.config.random_seed for run in group.runs] == [1, 2] for group in groups)
    assert groups[0].row.title == "vanilla"


def test_a_key_at_its_default_is_named_with_its_default(tmp_path: Path) -> None:
    groups = group_seeds(open_runs([record(tmp_path, position="none"), record(tmp_path, l2_reg=0.5)]))
    assert [setting_note(group, groups) for group in groups] == ["l2 reg 0.0", "l2 reg 0.5"]


def test_keys_that_act_in_slots_are_of_runs_in_which_they_act(tmp_path: Path) -> None:
    """Vanilla says nothing of them, and goes with all."""
    keys: list[dict[str, object]] = [{"position": "none"}, {"norm": "layer"}, {"norm": "layer", "ablation": "affine_only"}]
    vanilla, affine, layer = groups = group_seeds([Run(record(tmp_path, **each)) for each in keys])
    assert "NORM" not in vanilla.settings and "NORM" not in affine.settings and layer.settings["NORM"] == "layer"
    assert [setting_note(group, groups) for group in groups] == ["", "", ""]
    assert slot_facts([group.runs[0] for group in groups]) == ["norm layer"]
    ghosts = Run(record(tmp_path, ghost=16, norm="batch"))
    assert slot_facts([layer.runs[0], ghosts]) == ["ghost 16"]
    plain = Run(record(tmp_path))
    assert slot_facts([plain]) == slot_facts([ghosts, plain]) == []
    several = group_seeds([vanilla.runs[0], ghosts, plain, layer.runs[0]])
    notes = [setting_note(group, several) for group in several]
    assert notes == ["", "ghost 16, norm batch", "norm batch", "norm layer"]
    paired = paired_difference([group.runs[0].directory for group in several], "vanilla")
    assert paired["n"].tolist() == [1, 1, 1]
    with pytest.raises(RunError, match=r"differs from .* in NORM \(batch there, layer here\)"):
        table_of([vanilla.runs[0], plain, layer.runs[0]])
    assert len(table_of([vanilla.runs[0], layer.runs[0]])) == 2


def test_two_rates_of_one_variant_are_not_averaged(tmp_path: Path) -> None:
    runs = open_runs([record(tmp_path, lr=0.1), record(tmp_path, lr=0.2, random_seed=2)])
    with pytest.raises(RunError, match=r"in LR \(0.1 there, 0.2 here\)"):
        sort_ablations(runs)


def test_full_batchnorm_is_a_reference_beside_other_masks_only(output: Path, at: Callable[..., Path]) -> None:
    ablations = sort_ablations(open_runs(find_runs(output)))
    assert list(ablations.by_mask) == [(1, 0, 0), (0, 0, 1)]
    assert ablations.full is not None and ablations.vanilla is not None
    assert [row.title for row, _ in ablations.panel((0, 0, 1))] == [
        "vanilla",
        "BN",
        "BN gamma",
        "BN beta",
        "BN gamma beta",
        "full BN",
    ]
    alone = sort_ablations(open_runs([at("1,1,1")]))
    assert [row.title for row, _ in alone.panel((1, 1, 1))] == ["BN gamma beta"]


def test_unfinished_runs_are_marked(tmp_path: Path) -> None:
    finished = Run(record(tmp_path, random_seed=1))
    cut = Run(cut_off(tmp_path, random_seed=2))
    diverged = Run(record(tmp_path, random_seed=3, recorded_epochs=3, status=Status.DIVERGED))
    fresh = Run(record(tmp_path, random_seed=4, recorded_epochs=-1, status=Status.CUT_OFF))
    marks = [progress_mark(run) for run in (finished, cut, diverged, fresh)]
    assert marks == ["", "interrupted, epoch 2 of 4", "diverged, epoch 3 of 4", "interrupted, no epoch yet"]
    assert group_seeds([finished, cut, diverged])[0].mark == "3 seeds, 1 interrupted, 1 diverged"
    with FileLock(RunDirectory(cut.directory).lock):
        assert progress_mark(cut) == "running, epoch 2 of 4"


def test_seeds_are_averaged_where_all_that_came_so_far_recorded(tmp_path: Path) -> None:
    runs = [Run(record(tmp_path, random_seed=seed)) for seed in (1, 2)]
    axes = [np.array([0, 5, 10, 15, 20]), np.array([0, 10])]
    assert shared_steps(runs, axes).tolist() == [0, 10, 15, 20]
    assert shared_steps(runs, [axes[0], np.array([], dtype=int)]).tolist() == axes[0].tolist()
    with pytest.raises(RunError, match=f"{runs[1].directory}: has no common step"):
        shared_steps(runs, [axes[0], np.array([1, 2])])


def test_links_are_followed_and_each_real_run_counts_once(tmp_path: Path) -> None:
    other_disk = tmp_path / "other disk"
    for seed in (1, 2, 3):
        record(tmp_path / "output" if seed == 1 else other_disk, random_seed=seed)
    root = tmp_path / "output"
    for folder in other_disk.iterdir():
        (root / folder.name).symlink_to(folder)
    (root / "0 again").symlink_to(next(root.glob("1__*")))
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to("..")
    runs = find_runs(root)
    assert [path.relative_to(root).parts[0][0] for path in runs] == ["1", "2", "3"]
    assert find_runs([root, root / "0 again", other_disk, f"{root}/*/"]) == runs
    assert summary(root)["seeds"].tolist() == [3]
    assert summary(f"{root}/**")["seeds"].tolist() == [3]


def test_a_record_that_is_a_link_is_a_run(tmp_path: Path) -> None:
    real, again = record(tmp_path / "real"), tmp_path / "linked" / "run"
    again.mkdir(parents=True)
    (again / "run.h5").symlink_to(real / "run.h5")
    assert find_runs(tmp_path / "linked") == [again]
    assert len(find_runs(tmp_path)) == len(find_runs([real, again])) == 1


def test_a_link_to_nothing_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path)
    (tmp_path / "2__unmounted").symlink_to("/nowhere/at/all")
    assert len(find_runs(tmp_path)) == 1
    assert f"{tmp_path}/2__unmounted: is a link to nothing: /nowhere/at/all" in caplog.text


def test_folders_without_runs_are_named_where_others_have_some(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = record(tmp_path / "output")
    (tmp_path / "plots").mkdir()
    assert find_runs([tmp_path / "plots", tmp_path / "output"]) == [run]
    assert f"{tmp_path}/plots: holds no run" in caplog.text


def test_a_relative_path_that_leads_nowhere_is_told_from_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=f"^output: no such run or directory in {tmp_path}$"):
        find_runs("output")


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, bad = record(tmp_path, random_seed=1), record(tmp_path, random_seed=2)
    (bad / "run.h5").write_bytes((bad / "run.h5").read_bytes()[:3000])
    assert read_each([whole, bad], lambda run: run.last_epoch)[0][1] == 4
    assert caplog.text.count("\n") == 1 and str(bad) in caplog.text
    with pytest.raises(RunError, match=str(bad)):
        read_each([bad], lambda run: run.last_epoch)


def test_runs_are_given_as_the_shell_takes_them_and_as_rows(output: Path, at: Callable[..., Path]) -> None:
    vanilla = [at("0,0,0", seed=seed) for seed in (1, 2)]
    rows = frame(output).query("mode == 'vanilla'")
    forms: list[RunPaths] = [
        vanilla,
        [str(path) for path in vanilla],
        str(output / "*__0,0,0"),
        [Run(path) for path in vanilla],
        [vanilla[0], str(output / "2__*__0,0,0")],
        rows,
        rows["run"],
        table_of([*vanilla, at("0,0,1")]).query("mode == 'vanilla'"),
    ]
    for form in forms:
        assert sorted(run.directory for run in open_runs(form)) == sorted(vanilla), form
    assert len(open_runs(output)) == 20
    assert one_run(rows.iloc[0]).directory == one_run(rows.query("seed == 1")).directory == vanilla[0]
    with pytest.raises(RunError, match="the data frame has no column run"):
        open_runs(rows.drop(columns="run"))
    with pytest.raises(RunError, match="0,0,0.*: give one run here, not 2"):
        one_run(str(output / "*__0,0,0"))


def test_what_was_given_by_itself_must_be_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [record(tmp_path / "output", random_seed=seed) for seed in (1, 2)]
    (paths[1] / "run.h5").write_bytes(b"")
    for given in (tmp_path / "nowhere", [paths[0], tmp_path / "nowhere"]):
        with pytest.raises(RunError) as python:
            performance_across_ablations(given, save=False)
        with pytest.raises(RunError) as shell:
            find_runs(tmp_path / "nowhere")
        assert str(python.value) == str(shell.value)
    with pytest.raises(RunError, match=str(paths[1])):
        open_runs(paths)
    assert [run.directory for run in open_runs(tmp_path)] == paths[:1]
    assert str(paths[1]) in caplog.text


def test_settings_that_differ_are_said_one_by_one(tmp_path: Path) -> None:
    keys: list[dict[str, object]] = [
        {"position": "none"},
        {"norm": "layer", "optimizer": "Momentum", "opt_hpars": {"momentum": 0.5}},
        {"ablation": "fixed_bn", "lr_schedule": {"name": "step", "step_size": 2, "gamma": 0.5}},
    ]
    groups = group_seeds(open_runs([record(tmp_path, **each) for each in keys]))
    notes = {group.row.label: setting_note(group, groups) for group in groups}
    assert notes["vanilla"].endswith("SGD, no lr schedule")
    assert "Momentum, " in notes[r"LN $\gamma\beta$"] and "momentum 0.5" in notes[r"LN $\gamma\beta$"]
    assert "norm layer" in notes[r"LN $\gamma\beta$"] and "norm batch" in notes["BN"] and "norm" not in notes["vanilla"]
    assert "lr schedule step" in notes["BN"] and "step size 2" in notes["BN"]


def test_vanilla_goes_with_each_norm(tmp_path: Path) -> None:
    for norm in ("batch", "layer"):
        for mask in ("0,0,0", "0,0,1", "1,1,1"):
            record_run(tmp_path, problem="digits_2c2d_bn", position=mask, norm=norm)
    record_run(tmp_path, problem="digits_2c2d_bn", position="0,0,1", ablation="fixed_bn", l2_reg=0.1)
    groups = group_seeds(open_runs(tmp_path))
    families = [[(format_mask(group.mask), group.mode) for group in family] for family in of_one_setting(groups)]
    normed = [("0,0,0", "vanilla"), ("0,0,1", "trained_bn"), ("1,1,1", "trained_bn")]
    assert sorted(families) == sorted([normed, normed, [("0,0,1", "fixed_bn")]])


def test_a_studys_file_stands_for_its_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = tmp_path / "short.yaml"
    keys = {"PROBLEM": "digits_2c2d_bn", "RANDOM_SEED": "1-2", "NUM_EPOCHS": "4", "OUTPUT_DIR": str(tmp_path / "output")}
    study.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    with pytest.raises(RunError, match=r"short.yaml: 2 of 2 runs have not begun"):
        find_runs(study)
    path = record(tmp_path / "output", random_seed=2)
    record(tmp_path / "output", random_seed=2, lr=0.5)
    assert find_runs(study) == [path]
    assert caplog.messages[-1] == f"{study}: 1 of 2 runs have not begun"
