"""What processes leave behind about how far they came."""
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from wnorm.distributed import log as logs


@pytest.fixture
def written(tmp_path):
    """Writes the logs of a run, as lists of steps and an end."""
    def write(*runs, number=1., size=None):
        for rank, (steps, end) in enumerate(runs):
            log = logs.StepLog(str(tmp_path), number, rank,
                               size or len(runs))
            for step in steps:
                log.step(*step)
            if end:
                log.end(*end)
            os.close(log.file)
        return ended(tmp_path)
    return write


def ended(folder):
    """The logs, as if their process (this one) had ended."""
    found = logs.read(str(folder))
    for last in found:
        last.born = 0
    return found


def step(count, done):
    return count, done, '%s step %d' % ('after' if done else 'in', count)


def test_what_is_written_is_read(written):
    one, two = written(
        ([step(1, False), step(1, True)], [logs.FAILED, 'bad\nluck: é']),
        ([], None))
    assert (one.rank, one.size, one.run) == (0, 2, 1.)
    assert (one.progress, one.where) == ((1, 1), 'after step 1')
    assert (one.end, one.why) == (logs.FAILED, ': bad luck: é')
    assert (two.progress, two.where, two.end) == ((0, 1), 'no step', '')


def test_all_ended_well(written):
    assert logs.report([]) is None
    assert logs.report(written(*[([step(1, True)], [logs.ENDED])] * 2)) is None


def reported(lasts):
    """The report, without what varies."""
    text = logs.report(lasts)
    for last in lasts:
        text = text.replace(str(last)[len(last.where):], ', NOW').replace(
            '(process %d on %s)' % (last.pid, last.host), '(P)')
    return text.split('\n')


@pytest.mark.parametrize('runs, first, places', [
    # killed while it computed: the others wait
    ([([step(5, False)], None), ([step(4, True)], None),
      ([step(5, False)], None)],
     'rank 1, after step 4, NOW',
     ['rank 1 (P): after step 4', 'ranks 0, 2: in step 5']),
    # who fails says so, wherever the others are
    ([([step(4, True)], None), ([step(5, False)], [logs.FAILED, 'E: no'])],
     'rank 1, in step 5, NOW',
     ['rank 0 (P): after step 4', 'rank 1 (P): in step 5, failed: E: no']),
    # who gives up does so because of another
    ([([step(5, False)], [logs.GAVE_UP, 'in vain']), ([step(4, True)], None)],
     'rank 1, after step 4, NOW',
     ['rank 1 (P): after step 4', 'rank 0 (P): in step 5, gave up: in vain']),
    # ended, but too early
    ([([step(5, False)], [logs.GAVE_UP]), ([step(4, True)], [logs.ENDED])],
     'rank 1, after step 4, NOW',
     ['rank 1 (P): after step 4, ended', 'rank 0 (P): in step 5, gave up']),
    # killed when the others had ended
    ([([step(4, True)], [logs.ENDED]), ([step(4, True)], None)],
     'rank 1, after step 4, NOW',
     ['rank 1 (P): after step 4', 'rank 0 (P): after step 4, ended']),
    # all by an error of their own
    ([([step(4, True)], [logs.FAILED])] * 2, 'ranks 0, 1',
     ['ranks 0, 1: after step 4, failed']),
    # all at once
    ([([step(5, False)], None)] * 4, 'one of ranks 0 to 3',
     ['ranks 0 to 3: in step 5']),
])
def test_who_stopped_first(written, runs, first, places):
    assert reported(written(*runs)) == [
        'the last run did not end well. First stopped ' + first] + [
        '  ' + place for place in places]


def test_a_file_is_missing(written):
    assert reported(written(([], None), size=4))[-1] == (
        '  ranks 1 to 3: no file')


def test_the_newest_run_counts(written):
    written(([step(7, True)], None), ([step(6, True)], None))
    assert reported(written(([step(1, True)], None), number=2.)) == [
        'the last run did not end well. First stopped rank 0, after step 1, '
        'NOW', '  rank 0 (P): after step 1']


def test_files_of_more_processes_are_removed(written, tmp_path):
    written(*[([], None)] * 11)
    (tmp_path / 'rank-x.log').write_text('of the user')
    logs.clean(str(tmp_path), 2)
    assert sorted(os.listdir(str(tmp_path))) == [
        'rank-0.log', 'rank-1.log', 'rank-x.log']


HEAD = {'run': 1., 'rank': 0, 'size': 1, 'pid': 1, 'host': 'h', 'born': 1}


