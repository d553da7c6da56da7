from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from batchnorm.analysis import figures
from batchnorm.analysis.__main__ import main
from batchnorm.analysis.commands import _Lines, _logging
from batchnorm.analysis.runs import LEFT_OUT
from batchnorm.analysis.streams import Output, tell
from batchnorm.errors import wrong_argument
from tests.analysis.conftest import cut_off, record

COMMANDS = (
    *(
        "runs",
        "summary",
        "effects",
        "export",
        "report",
        "performance",
        "ablations",
        "rates",
        "means",
        "surface",
        "betas",
        "forest",
        "interactions",
    ),
    *("thresholds", "norms", "statistics_gap", "landscape", "sharpness"),
)
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    """Return a function that runs the command here, and gives back exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(shell: Shell, command: str) -> None:
    code, out, _ = shell(command, "--help")
    assert code == 0
    assert f"example:\n  python -m batchnorm.analysis {command} output" in out


def test_runs_lists_status_and_progress(shell: Shell, tmp_path: Path) -> None:
    record(tmp_path, random_seed=1)
    cut = cut_off(tmp_path, random_seed=2)
    damaged = record(tmp_path, random_seed=3)
    (damaged / "run.h5").write_bytes(b"\0" * 1000)
    code, out, _ = shell("runs", tmp_path)
    rows = [row.split() for row in out.splitlines()]
    assert code == 0
    assert rows[1][:3] == ["finished", "4/4", "digits_2c2d_bn"]
    assert rows[2][:2] == ["interrupted", "2/4"] and rows[2][-1] == str(cut)
    assert rows[3][0] == "unreadable" and str(damaged) in out


def test_the_list_shows_the_settings_in_which_runs_differ(shell: Shell, tmp_path: Path) -> None:
    for keys in ({"position": "none"}, {"norm": "layer"}, {}):
        record(tmp_path, **keys)
    header, *rows = (line.split() for line in shell("runs", tmp_path)[1].splitlines())
    assert header[7:] == ["seed", "norm", "path"]
    assert [row[8:-1] for row in rows] == [[], ["batch"], ["layer"]]


def test_runs_can_be_chosen(shell: Shell, output: Path) -> None:
    _, out, _ = shell("runs", output, "--mask", "none", "001", "--seed", 2, "--mode", "vanilla", "trained_bn")
    assert len(out.splitlines()) == 3


@pytest.fixture(scope="module")
def of_norms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invent runs with several norms and other keys, beside vanilla."""
    folder = tmp_path_factory.mktemp("norms")
    small = {"epochs": 1, "log_every_steps": 0}
    for keys in ({"position": "none"}, {}, {"norm": "layer"}, {"norm": "group:4"}, {"ghost": 16}, {"precision": "bf16"}):
        record(folder, **small, **keys)
    record(folder, **small, norm="layer", position="110")
    record(folder, **small, optimizer="Adam", opt_hpars={"beta1": 0.5}, norm="layer")
    return folder


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (("--norm", "layer"), ["0,0,0", "1,1,0 layer", "1,1,1 layer", "1,1,1 layer Adam"]),
        (("--norm", "GROUP:4", "--mode", "trained_bn"), ["1,1,1 group_4"]),
        (("--norm", "layer", "--where", "optimizer=SGD"), ["0,0,0", "1,1,0 layer", "1,1,1 layer"]),
        (("--where", "NORM=batch", "GHOST=16", "ghost=none", "--where", "precision=FP32"), ["0,0,0", "1,1,1", "1,1,1 16"]),
        (("--where", "OPT_HPARS.beta1=5e-1"), ["1,1,1 layer Adam"]),
        (("--where", "lr_schedule=none", "PRECISION=bf16"), ["1,1,1 bf16"]),
        (("--where", "precision=fp16"), []),
    ],
)
def test_keys_that_decide_results_choose_among_runs(
    shell: Shell, of_norms: Path, chosen: tuple[str, ...], found: list[str]
) -> None:
    _, out, _ = shell("runs", of_norms, *chosen)
    names = [Path(line.split()[-1]) for line in out.splitlines()[1:]]
    words = {"NORM", "GHOST", "PRECISION", "OPTIMIZER"}
    pairs = [[part.split("=") for part in name.name.split("__")[1:]] for name in names]
    kept = [" ".join(value for key, value in reversed(parts) if key in words) for parts in pairs]
    masks = [name.parents[2].name.rpartition("__")[2] for name in names]
    assert sorted(f"{mask} {words}".strip() for mask, words in zip(masks, kept, strict=True)) == found


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (("--norm", "layr"), "NORM=layr: no such norm; did you mean layer?"),
        (("--where", "NORM=layr"), "NORM=layr: no such norm; did you mean layer?"),
        (("--where", "NORM"), "--where: NORM: give KEY=VALUE, as NORM=layer"),
        (("--where", "nrm=layer"), "--where: nrm=layer: no key that decides a result; did you mean NORM?"),
        (("--where", "threads=1"), "--where: threads=1: no key that decides a result; "),
        (("--where", "MASK=111"), "--where: MASK=111: --mask chooses by it"),
        (("--norm", "instance"), "no run there has --norm instance; NORM there: batch, group:4, layer"),
        (("--where", "GHOST=8", "--norm", "batch"), "no run there has --norm batch, --where GHOST=8; NORM there: batch, "),
        (("--where", "BN_EPS=1"), "no run there has --where BN_EPS=1; BN_EPS there: none"),
    ],
)
def test_a_key_that_chooses_nothing_is_one_line(shell: Shell, of_norms: Path, chosen: tuple[str, ...], told: str) -> None:
    code, _, err = shell("summary", of_norms, *chosen)
    assert code == 2 and told in err and len(err.splitlines()) == 1


