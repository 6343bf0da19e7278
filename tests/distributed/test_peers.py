"""Which processes there are, and what is said if they cannot be found."""
import os
import sys

import pytest

from running import python, silent, write
from wnorm import distributed
from wnorm.distributed import log as logs
from wnorm.distributed.joining import RANKS, launcher, world
from wnorm.distributed.peers import END, Child, World

from .processes import mpiexec, needs_mpi

#: Asked of a process by itself.
ASKS = 'from wnorm import distributed as d; print(d.rank(), d.size())'

#: What launchers set; whoever runs the tests may be started by one.
ALONE = dict.fromkeys(['PMI_SIZE', 'PMI_RANK', 'OMPI_COMM_WORLD_SIZE',
                       'MPI_LOCALNRANKS', 'SLURM_STEP_NUM_TASKS'] + RANKS)


def ask(folder, *options, **environment):
    return python(*(options or ('-c', ASKS)), cwd=folder,
                  **dict(ALONE, **environment))


def complaint(done):
    """The last line of a traceback."""
    assert done.returncode == 1
    return done.stderr.strip().split('\n')[-1]


def test_one_process(tmp_path):
    done = ask(tmp_path, '-c', ASKS + '; import sys; '
               'print("mpi4py" in sys.modules)')
    assert silent(done) == '0 1\nFalse\n'
    done = ask(tmp_path, PMI_SIZE='1')
    assert silent(done) == '0 1\n'


@needs_mpi
def test_one_process_of_mpi(tmp_path):
    done = mpiexec(1, '-c', 'from mpi4py import MPI; ' + ASKS, cwd=tmp_path)
    assert silent(done) == '0 1\n'


@needs_mpi
def test_begun_by_the_user(tmp_path):
    done = mpiexec(2, '-c', 'from mpi4py import MPI; ' + ASKS, cwd=tmp_path)
    assert sorted(silent(done).split('\n')) == ['', '0 2', '1 2']


def test_without_mpi4py(tmp_path):
    write(tmp_path, {'mpi4py.py': 'raise ModuleNotFoundError("none here")'})
    done = ask(tmp_path, PMI_SIZE='2', PYTHONPATH=tmp_path)
    assert complaint(done) == (
        'ImportError: this is one of 2 processes, and mpi4py cannot be used '
        "(none here): pip install 'wnorm[mpi]'")


@needs_mpi
def test_without_a_library(tmp_path):
    done = ask(tmp_path, PMI_SIZE='2', MPI4PY_LIBMPI='/no/libmpi.so')
    assert complaint(done).startswith(
        'ImportError: this is one of 2 processes, and mpi4py cannot be used '
        '(cannot load MPI library /no/libmpi.so: ')


#: Of another MPI, by what it says of itself.
OTHER = '#!/bin/sh\necho "mpiexec (Open MPI) 5.0.11"\n'


def with_mpiexec(folder, text):
    """A PATH with an mpiexec first."""
    write(folder, {'mpiexec': text})
    (folder / 'mpiexec').chmod(0o755)
    return os.pathsep.join([str(folder), os.environ['PATH']])


@needs_mpi
@pytest.mark.parametrize('variables', [
    {'OMPI_COMM_WORLD_SIZE': '2'},  # before MPICH ends the process
    {'SLURM_STEP_NUM_TASKS': '2'},
])
def test_started_by_another_mpi(tmp_path, variables):
    done = ask(tmp_path, PATH=with_mpiexec(tmp_path, OTHER), **variables)
    assert complaint(done).startswith(
        'RuntimeError: this is one of 2 processes, started by the mpiexec of '
        "another MPI than mpi4py's, MPICH ")
    assert complaint(done).endswith('. Start them by ' + launcher())


@pytest.mark.parametrize('library', ['', 'sys.modules["mpi4py"] = None; '])
def test_a_launcher_that_tells_the_rank_only(tmp_path, library):
    # what it started is asked, and knows of one process
    done = ask(tmp_path, '-c', 'import sys; ' + library + ASKS,
               MV2_COMM_WORLD_RANK='0')
    assert silent(done) == '0 1\n'


# --- mpiexec --------------------------------------------------------------

