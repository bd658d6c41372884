"""The configuration files and command lines of a private Slurm cluster, as pure text, and how they are written."""

from __future__ import annotations

import os
import random
import secrets
import shlex
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Below the kernel's usual range for outgoing connections, so that no connection can hold one of them by chance.
_PORTS = range(20000, 32000)
# Scheduling at once: submission to the script's first line in about half a second.
AT_ONCE = "batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the cluster pretends to be. Memory and tmpdisk in MB; times in seconds; ``gpus`` of each node, by type."""

    nodes: int
    cpus: int
    memory_mb: int
    tmpdisk: int
    min_job_age: int
    kill_wait: int
    message_timeout: int
    scheduling: str
    extra: tuple[str, ...] = ()
    gpus: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of one cluster is."""

    directory: Path
    cluster_name: str
    user: str
    shape: Shape
    accounting: bool
    controller_port: int
    accounting_port: int
    database_port: int
    node_ports: tuple[int, ...]
    host: str
    database_password: str = field(repr=False)

    @property
    def munge_socket(self) -> Path:
        return self.directory / "munge" / "socket"

    @property
    def mariadb_socket(self) -> Path:
        return self.directory / "mariadb" / "socket"

    @property
    def slurm_conf(self) -> Path:
        return self.directory / "slurm.conf"


def layout(directory: Path, cluster_name: str, user: str, shape: Shape, accounting: bool) -> Layout:
    """A layout with ports that are free now."""
    controller_port, accounting_port, database_port, *node_ports = _free_ports(3 + shape.nodes)
    return Layout(
        directory=directory,
        cluster_name=cluster_name,
        user=user,
        shape=shape,
        accounting=accounting,
        controller_port=controller_port,
        accounting_port=accounting_port,
        database_port=database_port,
        node_ports=tuple(node_ports),
        host=socket.gethostname().split(".", 1)[0],
        database_password=secrets.token_hex(16),
    )


def slurm_conf(at: Layout) -> str:
    """slurm.conf; valid from 22.05 to 26.05."""
    shape = at.shape
    first, last = at.node_ports[0], at.node_ports[-1]
    gres = [f"tmpdisk:{shape.tmpdisk}", *(f"gpu:{kind}:{count}" for kind, count in shape.gpus)]
    lines = [
        f"ClusterName={at.cluster_name}",
        f"SlurmctldHost={at.host}(127.0.0.1)",
        f"SlurmctldPort={at.controller_port}",
        f"SlurmUser={at.user}",
        f"SlurmdUser={at.user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={at.munge_socket},cred_expire=5",
        f"StateSaveLocation={at.directory}/state",
        f"SlurmctldPidFile={at.directory}/run/slurmctld.pid",
        f"SlurmdPidFile={at.directory}/run/slurmd-%n.pid",
        f"SlurmdSpoolDir={at.directory}/spool/%n",
        # config_overrides: the nodes may claim more than this machine has.
        "SlurmdParameters=config_overrides",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/linux",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        f"SchedulerParameters={shape.scheduling}",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "MpiDefault=none",
        "SwitchType=switch/none",
        "ReturnToService=2",
        "SlurmdTimeout=10",
        "SlurmctldTimeout=10",
        # How long commands try to reach a slurmctld that is not there (squeue twice as long); 10 s by default.
        f"MessageTimeout={shape.message_timeout}",
        "InactiveLimit=0",
        f"KillWait={shape.kill_wait}",
        f"MinJobAge={shape.min_job_age}",
        "MaxJobCount=25000",
        "MaxArraySize=10001",
        "DefMemPerCPU=100",
        "MailProg=/bin/true",
        f"GresTypes={'gpu,' if shape.gpus else ''}tmpdisk",
    ]
    if at.accounting:
        lines += [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={at.accounting_port}",
            f"AccountingStoragePass={at.munge_socket}",
            "AccountingStoreFlags=job_comment",
            "AccountingStorageEnforce=associations,limits,qos",
        ]
    lines += shape.extra
    lines += [
        f"NodeName=n[1-{shape.nodes}] NodeHostname={at.host} NodeAddr=127.0.0.1 Port={_range(first, last)} "
        f"CPUs={shape.cpus} RealMemory={shape.memory_mb} Gres={','.join(gres)} State=UNKNOWN",
        "PartitionName=ci Nodes=ALL Default=YES MaxTime=1-00:00:00 DefaultTime=10:00 PriorityTier=10 State=UP",
        "PartitionName=low Nodes=ALL MaxTime=1-00:00:00 DefaultTime=10:00 PriorityTier=1 State=UP",
        "PartitionName=short Nodes=ALL MaxTime=1:00 DefaultTime=1:00 PriorityTier=10 MaxNodes=1 State=UP",
    ]
    return "\n".join(lines) + "\n"


def gres_conf(at: Layout) -> str:
    """gres.conf: a gres that is only counted, and GPUs, whose devices are files of this cluster's."""
    nodes = f"NodeName=n[1-{at.shape.nodes}]"
    lines = [f"{nodes} Name=tmpdisk Count={at.shape.tmpdisk} Flags=CountOnly"]
    devices = gpu_devices(at)
    for kind, count in at.shape.gpus:
        lines += [f"{nodes} Name=gpu Type={kind} File={devices.pop(0)}" for _ in range(count)]
    return "\n".join([*lines, ""])


def gpu_devices(at: Layout) -> list[Path]:
    """The GPUs' devices, type by type; a device's number is what CUDA_VISIBLE_DEVICES calls it."""
    return [at.directory / "dev" / f"nvidia{number}" for number in range(sum(count for _, count in at.shape.gpus))]


