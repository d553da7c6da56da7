from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchnorm.config import (
    RunConfig,
    available_cores,
    canonical_fingerprint,
    differing_keys,
    read_command_line,
    resolve,
    split_arguments,
)
from batchnorm.errors import ConfigError
from batchnorm.modes import MODES, Affine, Treatment, treatments
from batchnorm.tuning import read_tuning

SEED_COMMAND = [
    "TUNING_CONF=configs/basic_config.yaml", "PROBLEM=cifar100_allcnnc_bn", "OPTIMIZER=SGD", "RANDOM_SEED=4842821",
]  # fmt: skip
DIGITS = ["PROBLEM=digits_2c2d_bn", "RANDOM_SEED=1"]
STEPS = ["LR_SCHEDULE=step", "LR_SCHEDULE.step_size=2", "LR_SCHEDULE.gamma=0.1"]
RESTARTS = ["LR_SCHEDULE=cosine_warm_restarts", "LR_SCHEDULE.T_0=1"]
DIGITS_KEYS = {"problem": "digits_2c2d_bn", "random_seed": 1}
SLOT_KEYS = [
    "NORM=layer", "GAMMA_INIT=0.1", "GAMMA_INIT=uniform", "BETA_INIT=-1", "BN_MOMENTUM=0.5", "BN_EPS=1e-3", "GHOST=16",
    "FREEZE_STATS_AFTER=3", "PLACEMENT=after", "AFFINE_LR_SCALE=10", "L2_AFFINE=1e-3",
]  # fmt: skip


def test_the_seed_command() -> None:
    config = read_command_line(SEED_COMMAND)
    assert config.directory == Path(
        "output/4842821__cifar100_allcnnc_bn__1,1,1,1,1,1,1,1,1/Lr_0.16579130972807002/Ep_350/trained_bn"
    )
    assert (config.lr, config.batch_size, config.num_epochs, config.opt_hpars) == (0.16579130972807002, 256, 350, {})
    assert config.threads == available_cores()


def test_the_designs_example_directory() -> None:
    config = read_command_line(["PROBLEM=cifar100_3c3d_bn", "RANDOM_SEED=4842821", "POSITION=00111", "ABLATION=fixed_gamma"])
    assert str(config.directory) == "output/4842821__cifar100_3c3d_bn__0,0,1,1,1/Lr_0.16579130972807002/Ep_350/fixed_gamma"


def test_keys_in_any_case_and_the_last_of_a_key_counts() -> None:
    config = read_command_line(["problem=digits_2c2d_bn", "Random_Seed=1", "lr=1", "LR=2", "position=[0,1,1]"])
    assert config.position == "0,1,1"
    assert config.lr == 2.0
    assert read_command_line([*DIGITS, "LR=2", "opt_hpars.LR=3"]).lr == 3.0
    assert "Lr_2.0" in str(config.directory)


def test_hyperparameters_and_schedules_can_be_overridden() -> None:
    adam = read_command_line([*DIGITS, "OPTIMIZER=Adam", "OPT_HPARS.beta1=0.5", "OPT_HPARS.lr=0.01"])
    assert (adam.lr, adam.opt_hpars) == (0.01, {"beta1": 0.5, "beta2": 0.999, "eps": 1e-8})
    cosine = read_command_line([*DIGITS, "LR_SCHEDULE=cosine", "LR_SCHEDULE.warmup_epochs=2"])
    assert cosine.lr_schedule == {"name": "cosine", "warmup_epochs": 2.0}
    steps = read_command_line([*DIGITS, "LR_SCHEDULE=multistep", "LR_SCHEDULE.milestones=2,4", "LR_SCHEDULE.gamma=0.1"])
    assert steps.lr_schedule == {"name": "multistep", "milestones": [2.0, 4.0], "gamma": 0.1}
    momentum = ["PROBLEM=svhn_wrn164_bn", "RANDOM_SEED=1", "OPTIMIZER=Momentum"]
    assert read_command_line(momentum).lr_schedule == {"name": "multistep", "milestones": [80, 120], "gamma": 0.1}
    assert read_command_line([*momentum, "LR_SCHEDULE=null"]).lr_schedule is None


