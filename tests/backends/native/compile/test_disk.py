"""Machine code on disk: whole, of this user alone, and no more than may be kept."""

import logging
import os
import stat
import time
from pathlib import Path

import pytest

from graphengine.backends.native.compile import disk

CODE = b"machine code"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not there yet."""
    monkeypatch.setenv("GRAPHENGINE_CACHE", str(tmp_path / "above" / "cache"))
    monkeypatch.setattr(disk, "_said", set())
    return tmp_path / "above" / "cache"


def test_what_is_written_is_read(cache: Path) -> None:
    assert disk.read(["name"]) == {}
    assert not cache.exists()
    disk.write("name", CODE)
    assert disk.read(["name", "other"]) == {"name": CODE}
    assert [path.name for path in cache.iterdir()] == ["name.o"]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_the_folder_and_its_files_are_for_this_user_alone(cache: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        disk.write("name", CODE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.parent.stat().st_mode) == stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE((cache / "name.o").stat().st_mode) == 0o600


def test_a_file_that_was_cut_short_or_changed_or_renamed_is_not_read(cache: Path) -> None:
    disk.write("name", CODE)
    whole = (cache / "name.o").read_bytes()
    (cache / "other.o").write_bytes(whole)
    (cache / "other.o").chmod(0o600)
    assert disk.read(["other"]) == {}
    for changed in (whole[:-1], whole[:-1] + b"!", b"", whole + b"more"):
        (cache / "name.o").write_bytes(changed)
        assert disk.read(["name"]) == {}
    disk.write("name", CODE)
    assert disk.read(["name"]) == {"name": CODE}


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to_is_not_used_and_that_is_said_once(
    cache: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    disk.write("name", CODE)
    cache.chmod(mode)
    for _ in range(3):
        assert disk.read(["name"]) == {}
        disk.write("another", CODE)
    assert not (cache / "another.o").exists()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    assert str(cache) in said
    assert f"can be written to by others (mode {mode:o})" in said
    assert "GRAPHENGINE_CACHE" in said


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to_is_not_run(cache: Path, caplog: pytest.LogCaptureFixture, mode: int) -> None:
    disk.write("name", CODE)
    disk.write("other", CODE)
    (cache / "name.o").chmod(mode)
    assert disk.read(["name", "other"]) == {"other": CODE}
    assert (
        f"name.o is not used, and machine code is compiled anew: it can be written to by others (mode {mode:o})"
        in caplog.text
    )
    disk.write("name", CODE)  # in the place of the other one
    assert disk.read(["name"]) == {"name": CODE}


def test_a_folder_above_that_everybody_can_write_to_is_refused_unless_it_is_sticky(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk.write("name", CODE)
    cache.parent.chmod(0o777)
    assert disk.read(["name"]) == {}
    assert f"is in {cache.parent}, to which all users can write" in caplog.text
    cache.parent.chmod(0o1777)
    assert disk.read(["name"]) == {"name": CODE}


@pytest.mark.parametrize("what", ["cache", "above", "file"])
def test_what_belongs_to_somebody_else_is_not_used(
    cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    disk.write("name", CODE)
    path = {"cache": cache, "above": cache.parent, "file": cache / "name.o"}[what]
    inode, fstat, stat_ = path.stat().st_ino, os.fstat, os.stat

    def of_another(status: os.stat_result) -> os.stat_result:
        if status.st_ino != inode:
            return status
        return os.stat_result((*status[:4], 12345, *status[5:]))

    monkeypatch.setattr(os, "fstat", lambda *a, **k: of_another(fstat(*a, **k)))
    monkeypatch.setattr(os, "stat", lambda *a, **k: of_another(stat_(*a, **k)))
    assert disk.read(["name"]) == {}
    assert "belongs to the user 12345" in caplog.text


def test_what_belongs_to_root_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    disk.write("name", CODE)
    fstat, stat_ = os.fstat, os.stat

    def of_root(status: os.stat_result) -> os.stat_result:
        return os.stat_result((*status[:4], 0, *status[5:]))

    monkeypatch.setattr(os, "fstat", lambda *a, **k: of_root(fstat(*a, **k)))
    monkeypatch.setattr(os, "stat", lambda *a, **k: of_root(stat_(*a, **k)))
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert disk.read(["name"]) == {"name": CODE}


def test_links_to_a_folder_are_followed_and_links_in_it_are_not(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write("name", CODE)
    (tmp_path / "link").symlink_to(cache)
    monkeypatch.setenv("GRAPHENGINE_CACHE", str(tmp_path / "link"))
    assert disk.read(["name"]) == {"name": CODE}
    disk.write("other", CODE)
    assert (cache / "other.o").exists()
    (cache / "name.o").rename(tmp_path / "elsewhere.o")
    (cache / "name.o").symlink_to(tmp_path / "elsewhere.o")
    assert disk.read(["name"]) == {}


def test_what_is_no_file_is_not_read(cache: Path) -> None:
    disk.write("name", CODE)
    os.mkfifo(cache / "pipe.o", 0o600)
    (cache / "folder.o").mkdir()
    assert disk.read(["pipe", "folder", "name"]) == {"name": CODE}


def test_a_folder_that_cannot_be_made_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("GRAPHENGINE_CACHE", str(path))
        disk.write("name", CODE)
        disk.trim()
        assert disk.read(["name"]) == {}


def test_a_full_disk_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        disk.write("name", CODE)
    assert list(cache.iterdir()) == []
    assert disk.read(["name"]) == {}


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GRAPHENGINE_CACHE", "~/kernels")
    assert disk.folder() == tmp_path / "kernels"
    monkeypatch.delenv("GRAPHENGINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert disk.folder() == tmp_path / "xdg" / "graphengine"
    for ignored in ("", "relative/xdg", "."):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert disk.folder() == tmp_path / ".cache" / "graphengine"
    monkeypatch.setenv("HOME", "relative")
    assert disk.folder() is None


@pytest.mark.parametrize("chosen", ["", "~nobody_of_this_name/kernels"])
def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("GRAPHENGINE_CACHE", chosen)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))
    assert disk.folder() is None
    disk.write("name", CODE)
    disk.trim()
    assert disk.read(["name"]) == {}


def test_what_was_not_used_for_longest_is_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day, now = 24 * 3600, time.time()
    for age, name in enumerate("abcd"):
        disk.write(name, bytes(968))  # with the digest a thousand bytes
        os.utime(cache / f"{name}.o", (now, now - 10 * day * (age + 1)))
    disk.trim()
    assert len(list(cache.iterdir())) == 4
    assert disk.read("d")  # which is used again
    monkeypatch.setenv("GRAPHENGINE_CACHE_BYTES", "2500")
    disk.trim()
    assert sorted(path.name for path in cache.iterdir()) == ["a.o", "d.o"]
    monkeypatch.setenv("GRAPHENGINE_CACHE_BYTES", "no number")
    disk.trim()
    assert len(list(cache.iterdir())) == 2


def test_what_ended_processes_left_is_removed(cache: Path) -> None:
    disk.write("name", CODE)
    for age, name in ((10, "new.part"), (7200, "old.part")):
        (cache / name).write_bytes(CODE)
        os.utime(cache / name, (time.time(), time.time() - age))
    disk.trim()
    assert sorted(path.name for path in cache.iterdir()) == ["name.o", "new.part"]


def test_where_systems_know_no_owners_and_open_no_folders_it_works_by_paths(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", set())
    monkeypatch.setattr(disk, "_HAS_OWNERS", False)
    disk.write("name", CODE)
    (cache / "name.o").chmod(0o666)
    assert disk.read(["name"]) == {"name": CODE}
    disk.trim()
    assert [path.name for path in cache.iterdir()] == ["name.o"]
