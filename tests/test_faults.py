"""Builds that are killed, stopped, refused, locked out or out of disk: nothing lost, nothing bought twice, one sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import hard
import pytest
from openai_server import OpenAIServer, drip, edited, half, raw, reset, silence, status

from datasette_embeddings import database, store
from datasette_embeddings.store import Store

ROWS, BATCH = 30, 5
COLLECTION = {"c": {"table": "t", "columns": ["body"], "similarities": 3}}
SEED = 7


@pytest.fixture
def server():
    with OpenAIServer(dimensions=8) as running:
        yield running


@pytest.fixture
def tmp_path():
    """A folder in memory where there is one, as hundreds of commits would wait for a disk."""
    with tempfile.TemporaryDirectory(dir=hard.MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def path(tmp_path):
    """A table of ROWS different texts, not built."""
    return make_rows(tmp_path / "data.db")


def make_rows(path):
    rows = [("insert into t (body) values (?)", [f"text {n} of {n % 4} trains"]) for n in range(ROWS)]
    hard.change(path, "create table t (id integer primary key, body text)", *rows)
    return path


@pytest.fixture
def build(path, server, tmp_path):
    """Run `build` on the file; more paths and options may be given."""

    def run(*more: object, expect: int = 0, on: Path = path) -> str:
        return hard.run("build", on, "-c", config_of(tmp_path, server), *more, expect=expect).output

    return run


def config_of(folder, server):
    return hard.write_config(folder / "config.json", server, COLLECTION, batch_items=BATCH)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The tables of an uninterrupted build."""
    folder = tmp_path_factory.mktemp("truth")
    with OpenAIServer(dimensions=8) as server:
        hard.run("build", make_rows(folder / "data.db"), "-c", config_of(folder, server))
    return hard.tables_of(folder / "data.db", "c")


def start(path, config, **options):
    """Start `build` as a process of its own, which Ctrl-C reaches also where the tests run in the background of a shell."""
    command = [sys.executable, "-m", "datasette_embeddings", "build", str(path), "-c", str(config)]
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def answer_and(server, action):
    """A fault: a right and paid answer, with *action* done before it is sent."""

    def fault(handler, request, answer):
        server.paid(request.texts)
        action()
        edited(lambda _: None)(handler, request, answer)

    return fault


# The process ends


def test_kill_9_loses_at_most_the_batch_in_flight(path, server, truth, tmp_path):
    random.seed(SEED)
    kills = 0
    for _ in range(2):
        child: list[subprocess.Popen] = []
        calls = random.randrange(1, 4)
        server.script(*[None] * (calls - 1), answer_and(server, lambda child=child: child[0].kill()))
        child.append(start(path, config_of(tmp_path, server)))
        child[0].communicate(timeout=60)
        assert child[0].returncode == -signal.SIGKILL
        kills += 1
        assert hard.query(path, "pragma integrity_check") == [("ok",)]
    server.script()
    hard.run("build", path, "-c", config_of(tmp_path, server))
    assert hard.tables_of(path, "c") == truth
    assert ROWS < len(server.texts) <= ROWS + kills * BATCH


def test_ctrl_c_says_how_to_go_on(path, server, truth, tmp_path):
    child: list[subprocess.Popen] = []
    stop = answer_and(server, lambda: (child[0].send_signal(signal.SIGINT), time.sleep(0.2)))
    server.script(None, None, stop)
    child.append(start(path, config_of(tmp_path, server)))
    _, errors = child[0].communicate(timeout=30)
    assert (child[0].returncode, "Traceback" in errors) == (1, False)
    assert "run the same command to go on" in errors
    assert hard.query(path, "select count(*) from embeddings") == [(2 * BATCH,)]
    hard.run("build", path, "-c", config_of(tmp_path, server))
    assert hard.tables_of(path, "c") == truth
    assert len(server.texts) <= ROWS + BATCH


# The provider fails