def test_what_is_deleted_is_what_was_named(shell: Shell, of_norms: Path) -> None:
    _, out, _ = shell("usage", of_norms, "--norm", "layer", "--each")
    assert "1,1,1" in out and "0,0,0" not in out


def test_effects_and_their_figures_say_the_norm(shell: Shell, of_norms: Path, tmp_path: Path) -> None:
    _, out, err = shell("effects", of_norms, "--norm", "layer", "--where", "OPTIMIZER=SGD")
    assert "slots: with layer norm minus without" in out and "digits_2c2d_bn, norm layer, 3 runs, seed 1" in out, err
    assert "with BatchNorm" in shell("effects", of_norms, "--norm", "batch", "--where", "GHOST=none", "PRECISION=fp32")[1]
    _, _, err = shell("effects", of_norms)
    assert "choose one setting by --optimizer SGD --norm layer, or " in err


def test_summary_is_printed_or_written(shell: Shell, output: Path, tmp_path: Path) -> None:
    code, out, _ = shell("summary", f"{output}/*__0,0,1", "--format", "csv")
    assert code == 0 and len(out.splitlines()) == 5
    code, out, _ = shell("summary", output, "--paired", "vanilla", "--out", tmp_path / "table.md")
    assert code == 0 and (tmp_path / "table.md").read_text().startswith("| problem")


def test_the_tables_measures_and_columns_are_chosen(shell: Shell, output: Path) -> None:
    _, out, _ = shell("summary", output, "--measure", "seconds", "valid_acc_best", "--format", "csv")
    assert out.splitlines()[0].endswith(",unfinished,seconds_mean,seconds_std,valid_acc_best_mean,valid_acc_best_std")
    _, out, _ = shell("summary", output, "--columns", "seeds", "variant", "--mode", "vanilla")
    assert out == "seeds  variant\n2      vanilla\n"
    code, out, _ = shell("summary", output, "--paired", "111 trained_bn", "--measure", "valid_acc_best", "--match", "none")
    assert code == 0 and len(out.splitlines()) == 10 and "best validation accuracy (%)" in out


