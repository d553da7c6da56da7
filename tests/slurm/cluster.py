"""A real SLURM cluster of one node on this machine: munged, slurmctld and slurmd, in a folder of their own."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

SECONDS_TO_START = 30
MAX_ARRAY_SIZE = 10
ROOT = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel", "sinfo")

# The node claims more than the machine has (config_overrides), so that the scripts run with the resources they ask for:
# the devices of its two GPUs are not opened.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
JobRequeue=1
MaxArraySize={max_array_size}
KillWait=20
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GRES_CONF = "Name=gpu File=/dev/zero\nName=gpu File=/dev/null\n"


def why_not() -> str:
    """Say why no cluster can be started here; nothing where one can."""
    absent = [program for program in PROGRAMS if not shutil.which(program, path=_path())]
    if absent:
        return f"needs SLURM (apt-get install slurm-wlm munge): no {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "needs root to start SLURM's daemons"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass
class Cluster:
    """The process that keeps the daemons, and the environment in which commands find them."""

    folder: Path
    environment: Mapping[str, str]
    keeper: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path) -> Cluster:
        """Start all daemons, and return when the node is idle."""
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        ports = _free_ports(2)
        text = SLURM_CONF.format(
            host=platform.node(),
            folder=folder,
            controller_port=ports[0],
            node_port=ports[1],
            max_array_size=MAX_ARRAY_SIZE,
        )
        (folder / "slurm.conf").write_text(text)
        (folder / "gres.conf").write_text(GRES_CONF)
        environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
        keep = [sys.executable, "-m", "tests.slurm.keeper", str(folder)]
        keeper = subprocess.Popen(keep, cwd=ROOT, env=environment, stdin=subprocess.PIPE, start_new_session=True)
        cluster = cls(folder, environment, keeper)
        try:
            cluster.wait(lambda: cluster.call("sinfo", "-h", "-o", "%T", check=False) == "idle", seconds=SECONDS_TO_START)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def stop(self) -> None:
        """Cancel all jobs and end the daemons, as happens too where this process is killed."""
        assert self.keeper.stdin
        self.keeper.stdin.close()
        self.keeper.wait()

    def call(self, *command: str, check: bool = True) -> str:
        """Run one of SLURM's commands and return what it printed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """Return what SLURM knows of a job or an array task."""
        shown = self.call("scontrol", "show", "job", "--oneliner", job, check=False).splitlines()
        pairs = (word.partition("=") for word in (shown[-1] if shown else "").split())
        return {key: value for key, _, value in pairs}

    def wait(self, happened: Callable[[], bool], *, seconds: float = 150, strict: bool = True) -> None:
        """Ask again and again: SLURM tells nobody when something happens."""
        end = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > end:
                assert not strict, f"SLURM took more than {seconds} s:\n{self.logs()}"
                return
            time.sleep(0.1)

    def logs(self) -> str:
        """Return the ends of the daemons' logs, and what is in the queue."""
        ends = [f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}" for path in self.folder.glob("*.log")]
        return "\n".join([*ends, self.call("squeue", check=False)])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
