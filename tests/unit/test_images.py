"""Images without any engine: references, records, layers, archives, what is collected, and the command's words."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.containers.images_scene import entry, layer

from slurm_gha.cli import main
from slurm_gha.cli.image import VERBS
from slurm_gha.images.archive import contents, read_archive
from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.collecting import Candidate, LiveJobs, decide
from slurm_gha.images.errors import ImageError
from slurm_gha.images.layers import Tree
from slurm_gha.images.record import Image, checked_name, env_text
from slurm_gha.images.references import parse, ways
from slurm_gha.images.reporter import Silent
from slurm_gha.images.unpacked import environment_script
from slurm_gha.testing.docker_archive import write_archive

DIGEST = "d" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("actions/runner:2", "docker.io/actions/runner:2"),
        ("docker.io/debian:12", "docker.io/library/debian:12"),
        ("ghcr.io/a/b/c:1", "ghcr.io/a/b/c:1"),
        ("docker://ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ("localhost/x", "localhost/x:latest"),
        ("127.0.0.1:5000/x/y:z", "127.0.0.1:5000/x/y:z"),
        (f"ghcr.io/a/b@sha256:{DIGEST}", f"ghcr.io/a/b@sha256:{DIGEST}"),
    ],
)
def test_references_are_filled_in(text: str, full: str) -> None:
    assert str(parse(text)) == full


@pytest.mark.parametrize("text", ["", "UPPER/case", "a b", "x:", "-x", "../x", "ghcr.io/a/b@sha256:12", "x;rm", "a//b"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="is no reference"):
        parse(text)


def test_a_mirror_comes_first_and_loopback_has_another_address_inside() -> None:
    mirrors = {"docker.io": "http://mirror:5000", "ghcr.io": "https://cache.example"}
    hub = ways(parse("debian:12"), mirrors, from_inside=True)
    assert [way.reference for way in hub] == ["mirror:5000/library/debian:12", "docker.io/library/debian:12"]
    assert [way.insecure for way in hub] == ["mirror:5000", None]
    assert ways(parse("ghcr.io/a/b"), mirrors, from_inside=True)[0].insecure is None
    (local,) = ways(parse("localhost:5000/x"), {}, from_inside=True)
    assert (local.reference, local.insecure, local.loopback) == ("10.0.2.2:5000/x:latest", "10.0.2.2:5000", True)
    (plain,) = ways(parse("localhost:5000/x"), {}, from_inside=False)
    assert plain.reference == "localhost:5000/x:latest"


@pytest.mark.parametrize("name", ["", "A", "../x", ".x", "a b", "x" * 64, DIGEST, "a/b"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(ImageError):
        checked_name(name)


@pytest.mark.parametrize("value", ["a b", "$(x)", "a'b", "a\nb", "`x`", "a;b"])
def test_env_files_hold_nothing_that_bash_would_read_otherwise(value: str) -> None:
    with pytest.raises(ImageError):
        env_text({"KEY": value})


# Layers


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name in ("root", "objects", "spare"):
        (tmp_path / name).mkdir()
    return Tree(tmp_path / "root", tmp_path / "objects", tmp_path / "spare")


def applied(tree: Tree, tmp_path: Path, *layers: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    paths = [layer(tmp_path / f"{number}.tar", members) for number, members in enumerate(layers)]
    write_archive(tmp_path / "a.tar", paths, "localhost/x:latest")
    tree.apply(read_archive(tmp_path / "a.tar"), Silent())
    assert not list(tree.spare.iterdir())
    return tree.root


def test_whiteouts_hide_what_is_below_and_nothing_of_their_own_layer(tree: Tree, tmp_path: Path) -> None:
    root = applied(
        tree,
        tmp_path,
        [
            entry("a", b"1"),
            entry("d"),
            entry("d/x", b"1"),
            entry("d/sub"),
            entry("d/sub/y", b"1"),
            entry("e"),
            entry("e/z", b""),
        ],
        [
            entry("a", b"2"),
            entry(".wh.a", b""),
            entry("d/sub/new", b"2"),
            entry("d/.wh..wh..opq", b""),
            entry(".wh.e", b""),
            entry("none/.wh.x", b""),
        ],
    )
    assert (root / "a").read_bytes() == b"2"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["a", "d", "d/sub", "d/sub/new"]


def test_no_layer_writes_outside_of_the_tree(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    root = applied(
        tree,
        tmp_path,
        [entry("etc", kind=tarfile.SYMTYPE, link=str(outside)), entry("w", kind=tarfile.SYMTYPE, link=str(outside))],
        [entry("etc/passwd", b"x"), entry("w/.wh.kept", b""), entry("w/.wh..wh..opq", b""), entry("/abs", b"x")],
    )
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (root / "etc").is_dir()
    assert not (root / "etc").is_symlink()
    assert (root / "abs").read_text() == "x"


@pytest.mark.parametrize(
    "member",
    [
        entry("../x", b"x"),
        entry("a/../../x", b"x"),
        entry("x", kind=tarfile.LNKTYPE, link="../../etc/passwd"),
        entry("x", kind=tarfile.LNKTYPE, link="missing"),
    ],
)
def test_an_archive_that_leads_out_is_refused(
    tree: Tree, tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    with pytest.raises(ImageError):
        applied(tree, tmp_path, [member])


def test_a_hard_link_through_a_symlink_is_refused(tree: Tree, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    members = [
        entry("l", kind=tarfile.SYMTYPE, link=str(tmp_path)),
        entry("x", kind=tarfile.LNKTYPE, link="l/secret"),
    ]
    with pytest.raises(ImageError, match="which is not there"):
        applied(tree, tmp_path, members)


def test_equal_files_are_one_object_and_modes_are_fit_for_their_owner(tree: Tree, tmp_path: Path) -> None:
    root = applied(
        tree,
        tmp_path,
        [
            entry("a", b"same"),
            entry("b", b"same"),
            entry("c", b"same", mode=0o755),
            entry("secret", b"s", mode=0),
            entry("setuid", b"u", mode=0o6755),
            entry("closed", mode=0o000),
            entry("h", kind=tarfile.LNKTYPE, link="a"),
            entry("dev", kind=tarfile.CHRTYPE),
        ],
    )
    assert (root / "a").samefile(root / "b")
    assert (root / "a").samefile(root / "h")
    assert not (root / "a").samefile(root / "c")
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("a", "c", "secret", "setuid", "closed")}
    assert modes == {"a": 0o644, "c": 0o755, "secret": 0o400, "setuid": 0o755, "closed": 0o700}
    assert not (root / "dev").exists()
    assert tree.tally.files == 5
    assert tree.tally.written < tree.tally.size


def test_the_environment_script_is_safe_and_sets_only_what_is_not_set() -> None:
    script = environment_script(["PATH=/bin:/usr/bin", 'A=it\'s $(x) `y` "z" \\', "B=mine", "bad key=1", "C"])
    shown = subprocess.run(
        ["/bin/sh", "-c", script + 'printf "%s\\n" "$PATH" "$A" "$B"'],
        env={"B": "theirs", "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == ["/bin:/usr/bin", 'it\'s $(x) `y` "z" \\', "theirs"]


# Archives


def test_an_archive_tells_its_runner_and_its_version(tmp_path: Path) -> None:
    versions = b'{"libraries": {"Runner.Listener/2.320.0": {"type": "project"}}}'
    members = [
        entry("opt/r/bin/Runner.Listener", b"x"),
        entry("opt/r/bin/Runner.Listener.deps.json", versions),
    ]
    write_archive(tmp_path / "a.tar", [layer(tmp_path / "l.tar", members)], "localhost/x:latest")
    found = contents(read_archive(tmp_path / "a.tar"))
    assert (found.runner_dir, found.runner_version, found.size) == ("/opt/r", "2.320.0", 1 + len(versions))


# What is collected


IMAGE = Image(DIGEST, "localhost/x:latest", 0.0, 1, "amd64")
JOBS = LiveJobs({7: 500.0, 9: None}, "hpc")


@pytest.mark.parametrize(
    ("names", "markers", "touched", "jobs", "removed"),
    [
        ((), (), 100.0, JOBS, True),
        (("x",), (), 100.0, JOBS, False),
        ((), ("hpc.7",), 100.0, JOBS, False),
        ((), ("hpc.8",), 100.0, JOBS, True),
        ((), ("other.8",), 100.0, JOBS, False),
        ((), ("cluster.8", "nonsense"), 100.0, LiveJobs({}, "hpc"), False),
        ((), ("cluster.8",), 100.0, LiveJobs({}, "hpc"), True),
        ((), (), 950.0, JOBS, False),
        ((), (), 600.0, JOBS, False),
        ((), (), 100.0, None, False),
    ],
)
def test_only_what_surely_nobody_uses_is_collected(
    names: tuple[str, ...], markers: tuple[str, ...], touched: float, jobs: LiveJobs | None, removed: bool
) -> None:
    decision = decide(Candidate(IMAGE, names, markers, touched), now=1000.0, grace=100.0, jobs=jobs)
    assert decision.remove is removed, decision.why


# The command


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["image", *words])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cat"


def archive(tmp_path: Path, name: str = "x", content: bytes = b"x") -> Path:
    write_archive(
        tmp_path / f"{name}.tar", [layer(tmp_path / "l.tar", [entry("f", content)])], f"localhost/{name}:latest"
    )
    return tmp_path / f"{name}.tar"


def test_import_list_inspect_remove(tmp_path: Path, place: Path) -> None:
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress(archive(tmp_path).read_bytes()))
    done = call("import", str(packed), "--name", "runner", "--dir", str(place))
    assert done.exit_code == 0, done.output
    digest = done.stdout.split()[-1]
    (listed,) = json.loads(call("list", "--json", "--dir", str(place)).stdout)
    assert (listed["digest"], listed["names"], listed["forms"], listed["size"]) == (digest, ["runner"], {}, 1)
    assert "runner" in call("list", "--dir", str(place)).stdout
    for word in ("runner", digest, digest[:12], f"sha256:{digest}"):
        assert json.loads(call("inspect", word, "--json", "--dir", str(place)).stdout)["digest"] == digest
    assert "publish --to store" in call("inspect", "runner", "--dir", str(place)).stdout
    assert os.readlink(place / "names/runner") == f"../{digest}"
    text = (place / digest / "image.env").read_text()
    assert text == f"DIGEST={digest}\nREFERENCE=localhost/x:latest\nPULL=\nRUNNER_DIR=\n"
    assert call("remove", "runner", "--dir", str(place)).exit_code == 0
    assert Catalogue(place).names() == {}
    assert Catalogue(place).find(digest).digest == digest


def test_a_name_moves_and_the_old_image_stays(tmp_path: Path, place: Path) -> None:
    for content in (b"old", b"new"):
        assert call("import", str(archive(tmp_path, "x", content)), "--name", "n", "--dir", str(place)).exit_code == 0
    catalogue = Catalogue(place)
    old, new = catalogue.images()
    assert catalogue.names() == {"n": new.digest}
    assert catalogue.archive(old).exists()


def test_a_catalogue_of_another_user_is_left_alone(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    done = call("import", str(archive(tmp_path)), "--name", "x", "--dir", str(place))
    assert done.exit_code == 1
    assert f"belongs to another user (uid {owner})" in done.stderr
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "missing.tar", "--name", "x"), "missing.tar is not a file"),
        (("import", "text", "--name", "x"), "is no image archive"),
        (("import", "text", "--name", "../x"), "cannot be the name of an image"),
        (("inspect", "nothing"), "there is no image 'nothing'"),
        (("remove", "nothing"), "there is no name 'nothing'"),
        (("pull", "a b"), "is no reference of an image"),
        (("build",), "name an actions/runner with --runner"),
        (("build", "--file", "missing"), "missing is not a file"),
        (("publish", "nothing", "--to", "store"), "there is no image"),
        (("import", "gz", "--name", "x"), "is damaged"),
    ],
)
def test_what_cannot_be_gets_one_sentence(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no tar")
    Path("gz").write_bytes(gzip.compress(b"x" * 10_000)[:-20])
    (place / "names").mkdir(parents=True)
    done = call(*words, "--dir", str(place))
    assert done.exit_code == 1, done.output
    (sentence,) = (line for line in done.stderr.splitlines() if line.startswith("slurm-gha image: "))
    assert said in sentence
    assert sentence == done.stderr.splitlines()[-1]
    assert Catalogue(place).images() == ()


def slurm(tmp_path: Path, squeue: str, name: str = "hpc") -> str:
    """A directory with commands that answer as Slurm's."""
    commands = tmp_path / "bin"
    commands.mkdir(exist_ok=True)
    for command, text in (("squeue", squeue), ("scontrol", f"echo 'ClusterName             = {name}'")):
        (commands / command).write_text(f"#!/bin/sh\necho {command} >>{tmp_path}/calls\n{text}\n")
        (commands / command).chmod(0o755)
    return f"{commands}:{os.environ['PATH']}"