def test_a_saved_configuration_can_be_loaded(tmp_path: Path) -> None:
    for extra in (
        [],
        ["OPTIMIZER=Adam", "LR_SCHEDULE=cosine", "BIAS_INIT=0.25", "MAX_STEPS=7", "OUTPUT_DIR=a b: #c"],
        SLOT_KEYS,
    ):
        config = read_command_line([*DIGITS, *extra])
        config.save(tmp_path / "config.yaml")
        assert RunConfig.load(tmp_path / "config.yaml") == config


def test_the_fingerprint_covers_what_decides_the_result_and_nothing_else() -> None:
    config = read_command_line(DIGITS)
    same = ["DEVICE=cpu", "THREADS=3", "MEMORY_FORMAT=contiguous", "OUTPUT_DIR=x", "OBS_DATASETS=y", "LOG_EVERY_STEPS=1"]
    for change in same:
        assert read_command_line([*DIGITS, change]).fingerprint() == config.fingerprint()
    decisive = [
        "PROBLEM=mnist_2c2d_bn", "RANDOM_SEED=2", "POSITION=110", "ABLATION=fixed_bn", "OPTIMIZER=RMSprop", "LR=2",
        "LR_SCHEDULE=cosine", "NUM_EPOCHS=5", "MAX_STEPS=9", "BATCH_SIZE=7", "L2_REG=1e-3", "BIAS_INIT=0", "PRECISION=bf16",
        "COMPILE=true", *SLOT_KEYS,
    ]  # fmt: skip
    for change in decisive:
        assert read_command_line([*DIGITS, change]).fingerprint() != config.fingerprint(), change


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ([], "trained_bn"),
        (["OPTIMIZER=SGD", "PRECISION=fp32", "BATCH_SIZE=64", "L2_REG=0"], "trained_bn"),
        (["PRECISION=bf16", "OPTIMIZER=Adam"], "trained_bn__OPTIMIZER=Adam__PRECISION=bf16"),
        (["ABLATION=fixed_bn", "MAX_STEPS=5"], "fixed_bn__MAX_STEPS=5"),
        (["OPTIMIZER=Adam", "OPT_HPARS.beta1=0.5"], "trained_bn__OPTIMIZER=Adam__OPT_HPARS.beta1=0.5"),
        (
            ["LR_SCHEDULE=multistep", "LR_SCHEDULE.milestones=2,4", "LR_SCHEDULE.gamma=0.1"],
            "trained_bn__LR_SCHEDULE=multistep__LR_SCHEDULE.gamma=0.1__LR_SCHEDULE.milestones=2.0,4.0",
        ),
        (["POSITION=none", "ABLATION=fixed_beta", "COMPILE=true"], "trained_bn__COMPILE=true"),
        (["BIAS_INIT=0", "BATCH_SIZE=32", "NAMED_KEYS=auto"], "trained_bn__BATCH_SIZE=32__BIAS_INIT=0.0"),
        (["PRECISION=bf16", "NAMED_KEYS="], "trained_bn"),
        (["NAMED_KEYS=precision,BATCH_SIZE"], "trained_bn__BATCH_SIZE=64__PRECISION=fp32"),
    ],
)
def test_keys_that_are_not_as_usual_stand_in_the_directorys_name(more: list[str], name: str) -> None:
    config = read_command_line([*DIGITS, *more])
    assert config.directory == Path(f"output/1__digits_2c2d_bn__{config.position}/Lr_{config.lr!r}/Ep_10/{name}")
    assert RunConfig.from_dict(config.to_dict()).directory == config.directory


def test_a_schedule_of_the_tuning_file_that_is_switched_off_is_named() -> None:
    momentum = ["PROBLEM=svhn_wrn164_bn", "RANDOM_SEED=1", "OPTIMIZER=Momentum"]
    assert read_command_line(momentum).directory.name == "trained_bn__OPTIMIZER=Momentum"
    constant = read_command_line([*momentum, "LR_SCHEDULE=null"])
    assert constant.directory.name == "trained_bn__OPTIMIZER=Momentum__LR_SCHEDULE=null"


