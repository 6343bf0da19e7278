"""What happens when a process fails, through mpiexec: docs/faults.md.

``pytest tests/distributed/test_faults.py -s`` prints a table: the fault, and
the seconds from it until no process is left. Processes of `faulty.py` say when
it happens.
"""
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from wnorm.distributed.joining import launcher

from .processes import mpiexec, needs_mpi

pytestmark = needs_mpi

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                       'faulty.py')
slow = pytest.mark.slow


class Outcome(object):
    """How a program ended: `status`, `said` on stderr, and `seconds` since
    the fault."""

    def __init__(self, done):
        self.status, self.said = done.returncode, done.stderr
        self.printed = done.stdout
        times = [float(moment) for moment in re.findall(
            r'^fault at ([\d.]+)$', done.stdout, re.M)]
        self.seconds = time.time() - max(times) if times else None

    def says(self, *patterns):
        """Make sure of lines, each the pattern as a whole, in this order."""
        place = 0
        for pattern in patterns:
            found = re.compile('^%s$' % pattern, re.M).search(
                self.said, place)
            assert found, (pattern, self.said)
            place = found.end()

    @property
    def tracebacks(self):
        return self.said.count('Traceback (most recent call last)')


def run(folder, fault, ranks=1, n=3, timeout=100, within=5, **environment):
    """Run `faulty.py`; no process is left of it."""
    mark = '%s %s' % (folder, fault)
    done = mpiexec(n, PROGRAM, fault, ranks, timeout, cwd=folder, limit=200,
                   WNORM_TESTS_MARK=mark, **environment)
    wait_until_gone(mark)
    outcome = Outcome(done)
    if outcome.seconds is not None:
        print('\n| %s | %.2f s |' % (fault, outcome.seconds))
        assert outcome.seconds < within
    return outcome


def left(mark):
    """The processes that have a mark in their environment."""
    found, mark = [], ('WNORM_TESTS_MARK=%s\0' % mark).encode()
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open('/proc/%s/environ' % name, 'rb') as file:
                if mark in file.read():
                    found.append(name)
        except OSError:  # not ours, or no more
            pass
    return found


def wait_until_gone(mark):
    """mpiexec may end a moment before the last process."""
    limit = time.time() + 5
    while left(mark) and time.time() < limit:
        time.sleep(.02)
    assert left(mark) == []


def one_failed(outcome, rank=1, error="KeyError: 'bad luck'",
               where='after step 19'):
    """The process says it, and nobody else says anything."""
    outcome.says(r'wnorm.distributed: rank %d \(%s\) has failed' % (
        rank, where), r'Traceback \(most recent call last\):', error)
    assert outcome.tracebacks == 1
    assert outcome.said.count('wnorm.distributed:') == 1
    assert outcome.status != 0


def first_stopped(outcome, *patterns):
    outcome.says('wnorm.distributed: the last run did not end well. First '
                 'stopped ' + patterns[0], *patterns[1:])


TIME = r', \d+-\d+-\d+ \d+:\d+:\d+'


# --- a process fails ------------------------------------------------------

def test_killed_and_raised(tmp_path):
    """The two of them in two starts."""
    outcome = run(tmp_path, 'kill')
    assert outcome.status != 0
    assert 'wnorm' not in outcome.said
    outcome = run(tmp_path, 'raise')
    first_stopped(
        outcome, 'rank 1, after step 19' + TIME,
        r'wnorm.distributed:   rank 1 \(process \d+ on .*\): after step 19',
        'wnorm.distributed:   ranks 0, 2: in step 20')
    outcome.said = outcome.said[outcome.said.index('rank 1 ('):]
    outcome.says(r'.*rank 1 \(after step 19\) has failed',
                 r'Traceback \(most recent call last\):',
                 "KeyError: 'bad luck'")
    assert outcome.tracebacks == 1
    assert outcome.status != 0


@slow
@pytest.mark.parametrize('fault, error', [
    ('loader', "KeyError: 'bad luck'"),
    ('memory', r'numpy.*MemoryError: .*'),
    ('interrupt', 'KeyboardInterrupt'),
])
def test_raised(tmp_path, fault, error):
    one_failed(run(tmp_path, fault), error=error)
    first_stopped(run(tmp_path, 'none'), 'rank 1, after step 19' + TIME,
                  r'.* rank 1 \(.*\): after step 19, failed: .*')


@slow
@pytest.mark.parametrize('fault', ['early', 'initialize'])
def test_raised_before_the_first_step(tmp_path, fault):
    one_failed(run(tmp_path, fault), where='before the first step')


@slow
def test_all_raise(tmp_path):
    one_failed(run(tmp_path, 'all'), rank=0)


@slow
def test_raised_at_the_end(tmp_path):
    """Python itself says so and goes on: nobody waits for this process."""
    outcome = run(tmp_path, 'atexit')
    assert outcome.status == 0
    outcome.says('.*atexit callback.*', "KeyError: 'bad luck'")
    assert run(tmp_path, 'none').said == ''


