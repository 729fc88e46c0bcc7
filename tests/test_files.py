import os
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skstructcore._utils.files import (
    Journal,
    atomic_file,
    check_writable,
    escape_name,
    file_digest,
    unescape_name,
    write_text,
)

# Also what Python makes of bytes that are not UTF-8.
names = st.text(st.characters(exclude_categories=()), max_size=20)


@given(names)
@example("$'\\x41'")
@example("$'")
@example("\\")
@example("\udcff\x80")
@example("a\\x0ab\n")
def test_every_name_has_one_spelling_that_leads_back(name):
    text = escape_name(name)
    assert unescape_name(text) == name
    assert text.encode().decode() == text  # can be written
    assert len(text.splitlines()) <= 1 and not text.startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize(
    "name", ["a.png", "über/ß 1.png", "C:\\parts\\1.png", "it's.png", "1%.png"]
)
def test_ordinary_names_stay_as_they_are(name):
    assert escape_name(name) == name


@pytest.mark.parametrize(
    ("name", "spelled"),
    [("=1+1.png", "$'=1+1.png'"), ("a\nb.png", "$'a\\x0ab.png'"), ("\udcfc.png", "$'\\xfc.png'")],
)
def test_names_that_would_break_a_table_are_quoted_as_shells_do(name, spelled):
    assert escape_name(name) == spelled


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["result.txt"]


def test_who_reads_while_a_file_is_written_reads_the_old_one_to_its_end(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with open(path) as reader:
        write_text(path, "new")
        assert reader.read() == "old"  # a new file has taken the name; this one is untouched


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_replaced_file_keeps_its_rights(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == mode


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from skstructcore._utils.files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as file:\n"
        "    file.write(b'x' * 100000); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, path])
    assert run.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_writers_at_once_leave_one_whole_file(tmp_path):
    texts = [str(i) * 100_000 for i in range(8)]
    threads = [
        threading.Thread(target=write_text, args=(tmp_path / "a.txt", text)) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.txt").read_text() in texts and os.listdir(tmp_path) == ["a.txt"]


def test_names_as_long_as_names_can_be_and_links_are_written(tmp_path):
    write_text(tmp_path / ("n" * 251 + ".txt"), "long")
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "file.txt")
    write_text(tmp_path / "link.txt", "through")
    assert (tmp_path / "real" / "file.txt").read_text() == "through"
    assert (tmp_path / "link.txt").is_symlink()


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
        check_writable(tmp_path / "absent" / "scores.csv")
    with pytest.raises(OSError, match="no file that could be replaced"):
        check_writable(tmp_path)
    assert check_writable(tmp_path / "scores.csv") and not list(tmp_path.iterdir())
    read, write = os.pipe()  # as /dev/stdout in front of another program: opening it would wait
    with os.fdopen(read), os.fdopen(write, "w"), pytest.raises(OSError, match="no file that"):
        check_writable(f"/dev/fd/{write}")


def test_the_digest_follows_the_content(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    # SHA-256 of "abc", from FIPS 180-2.
    assert file_digest(path).startswith("ba7816bf8f01cfea") and len(file_digest(path)) == 64
    path.write_bytes(b"abcd")
    assert file_digest(str(path)).startswith("88d4266fd4e6338d")


def test_a_journal_does_not_cut_rows_at_carriage_returns(tmp_path):
    journal = Journal(tmp_path / "rows.csv")
    rows = '1,"a\rb"\n2,good\r\n'
    journal.append(rows + "half")
    assert journal.take_up().decode() == journal.path.read_bytes().decode() == rows


def test_half_a_row_of_a_full_disk_is_taken_back(tmp_path):
    resource = pytest.importorskip("resource")
    journal = Journal(tmp_path / "rows.csv")
    journal.append("a,b\n1,2\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12, limits[1]))
    try:
        with pytest.raises(OSError, match="cannot be written"):
            journal.append("1234567,89\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    journal.append("1234567,89\n")
    assert journal.path.read_text() == "a,b\n1,2\n1234567,89\n"