FAULTS = {
    "500": status(500),
    "401": status(401),
    "reset": reset,
    "half": half,
    "html": raw(b"<html>"),
    "fewer": edited(lambda answer: answer["data"].pop()),
    "twice": edited(lambda answer: answer["data"].append(answer["data"][0])),
    "short": edited(lambda answer: answer["data"][0].update(embedding="AACAPw==")),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_call_that_fails_loses_nothing_whichever_it_is(path, server, build, truth, tmp_path, fault):
    for n in range(ROWS // BATCH) if fault is FAULTS["500"] else [0, 3]:
        copy = Path(shutil.copy(path, tmp_path / f"copy{n}.db"))
        server.texts.clear()
        server.script(*[None] * n, fault)
        output = build(on=copy, expect=1)
        assert "openai/one" in output
        assert hard.query(copy, "select count(*) from embeddings") == [(n * BATCH,)]
        build(on=copy)
        assert hard.tables_of(copy, "c") == truth
        assert len(server.texts) == ROWS


@pytest.mark.parametrize("fault", [silence, drip], ids=["silence", "drip"])
def test_a_server_that_does_not_end_is_given_up(path, server, tmp_path, fault):
    server.always(fault)
    config = hard.write_config(tmp_path / "slow.json", server, COLLECTION, timeout=0.1)
    assert "Nothing of this batch was kept" in hard.run("build", path, "-c", config, expect=1).output


# The database file


def test_a_full_disk_at_any_page_loses_nothing(path, server, build, truth, tmp_path, monkeypatch):
    real, pages = store.connect, hard.query(path, "pragma page_count")[0][0]
    failed = 0
    for limit in range(pages, pages + 100):
        copy = Path(shutil.copy(path, tmp_path / "copy.db"))

        def limited(*arguments, limit=limit, **options):
            conn = real(*arguments, **options)
            conn.execute(f"pragma max_page_count = {limit}")
            return conn

        server.texts.clear()
        with monkeypatch.context() as patched:
            patched.setattr(store, "connect", limited)
            result = hard.run("build", copy, "-c", config_of(tmp_path, server), expect=None)
        if result.exit_code == 0:
            break
        failed += 1
        assert "the disk is full; make room and run the same command again" in result.output
        assert hard.query(copy, "pragma integrity_check") == [("ok",)]
        build(on=copy)
        assert hard.tables_of(copy, "c") == truth
        assert len(server.texts) <= ROWS + BATCH
    assert failed > 5
    assert hard.tables_of(copy, "c") == truth


@pytest.mark.parametrize("mode", ["immediate", "exclusive"])
def test_a_file_locked_for_long_is_named(path, server, build, truth, monkeypatch, mode):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"begin {mode}")
        output = build(expect=1)
    assert str(path) in output
    assert "another program is writing to it" in output
    assert server.texts == []
    build()
    assert hard.tables_of(path, "c") == truth


def test_a_lock_between_two_batches_costs_one_batch(path, server, build, truth, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        server.script(None, None, answer_and(server, lambda: other.execute("begin immediate")))
        assert "another program is writing to it" in build(expect=1)
    build()
    assert hard.tables_of(path, "c") == truth
    assert len(server.texts) == ROWS + BATCH


def test_a_short_lock_is_waited_for(path, server, build, truth):
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        timer = threading.Timer(0.3, lambda: other.execute("rollback"))

        def lock():
            other.execute("begin immediate")
            timer.start()

        server.script(None, answer_and(server, lock))
        build()
        timer.join()
    assert hard.tables_of(path, "c") == truth
    assert len(server.texts) == ROWS


def test_others_can_write_while_the_model_runs(path, server, build, truth):
    hard.change(path, "create table other (n)")

    def write():
        with closing(sqlite3.connect(path, timeout=0)) as conn, conn:
            conn.execute("insert into other values (1)")

    server.always(answer_and(server, write))
    build()
    assert hard.query(path, "select count(*) from other") == [(ROWS // BATCH,)]
    assert hard.tables_of(path, "c") == truth


def test_rows_that_change_while_the_model_runs_are_caught_by_the_next_build(path, server, build, tmp_path):
    edits = [
        "update t set body = 'changed meanwhile' where id = 1",
        "delete from t where id in (2, 30)",
        "insert into t values (100, 'new meanwhile')",
        "update t set id = 200 where id = 29",
        "update t set body = (select body from t where id = 3) where id = 28",
    ]
    server.script(*(answer_and(server, lambda sql=sql: hard.change(path, sql)) for sql in edits))
    build()
    server.texts.clear()
    build()
    assert sorted(server.texts) == ["changed meanwhile", "new meanwhile"]
    scratch = tmp_path / "scratch.db"
    hard.change(scratch, "create table t (id integer primary key, body text)")
    hard.change(scratch, *(("insert into t values (?, ?)", row) for row in hard.query(path, "select * from t")))
    build(on=scratch)
    assert hard.tables_of(path, "c") == hard.tables_of(scratch, "c")


# Two at once


def test_a_second_build_is_refused_while_the_first_runs(path, server, build, truth, tmp_path):
    outputs = []

    def second():
        child = start(path, config_of(tmp_path, server))
        outputs.append((*child.communicate(timeout=60), child.returncode))

    server.script(None, answer_and(server, second))
    build()
    assert outputs[0][2] == 1
    assert "another build of this file is running" in outputs[0][1]
    assert hard.tables_of(path, "c") == truth
    assert len(server.texts) == ROWS


def claim(path, pid, host, age):
    hard.change(
        path,
        ("insert or replace into embeddings_builds values (1, ?, ?, ?)", [pid, host, int(time.time()) - age]),
    )


def test_the_claim_of_a_dead_build_is_taken_over(path, build, truth):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with Store(path):
        pass
    claim(path, child.pid, socket.gethostname(), 0)
    build()
    assert hard.tables_of(path, "c") == truth
    hard.change(path, "insert into t (body) values ('one more')")
    claim(path, 1, "another-host", 30)
    assert "process 1 on another-host" in build(expect=1)
    claim(path, 1, "another-host", 3600)
    build()
    assert hard.query(path, "select * from embeddings_builds") == []


def test_a_build_whose_claim_was_taken_over_stops(path, server, build, truth):
    server.script(None, answer_and(server, lambda: claim(path, 1, "another-host", 0)))
    assert "another build took this file over" in build(expect=1)
    assert hard.query(path, "select count(*) from embeddings") == [(BATCH,)]
    claim(path, 1, "another-host", 3600)
    build()
    assert hard.tables_of(path, "c") == truth


def test_many_programs_make_the_tables_of_a_new_file_at_once(path):
    errors = []

    def open_it():
        try:
            Store(path).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# Read-only and write-ahead


def as_nobody(*command: object) -> tuple[int, str]:
    """Run a command in a fork without root's right to write everywhere; returns its exit code and output."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            result = hard.run(*command, expect=None)
            os.write(writer, json.dumps([result.exit_code, result.output]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        code, output = json.loads(answer.read())
    os.waitpid(child, 0)
    return code, output


@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
def test_a_read_only_disk(path, server, build, tmp_path, wal):
    if wal:
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("pragma journal_mode = wal")
    build()
    config = config_of(tmp_path, server)
    tmp_path.chmod(0o555)
    path.chmod(0o444)
    listing = sorted(os.listdir(tmp_path))
    try:
        code, output = as_nobody("build", path, "-c", config)
        assert (code, "Nothing changed" in output) == (0, True), output
        assert as_nobody("similar", path, "c", 1)[0] == 0
        code, output = as_nobody("similarities", path, "c", "-n", 2)
        assert (code, "read-only" in output) == (1, True), output
        assert sorted(os.listdir(tmp_path)) == listing
    finally:
        tmp_path.chmod(0o755)
        path.chmod(0o644)


def test_a_build_beside_open_connections_in_wal_mode(path, build, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path)) as other:
        other.execute("pragma journal_mode = wal")
        other.execute("select count(*) from t").fetchall()
        assert "other programs have it open" in build()
        hard.change(path, "delete from t where id = 1")
        assert other.execute("select count(*) from t").fetchall() == [(ROWS - 1,)]
        build()
        other.execute("begin")
        other.execute("select count(*) from t").fetchall()
        hard.change(path, "delete from t where id = 2")
        build()
        assert other.execute("select count(*) from t").fetchall() == [(ROWS - 1,)]
    assert hard.account(path, "c") == (ROWS - 2, ROWS - 2, 0, 0)


def test_a_build_leaves_one_file_and_a_dry_run_none_changed(path, build):
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("pragma journal_mode = wal")
    before = path.read_bytes()
    assert "30 new" in build("--dry-run")
    assert path.read_bytes() == before
    build()
    assert [p.name for p in path.parent.glob("data.db*")] == ["data.db"]
    assert hard.query(path, "pragma journal_mode") == [("delete",)]
    before = path.read_bytes()
    assert "Nothing changed" in build()
    assert path.read_bytes() == before