@pytest.mark.parametrize("named", ["LR", "DEVICE", "nonsense"])
def test_only_keys_that_decide_the_result_can_be_named(named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_command_line([*DIGITS, f"NAMED_KEYS={named}"])


read_once = cache(read_tuning)
deciding = st.fixed_dictionaries(
    {},
    optional={
        "L2_REG": st.floats(0, 3e38),
        "BIAS_INIT": st.floats(-3e38, 3e38),
        "PRECISION": st.sampled_from(["fp32", "bf16"]),
        "MAX_STEPS": st.integers(1, 2**62),
        "BATCH_SIZE": st.integers(2, 2**62),
        "LR_SCHEDULE": st.sampled_from(["null", "cosine", "constant"]),
        "OPTIMIZER": st.sampled_from(["SGD", "Adam", "RMSprop"]),
        "COMPILE": st.sampled_from(["true", "false"]),
    },
)


@given(deciding, deciding)
def test_other_runs_lie_in_other_directories(one: dict[str, object], other: dict[str, object]) -> None:
    arguments = [[*DIGITS, *(f"{key}={value}" for key, value in keys.items())] for keys in (one, other)]
    configs = [resolve(split_arguments(given), read_tuning=read_once) for given in arguments]
    same = configs[0].fingerprint() == configs[1].fingerprint()
    assert (configs[0].directory == configs[1].directory) == same
    for config in configs:
        assert len(config.directory.name.encode()) <= 200
        assert set(config.directory.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._,=+-")


def test_a_long_name_ends_in_a_digest() -> None:
    milestones = ",".join(str(epoch) for epoch in range(1, 90))
    steps = ["LR_SCHEDULE=multistep", "LR_SCHEDULE.gamma=0.1", "NUM_EPOCHS=100", "PRECISION=bf16"]
    names = [
        read_command_line([*DIGITS, *steps, f"LR_SCHEDULE.milestones={milestones},{last}"]).directory.name for last in (95, 96)
    ]
    assert all(len(name) <= 200 and name.startswith("trained_bn__LR_SCHEDULE=multistep__") for name in names)
    assert names[0] != names[1]


def test_a_fingerprint_leaves_out_what_stands_at_its_default() -> None:
    plain = read_command_line(DIGITS)
    assert plain.fingerprint() == {
        "PROBLEM": "digits_2c2d_bn", "RANDOM_SEED": 1, "POSITION": "1,1,1", "LR": 0.15849, "NUM_EPOCHS": 10, "BATCH_SIZE": 64,
    }  # fmt: skip
    assert canonical_fingerprint({**plain.deciding_keys(), "images": "abc"}) == {**plain.fingerprint(), "images": "abc"}
    assert differing_keys({"images": "abc"}, {}) == []
    assert differing_keys({}, {"MAX_STEPS": 5}) == ["MAX_STEPS (null there, 5 here)"]


@pytest.mark.parametrize("key", SLOT_KEYS)
def test_a_key_that_acts_in_slots_only_makes_no_other_run_of_vanilla(key: str) -> None:
    vanilla = read_command_line([*DIGITS, "POSITION=none"])
    assert read_command_line([*DIGITS, "POSITION=none", key]) == vanilla
    assert "=" in read_command_line([*DIGITS, "POSITION=001", key]).directory.name


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (["ABLATION=affine_only", "NORM=layer", "GAMMA_INIT=.5"], "affine_only__GAMMA_INIT=0.5"),
        (["GHOST=64"], "trained_bn"),
        (["GHOST=1", "POSITION=110"], "trained_bn__GHOST=1"),
        (["NORM=layer", "GHOST=48", "FREEZE_STATS_AFTER=2"], "trained_bn__NORM=layer"),
        (["ABLATION=fixed_bn", "L2_AFFINE=0.1", "BETA_INIT=1"], "fixed_bn__BETA_INIT=1.0"),
        (["NORM=layer", "BN_MOMENTUM=0.5", "BN_EPS=.1"], "trained_bn__NORM=layer__BN_EPS=0.1"),
        (["NORM=center", "BN_MOMENTUM=0.5", "BN_EPS=.1"], "trained_bn__NORM=center__BN_MOMENTUM=0.5"),
        (["ABLATION=fixed_bn,affine_only", "POSITION=110", "NORM=layer"], "fixed_bn,affine_only__NORM=layer"),
    ],
)
def test_a_key_is_dropped_where_no_slot_has_what_it_acts_on(more: list[str], name: str) -> None:
    assert read_command_line([*DIGITS, *more]).directory.name == name