def test_a_run_without_a_norm_is_vanilla_in_the_list(shell: Shell, output: Path) -> None:
    _, out, _ = shell("runs", output, "--mask", "none")
    assert [row.split()[4] for row in out.splitlines()] == ["mode", "vanilla", "vanilla"]
    assert shell("runs", output, "--mode", "vanilla")[1] == out
    assert "0,0,0" not in shell("runs", output, "--mode", "trained_bn")[1]


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [
        (("performance", "--mask", "none", "001", "--smooth"), 1),
        (("ablations", "--metric", "test_acc", "--style", "icml"), 1),
        (("rates", "--mask", "none"), 1),
        (("means", "--mask", "none", "all", "001", "--seed", "1", "--slots", "dense1"), 1),
        (("surface", "--mode", "trained_bn", "--mask", "001", "--parameter", "beta"), 2),
        (("betas", "--mask", "none", "all", "001", "--seed", "1", "--slots", "dense1"), 2),
    ],
)
def test_figures_are_drawn_and_their_files_named(
    shell: Shell, output: Path, tmp_path: Path, arguments: tuple[str, ...], figures: int
) -> None:
    command, *options = arguments
    code, out, err = shell(command, output, *options, "--save-dir", tmp_path)
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == sorted(str(path) for path in tmp_path.iterdir())
    assert len(out.splitlines()) == 2 * figures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("performance", "nowhere"), "error: nowhere: no such run or directory"),
        (("performance",), "error: the following arguments are required: PATH"),
        (("perform", "."), "error: argument COMMAND: invalid choice: 'perform'"),
        (("surface", "OUTPUT", "--mask", "none"), "has no gamma: it has BatchNorm in no slot (mask 0,0,0)"),
        (("performance", "OUTPUT"), "give the modes of one mask"),
        (("ablations", "OUTPUT", "--metric", "acc"), "error: --metric acc: no such metric"),
        (("performance", "OUTPUT"), "; ablations compares masks"),
        (
            ("rates", "OUTPUT", "--mask", "none", "--by", "NROM"),
            "--by NROM: no key that decides a result; did you mean NORM",
        ),
        (("rates", "OUTPUT", "--mask", "none", "--format", "gif"), "error: --format gif: no such format"),
        (("surface", "OUTPUT", "--mask", "all", "--slots", "conv9"), "error: --slots conv9: no such slot here"),
        (("forest", "OUTPUT", "--last", "0"), "error: --last 0: must be 1 or more"),
        (("performance", "OUTPUT", "--seed", "77"), "no run there has --seed 77"),
        (("performance", "OUTPUT", "--mask", "0x1"), "no run there has --mask 0x1"),
        (("performance", "OUTPUT", "--mask", "001", "--style", "nips"), "error: --style nips: no such paper format"),
        (("means", "OUTPUT"), "is a second run of vanilla, of another seed; choose one by --seed 1, or --seed 2"),
        (("betas", "OUTPUT", "--mask", "001"), "no run of vanilla is among"),
        (("rates", "OUTPUT"), "give one variant across learning rates"),
        (("summary", "OUTPUT", "--out", "table.xls"), "a table is written as"),
        (("summary", "OUTPUT", "--columns", "mod"), "--columns mod: no such column; did you mean mode"),
        (("summary", "OUTPUT", "--measure", "sharpness"), "--measure sharpness: no such measure"),
        (("summary", "OUTPUT", "--paired", "vanilla", "--measure", "seconds", "test_acc_best"), "--paired takes one"),
        (("summary", "OUTPUT", "--paired", "vanilla", "--mark-best"), "--mark-best does not go with --paired"),
        (("summary", "OUTPUT", "--match", "LR"), "--match goes with --paired"),
        (("summary", "OUTPUT", "--mask", "001", "--paired", "vanilla"), "holds no run of the reference vanilla; it has 0,0,1"),
        (("surface", "OUTPUT", "--mask", "none", "--mode", "trained_bn"), "chosen by --mode vanilla"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(shell: Shell, output: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = shell(*(argument.replace("OUTPUT", str(output)) for argument in arguments))
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


def test_settings_that_do_not_go_together_name_the_command_that_compares_them(shell: Shell, tmp_path: Path) -> None:
    for rate in (0.1, 0.2):
        record(tmp_path, lr=rate)
    code, _, err = shell("performance", tmp_path)
    assert code == 2 and err.endswith("; rates --by KEY compares values of one key\n") and err.count("\n") == 1


def test_what_is_left_out_is_named_in_the_words_of_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    with _logging(Output(), _Lines(tell)):
        LEFT_OUT.warning("%s: %s", "some/run", wrong_argument("epochs_to", 90, "must be a share of 1"))
        LEFT_OUT.warning("100 %")
    assert capsys.readouterr().err == "some/run: --epochs-to 90: must be a share of 1\n100 %\n"


def test_title_and_formats_from_the_shell(shell: Shell, output: Path, tmp_path: Path) -> None:
    look = ("--format", "svg", "--save-dir", tmp_path)
    sizes: list[int] = []
    for title in (("--no-title",), ("--title", "What BatchNorm does"), ()):
        assert shell("rates", output, "--mask", "none", "--by", "optimizer", *title, *look)[0] == 0
        (drawn,) = tmp_path.iterdir()
        assert drawn.name.startswith("compare_multiple_lr__by_OPTIMIZER__digits_2c2d_bn__000__vanilla__SGD")
        sizes.append(drawn.stat().st_size)
    assert sizes[0] < sizes[1] < sizes[2], "letters take room in the file"
    assert shell("rates", output, "--no-title", "--title", "x")[0] == 2


def test_no_command_is_bad_input(shell: Shell) -> None:
    code, _, err = shell()
    assert code == 2 and err.count("\n") == 1


def test_no_torch_and_no_pyplot() -> None:
    modules = (
        "bn_plot_functions, curves, decimate, effects, looks, outcome, runs, summary, surfaces, tables, variants, __main__"
    )
    unwanted = "{'torch', 'matplotlib.pyplot', 'tkinter'}"
    script = f"import sys; from batchnorm.analysis import {modules}; print(*({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_help_waits_for_no_library_that_draws_or_counts() -> None:
    script = "import sys; from batchnorm.analysis import bn_plot_functions, __main__\n"
    script += "try: __main__.main(['--help'])\nexcept SystemExit: print({'matplotlib', 'pandas', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


def test_max_steps_shortens_the_run_that_is_listed(shell: Shell, tmp_path: Path) -> None:
    record(tmp_path, epochs=3, max_steps=15)
    _, out, _ = shell("runs", tmp_path)
    assert out.splitlines()[1].split()[:2] == ["finished", "1/1"]


def test_a_mode_of_another_version_is_listed_tabulated_and_drawn(shell: Shell, output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "output", ignore=shutil.ignore_patterns("plots"))
    (strange,) = (tmp_path / "output").glob("1__*0,0,1/*/*/fixed_bn/run.h5")
    with h5py.File(strange, "r+") as file:
        for name in ("config", "fingerprint"):
            values = {**json.loads(file.attrs[name]), "ABLATION": "bn_of_tomorrow"}
            file.attrs[name] = np.bytes_(json.dumps(values).encode())
    code, out, _ = shell("runs", tmp_path)
    assert code == 0 and "bn_of_tomorrow" in out
    code, out, _ = shell("summary", tmp_path, "--format", "latex")
    assert code == 0 and r"bn\_of\_tomorrow" in out
    code, _, err = shell("performance", tmp_path, "--mask", "none", "001", "--save-dir", tmp_path)
    assert (code, err) == (0, "")
    assert shell("surface", strange, "--save-dir", tmp_path)[0] == 0
    assert shell("means", tmp_path, "--mask", "none", "all", "001", "--seed", 1, "--save-dir", tmp_path)[0] == 0


def test_each_module_of_figures_is_a_command(shell: Shell) -> None:
    _, out, _ = shell("--help")
    names = {path.stem for path in Path(figures.__file__).parent.glob("[!_]*.py")}
    assert names <= {line.split()[0] for line in out.splitlines() if line.strip()}


@pytest.fixture
def one_bad(output: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a copy of the study, and one of its runs, whose record is cut."""
    shutil.copytree(output, tmp_path / "output", ignore=shutil.ignore_patterns("plots"))
    (bad,) = (tmp_path / "output").glob("2__*0,0,1/*/*/fixed_bn")
    (bad / "run.h5").write_bytes((bad / "run.h5").read_bytes()[:3000])
    return tmp_path / "output", bad


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs",),
        ("summary",),
        ("summary", "--seed", "1", "2"),
        ("summary", "--paired", "trained_bn"),
        ("effects",),
        ("export", "--out", "OUT.csv"),
        ("export", "--out", "OUT.json", "--quantity", "gamma", "--mask", "001"),
        ("forest",),
        ("interactions",),
        ("performance", "--mask", "none", "001"),
        ("ablations",),
        ("rates", "--mask", "001", "--mode", "fixed_bn"),
        ("surface", "--mask", "001", "--mode", "fixed_bn"),
        ("means", "--mask", "none", "all", "001", "--seed", "1"),
        ("betas", "--mask", "none", "all", "001", "--seed", "1"),
    ],
)
def test_one_bad_run_of_many_is_named_counted_and_left_out(
    shell: Shell, one_bad: tuple[Path, Path], arguments: tuple[str, ...]
) -> None:
    folder, bad = one_bad
    command, *options = (argument.replace("OUT", f"{folder}/table") for argument in arguments)
    code, out, err = shell(command, folder, *options)
    named, last = err.splitlines()
    assert code == 0 and out
    assert str(bad) in named and last == "1 left out, named above"
    if command == "runs":
        assert [row.split()[0] for row in out.splitlines() if str(bad) in row] == ["unreadable"]


def test_the_seed_of_a_bad_run_is_not_counted(shell: Shell, one_bad: tuple[Path, Path]) -> None:
    _, out, _ = shell("summary", one_bad[0], "--mask", "001", "--format", "csv")
    rows = {row["mode"]: row["seeds"] for row in csv.DictReader(io.StringIO(out))}
    assert rows == {"fixed_bn": "1", "fixed_beta": "2", "fixed_gamma": "2", "trained_bn": "2"}


@pytest.mark.parametrize("command", ["runs", "summary", "performance", "surface"])
def test_a_bad_run_alone_is_an_error(shell: Shell, one_bad: tuple[Path, Path], command: str) -> None:
    code, out, err = shell(command, one_bad[1])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {one_bad[1]}")


def test_damage_in_what_only_one_figure_reads_costs_one_run(shell: Shell, tmp_path: Path) -> None:
    record(tmp_path / "output", position="none"), record(tmp_path / "output", position="all")
    seeds = [record(tmp_path / "output", position="0,0,1", random_seed=seed) for seed in (1, 2)]
    with h5py.File(seeds[1] / "run.h5", "r") as file:
        header = h5py.h5o.get_info(file["snapshots/gamma/dense1"].id).addr
    with (seeds[1] / "run.h5").open("r+b") as damaged:
        damaged.seek(header + 10)
        damaged.write(b"\xff" * 64)
    assert shell("summary", tmp_path)[2] == ""
    for command in ("means", "surface"):
        code, out, err = shell(command, tmp_path, *(["--mask", "001"] if command == "surface" else []))
        assert code == 0 and out
        assert str(seeds[1]) in err and err.splitlines()[-1] == "1 left out, named above"


@pytest.mark.parametrize("command", ["summary", "runs", "surface"])
def test_a_record_held_open_beside_ends_nothing(shell: Shell, tmp_path: Path, command: str) -> None:
    held = record(tmp_path, random_seed=1)
    free = record(tmp_path, random_seed=2)
    with h5py.File(held / "run.h5", "r", swmr=True):
        code, out, err = shell(command, tmp_path)
    assert code == 0 and out
    assert "Traceback" not in err and str(free) not in err


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="root makes itself another user")
def test_what_is_closed_to_another_user_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for seed in (1, 2, 3):
            record(Path(folder), random_seed=seed)
        closed_folder, closed_record = (next(Path(folder).glob(f"{seed}__*")) for seed in (1, 2))
        closed_folder.chmod(0o700)
        next(closed_record.rglob("run.h5")).chmod(0o600)
        command = [sys.executable, "-m", "batchnorm.analysis", "summary", folder]
        user = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
        done = subprocess.run([*user, *command], capture_output=True, text=True, check=False)
    if "ModuleNotFoundError" in done.stderr or "Permission denied: '/" in done.stderr:
        pytest.skip("the other user cannot read this repository")
    named, other, last = done.stderr.splitlines()
    assert done.returncode == 0 and last == "2 left out, named above"
    assert named == f"{closed_folder}: cannot be read (Permission denied)"
    assert other.startswith(str(closed_record)) and "ermission" in other


@pytest.mark.parametrize("lr", [0.16579130972807002, 0.1 / 3, 0.015848931924611134, 1e-05, 0.1 + 1e-8])
def test_a_rate_that_is_printed_can_be_chosen(shell: Shell, tmp_path: Path, lr: float) -> None:
    record(tmp_path, position="none", lr=lr)
    record(tmp_path, position="none", lr=0.3)
    _, listed, _ = shell("runs", tmp_path)
    _, table, _ = shell("summary", tmp_path)
    in_list, in_table = (
        next(row for row in map(str.split, text.splitlines()[1:]) if row[place] != "0.3")[place]
        for text, place in ((listed, 6), (table, 5))
    )
    for printed in (in_list, in_table, repr(lr)):
        code, out, _ = shell("runs", tmp_path, "--lr", printed)
        assert code == 0 and len(out.splitlines()) == 2, printed


def test_a_coarser_number_is_another_rate(shell: Shell, tmp_path: Path) -> None:
    record(tmp_path, lr=0.16579130972807002)
    assert shell("runs", tmp_path, "--lr", "0.17")[0] == 0  # the header alone
    assert len(shell("runs", tmp_path, "--lr", "0.17")[1].splitlines()) == 1


def test_what_the_list_prints_chooses_what_it_was_printed_of(shell: Shell, output: Path) -> None:
    _, listed, _ = shell("runs", output)
    header, *rows = (line.split() for line in listed.splitlines())
    for name in ("problem", "mask", "mode", "optimizer", "lr", "seed"):
        for value in {row[header.index(name)] for row in rows}:
            _, chosen, _ = shell("runs", output, f"--{name}", value)
            alike = [row for row in rows if row[header.index(name)] == value]
            assert [line.split() for line in chosen.splitlines()[1:]] == alike
    assert len(shell("runs", output, "--epochs", rows[0][1].split("/")[1])[1].splitlines()) == len(rows) + 1


def test_a_mode_of_another_version_can_be_chosen(shell: Shell, tmp_path: Path) -> None:
    strange = record(tmp_path)
    record(tmp_path, ablation="fixed_bn")
    with h5py.File(strange / "run.h5", "r+") as file:
        for name in ("config", "fingerprint"):
            values = {**json.loads(file.attrs[name]), "ABLATION": "bn_of_tomorrow"}
            file.attrs[name] = np.bytes_(json.dumps(values).encode())
    _, out, _ = shell("runs", tmp_path, "--mode", "bn_of_tomorrow")
    assert len(out.splitlines()) == 2
    code, _, err = shell("summary", tmp_path, "--mode", "fixd_bn")
    assert code == 2 and "--mode fixd_bn; did you mean fixed_bn? Valid: " in err and "bn_of_tomorrow" in err


_TAKING_THE_PATH = [
    ("--mask", "none", "all"),
    ("--seed", "1"),
    ("--lr", "0.15849"),
    ("--epochs", "4"),
    ("--norm", "batch"),
    ("--where", "NORM=batch"),
]


@pytest.mark.parametrize("options", _TAKING_THE_PATH)
def test_a_path_behind_several_values_is_told_where_it_stands(shell: Shell, output: Path, options: tuple[str, ...]) -> None:
    code, _, err = shell("summary", *options, output)
    assert code == 2 and "PATH comes first, or after `--`" in err and err.count("\n") == 1
    assert shell("summary", *options, "--", output)[0] == 0
