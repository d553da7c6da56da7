"""What reading and analysing needs of a system: these run where much is taken away that Linux has and macOS or Windows lack."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.recorded import record_run
from tests.systems import environment

TAKE_AWAY = """\
import locale, os, signal, sys

ABSENT = {
    signal: ["SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGALRM", "SIGPIPE", "SIGXFSZ"],
    os: ["fork", "memfd_create", "sched_getaffinity", "sched_setaffinity", "getuid", "geteuid", "pread", "pwrite", "fchmod"],
    locale: ["nl_langinfo", "CODESET"],
}
for module, names in ABSENT.items():
    for name in names:
        delattr(module, name)
for name in ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog"):
    sys.modules[name] = None
"""


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", TAKE_AWAY + code], cwd=cwd, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_runs_are_read_and_drawn(tmp_path: Path) -> None:
    for mode in ("trained_bn", "fixed_bn"):
        record_run(tmp_path / "output", problem="digits_2c2d_bn", ablation=mode)
    commands = ("runs output", "summary output", "laws output", "performance output")
    code = "from batchnorm.__main__ import main\n"
    for command in commands:
        code += f"assert main({['analysis', *command.split()]}) == 0\n"
    code += "assert main(['study', 'status', 'quickstart_digits']) == 0\n"
    code += "from batchnorm.store import Run\nfrom pathlib import Path\n"
    code += "print([Run(file.parent).status.name for file in sorted(Path('output').rglob('run.h5'))])\n"
    shown = python(code, tmp_path).stdout
    assert "fixed_bn" in shown
    assert shown.splitlines()[-1] == "['FINISHED', 'FINISHED']"
    assert len(list((tmp_path / "output" / "plots").glob("*.png"))) == 1


def test_a_run_that_was_interrupted_elsewhere_is_read(tmp_path: Path) -> None:
    config = record_run(tmp_path / "output", problem="digits_2c2d_bn")
    (config.directory / ".lock").write_text("7\nanother host\n123\nflock\n")
    code = f"from batchnorm.store import Run\nprint(Run({str(config.directory)!r}).epochs['test_acc'].shape)\n"
    assert python(code, tmp_path).stdout == "(5,)\n"


def test_training_is_refused_in_one_line(tmp_path: Path) -> None:
    code = """
from batchnorm.__main__ import main
from batchnorm.errors import UserError
from batchnorm.store import RunDirectory
from pathlib import Path
try:
    with RunDirectory(Path("run")).claim():
        pass
except UserError as error:
    print(error)
print(main(["study", "run", "quickstart_digits"]))
"""
    done = python(code, tmp_path)
    refused = "OUTPUT_DIR: run cannot be written: this system has no file locks (flock); train on Linux or macOS"
    assert done.stdout.splitlines() == [refused, "2"]
    last = "error: runs are trained on Linux and macOS; this system can read and analyse them"
    assert done.stderr.splitlines()[-1] == last
