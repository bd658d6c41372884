"""The Epilog, run by root over what hostile jobs have left: all of it goes, and nothing else does."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.epilog_site import Site, account, open_site, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="an Epilog is run by root"),
]

HOSTILE_TREE = """
cd "$JOB"
mkdir -p tmp 'a b' ./-- ./-rf "$(printf 'new\\nline')" '$(touch /tmp/slurm-gha-hostile)' deep/er
for d in tmp 'a b' ./-- ./-rf deep/er; do : >"$d/file"; done
ln -s "$PRECIOUS" tmp/link
ln -s "$PRECIOUS/file" tmp/file-link
ln -s / root
ln -s .. up
mkfifo tmp/fifo
mkdir locked && : >locked/file && chmod 000 locked
mkdir read-only && : >read-only/file && chmod -R a-w read-only
unshare --user --map-root-user --map-auto sh -ec '
  mkdir sub && : >sub/file && mkdir sub/inner && : >sub/inner/file
  ln -s "$PRECIOUS" sub/link && chown -hR 1000:1000 sub && chmod 700 sub'
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with open_site() as site:
        yield site


@pytest.fixture
def precious(site: Site) -> Path:
    """What no Epilog may touch: the user can read it, and more is not said to root."""
    path = site.directory.parent / "precious"
    path.mkdir(mode=0o755)
    (path / "file").write_text("precious")
    return path


def _untouched(path: Path) -> bool:
    return (path / "file").read_text() == "precious" and stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("as_user", [False, True], ids=["root", "SlurmdUser"])
def test_a_hostile_tree_is_removed_and_no_link_followed(site: Site, precious: Path, as_user: bool) -> None:
    directory = site.make_job_dir(7)
    site.run(f"export JOB={directory} PRECIOUS={precious}\n{HOSTILE_TREE}")
    before = [os.stat(path).st_mode for path in ("/", "/etc", "/usr", "/var")]
    said = site.epilog(7, as_user=as_user)
    assert said == f"slurm-gha: removing {directory}, left behind by Slurm job 7\n"
    assert list(site.directory.iterdir()) == []
    assert _untouched(precious)
    assert [os.stat(path).st_mode for path in ("/", "/etc", "/usr", "/var")] == before
    assert not Path("/tmp/slurm-gha-hostile").exists()


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "pipe", "directory"])
def test_anything_in_the_place_of_the_lock_is_removed_unopened(site: Site, precious: Path, kind: str) -> None:
    directory = site.make_job_dir(7, lock=False)
    making = {
        "link to a file": f"ln -s {precious}/file lock",
        "link to nothing": "ln -s /nonexistent/x lock",
        "pipe": "mkfifo lock",
        "directory": "mkdir lock",
    }
    site.run(making[kind], cwd=directory)
    site.epilog(7)
    assert not directory.exists()
    assert _untouched(precious)


def test_what_is_not_the_users_own_directory_is_left_alone(site: Site, precious: Path) -> None:
    other = account("slurmgha-other")
    site.run(f"ln -s {precious} sg-7")
    foreign = site.directory / "sg-8"
    foreign.mkdir(mode=0o777)
    foreign.chmod(0o777)
    (foreign / "file").touch()
    os.chown(foreign, other.pw_uid, other.pw_gid)
    for job_id in (7, 8):
        assert site.epilog(job_id) == ""
    assert _untouched(precious)
    assert (foreign / "file").exists()
    assert site.job_dir(7).is_symlink()


@pytest.mark.parametrize("as_user", [False, True], ids=["root", "SlurmdUser"])
def test_processes_of_the_job_end_and_no_others(site: Site, as_user: bool) -> None:
    directory = site.make_job_dir(7)
    disguised = directory / "slurmstepd"
    disguised.write_bytes(Path("/bin/sleep").read_bytes())
    disguised.chmod(0o755)
    of_the_job = [
        site.start("sleep", "700", job_id=7),
        site.start("sleep", "701", cwd=directory),
        site.start("bash", "-c", f"exec 9<{directory}/lock; flock 9; sleep 702", job_id=7),
    ]
    if not as_user:  # to SlurmdUser, any process of that name may be the real one
        of_the_job.append(site.start(str(disguised), "703"))
    others = [
        site.start("sleep", "704", job_id=8),
        site.start("sleep", "706"),
        site.start("sleep", "707", job_id=7, user=account("slurmgha-other")),
    ]
    site.epilog(7, as_user=as_user)
    for process in of_the_job:
        assert process.wait(10) == -9
    assert [process.poll() for process in others] == [None] * len(others)
    assert not directory.exists()