#: A Python that has no mpiexec beside it, and a PATH of its own.
ELSEWHERE = '''
from wnorm.distributed.joining import launcher
import os, sys
sys.executable = '/nowhere/python'
os.environ['PATH'] = os.environ['OWN_PATH']
'''


@needs_mpi
def test_launcher():
    assert os.path.dirname(launcher()) == os.path.dirname(sys.executable)


@needs_mpi
def test_launcher_of_the_system(tmp_path):
    path = with_mpiexec(tmp_path, OTHER)
    done = ask(tmp_path, '-c', ELSEWHERE + 'print(launcher())', OWN_PATH=path)
    assert silent(done) == '%s\n' % (tmp_path / 'mpiexec')
    # which cannot start processes that have MPICH
    done = ask(tmp_path, '-c', ELSEWHERE + 'from mpi4py import MPI\n'
               'print(launcher("none", MPI))', OWN_PATH=tmp_path)
    assert silent(done) == 'none\n'


def test_no_launcher(tmp_path):
    done = ask(tmp_path, '-c', ELSEWHERE + 'launcher()', OWN_PATH=tmp_path)
    assert complaint(done) == (
        'RuntimeError: there is no mpiexec, neither in /nowhere nor on the '
        "PATH: pip install 'wnorm[mpi]'")
    done = ask(tmp_path, '-c', ELSEWHERE + 'print(launcher(missing="none"))',
               OWN_PATH=tmp_path)
    assert silent(done) == 'none\n'


# --- processes that these start -------------------------------------------

#: Such as those that load data: they import the program once more.
SPAWNS = r'''
import multiprocessing, os
from wnorm import distributed

def load(i):
    return distributed.rank(), distributed.size(), len(distributed.shard(7))

def train(i):
    distributed.world().together(int)

if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        loaded = pool.apply(load, (0,))
        try:
            pool.apply(train, (0,))
        except RuntimeError as error:
            assert 'was started by rank %d, and is not' % loaded[0] in str(
                error), error
            os.write(1, b'%d %d %d\n' % loaded)
    assert distributed.world().exchange(loaded[0]) == [0, 1]
'''


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize('how', ['spawn', 'fork'])
def test_children(tmp_path, how):
    write(tmp_path, {'program.py': SPAWNS.replace('spawn', how)})
    done = mpiexec(2, 'program.py', cwd=tmp_path, limit=60)
    assert sorted(silent(done).split('\n')) == ['', '0 2 4', '1 2 3']


def test_this_process():
    assert (distributed.rank(), distributed.size()) == (0, 1)
    assert world() is world()
    assert world().together(lambda: 5) == 5


def test_a_child():
    """What it may ask for, and what it is told."""
    child = Child(1, 3)
    assert (child.rank, child.size) == (1, 3)
    with pytest.raises(RuntimeError, match='was started by rank 1, and is '):
        child.together(int)


# --- what a roll call tells -----------------------------------------------

@pytest.fixture
def silent_world():
    """Of three processes, without what speaks to them."""
    peers = World.__new__(World)
    peers.rank, peers.size, peers.log, peers.waits = 0, 3, None, 7
    return peers


@pytest.mark.parametrize('here, line', [
    ({0: 'here', 1: 'here', 2: 'here'}, 'all processes wait in the same place'
     ': is the connection between them slow or broken, or has a parameter '
     'another shape on one of them?'),
    ({0: 'here', 1: 'there', 2: 'here'}, 'all processes wait, not for the '
     'same: do all call the same functions, in the same order?'),
    ({0: 'here', 2: 'here'}, 'no answer within 5 s from rank 1: stopped, lost '
     'or still computing'),
])
def test_answers(silent_world, here, line):
    lines = silent_world._answers(here, 5)
    assert lines[0] == logs.ranks(
        rank for rank in here if here[rank] == 'here') + ': here'
    assert lines[-1] == line


def test_place(silent_world):
    place = silent_world._place()
    assert place.startswith('before the first step, at test_peers.py:')
    silent_world.waits, silent_world.where = END, 'after step 3'
    assert silent_world._place() == 'ended, after step 3'