def test_gc_asks_slurm_once_and_keeps_what_a_live_job_uses(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_GHA_CONFIG", "")
    for name in ("used", "unused", "named"):
        call("import", str(archive(tmp_path, name, name.encode())), "--name", name, "--dir", str(place))
    catalogue = Catalogue(place)
    digests = catalogue.names()
    for name in ("used", "unused"):
        catalogue.drop_name(name)
        os.utime(catalogue.directory(digests[name]), (1000, 1000))
    for number in (7, 8):
        marker = place / "uses" / digests["used" if number == 7 else "unused"] / f"hpc.{number}"
        marker.parent.mkdir()
        marker.touch()
    line = "7|RUNNING|None|1700000000|1700000000|1700009999|n1|sg-x-1|c"
    monkeypatch.setenv("PATH", slurm(tmp_path, f"echo '{line}'"))
    monkeypatch.delenv("SLURM_GHA_CONFIG")
    dry = call("gc", "--dry-run", "--grace", "1h", "--dir", str(place))
    assert dry.exit_code == 0, dry.output
    assert len(catalogue.images()) == 3
    done = call("gc", "--grace", "1h", "--dir", str(place))
    assert done.exit_code == 0, done.output
    assert "Slurm job 7 uses it" in done.stdout
    assert {image.digest for image in catalogue.images()} == {digests["used"], digests["named"]}
    assert (tmp_path / "calls").read_text().split().count("squeue") == 2
    assert [path.name for path in (place / "tmp").iterdir()] == ["lock"]
    assert not (place / "uses" / digests["unused"]).exists()


def test_a_slurm_that_cannot_be_read_keeps_everything(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("import", str(archive(tmp_path)), "--name", "x", "--dir", str(place))
    catalogue = Catalogue(place)
    monkeypatch.setenv(
        "PATH", slurm(tmp_path, "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    )
    assert call("gc", "--grace", "0s", "--dir", str(place)).exit_code == 0, "there is nothing to ask about"
    catalogue.drop_name("x")
    done = call("gc", "--grace", "0s", "--dir", str(place))
    assert done.exit_code == 1
    assert "Slurm cannot be read" in done.stderr
    assert len(catalogue.images()) == 1


def test_help_works_after_each_verb_has_been_loaded() -> None:
    for verb in VERBS:
        assert call(verb, "--help").exit_code == 0
    done = call("--help")
    assert done.exit_code == 0
    assert all(verb in done.stdout for verb in VERBS)
