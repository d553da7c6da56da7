from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.config import split_arguments
from batchnorm.errors import ConfigError
from batchnorm.modes import MODES, Trains, format_mask
from batchnorm.study.grid import Study, read_study
from batchnorm.study.tune import plan
from tests.recorded import record_run
from tests.study.own_problem import write_own_problem

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return path

    return to_file


def read(path: Path, *arguments: str) -> Study:
    return read_study(path, split_arguments(arguments))


def positions(study: Study) -> list[str]:
    return [run.config.position for run in study.runs]


def test_a_list_is_a_grid_in_the_order_of_the_file(write: Write) -> None:
    study = read(write("PROBLEM: digits_2c2d_bn\nrandom_seed: [7, 5]\nPosition: '0,0,1'\nABLATION: [fixed_beta, fixed_bn]\n"))
    assert study.name == "study"
    assert [(run.index, run.config.random_seed, run.config.ablation) for run in study.runs] == [
        (0, 7, "fixed_beta"),
        (1, 7, "fixed_bn"),
        (2, 5, "fixed_beta"),
        (3, 5, "fixed_bn"),
    ]
    assert [run.variant for run in study.runs][:2] == ["0,0,1 fixed_beta RANDOM_SEED=7", "0,0,1 fixed_bn RANDOM_SEED=7"]


def test_mask_sets_stand_alone_or_among_masks(write: Write) -> None:
    text = "PROBLEM: cifar10_3c3d_bn\nRANDOM_SEED: 1\nPOSITION: "
    assert positions(read(write(text + "prefixes"))) == ["1,0,0,0,0", "1,1,0,0,0", "1,1,1,0,0", "1,1,1,1,0", "1,1,1,1,1"]
    assert positions(read(write(text + "Suffixes"))) == ["1,1,1,1,1", "0,1,1,1,1", "0,0,1,1,1", "0,0,0,1,1", "0,0,0,0,1"]
    assert positions(read(write(text + "[none, singles, '1,0,0,0,0']"))) == ["0,0,0,0,0"] + [
        ",".join("1" if slot == place else "0" for slot in range(5)) for place in range(5)
    ]
    every = [format_mask(mask) for mask in itertools.product((0, 1), repeat=5)]
    assert positions(read(write(text + "all_masks"))) == every


@pytest.mark.parametrize(
    "written", ["00111", "'00111'", "0,0,1,1,1", "'0,0,1,1,1'", "[00111]", "['0,0,1,1,1']", "[[0,0,1,1,1]]", "'[0,0,1,1,1]'"]
)
def test_a_mask_means_what_it_means_on_the_command_line(write: Write, written: str) -> None:
    study = read(write(f"PROBLEM: cifar10_3c3d_bn\nRANDOM_SEED: 1\nPOSITION: {written}\n"))
    assert positions(study) == ["0,0,1,1,1"]


def test_a_mask_written_as_a_list_is_told_from_a_grid(write: Write) -> None:
    with pytest.raises(ConfigError, match=r'^POSITION=\[0,0,1,1,1\]: a list is a grid of masks; write the mask as "0,0,1,1,1"'):
        read(write("PROBLEM: cifar10_3c3d_bn\nRANDOM_SEED: 1\nPOSITION: [0,0,1,1,1]\n"))


def test_the_modes_of_an_all_zero_mask_are_one_run(write: Write) -> None:
    of_slots = [name for name, mode in MODES.items() if mode.trains is Trains.ALL]
    modes = ", ".join(of_slots)
    text = f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, 2]\nPOSITION: [none, all]\nABLATION: [{modes}]\n"
    study = read(write(text))
    assert [run.variant for run in study.runs if run.config.random_seed == 1] == [
        "vanilla RANDOM_SEED=1",
        *(f"1,1,1 {mode} RANDOM_SEED=1" for mode in of_slots),
    ]
    assert len(study.runs) == 2 * (1 + len(of_slots))
    alone = read(write("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nPOSITION: none\nABLATION: fixed_bn\n"))
    assert alone.runs[0].config.directory == study.runs[0].config.directory  # studies share it
    assert len(read(write(text.replace(modes, "trained_bn, bn_and_head"))).runs) == 2 * 4


