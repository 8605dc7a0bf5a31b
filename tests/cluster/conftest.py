"""A Slurm of one node on this machine: munged, slurmctld and slurmd, on the loopback address.

The tests in this folder run for `make test-cluster`, or when the folder is named. They need root,
and a machine that has no Slurm of its own.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

# Jobs lose SLURM_CONF, so the configuration has to be where Slurm looks for it by itself.
ETC = Path("/etc/slurm")
NEEDED = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
PATIENCE = 60

CONFIGURATION = """\
ClusterName=sws-test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# no cgroups: a container may not have them
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
# without accounting, squeue must remember how jobs ended
MinJobAge=600
KillWait=10
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
GRES = "Name=gpu File=/dev/null\n"


class Slurm:
    """The daemons, and what they leave behind."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="sws-slurm-"))
        self.folder.chmod(0o755)  # munge wants its socket where everybody may reach it
        self.written, self.daemons = [], []

    def start(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        ETC.mkdir(exist_ok=True)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            folder=self.folder,
            # the suite starts two jobs at a time, however few cores there are
            cpus=max(2, os.cpu_count()),
            memory=int(0.95 * memory),
        )
        for name, content in (("slurm.conf", text), ("gres.conf", GRES)):
            self.written.append(ETC / name)
            (ETC / name).write_text(content)
        self._munge()
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        self._wait(lambda: self.output("sinfo", "-h", "-o", "%T") == "idle", "the node to be idle")

    def _munge(self):
        key, socket_file = self.folder / "munge.key", self.folder / "munge.socket"
        subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={socket_file}",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        self._wait(socket_file.exists, "munge's socket")

    def _daemon(self, *command):
        log = (self.folder / f"{command[0]}.out").open("wb")
        self.daemons.append(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        )
        log.close()

    def _wait(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            for process in self.daemons:
                assert process.poll() is None, f"{process.args[0]} ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.said()}"
            time.sleep(0.2)

    def said(self):
        """The last lines of all daemons."""
        logs = sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
        return "\n".join(f"{p.name}:\n{p.read_text(errors='replace')[-2000:]}" for p in logs)

    @staticmethod
    def output(*command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def jobs(self, *states):
        """Numbers of the jobs in these states."""
        return self.output("squeue", "-h", "-o", "%A", "-t", ",".join(states)).split()

    def stop(self):
        """End every job, then the daemons, and take the configuration away."""
        if len(self.daemons) > 2:
            subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=60)
            deadline = time.monotonic() + PATIENCE
            while self.jobs("R", "CG") and time.monotonic() < deadline:
                time.sleep(0.5)
        for process in reversed(self.daemons):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for path in self.written:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def obstacle():
    """Why Slurm cannot be started here, or None."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed; `make test-cluster` does that"
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    configuration = ETC / "slurm.conf"
    if configuration.exists() and "ClusterName=sws-test\n" not in configuration.read_text():
        return f"{ETC}/slurm.conf exists: this machine has a Slurm, which is left alone"
    return None


@pytest.fixture(scope="session")
def slurm():
    if reason := obstacle():
        pytest.skip(reason)
    cluster = Slurm()
    # so that a suite that is told to stop takes its daemons along
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        signal.signal(signal.SIGTERM, before)
