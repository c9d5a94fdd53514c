"""How files are written: whole or not at all, under their names, with their modes, through links and to devices."""

import errno
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.files import check_writable, replacing, write
from tests.killed import graph

FIFO = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
USER = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_at_the_end(old: Path) -> None:
    with replacing(old) as part:
        assert old.read_bytes() == b"old"
        part.write_bytes(b"new")
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["file"]


def test_an_error_inside_leaves_the_file_as_it_was_and_nothing_beside_it(old: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(old) as part:
        raise (part.write_bytes(b"half") and ZeroDivisionError)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_the_mode_of_the_old_file_is_kept(old: Path, mode: int) -> None:
    old.chmod(mode)
    write(old, b"new")
    assert stat.S_IMODE(old.stat().st_mode) == mode


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_new_file_has_the_mode_that_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        graph(1.0).save(tmp_path / "net.json")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize("target", ["file", "new"])
def test_a_link_stays_and_what_it_points_to_is_replaced(old: Path, target: str) -> None:
    folder = old.parent / "links"
    folder.mkdir()
    (folder / "one").symlink_to(Path("..", target))
    (folder / "two").symlink_to("one")
    write(folder / "two", b"new")
    assert os.readlink(folder / "two") == "one"
    assert (old.parent / target).read_bytes() == b"new"
    assert names(folder) == ["one", "two"]


def test_a_hard_link_is_parted(old: Path) -> None:
    os.link(old, old.parent / "other")
    write(old, b"new")
    assert (old.parent / "other").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "number", "named"),
    [
        (".", errno.EISDIR, "."),
        ("none/file", errno.ENOENT, "none"),
        ("file/below", errno.ENOTDIR, "file/below"),
        ("n" * 300, errno.ENAMETOOLONG, "n" * 300),
        ("circle", errno.ELOOP, "circle"),
        ("dangling", errno.ENOENT, "dangling"),
    ],
)
def test_what_cannot_be_written_is_told_under_the_users_name(old: Path, name: str, number: int, named: str) -> None:
    (old.parent / "circle").symlink_to("circle")
    (old.parent / "dangling").symlink_to("none/file")
    for action in (check_writable, lambda path: write(path, b"new"), graph(1.0).save):
        with pytest.raises(OSError, match=re.escape(str(old.parent))) as caught:
            action(old.parent / name)
        assert (caught.value.errno, caught.value.filename) == (number, str(old.parent / named))
        assert names(old.parent) == ["circle", "dangling", "file"]