def slurmdbd_conf(at: Layout) -> str:
    """slurmdbd.conf; it holds the database's password."""
    return "\n".join(
        [
            "AuthType=auth/munge",
            f"AuthInfo=socket={at.munge_socket}",
            f"DbdHost={at.host}",
            "DbdAddr=127.0.0.1",
            f"DbdPort={at.accounting_port}",
            f"SlurmUser={at.user}",
            f"PidFile={at.directory}/run/slurmdbd.pid",
            "StorageType=accounting_storage/mysql",
            "StorageHost=127.0.0.1",
            f"StoragePort={at.database_port}",
            "StorageUser=slurm",
            f"StoragePass={at.database_password}",
            "StorageLoc=slurm_acct",
            "",
        ]
    )


def munged(at: Layout) -> list[str]:
    """munged in the foreground."""
    base = at.directory / "munge"
    return [
        "munged",
        "--foreground",
        "--force",
        f"--socket={at.munge_socket}",
        f"--key-file={base}/key",
        f"--pid-file={base}/pid",
        f"--seed-file={base}/seed",
        "--num-threads=2",
    ]


def mariadb_install(at: Layout) -> list[str]:
    """An empty database."""
    return [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={at.directory}/mariadb/data",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]


def mariadbd(at: Layout) -> list[str]:
    """MariaDB in the foreground."""
    return [
        "mariadbd",
        "--no-defaults",
        f"--datadir={at.directory}/mariadb/data",
        f"--socket={at.mariadb_socket}",
        f"--pid-file={at.directory}/mariadb/pid",
        "--bind-address=127.0.0.1",
        f"--port={at.database_port}",
        f"--init-file={at.directory}/mariadb/init.sql",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-lock-wait-timeout=900",
    ]


def database_init(at: Layout) -> str:
    """One statement a line, as --init-file wants it."""
    return (
        "CREATE DATABASE IF NOT EXISTS slurm_acct;\n"
        f"CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY '{at.database_password}';\n"
        f"CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY '{at.database_password}';\n"
        "GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1';\n"
        "GRANT ALL ON slurm_acct.* TO 'slurm'@'localhost';\n"
    )


def accounting_commands(at: Layout) -> list[list[str]]:
    """What sacctmgr is told: the cluster, an account, two qos, and the user."""
    return [
        ["add", "cluster", at.cluster_name],
        ["add", "qos", "tight"],
        ["modify", "qos", "tight", "set", "MaxSubmitJobsPerUser=1"],
        ["add", "account", "ci", f"cluster={at.cluster_name}"],
        ["add", "user", at.user, "account=ci", "qos=normal,tight", "defaultqos=normal"],
    ]


def write(at: Layout, uid: int, gid: int) -> None:
    """Write every file, owned by the cluster's user, readable by no other where it holds a secret."""
    for name in ("munge", "state", "run", "spool", "log", "home", "bin", "mariadb", "dev"):
        path = at.directory / name
        path.mkdir(mode=0o700 if name in {"munge", "mariadb"} else 0o755)
        os.chown(path, uid, gid)
    # Others may use the cluster and read its home: a service that is run by another user, for instance.
    at.directory.chmod(0o755)
    (at.directory / "munge").chmod(0o711)
    _file(at.directory / "munge" / "key", secrets.token_bytes(128), uid, gid, 0o600)
    _file(at.slurm_conf, slurm_conf(at).encode(), uid, gid, 0o644)
    _file(at.directory / "gres.conf", gres_conf(at).encode(), uid, gid, 0o644)
    for device in gpu_devices(at):
        device.symlink_to("/dev/null")  # slurmd counts character devices only
    if at.accounting:
        _file(at.directory / "slurmdbd.conf", slurmdbd_conf(at).encode(), uid, gid, 0o600)
        _file(at.directory / "mariadb" / "init.sql", database_init(at).encode(), uid, gid, 0o600)


def write_commands(at: Layout, uid: int, gid: int, names: Sequence[str]) -> None:
    """A script for each of Slurm's commands, bound to the cluster; run by root, it steps down to the user first."""
    user, home = shlex.quote(at.user), shlex.quote(str(at.directory / "home"))
    for name in names:
        real = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
        if real is None:
            continue
        command = f'{shlex.quote(real)} "$@"'
        step_down = f"setpriv --reuid={uid} --regid={gid} --clear-groups --pdeathsig KILL --"
        text = (
            "#!/bin/sh\nset -eu\n"
            f"export SLURM_CONF={shlex.quote(str(at.slurm_conf))}\n"
            'if [ "$(id -u)" -eq 0 ]; then\n'
            f"  export HOME={home} USER={user} LOGNAME={user}\n"
            f"  exec {step_down} {command}\nfi\n"
            f"exec {command}\n"
        )
        _file(at.directory / "bin" / name, text.encode(), uid, gid, 0o755)


def _file(path: Path, content: bytes, uid: int, gid: int, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, uid, gid)
        file.write(content)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"[{first}-{last}]"


def _free_ports(count: int) -> list[int]:
    """That many free ports in a row (slurm.conf wants the nodes' as a range)."""
    chooser = random.SystemRandom()
    for _ in range(200):
        first = chooser.randrange(_PORTS.start, _PORTS.stop - count)
        ports = list(range(first, first + count))
        if all(_is_free(port) for port in ports):
            return ports
    raise OSError(f"no {count} free ports in a row between {_PORTS.start} and {_PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