def test_a_grid_over_modes_of_each_slot(write: Write) -> None:
    lists = "['fixed_gamma,trained_bn', 'fixed_bn,fixed_bn']"
    study = read(write(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nPOSITION: '011'\nABLATION: {lists}\n"))
    assert [run.config.ablation for run in study.runs] == ["fixed_gamma,trained_bn", "fixed_bn"]


def test_the_same_run_twice_is_one(write: Write) -> None:
    text = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, 01]\nPOSITION: [prefixes, suffixes, 111, all]\nLR: [0.1, 1e-1]\n"
    assert positions(read(write(text))) == ["1,0,0", "1,1,0", "1,1,1", "0,1,1", "0,0,1"]


def test_several_grids_are_one_study(write: Write) -> None:
    one = "- {PROBLEM: digits_2c2d_bn, RANDOM_SEED: 1, LR: [0.1, 0.2]}\n"
    study = read(write(one + "- {PROBLEM: fmnist_mlp_bn, RANDOM_SEED: 1, POSITION: [singles]}\n" + one))
    assert [(run.config.problem, run.config.lr) for run in study.runs] == [
        ("digits_2c2d_bn", 0.1),
        ("digits_2c2d_bn", 0.2),
        *[("fmnist_mlp_bn", 0.1)] * 3,
    ]


def test_overrides_replace_the_files_values_in_every_run(write: Write) -> None:
    path = write(
        "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, 2, 3]\nPOSITION: all\nOPTIMIZER: Momentum\nOPT_HPARS: {momentum: 0.8}\n"
    )
    study = read(path, "Random_Seed=9", "POSITION=suffixes", "num_epochs=4", "OPT_HPARS.momentum=0.5")
    assert positions(study) == ["1,1,1", "0,1,1", "0,0,1"]
    assert {(run.config.random_seed, run.config.num_epochs, run.config.opt_hpars["momentum"]) for run in study.runs} == {
        (9, 4, 0.5)
    }


def test_nested_keys(write: Write) -> None:
    start = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nOPTIMIZER: Momentum\n"
    study = read(
        write(start + "OPT_HPARS.momentum: [0.5, 0.8]\nOUTPUT_DIR: [a, b]\n").with_name("study.yaml"), "OPT_HPARS.momentum=0.7"
    )
    assert [(run.config.output_dir, run.config.opt_hpars) for run in study.runs] == [
        ("a", {"momentum": 0.7}),
        ("b", {"momentum": 0.7}),
    ]
    schedules = "LR: [0.1]\nLR_SCHEDULE: {name: multistep, milestones: [2, 3], gamma: 0.1}\n"
    assert read(write(start + schedules)).runs[0].config.lr_schedule == {
        "name": "multistep",
        "milestones": [2, 3],
        "gamma": 0.1,
    }


def test_defaults_give_way_to_file_and_overrides(write: Write) -> None:
    path = write("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\n")
    assert read_study(path, {}, defaults={"threads": "1"}).runs[0].config.threads == 1
    assert read_study(path, {"threads": "2"}, defaults={"threads": "1"}).runs[0].config.threads == 2
    path = write("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nTHREADS: 3\n")
    assert read_study(path, {}, defaults={"threads": "1"}).runs[0].config.threads == 3


def test_any_key_can_be_a_grid(write: Write) -> None:
    keys = "OPTIMIZER: [Momentum, NAG]\nPRECISION: [fp32, bf16]\nBATCH_SIZE: [64, 32]\nMAX_STEPS: [none, 3]\nL2_REG: [0, 0.1]\n"
    study = read(write("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nNUM_EPOCHS: 2\n" + keys))
    assert len(study.runs) == len({run.config.directory for run in study.runs}) == 2**5
    assert study.runs[0].config.directory.name == "trained_bn__OPTIMIZER=Momentum"
    assert study.runs[-1].config.directory.name == (
        "trained_bn__OPTIMIZER=NAG__BATCH_SIZE=32__MAX_STEPS=3__L2_REG=0.1__PRECISION=bf16"
    )
    told = "BATCH_SIZE=32 MAX_STEPS=3 L2_REG=0.1 PRECISION=bf16"
    assert study.runs[-1].variant == f"1,1,1 trained_bn OPTIMIZER=NAG {told}"


def test_two_different_runs_in_one_directory_are_refused(write: Write) -> None:
    text = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nOPTIMIZER: [Momentum, NAG]\n"
    with pytest.raises(ConfigError) as refused:
        read(write(text + "NAMED_KEYS: PRECISION\n"))
    shared = "output/1__digits_2c2d_bn__1,1,1/Lr_0.015849/Ep_10/trained_bn__PRECISION=fp32"
    assert f"two runs would share {shared}: OPTIMIZER (Momentum there, NAG here)" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(read(write(text + "NAMED_KEYS: 'PRECISION,OPTIMIZER'\n")).runs) == 2
    with pytest.raises(ConfigError, match=r"THREADS \(1 there, 2 here\)"):
        read(write("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nTHREADS: [1, 2]\n"))


def test_a_problem_from_a_users_own_file(write: Write, tmp_path: Path) -> None:
    study = read(write(write_own_problem(tmp_path) + "RANDOM_SEED: 1\nPOSITION: suffixes\n"))
    assert positions(study) == ["1,1", "0,1"]
    assert study.runs[1].config.directory == Path("output/1__tiny__0,1/Lr_0.1/Ep_1/trained_bn")
    assert study.runs[1].variant == "0,1 trained_bn"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold keys of a run"),
        ("[]", "must hold keys of a run"),
        ("[1, 2]", "must hold keys of a run"),
        ("PROBLEM", "must hold keys of a run"),
        ("PROBLEM: [", "not valid YAML"),
        ("? [a]\n: b", "a key is not plain text"),
        ("\tPROBLEM: a", "not valid YAML"),
        ("RANDOM_SEED: 1", "PROBLEM is required"),
        ("PROBLEM: digits_2c2d_bn", "RANDOM_SEED is required"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: []", "an empty list"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nrandom_seed: 2", "random_seed is given twice"),
        ("PROBLEM: digits_2c2d\nRANDOM_SEED: 1", "did you mean digits_2c2d_bn"),
        ("PROBLEM: [digits_2c2d]\nRANDOM_SEED: 1\nPOSITION: prefixes", "did you mean digits_2c2d_bn"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nABLATON: fixed_bn", "ABLATON: unknown key; did you mean ABLATION"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, -1]", "RANDOM_SEED=-1: must be an integer"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nABLATION: [trained_bn, fixd_bn]", "did you mean fixed_bn"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nPOSITION: [prefix]", "POSITION=prefix: not a mask; did you mean prefixes"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nPOSITION: single", "POSITION=single: not a mask; did you mean singles"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nPOSITION: 00111", "POSITION=00111: has 5 digits; needs 3"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: {a: 1}", "must be plain text or numbers"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [[1]]", "must be plain text or numbers"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nLR:", "LR="),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nLR.x: 1", "LR takes a plain value"),
        ("&a [*a]", "recursive"),
        ("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nLR: &a [*a]", "recursive"),
        ("a: " * 3000 + "b", ""),
        ("[" * 3000, ""),
    ],
)
def test_what_is_wrong_is_one_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(write(text))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read: .*directory"):
        read(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00PROBLEM")
    with pytest.raises(ConfigError, match=r"cannot be read|not valid"):
        read(binary)


def test_a_batch_of_one_image_is_refused_where_it_leaves_one_value_per_channel(write: Write) -> None:
    text = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nBATCH_SIZE: [2, 1]\nPOSITION: "
    told = r"^BATCH_SIZE=1: gives one value per channel to BatchNorm in dense1, .*POSITION must leave .* \(run 3"
    with pytest.raises(ConfigError, match=told):
        read(write(text + "['110', '111']"))
    assert len(read(write(text + "['110', none]")).runs) == 4


def test_a_grid_that_nobody_meant_is_refused_at_once(write: Write) -> None:
    seeds = ", ".join(map(str, range(1000)))
    with pytest.raises(ConfigError, match="1000000 runs; a study has at most"):
        read(write(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [{seeds}]\nMAX_STEPS: [{seeds}]\n"))


def test_masks_are_counted_before_they_are_made(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of 37 slots has 2^37 masks."""
    with pytest.raises(ConfigError, match=f"{2**37 + 2 * 2**3 + 1 + 2} runs; a study has at most"):
        read(
            write(
                "PROBLEM: [cifar100_wrn404_bn, digits_2c2d_bn, digits_2c2d_bn]\nPOSITION: [all_masks, none]\nRANDOM_SEED: 1\n"
            )
        )
    monkeypatch.setattr("batchnorm.study.grid.MAX_RUNS", 2 * (8 + 3 + 1))
    grid = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, 2]\nPOSITION: [all_masks, prefixes, '111']\n"
    assert len(read(write(grid)).runs) == 2 * 8  # some masks stand in two sets
    monkeypatch.setattr("batchnorm.study.grid.MAX_RUNS", 2 * (8 + 3 + 1) - 1)
    with pytest.raises(ConfigError, match="24 runs; a study has at most 23"):
        read(write(grid))


def test_an_index_that_is_not_there(write: Write) -> None:
    study = read(write("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, 2]\n"))
    assert study.run_at(1).config.random_seed == 2
    for index in (-1, 2):
        with pytest.raises(ConfigError, match=f"--index {index}: study has the runs 0 to 1"):
            study.run_at(index)


def test_text_gives_the_same_runs_whatever_the_tuning_file_says_later(write: Write, tmp_path: Path) -> None:
    tuning = tmp_path / "tuning.yaml"
    entry = "digits_2c2d_bn: {batch_size: 32, num_epochs: 9, %s}"
    momentum = "Momentum: {lr_schedule: {name: multistep, milestones: [2, 5], gamma: 0.3}, opt_hpars: {lr: 0.3, momentum: 0.7}}"
    tuning.write_text(entry % f"{momentum}, SGD: {{lr_schedule: null, opt_hpars: {{lr: 1.0e-05}}}}")
    study = read(
        write(
            f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nOPTIMIZER: [Momentum, SGD]\nPOSITION: [all, 010]\nMAX_STEPS: 7\n"
            f"BIAS_INIT: [0.25]\nDETERMINISTIC: false\nTUNING_CONF: {tuning}\nTHREADS: 1\nOUTPUT_DIR: 'a: b, c'\n"
        )
    )
    again = tmp_path / "again.yaml"
    again.write_text(study.to_text())
    other = "Momentum: {lr_schedule: {name: cosine}, opt_hpars: {lr: 0.2, momentum: 0.2}}"
    tuning.write_text(entry.replace("9", "8") % f"{other}, SGD: {{lr_schedule: {{name: cosine}}, opt_hpars: {{lr: 0.1}}}}")
    assert [run.config for run in read(again).runs] == [run.config for run in study.runs]
    assert [run.config.directory for run in read(again).runs] == [run.config.directory for run in study.runs]


def test_text_keeps_the_directories_whatever_is_usual_later(write: Write, tmp_path: Path) -> None:
    """A directory names what is unlike the tuning file: editing that file must not move what is submitted."""
    tuning = tmp_path / "tuning.yaml"
    entry = "digits_2c2d_bn: {batch_size: %d, num_epochs: 2, Momentum: {lr_schedule: null, opt_hpars: {lr: 0.1, momentum: %s}}}"
    tuning.write_text(entry % (32, 0.9))
    grid = "OPTIMIZER: Momentum\nBATCH_SIZE: [32, 64]\nOPT_HPARS.momentum: [0.9, 0.5]\nPRECISION: [fp32, bf16]\n"
    path = write(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nTUNING_CONF: {tuning}\n{grid}")
    study = read(path)
    names = [run.config.directory.name for run in study.runs]
    assert names[0] == "trained_bn__OPTIMIZER=Momentum"
    assert names[-1] == "trained_bn__OPTIMIZER=Momentum__OPT_HPARS.momentum=0.5__BATCH_SIZE=64__PRECISION=bf16"
    again = tmp_path / "again.yaml"
    again.write_text(study.to_text())
    tuning.write_text(entry % (64, 0.5))
    assert [run.config for run in read(again).runs] == [run.config for run in study.runs]
    assert [run.config.directory.name for run in read(again).runs] == names
    assert [run.config.directory.name for run in read(path).runs] != names


def test_text_leaves_threads_to_the_machine_where_nobody_gave_them(write: Write) -> None:
    """A time-limit test on SLURM met it: a study's THREADS was lost at submission, and with it the last bits."""
    blocks = "- {PROBLEM: digits_2c2d_bn, RANDOM_SEED: 1, THREADS: 1}\n- {PROBLEM: digits_2c2d_bn, RANDOM_SEED: 2}\n"
    path = write(blocks)
    assert [run.threads_given for run in read(path).runs] == [True, False]
    assert read(path).to_text().count("THREADS: '1'") == 1
    assert read_study(path, {}, defaults={"threads": "1"}).to_text().count("THREADS") == 1
    assert read(path, "THREADS=2").to_text().count("THREADS: '2'") == 2


SHIPPED = sorted(Path(__file__).parents[2].glob("configs/studies/*.yaml"))
COUNTS = {
    "ablations_fmnist_2c2d": 25,
    "findings_fmnist_2c2d": 145,
    "findings_fmnist_2c2d_pilots": 28,
    "findings_fmnist_2c2d_rates": 12,
    "learning_rates_fmnist_2c2d": 105,
    "modes_fmnist": 36,
    "norms_fmnist": 24,
    "positions_cifar100_3c3d": 111,
    "positions_cifar100_allcnnc": 69,
    "positions_cifar10_3c3d": 111,
    "quickstart_digits": 5,
    "widths_fmnist_resnet8": 12,
}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_have_the_runs_that_their_header_says(path: Path) -> None:
    if path.stem in COUNTS:
        study = read(path)
        assert len(study.runs) == COUNTS[path.stem]
        assert f"# {len(study.runs)} runs:" in path.read_text()
    else:
        study = read(path, "PROBLEM=cifar10_3c3d_bn", "RANDOM_SEED=1")
        assert len(study.runs) == {"modes": 4, "positions": 9}[path.stem]
    assert len({run.config.directory for run in study.runs}) == len(study.runs)


def test_the_issues_studies_are_shipped() -> None:
    assert set(COUNTS) <= {path.stem for path in SHIPPED}


def test_a_wrong_run_of_many_is_named(write: Write) -> None:
    text = "PROBLEM: digits_2c2d_bn\nRANDOM_SEED: [1, 2]\nLR: [0.1, -1]\nABLATION: [fixed_bn]\nPOSITION: prefixes\n"
    wrong = r"^LR=-1.*: must be .* \(run 3: 1,0,0 fixed_bn RANDOM_SEED=1 LR=-1\)$"
    with pytest.raises(ConfigError, match=wrong):
        read(write(text))
    with pytest.raises(ConfigError, match=r"^LR=-1\.0: must be [^(]*$"):
        read(write("PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1\nLR: -1\n"))


def test_a_notebook_shows_the_first_runs_and_how_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "<many>.yaml"
    path.write_text(f"PROBLEM: digits_2c2d_bn\nRANDOM_SEED: 1-30\nOUTPUT_DIR: {tmp_path / 'output'}\nNUM_EPOCHS: 4\n")
    record_run(tmp_path / "output", problem="digits_2c2d_bn", random_seed=2)
    shown = read_study(path, {})._repr_html_()
    assert "Study &lt;many&gt;: 30 runs" in shown and "<many>" not in shown
    assert shown.count("<tr>") == 1 + 12 + 1 and "and 18 more" in shown
    assert "<td>1,1,1 trained_bn RANDOM_SEED=2</td><td>finished</td>" in shown
    assert shown.count("<td>missing</td>") == 11


def test_an_optimizers_name_tells_its_hyperparameters_unless_it_has_several(write: Write) -> None:
    block = "- {PROBLEM: digits_2c2d_bn, RANDOM_SEED: 1, POSITION: all, LR: [0.1, 0.2], OPTIMIZER: "
    study = read(write(f"{block}SGD}}\n{block}Adam}}\n"))
    told = [f"1,1,1 trained_bn OPTIMIZER={name} LR={lr}" for name in ("SGD", "Adam") for lr in (0.1, 0.2)]
    assert [run.variant for run in study.runs] == told
    assert list(plan(study, Path("s.yaml"), over="LR", by="valid_acc", then="RANDOM_SEED=2").variants) == [
        "1,1,1 trained_bn OPTIMIZER=SGD",
        "1,1,1 trained_bn OPTIMIZER=Adam",
    ]
    several = read(write(f"{block}SGD}}\n{block}Momentum, OPT_HPARS.momentum: [0.5, 0.9]}}\n"))
    assert [run.variant.partition("OPT_HPARS=")[2] for run in several.runs[1:4]] == [
        "{}",
        *['{"momentum":0.5}', '{"momentum":0.9}'],
    ]
    assert list(plan(several, Path("s.yaml"), over="LR", by="valid_acc", then="RANDOM_SEED=2").variants)[1:] == [
        f"1,1,1 trained_bn OPTIMIZER=Momentum OPT_HPARS.momentum={value}" for value in (0.5, 0.9)
    ]