def test_treatments_are_the_modes_with_what_the_keys_say() -> None:
    keys = ["GAMMA_INIT=uniform", "BETA_INIT=2", "BN_MOMENTUM=0.5", "BN_EPS=0.25", "GHOST=16", "PLACEMENT=after", "NORM=scale"]
    config = read_command_line([*DIGITS, *keys, "POSITION=101", "ABLATION=fixed_gamma,affine_only"])
    gamma, beta = Affine("uniform", trained=False, asked_for=True), Affine(2.0, trained=True, asked_for=True)
    normed = Treatment("scale", gamma, beta, momentum=0.5, eps=0.25, ghost=16, after=True)
    bare = Treatment(None, replace(gamma, trained=True), beta, after=True)
    assert config.treatments == (normed, Treatment(), bare)
    for mode in MODES:
        plain = read_command_line([*DIGITS, "POSITION=101", f"ABLATION={mode}"])
        assert plain.treatments == treatments((1, 0, 1), mode)


def test_numbers_and_words_of_a_key_have_one_form() -> None:
    one = read_command_line([*DIGITS, "GAMMA_INIT=1"])
    assert one == read_command_line([*DIGITS, "GAMMA_INIT=1e0"]) == resolve({**DIGITS_KEYS, "gamma_init": 1})
    assert one.directory.name == "trained_bn__GAMMA_INIT=1.0"
    assert read_command_line([*DIGITS, "GAMMA_INIT=Uniform"]).gamma_init == "uniform"
    assert read_command_line([*DIGITS, "BN_MOMENTUM=1"]) == resolve({**DIGITS_KEYS, "bn_momentum": 1})
    assert read_command_line([*DIGITS, "GAMMA_INIT=mode", "BN_EPS=null"]) == read_command_line(DIGITS)


def test_the_modes_of_the_vanilla_network_are_one_run() -> None:
    vanilla = [read_command_line([*DIGITS, "POSITION=none", f"ABLATION={mode}"]) for mode in ("trained_bn", "fixed_beta")]
    assert vanilla[0] == vanilla[1]
    assert vanilla[1].directory.name == "trained_bn"


