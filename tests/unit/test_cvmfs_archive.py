"""The tar stream of an image: fit for CVMFS whatever the source, and never whole after an error."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.cvmfs_bench import make_tree

from slurm_gha.images.cvmfs import archive
from slurm_gha.images.cvmfs.errors import BadTree

NOW = 1_700_000_000.0


def streamed(source: Path) -> dict[str, tarfile.TarInfo]:
    stream = io.BytesIO()
    length = archive.write(source, stream, NOW, lambda size, entries: None)
    assert length == len(stream.getvalue())
    stream.seek(0)
    with tarfile.open(fileobj=stream) as file:
        members = file.getmembers()
    assert len({member.name for member in members}) == len(members)
    return {member.name: member for member in members}


def made_of(members: list[tuple[tarfile.TarInfo, bytes]], place: Path) -> Path:
    with tarfile.open(place, "w") as file:
        for info, content in members:
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return place


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_mount_points_and_the_catalog_mark_are_there(tmp_path: Path) -> None:
    members = streamed(make_tree(tmp_path / "tree"))
    for name in archive.MOUNT_POINTS:
        assert members[name].isdir()
    assert members["tmp"].mode == 0o1777
    assert members[".cvmfscatalog"].mtime == NOW
    assert members[".cvmfscatalog"].size == 0


def test_a_mount_point_that_is_a_link_becomes_a_directory(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "tmp").symlink_to("usr")
    assert streamed(tmp_path)["tmp"].isdir()


def test_hard_links_are_files_and_devices_left_out(tmp_path: Path) -> None:
    members = streamed(make_tree(tmp_path / "tree"))
    assert members["usr/bin/program"].isreg()
    assert members["usr/bin/same"].isreg()
    assert members["usr/bin/same"].size == members["usr/bin/program"].size > 0
    assert "etc/pipe" not in members


def test_of_an_archive_too(tmp_path: Path) -> None:
    source = made_of(
        [
            (entry("./", tarfile.DIRTYPE, mode=0o755), b""),
            (entry("/etc", tarfile.DIRTYPE, mode=0o700), b""),
            (entry("./etc/a", mode=0o600), b"content"),
            (entry("etc/b", tarfile.LNKTYPE, "./etc/a"), b""),
            (entry("dev/null", tarfile.CHRTYPE), b""),
            (entry(".cvmfscatalog"), b"theirs"),
        ],
        tmp_path / "source.tar",
    )
    members = streamed(source)
    assert set(members) == {"etc", "etc/a", "etc/b", "dev", "proc", "sys", "tmp", ".cvmfscatalog"}
    assert members["etc"].mode == 0o755
    assert members["etc/a"].mode == 0o644
    assert members["etc/b"].isreg()
    assert members["etc/b"].size == 7
    assert members[".cvmfscatalog"].size == 0


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/../evil"])
def test_an_entry_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    source = made_of([(entry(name), b"x")], tmp_path / "source.tar")
    with pytest.raises(BadTree, match="leads out of the image"):
        streamed(source)


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    source = made_of([(entry("a", tarfile.LNKTYPE, "missing"), b"")], tmp_path / "source.tar")
    with pytest.raises(BadTree, match="which is not there"):
        streamed(source)


@pytest.mark.parametrize("make", ["missing", "empty", "text"])
def test_what_is_no_image_is_told_at_once(tmp_path: Path, make: str) -> None:
    place = tmp_path / make
    if make == "empty":
        place.mkdir()
    elif make == "text":
        place.write_text("no archive")
    with pytest.raises(BadTree, match=str(place)):
        archive.check(place)


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTree, match="empty"):
        streamed(made_of([], tmp_path / "source.tar"))


def test_after_an_error_the_stream_has_no_end(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    source = made_of([(entry(f"file{n}"), b"x" * 512) for n in range(9)], tmp_path / "source.tar")
    os.truncate(source, 4096)
    stream = io.BytesIO()
    with pytest.raises(BadTree, match="not whole"):
        archive.write(source, stream, NOW, lambda size, entries: None)
    # The end of an archive is two blocks of zeros.
    assert b"\0" * 1024 not in stream.getvalue()


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("x" * 100)

    class Shrinking(io.BytesIO):
        def write(self, content: object) -> int:
            (tmp_path / "b").write_text("")
            return super().write(content)  # type: ignore[arg-type]

    # The size of an entry is taken when it is met, and the entries of a directory are met one by one.
    members = archive._of_directory(tmp_path)
    pairs = [next(members), next(members)]
    out = tarfile.open(fileobj=Shrinking(), mode="w")  # noqa: SIM115 – it is never whole
    for member, shrunk in zip(pairs, (False, True), strict=True):
        assert member.content is not None
        with member.content() as content, pytest.raises(OSError, match="unexpected end") if shrunk else nullcontext():
            out.addfile(member.info, content)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c/d", "dev/x", "tmp", "sys"]), st.integers(0, 0o7777)), min_size=1)
)
def test_whoever_may_read_may_everybody(tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, int]]) -> None:
    place = tmp_path_factory.mktemp("source") / "source.tar"
    named = dict(files)
    for member in streamed(made_of([(entry(name, mode=mode), b"x") for name, mode in named.items()], place)).values():
        assert member.mode & 0o444 == 0o444
        assert not member.isdir() or member.mode & 0o555 == 0o555
        assert bool(member.mode & 0o100) <= bool(member.mode & 0o001)