@pytest.mark.parametrize('text', [
    '', '\n', '{', '[]\n', '"x"\n', 'null\n', '{}\n', '\0\0\0\n', '\xff\n',
    json.dumps(HEAD), json.dumps(dict(HEAD, run='x')) + '\n',
    json.dumps(dict(HEAD, rank=None)) + '\n'])
def test_files_that_are_none(tmp_path, text):
    (tmp_path / 'rank-0.log').write_bytes(text.encode('latin-1'))
    assert logs.read(str(tmp_path)) == []


def test_lines_that_are_none(tmp_path):
    good = '3 1 17.500 after step 3 of grads() no. 2\n'
    (tmp_path / 'rank-0.log').write_bytes((json.dumps(HEAD) + '\n' + (
        '\n7\n4 0\n\0\0\xff\n' + good + '5 0 18.0 ended: no\n'[:9] + '\n'
        'endedness\n' + '4 0 18.000 in st')).encode('latin-1'))
    last, = logs.read(str(tmp_path))
    assert (last.progress, last.time, last.where, last.end) == (
        (3, 1), 17.5, 'after step 3 of grads() no. 2', '')


def test_folders_that_are_none(tmp_path):
    assert logs.read(str(tmp_path / 'no')) == []
    (tmp_path / 'file').write_text('')
    assert logs.read(str(tmp_path / 'file')) == []


def test_files_stay_small(tmp_path):
    log = logs.StepLog(str(tmp_path), 1., 0, 1)
    for count in range(1, 50000):
        log.step(*step(count, True))
        assert os.path.getsize(log.path) < logs.LIMIT + 1000
    last, = logs.read(str(tmp_path))
    assert last.progress == (49999, 1)
    assert os.listdir(str(tmp_path)) == ['rank-0.log']
    with open(log.path) as file:  # it began anew, and only then
        assert 1 < len(file.readlines()) < 49999
    os.close(log.file)


# --- processes that are there ---------------------------------------------

def other(folder, program):
    """The log of a process, at the end of its first step."""
    child = subprocess.Popen(
        [sys.executable, '-c', 'import os, sys, time\n'
         'from wnorm.distributed import log\n'
         'log = log.StepLog(sys.argv[1], 1., 0, 1)\n'
         'log.step(1, True, "after step 1")\n'
         'print("there", flush=True)\n' + program, str(folder)],
        stdout=subprocess.PIPE)
    assert child.stdout.readline() == b'there\n'
    child.stdout.close()
    last, = logs.read(str(folder))
    return child, last


def test_a_run_that_goes_on(tmp_path):
    child, last = other(tmp_path, 'time.sleep(100)')
    try:
        assert last.pid == child.pid
        assert last.state() in ('sleeping', 'computing')
        assert logs.report([last]) == (
            'another run writes its log to the same folder (process %d): '
            'give grads() one of its own, log=FOLDER' % child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert last.state() == 'stopped'
        last.host = 'another'
        assert last.state() is None
        last.host = socket.gethostname()
        last.born -= 1  # another process has the number now
        assert last.state() is None
    finally:
        child.kill()
        child.wait()


def test_a_run_that_was_killed(tmp_path):
    child, last = other(tmp_path, 'os.kill(os.getpid(), 9)')
    child.wait()
    assert last.state() is None
    assert 'First stopped rank 0, after step 1, ' in logs.report([last])


# --- words ----------------------------------------------------------------

@pytest.mark.parametrize('numbers, words', [
    ([3], 'rank 3'), ([1, 0], 'ranks 0, 1'), ([0, 1, 2], 'ranks 0 to 2'),
    ([0, 2, 3, 7, 4, 9, 10], 'ranks 0, 2 to 4, 7, 9, 10'),
    (range(512), 'ranks 0 to 511')])
def test_ranks(numbers, words):
    assert logs.ranks(numbers) == words


# --- a run of one process, which writes none --------------------------------

def test_taken(written, tmp_path, monkeypatch):
    written(([step(1, True)], None), ([step(2, False)], None))
    assert logs.take(str(tmp_path)) is None  # this process still writes them
    assert len(os.listdir(str(tmp_path))) == 2
    monkeypatch.setattr(logs.Last, 'state', lambda last: None)
    assert 'First stopped rank 0, after step 1' in logs.take(str(tmp_path))
    assert os.listdir(str(tmp_path)) == []
    assert logs.take(str(tmp_path)) is None
    assert logs.take(str(tmp_path / 'none')) is None


def test_not_ours_to_remove(written, tmp_path, monkeypatch):
    written(([step(1, True)], None))
    monkeypatch.setattr(logs.Last, 'state', lambda last: None)

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, 'remove', refuse)
    assert 'First stopped rank 0' in logs.take(str(tmp_path))