def test_differing_keys_are_named_with_both_values() -> None:
    assert differing_keys({"A": 1, "B": 2}, {"A": 1, "B": 3, "C": None}) == ["B (2 there, 3 here)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RANDOM_SED=1"], "RANDOM_SED: unknown key; did you mean RANDOM_SEED?"),
        (["SEED=1"], "SEED: unknown key; did you mean RANDOM_SEED?"),
        (["epochs=3"], "epochs: unknown key; did you mean NUM_EPOCHS?"),
        (["MASK=all"], "MASK: unknown key; did you mean POSITION?"),
        (["nonsense"], "nonsense: not KEY=value"),
        ([], "PROBLEM is required"),
        (["PROBLEM=digits_2c2d_bn"], "RANDOM_SEED is required"),
        (["PROBLEM=digits_2c2d", "RANDOM_SEED=1"], "PROBLEM=digits_2c2d: no such problem; did you mean digits_2c2d_bn?"),
        ([*DIGITS, "OPTIMIZER=adam"], "OPTIMIZER=adam: no such optimizer; did you mean Adam?"),
        ([*DIGITS, "ABLATION=fixed"], "ABLATION=fixed: unknown mode"),
        ([*DIGITS, "POSITION=01"], "POSITION=01: has 2 digits; needs 3"),
        ([*DIGITS, "RANDOM_SEED=-1"], "RANDOM_SEED=-1: must be an integer from 0"),
        ([*DIGITS, "RANDOM_SEED=1.5"], "RANDOM_SEED=1.5: must be an integer from 0"),
        ([*DIGITS, f"RANDOM_SEED={2**63}"], "must be an integer from 0"),
        ([*DIGITS, "RANDOM_SEED=true"], "RANDOM_SEED=true: must be an integer"),
        ([*DIGITS, "LR=0"], "LR=0.0: must be a finite number > 0"),
        ([*DIGITS, "LR=-1"], "LR=-1.0: must be a finite number > 0"),
        ([*DIGITS, "LR=nan"], "LR=nan: must be a finite number > 0"),
        ([*DIGITS, "LR=inf"], "LR=inf: must be a finite number > 0"),
        ([*DIGITS, "LR=fast"], "LR=fast: must be a finite number > 0"),
        ([*DIGITS, "NUM_EPOCHS=0"], "NUM_EPOCHS=0: must be an integer >= 1"),
        ([*DIGITS, "BATCH_SIZE=0"], "BATCH_SIZE=0: must be an integer >= 1"),
        ([*DIGITS, "MAX_STEPS=0"], "MAX_STEPS=0: must be an integer >= 1"),
        ([*DIGITS, "L2_REG=-1"], "L2_REG=-1.0: must be a finite number >= 0"),
        ([*DIGITS, "BIAS_INIT=tiny"], "BIAS_INIT=tiny: must be deepobs or a finite number"),
        ([*DIGITS, "BIAS_INIT=nan"], "BIAS_INIT=nan: must be deepobs or a finite number"),
        ([*DIGITS, "GAMMA_INIT=one"], "GAMMA_INIT=one: must be mode, uniform or a finite number"),
        ([*DIGITS, "BN_MOMENTUM=0"], "BN_MOMENTUM=0.0: must be a number > 0 and <= 1"),
        ([*DIGITS, "PLACEMENT=behind"], "PLACEMENT=behind: must be before or after"),
        (["PROBLEM=svhn_wrn164_bn", "RANDOM_SEED=1", "PLACEMENT=after"], "PLACEMENT=after: svhn_wrn164_bn brings norms"),
        ([*DIGITS, "GHOST=48"], "GHOST=48: does not divide BATCH_SIZE=64; must be one of 1, 2, 4, 8, 16, 32, 64"),
        ([*DIGITS, "GHOST=128"], "GHOST=128: does not divide BATCH_SIZE=64"),
        ([*DIGITS, "GHOST=1"], "GHOST=1: gives one value per channel to BatchNorm in dense1, which has no variance"),
        ([*DIGITS, "FREEZE_STATS_AFTER=0"], "FREEZE_STATS_AFTER=0: must be an integer >= 1"),
        ([*DIGITS, "L2_AFFINE=-1"], "L2_AFFINE=-1.0: must be a finite number >= 0"),
        ([*DIGITS, "LR=1e30", "AFFINE_LR_SCALE=1e30"], "AFFINE_LR_SCALE=1e+30: times LR=1e+30 must be a finite number > 0"),
        ([*DIGITS, "BN_EPS=0"], "BN_EPS=0.0: must be a finite number > 0"),
        ([*DIGITS, "BETA_INIT=uniform"], "BETA_INIT=uniform: must be mode or a finite number"),
        ([*DIGITS, "PRECISION=fp16"], "PRECISION=fp16: must be fp32 or bf16"),
        ([*DIGITS, "DEVICE=gpu"], "DEVICE=gpu: must be auto, cpu, cuda or cuda:N"),
        ([*DIGITS, "THREADS=0"], "THREADS=0: must be an integer >= 1"),
        ([*DIGITS, "DETERMINISTIC=perhaps"], "DETERMINISTIC=perhaps: must be true or false"),
        ([*DIGITS, "OUTPUT_DIR="], "OUTPUT_DIR: is empty"),
        ([*DIGITS, "OUTPUT_DIR=${oc.env:HOME}"], "interpolations are not supported"),
        ([*DIGITS, "OPT_HPARS.momentum=0.9"], "OPT_HPARS.momentum: SGD has no such hyperparameter; valid: lr"),
        ([*DIGITS, "OPTIMIZER=Adam", "OPT_HPARS.beta1=1"], "OPT_HPARS.beta1=1.0: must be a number in [0, 1)"),
        ([*DIGITS, "OPT_HPARS=3"], "OPT_HPARS=3: give OPT_HPARS.name=value"),
        ([*DIGITS, "OPT_HPARS.lr=x"], "LR=x: must be a finite number > 0"),
        ([*DIGITS, "LR.x=3"], "LR.x=3: LR takes a plain value"),
        ([*DIGITS, "OPTIMIZER=AdamW", "L2_REG=0.1"], "L2_REG=0.1: AdamW decays weights by itself"),
        ([*DIGITS, "LR_SCHEDULE=cosin"], "LR_SCHEDULE.name=cosin: no such schedule; did you mean cosine?"),
        ([*DIGITS, "LR_SCHEDULE=step"], "LR_SCHEDULE: the schedule step needs step_size"),
        ([*DIGITS, "LR_SCHEDULE=cosine", "LR_SCHEDULE.gamma=1"], "the schedule cosine has no such setting"),
        ([*DIGITS, "LR_SCHEDULE=constant", "LR_SCHEDULE.warmup_epochs=11"], "take 11.0 epochs, but NUM_EPOCHS=10"),
        ([*DIGITS, "LR_SCHEDULE=multistep", "LR_SCHEDULE.milestones=4,2", "LR_SCHEDULE.gamma=1"], "a list of rising epochs"),
        ([*DIGITS, *RESTARTS, "LR_SCHEDULE.T_mult=inf"], "LR_SCHEDULE.T_mult=inf: must be a whole number >= 1 that float32"),
        ([*DIGITS, *RESTARTS, "LR_SCHEDULE.T_mult=1e300"], "LR_SCHEDULE.T_mult=1e+300: must be a whole number >= 1"),
        ([*DIGITS, *RESTARTS, "LR_SCHEDULE.T_mult=1.5"], "LR_SCHEDULE.T_mult=1.5: must be a whole number >= 1"),
        ([*DIGITS, "LR_SCHEDULE=multistep", "LR_SCHEDULE.gamma=1", "LR_SCHEDULE.milestones=1,1e308"], "list of rising epochs"),
        ([*DIGITS, "LR_SCHEDULE.warmup_epochs=1,5"], "LR_SCHEDULE.warmup_epochs=[1.0, 5.0]: must be a finite number >= 0"),
        ([*DIGITS, *STEPS, "LR_SCHEDULE.gamma=[0.1,0.2]"], "LR_SCHEDULE.gamma=[0.1, 0.2]: must be a finite number > 0"),
        ([*DIGITS, *STEPS, "LR_SCHEDULE.steps=1,2"], "LR_SCHEDULE.steps: the schedule step has no such setting"),
        ([*DIGITS, "BATCH_SIZE.=7"], "BATCH_SIZE.=7: has no name after the dot"),
        ([*DIGITS, "OPT_HPARS.=7"], "OPT_HPARS.=7: has no name after the dot"),
        ([*DIGITS, "NAMED_KEYS=OPT_HPARS.momentum"], "NAMED_KEYS=OPT_HPARS.momentum: this run has no OPT_HPARS.momentum;"),
        ([*DIGITS, "NAMED_KEYS=LR_SCHEDULE.step_size"], "this run has no LR_SCHEDULE.step_size; did you mean LR_SCHEDULE?"),
        ([*DIGITS, "NAMED_KEYS=BATCH_SIZE.x"], "this run has no BATCH_SIZE.x; did you mean BATCH_SIZE? Valid: BATCH_SIZE"),
        ([*DIGITS, "NAMED_KEYS=BATCH_SIZE."], "this run has no BATCH_SIZE.; did you mean BATCH_SIZE?"),
        ([*DIGITS, "OPTIMIZER=Adam", "NAMED_KEYS=OPT_HPARS.beta"], "no OPT_HPARS.beta; did you mean OPT_HPARS.beta2?"),
        ([*DIGITS, *STEPS, "NAMED_KEYS=LR_SCHEDULE.T_0"], "Valid: LR_SCHEDULE, LR_SCHEDULE.name, LR_SCHEDULE.step_size"),
        ([*DIGITS, "TUNING_CONF=nowhere.yaml"], "TUNING_CONF=nowhere.yaml: no such file"),
        ([*DIGITS, "TUNING_CONF=configs"], "TUNING_CONF=configs: cannot be read"),
        (["PROBLEM=cifar10_3c3d_bn", "RANDOM_SEED=1", "OPTIMIZER=Adam"], "has no entry for it; it has SGD"),
    ],
)  # fmt: skip
def test_bad_values_are_one_line_that_names_them(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_command_line(arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.lists(st.tuples(st.sampled_from(["LR", "NUM_EPOCHS", "POSITION", "LR_SCHEDULE", "OPT_HPARS.lr"]), st.text(max_size=8)))
)
def test_any_text_as_a_value_is_taken_or_refused_in_one_line(overrides: list[tuple[str, str]]) -> None:
    try:
        config = read_command_line([*DIGITS, *(f"{key}={text}" for key, text in overrides)])
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert RunConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("key", ["OUTPUT_DIR", "NUM_EPOCHS", "MEASURE", "THREADS", "BIAS_INIT"])
def test_question_marks_stand_for_a_key_that_is_not_given(key: str) -> None:
    assert read_command_line([*DIGITS, f"{key}=???"]) == read_command_line(DIGITS)


def test_equal_values_of_other_types_do_not_stand_in_for_each_other() -> None:
    plain = {"problem": "digits_2c2d_bn", "random_seed": 1}
    assert resolve({**plain, "compile": 1}).compile is True
    assert resolve({**plain, "max_steps": 1}).max_steps == 1
    for value in (True, 1.0):
        with pytest.raises(ConfigError, match=f"MAX_STEPS={value}: must be an integer >= 1"):
            resolve({**plain, "max_steps": value})


def test_reading_a_configuration_loads_no_torch() -> None:
    code = "import sys; from batchnorm import command, store; command.help_text(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["LR=1e39"], "LR=1e+39: must be a finite number > 0 that float32 holds, at most 3.40e+38"),
        (["L2_REG=1e39"], "L2_REG=1e+39: must be a finite number >= 0 that float32 holds"),
        (["BIAS_INIT=-1e39"], "BIAS_INIT=-1e+39: must be deepobs or a finite number that float32 holds"),
        (["OPTIMIZER=Adam", "OPT_HPARS.eps=1e39"], "OPT_HPARS.eps=1e+39: must be a finite number > 0 that float32 holds"),
        (["LR_SCHEDULE=cosine", "LR_SCHEDULE.eta_min=1e39"], "LR_SCHEDULE.eta_min=1e+39: must be a finite number >= 0 that"),
        (
            ["LR=1", "NUM_EPOCHS=4", "LR_SCHEDULE=step", "LR_SCHEDULE.step_size=1", "LR_SCHEDULE.gamma=1e10"],
            "LR_SCHEDULE.gamma=10000000000.0: lets LR=1.0 grow beyond 3.40e+38",
        ),
        (
            ["LR=1e38", "LR_SCHEDULE=multistep", "LR_SCHEDULE.milestones=1,2", "LR_SCHEDULE.gamma=3"],
            "LR_SCHEDULE.gamma=3.0: lets LR=1e+38 grow beyond 3.40e+38",
        ),
    ],
)
def test_what_float32_does_not_hold_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_command_line([*DIGITS, *arguments])
    assert str(error.value).startswith(message)