@slow
@pytest.mark.parametrize('fault', ['thread', 'fork'])
def test_raised_beside_the_program(tmp_path, fault):
    """Python says so, and the program goes on."""
    outcome = run(tmp_path, fault, within=60)
    assert outcome.status == 0
    outcome.says("KeyError: 'bad luck'")
    assert 'wnorm.distributed' not in outcome.said


@slow
def test_raised_with_stderr_closed(tmp_path):
    assert run(tmp_path, 'closed').status != 0


@slow
def test_raised_with_stdout_closed(tmp_path):
    outcome = run(tmp_path, 'mute')
    outcome.says(r'wnorm.distributed: rank 1 \(after step 19\) has failed')
    assert outcome.status != 0


@slow
@pytest.mark.parametrize('fault, where', [
    ('exit', 'after step 19'), ('fewer', 'after step 19'),
    ('early exit', 'before the first step'), ('hook', 'after step 19')])
def test_ends_early(tmp_path, fault, where):
    outcome = run(tmp_path, fault)
    outcome.says(
        r'wnorm.distributed: rank 1 has ended \(%s\), and rank 2 \(%s\) waits '
        'for it: all processes must make the same number of steps' % (
            where, where.replace('after step 19', 'in step 20')))
    assert outcome.status != 0
    if where == 'after step 19':
        first_stopped(run(tmp_path, 'none'), 'rank 1, after step 19' + TIME,
                      '.*rank 1 .*: after step 19, ended')


@slow
def test_one_step_too_many(tmp_path):
    """By the others of three, so that the next of the ended one waits not."""
    outcome = run(tmp_path, 'fewer', '0,1')
    outcome.says('.*rank 1 has ended .* rank 2 .in step 20. waits for it.*')
    assert outcome.status != 0


@slow
def test_caught_by_one(tmp_path):
    """Who leaves out a step is found out at the end."""
    outcome = run(tmp_path, 'caught')
    outcome.says('.*rank 1 has ended .after step 38.*, and rank 2 .in step '
                 '39. waits for it.*')
    assert outcome.status != 0


@slow
@pytest.mark.parametrize('fault', ['os._exit', 'terminate'])
def test_gone_at_once(tmp_path, fault):
    assert run(tmp_path, fault).status != 0
    first_stopped(run(tmp_path, 'none'), 'rank 1, after step 19' + TIME)


@slow
def test_killed_before_the_first_step(tmp_path):
    assert run(tmp_path, 'before').status != 0
    first_stopped(run(tmp_path, 'none'), 'one of ranks 0 to 2',
                  '.*ranks 0 to 2: no step')


@slow
def test_killed_while_it_waited(tmp_path):
    """As if the one that it waited for had been; which a file cannot tell."""
    assert run(tmp_path, 'waiting', n=2).status != 0
    first_stopped(run(tmp_path, 'none', n=2), 'rank 0, after step 19' + TIME,
                  '.*rank 0 .*: after step 19', '.*rank 1 .*: in step 20')


# --- a process is silent --------------------------------------------------

@slow
@pytest.mark.parametrize('fault, state', [
    ('stop', 'stopped'), ('compute', 'sleeping')])
def test_silent(tmp_path, fault, state):
    outcome = run(tmp_path, fault, timeout=3, within=12)
    for rank in 0, 2:
        outcome.says(r'wnorm.distributed: rank %d waits: in step 20, at '
                     r'faulty.py:\d+' % rank)
    outcome.says(
        r'wnorm.distributed: rank . \(in step 20\) waited in vain',
        r'wnorm.distributed: ranks 0, 2: in step 20, at faulty.py:\d+',
        'wnorm.distributed: no answer within 3 s from rank 1: stopped, lost '
        'or still computing',
        r'wnorm.distributed: rank 1 was after step 19%s; process \d+ on .* '
        'is %s' % (TIME, state))
    assert outcome.said.count('waited in vain') == 1
    assert outcome.status != 0
    first_stopped(run(tmp_path, 'none'), 'rank 1, after step 19' + TIME,
                  '.*ranks? .*: in step 20, gave up: .*')


@slow
def test_two_silent(tmp_path):
    outcome = run(tmp_path, 'stop', '1,2', n=4, timeout=3, within=12)
    outcome.says('.*waited in vain', '.*no answer within 3 s from ranks 1, '
                 '2: .*', '.*rank 1 was .*', '.*rank 2 was .*')
    assert outcome.status != 0


@slow
def test_late(tmp_path):
    """Longer than the timeout, but there before the roll is called."""
    outcome = run(tmp_path, 'late', timeout=3, within=60)
    outcome.says(r'.*rank . \(in step 20\) goes on, after more than 3 s')
    assert outcome.status == 0


@slow
def test_another_order(tmp_path):
    outcome = run(tmp_path, 'order', timeout=3, within=12)
    outcome.says('.*waited in vain', '.*all processes wait, not for the same: '
                 'do all call the same functions, in the same order.')
    assert outcome.status != 0