def test_a_container_of_subordinate_ids_ends(site: Site) -> None:
    """Its environment and its directory say nothing; it has an overlay in the job's directory."""
    directory = site.make_job_dir(7)
    site.run("mkdir low up work all", cwd=directory)
    inner = f"""
mount -t overlay overlay -o lowerdir={directory}/low,upperdir={directory}/up,workdir={directory}/work {directory}/all
exec setpriv --reuid=1000 --regid=1000 --clear-groups env -i sleep 710
"""
    outer = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "sh", "-ec", inner]
    container = site.start(*outer, job_id=None)
    until(lambda: os.stat(f"/proc/{container.pid}").st_uid not in {0, site.user.pw_uid})
    site.epilog(7)
    assert container.wait(10) == -9
    assert not directory.exists()


def test_a_live_runner_is_left_alone(site: Site) -> None:
    """Of another job; and one of the same number, on another cluster."""
    same, another = site.make_job_dir(7), site.make_job_dir(8)
    (same / "work").touch()
    twin = site.start("sleep", "705", job_id=7, cluster="another")
    with site.hold(same), site.hold(another):
        assert site.epilog(7) == ""
        assert (same / "work").exists()
    assert another.exists()
    assert twin.poll() is None
    twin.kill()
    twin.wait()
    site.epilog(9)
    assert not same.exists()
    assert not another.exists()


def test_a_process_that_only_holds_the_lock_does_not_keep_the_directory(site: Site) -> None:
    directory = site.make_job_dir(7)
    with site.hold(directory):
        site.epilog(7)
    assert not directory.exists()


def test_what_a_crash_of_the_node_left_is_swept(site: Site) -> None:
    site.make_job_dir(3)
    young = site.make_job_dir(4, lock=False)  # its script may be about to lock it
    said = site.epilog(7)
    assert said == f"slurm-gha: removing {site.job_dir(3)}, left behind by an earlier Slurm job\n"
    assert list(site.directory.iterdir()) == [young]


def test_shared_memory_goes_when_no_other_job_is_there(site: Site) -> None:
    files = [Path(f"/dev/shm/{site.directory.parent.name}{name}") for name in ("-own", "-sub", "-dir", "-foreign")]
    own, subordinate, directory, foreign = files
    foreign.touch()
    site.run(
        f"echo x >{own}; mkdir {directory}; ln -s /etc/passwd {directory}/link\n"
        f"unshare --user --map-root-user --map-auto sh -c ': >{subordinate}; chown 1000:1000 {subordinate}'"
    )
    try:
        site.make_job_dir(7)
        other = site.start("sleep", "720", job_id=8)
        site.epilog(7)
        assert not site.job_dir(7).exists()
        assert all(path.exists() for path in files)
        other.kill()
        other.wait()
        live = site.make_job_dir(9)
        with site.hold(live):
            site.epilog(7)
        assert all(path.exists() for path in files)
        site.epilog(9)
        assert [path.exists() for path in files] == [False, False, False, True]
        assert Path("/etc/passwd").exists()
    finally:
        foreign.unlink()


def test_a_file_system_of_a_dead_program_is_detached(site: Site) -> None:
    directory = site.make_job_dir(7)
    site.run("mkdir content 'mount point' && : >content/file && mksquashfs content image -quiet", cwd=directory)
    point = directory / "mount point"
    site.run("squashfuse image 'mount point'", cwd=directory)
    assert "mount\\040point" in Path("/proc/self/mountinfo").read_text()
    site.epilog(7)
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()
    assert not point.exists()
    assert not directory.exists()


def test_nothing_to_do_and_other_users_jobs_are_silent(site: Site) -> None:
    assert site.epilog(7) == ""
    other = account("slurmgha-other")
    directory = site.make_job_dir(7)
    process = site.start("sleep", "730", job_id=7)
    assert site.epilog(7, user=other) == ""
    assert directory.exists()
    assert process.poll() is None


def test_a_node_stays_in_service_whatever_is_wrong(site: Site) -> None:
    for environment in ({}, {"SLURM_JOB_ID": "x; id", "SLURM_JOB_UID": "0"}, {"SLURM_JOB_ID": "7"}):
        argv = ["/bin/bash", "-p", str(site.script)]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0
        assert "SLURM_JOB_ID and SLURM_JOB_UID are not set" in done.stderr
    site.make_job_dir(7)
    site.directory.rename(site.directory.with_name("away"))
    assert site.epilog(7) == ""
    site.directory.with_name("away").rename(site.directory)