def test_what_float32_holds_at_most_is_what_torch_takes() -> None:
    import torch

    from batchnorm.optim import LARGEST_FLOAT32

    assert torch.finfo(torch.float32).max == LARGEST_FLOAT32
    assert read_command_line([*DIGITS, f"LR={LARGEST_FLOAT32!r}"]).lr == LARGEST_FLOAT32
    torch.zeros(1).add_(torch.ones(1), alpha=LARGEST_FLOAT32)
    with pytest.raises(RuntimeError, match="without overflow"):
        torch.zeros(1).add_(torch.ones(1), alpha=1e39)


def test_a_warm_up_alone_is_the_constant_schedule(tmp_path: Path) -> None:
    alone = read_command_line([*DIGITS, "LR_SCHEDULE.warmup_epochs=1"])
    assert alone.lr_schedule == {"name": "constant", "warmup_epochs": 1.0}
    named = read_command_line([*DIGITS, "LR_SCHEDULE=constant", "LR_SCHEDULE.warmup_epochs=1"])
    assert (alone, alone.directory) == (named, named.directory)
    tuning = tmp_path / "tuning.yaml"
    entry = "digits_2c2d_bn: {batch_size: 8, num_epochs: 9, SGD: {opt_hpars: {lr: 0.1}, lr_schedule: {warmup_epochs: 1}}}"
    tuning.write_text(entry)
    tuned = read_command_line([*DIGITS, f"TUNING_CONF={tuning}"])
    assert (tuned.lr_schedule, tuned.named_keys) == ({"name": "constant", "warmup_epochs": 1}, "")
    with pytest.raises(ConfigError, match=r"LR_SCHEDULE: eta_min without a schedule's name; valid: constant, step"):
        read_command_line([*DIGITS, "LR_SCHEDULE.eta_min=1"])