@slow
def test_one_never_comes(tmp_path):
    """To where all have to be before they can speak to one another."""
    program = tmp_path / 'program.py'
    program.write_text('''
import time
from mpi4py import MPI
if MPI.COMM_WORLD.rank:
    time.sleep(60)
from wnorm import distributed
from wnorm.distributed import peers
peers.TIMEOUT = 1
distributed.world().exchange(0)
''')
    outcome = Outcome(mpiexec(2, program, cwd=tmp_path))
    outcome.says(r'wnorm.distributed: rank 0 \(before the first step\) waited '
                 '1 s: not every process has come to wnorm.distributed')
    assert outcome.status != 0


@slow
def test_one_does_not_end(tmp_path):
    """A note, no more: the others may have work left."""
    outcome = run(tmp_path, 'linger', within=60,
                  WNORM_TESTS_TIMEOUT=1)
    assert outcome.status == 0
    assert outcome.said == ('wnorm.distributed: rank 2 has ended, and waits '
                            'for rank 1 to end\n')


# --- data and parameters --------------------------------------------------

@slow
def test_nan(tmp_path):
    one_failed(run(tmp_path, 'nan'), where='in step 20', error=(
        r".*NotFiniteError: rank 1, step 20: the gradient of fc\.\S+ .* is "
        'NaN or infinite'))
    first_stopped(run(tmp_path, 'none'), 'rank 1, in step 20' + TIME)


@slow
def test_unequal(tmp_path):
    one_failed(run(tmp_path, 'unequal'), where='before the first step',
               error=r'.*UnequalError: grads\(\) is not the same in all '
               r'processes: 3 parameters on rank 0, 5 on rank 1\. .*')


@slow
def test_empty(tmp_path):
    outcome = run(tmp_path, 'empty')
    one_failed(outcome, where='in step 20', error=(
        '.*UnequalError: rank 1, step 20: batches that weigh the same differ: '
        '.* has length 4 on rank 0, 0 on rank 1. Give .*'))


# --- all of them ----------------------------------------------------------

@slow
@pytest.mark.parametrize('number', [
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_mpiexec_gets_a_signal(tmp_path, number):
    mark = '%s %s' % (tmp_path, number)
    program = subprocess.Popen(
        [launcher(), '-n', '3', sys.executable, PROGRAM, 'slow', '-', '100'],
        cwd=str(tmp_path), universal_newlines=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dict(os.environ, WNORM_TESTS_MARK=mark, OMP_NUM_THREADS='1'))
    for line in program.stdout:
        if line == 'step 5\n':
            break
    begun = time.time()
    program.send_signal(number)
    _, said = program.communicate(timeout=60)
    wait_until_gone(mark)
    print('\n| mpiexec gets %s | %.2f s |' % (
        signal.Signals(number).name, time.time() - begun))
    assert program.returncode != 0
    if number == signal.SIGINT:
        assert said.count('Traceback') == 1
        assert re.search(r'rank 0 \((in|after) step \d+\) has failed', said)


# --- what is on the disk --------------------------------------------------

@slow
@pytest.mark.parametrize('culprit', [0, 1])
def test_the_checkpoint_is_whole(tmp_path, culprit):
    """Process 0 is killed while it saves; or ended because of another."""
    outcome = run(tmp_path, 'save', culprit)
    assert outcome.status != 0
    *_, before, last = re.findall('^saving (.*)$', outcome.printed, re.M)
    with np.load(str(tmp_path / 'net.npz')) as file:
        arrays = {name: file[name] for name in file.files}
    assert arrays['fc/b'].tobytes().hex() in (
        [before] if culprit == 0 else [before, last])
    assert set(arrays) >= {'format', 'layers', 'fc/W', 'fc/g'}


@slow
def test_a_full_disk(tmp_path):
    """The log is not what ends a run."""
    outcome = run(tmp_path, 'full', within=60)
    assert outcome.status == 0
    assert outcome.said == (
        'wnorm.distributed: [Errno 28] No space left on device: no log of '
        'rank 1 from now on\n')


@slow
def test_no_folder_for_logs(tmp_path):
    (tmp_path / 'wnorm-log').write_text('')
    outcome = run(tmp_path, 'none')
    assert outcome.status == 0
    outcome.says('wnorm.distributed: .Errno 17. .*: no log of ranks 0 to 2. '
                 r'Give grads\(\) a folder, log=FOLDER, or log=None')


@slow
def test_two_runs_in_a_folder(tmp_path):
    seen = []
    other = threading.Thread(target=lambda: seen.append(
        run(tmp_path, 'compute', n=2, timeout=20, within=60)))
    other.start()
    log = tmp_path / 'wnorm-log' / 'rank-1.log'
    while not (log.exists() and 'after step 19' in log.read_text()):
        time.sleep(.1)
    outcome = run(tmp_path, 'none', n=2)
    outcome.says(r'wnorm.distributed: another run writes its log to the same '
                 r'folder \(process \d+\): give grads\(\) one of its own, '
                 'log=FOLDER')
    assert outcome.status == 0
    other.join()
    assert seen