@pytest.mark.parametrize("function", ["open", "fsync", "chmod", "replace"])
def test_errors_of_the_system_name_the_users_file(old: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    def full(path: object, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([] if isinstance(path, int) else [str(path)]))

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(old, b"new")
    monkeypatch.undo()
    assert caught.value.filename == str(old)
    assert ".tmp" not in str(caught.value)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file"]


def test_a_full_disk_leaves_the_graph_that_was_saved_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.json"
    graph(1.0).save(path)
    before = names(tmp_path)
    real = Path.write_bytes
    for allowed in (0, 1):
        left = [allowed]

        def full(self: Path, content: bytes, left: list[int] = left) -> int:
            left[0] -= 1
            if left[0] < 0:
                real(self, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(self, content)

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device"):
            graph(2.0).save(path)
        assert ge.load(path) == graph(1.0)
        assert names(tmp_path) == before


@USER
def test_a_folder_or_a_file_that_may_not_be_written_is_refused(old: Path) -> None:
    old.chmod(0o400)
    with pytest.raises(PermissionError, match="not allowed to write there"):
        check_writable(old)
    old.chmod(0o600)
    old.parent.chmod(0o500)
    for path in (old, old.parent / "new"):
        with pytest.raises(PermissionError, match="to make a new file in its folder") as caught:
            check_writable(path)
        assert caught.value.filename == str(path)
    old.parent.chmod(0o700)


@FIFO
def test_a_fifo_is_written_to_if_somebody_reads_from_it_and_refused_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    g = ge.Graph("small")
    with pytest.raises(OSError, match="no process reads from this FIFO"):
        g.save(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    g.save(path)
    assert os.read(reader, 10_000) == g.to_json().encode()
    os.close(reader)
    with pytest.raises(ge.SpecError, match="constants k need one beside the document"):
        graph(1.0).save(path)
    assert path.is_fifo()
    assert names(tmp_path) == ["fifo"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs these devices")
def test_a_device_is_written_to(tmp_path: Path) -> None:
    write("/dev/null", b"new")
    assert Path("/dev/null").is_char_device()
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(tmp_path / "link", b"new")
    assert caught.value.filename == str(tmp_path / "link")


@pytest.mark.skipif(not Path("/dev/fd/1").exists(), reason="needs files for open files")
def test_an_open_file_of_this_process_is_written_to_where_it_is(old: Path) -> None:
    with open(old, "ab") as file:
        write(f"/dev/fd/{file.fileno()}", b" and new")
    assert old.read_bytes() == b"old and new"


def test_what_killed_processes_left_is_removed_and_what_is_in_use_is_not(old: Path) -> None:
    abandoned = old.parent / ".graphengine-0123456789abcdef.tmp"
    abandoned.touch()
    with replacing(old) as part:
        part.write_bytes(b"new")
        write(old.parent / "other", b"other")  # by the same process; the lock is of the open file
        assert part.exists()
        assert not abandoned.exists()
    assert names(old.parent) == ["file", "other"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_graph_is_the_old_or_the_new_one_wherever_the_process_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.killed", tmp_path]
    result = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    old_ones, new_ones = map(int, result.stdout.split())
    assert old_ones > 10
    assert new_ones > 0


def test_weights_and_graphs_of_one_name_leave_each_other_alone(tmp_path: Path) -> None:
    g = ge.Graph("net")
    y = (g.input("x", ("batch", 5000)) * g.constant("k", np.ones(5000, "float32"))) @ g.parameter("w", (5000, 1))
    g.output("y", y)
    exe = ge.compile(g)
    for _ in range(2):
        ge.save_parameters(exe, tmp_path / "net.safetensors")
        g.save(tmp_path / "net.json")
        assert ge.load(tmp_path / "net.json") == g
        assert ge.load_parameters(exe, tmp_path / "net.safetensors") == ["w"]
    g.save(tmp_path / "two.json")
    ge.save_parameters(exe, tmp_path / "two.safetensors")
    assert ge.load(tmp_path / "two.json") == g


def test_a_copy_of_the_constants_is_where_they_once_were(tmp_path: Path) -> None:
    for fill in (1.0, 2.0):
        graph(fill).save(tmp_path / "net.json")
        (constants,) = tmp_path.glob("net.json.*")
        assert (tmp_path / "net.safetensors").read_bytes() == constants.read_bytes()
    constants.unlink()
    assert ge.load(tmp_path / "net.json") == graph(2.0)


def test_a_graph_that_is_saved_over_another_leaves_none_of_its_constants(tmp_path: Path) -> None:
    other = graph(3.0)
    other.save(tmp_path / "other.json")
    (tmp_path / "link.json").symlink_to("net.json")
    for name, fill in (("net.json", 1.0), ("net.json", 2.0), ("link.json", 2.0), ("link.json", 1.0)):
        graph(fill).save(tmp_path / name)
        assert ge.load(tmp_path / "net.json") == ge.load(tmp_path / "link.json") == graph(fill)
        assert len(names(tmp_path)) == 7
    ge.Graph("small").save(tmp_path / "net.json")
    assert len(names(tmp_path)) == 5
    assert ge.load(tmp_path / "other.json") == other


def test_graphs_that_are_saved_and_loaded_at_once_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    graphs = [graph(float(fill)) for fill in range(4)]
    graphs[0].save(path)
    failed: list[Exception] = []

    def repeat(action: object) -> None:
        try:
            for _ in range(10):
                action()
        except Exception as error:
            failed.append(error)

    actions = [*(one.save for one in graphs)]
    threads = [threading.Thread(target=repeat, args=(lambda action=action: action(path),)) for action in actions]
    threads += [threading.Thread(target=repeat, args=(lambda: graphs.index(ge.load(path)),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert ge.load(path) in graphs
    graphs[0].save(path)
    assert len(names(tmp_path)) == 3