def test_a_schedules_name_may_follow_its_settings() -> None:
    one = read_command_line([*DIGITS, "LR_SCHEDULE.warmup_epochs=2", "LR_SCHEDULE=cosine"])
    assert one == read_command_line([*DIGITS, "LR_SCHEDULE=cosine", "LR_SCHEDULE.warmup_epochs=2"])


def test_home_folders_and_variables_are_expanded_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHERE", f"{tmp_path}/there")
    (tmp_path / "tuning.yaml").write_text(Path("configs/basic_config.yaml").read_text())
    (tmp_path / "net.py").write_text(
        "from batchnorm.problems import register_problem\n"
        "@register_problem(image_set='digits', classes=10, slots=('a',))\ndef digits_2c2d_bn(): ...\n"
    )
    config = resolve(
        {
            "problem": "~/net.py:digits_2c2d_bn",
            "random_seed": 1,
            "output_dir": "~/runs",
            "obs_datasets": "$WHERE/sets",
            "tuning_conf": "~/tuning.yaml",
        }
    )
    assert config.output_dir == f"{tmp_path}/runs"
    assert config.obs_datasets == f"{tmp_path}/there/sets"
    assert (config.tuning_conf, config.problem) == (f"{tmp_path}/tuning.yaml", f"{tmp_path}/net.py:digits_2c2d_bn")
    assert resolve({"problem": "digits_2c2d_bn", "random_seed": 1, "output_dir": "./~/x"}).output_dir == "./~/x"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("OUTPUT_DIR=$NO_SUCH/x", "OUTPUT_DIR=$NO_SUCH/x: the variable NO_SUCH is not set"),
        ("OUTPUT_DIR=~no_such_user/x", "OUTPUT_DIR=~no_such_user/x: ~no_such_user is nobody's home directory"),
        ("OUTPUT_DIR=\udcff", "'OUTPUT_DIR=\\udcff': must be UTF-8 text"),
        ("PROBLEM=\udcff", "'PROBLEM=\\udcff': must be UTF-8 text"),
        (f"TUNING_CONF={'a' * 300}", f"TUNING_CONF={'a' * 300}: cannot be read: File name too long"),
        (f"PROBLEM={'a' * 300}.py:f", f"PROBLEM={'a' * 300}.py:f: {'a' * 300}.py cannot be read: File name too long"),
    ],
)
def test_paths_that_cannot_be_are_one_line(argument: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_command_line([*DIGITS, argument])
    assert str(error.value).startswith(message)


def test_a_tuning_file_that_is_nowhere_is_told_with_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = f"no such file below {tmp_path}, nor among the shipped ones; did you mean basic_config\\? Valid: basic_config$"
    with pytest.raises(ConfigError, match=f"^TUNING_CONF=configs/basic_confg.yaml: {told}"):
        read_command_line([*DIGITS, "TUNING_CONF=configs/basic_confg.yaml"])


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/user/job", {"user/cpu.max": "200000 100000", "user/job/cpu.max": "max 100000"}, 2),
        ("0::/user/job", {"user/cpu.max": "350000 100000", "user/job/cpu.max": "290000 100000"}, 2),
        ("3:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 1),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("3:cpu:/docker/1f", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("3:memory:/\n1:name=systemd:/", {"memory/cpu.cfs_quota_us": "1", "memory/cpu.cfs_period_us": "1"}, None),
        ("", {}, None),
    ],
    ids=str,
)
def test_a_containers_quota_counts(
    groups: str, files: dict[str, str], cores: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    membership = tmp_path / "cgroup"
    membership.write_text(groups)
    for name, content in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(content + "\n")
    assert available_cores(cgroups=tmp_path / "groups", membership=membership) == (cores or 16)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert available_cores(cgroups=tmp_path / "groups", membership=membership) == 1
    assert available_cores(cgroups=tmp_path / "absent", membership=tmp_path / "absent") == 1
