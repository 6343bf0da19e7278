"""Which processes there are: MPI's, or this one alone; what starts them."""
import os
import sys

from ..initialization.many import Alone
from ..stack import mpi
from ..stack.mpi import INSTALL
from .peers import MARK, Child, World

#: What launchers tell the processes that they start: how many there are.
LAUNCHERS = ['PMI_SIZE', 'OMPI_COMM_WORLD_SIZE', 'MPI_LOCALNRANKS',
             'SLURM_STEP_NUM_TASKS']

#: What other launchers tell them: their rank, for which MPI is asked how many
#: they are.
RANKS = ['PMI_RANK', 'PMIX_RANK', 'MV2_COMM_WORLD_RANK', 'PALS_RANKID',
         'FLUX_TASK_RANK']


def _started(*names):
    """How many processes a launcher says that there are; 1 without one."""
    for name in names or LAUNCHERS:
        if os.environ.get(name, '').isdigit():
            return int(os.environ[name])
    return 1


def find():
    """The world that this process is part of."""
    pid, rank, size = map(int, os.environ.get(MARK, '0 0 0').split())
    if pid not in (0, os.getpid()):  # pragma: no cover - test_peers.py
        return Child(rank, size)
    started = _started()
    if started == 1 and not ('mpi4py.MPI' in sys.modules or any(
            name in os.environ for name in RANKS)):
        return Alone()
    try:
        MPI = _begun(started)
    except ImportError:
        if started > 1:
            raise
        return Alone()
    size = MPI.COMM_WORLD.size
    if size == 1 and started > 1:
        raise _mixed(started, MPI)
    return World(MPI) if size > 1 else Alone()


def _begun(started):
    """mpi4py's MPI, initialized."""
    try:
        import mpi4py
        if 'mpi4py.MPI' not in sys.modules:
            # not at once: with the wrong launcher it ends the process
            mpi4py.rc(initialize=False, finalize=True)
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # no mpi4py; no MPI library
        raise ImportError(
            'this is one of %d processes, and mpi4py cannot be used (%s): %s'
            % (started, ' '.join(str(error).split()), INSTALL))
    if not MPI.Is_initialized():
        if (_started('OMPI_COMM_WORLD_SIZE') > _started('PMI_SIZE') and
                mpi.family(mpi.library(MPI)) == 'MPICH'):
            raise _mixed(started, MPI)
        MPI.Init_thread()
    return MPI


def _mixed(started, MPI):
    return RuntimeError(
        "this is one of %d processes, started by the mpiexec of another MPI "
        "than mpi4py's, %s. Start them by %s" % (
            started, mpi.library(MPI), launcher(
                'its own mpiexec, which is neither in this environment nor '
                'on the PATH; or let mpi4py use the library of the other: '
                'MPI4PY_LIBMPI=LIBRARY', MPI)))


def launcher(missing=None, MPI=None):
    """The path of mpiexec: that of this environment, or of the system.

    Parameters
    ----------
    missing : str, optional
        What is returned if there is none.

    MPI : module, optional
        What it has to be able to start: ``mpi4py.MPI``.

    Raises
    ------
    RuntimeError
        If there is none, and `missing` is not given.
    """
    for path in mpi.launchers():
        if MPI is None or mpi.starts(path, MPI):
            return path
    if missing is None:
        raise RuntimeError('there is no mpiexec, neither in %s nor on the '
                           'PATH: %s' % (os.path.dirname(sys.executable),
                                         INSTALL))
    return missing


_world = None


def world():
    """The world of this process, found once."""
    global _world
    if _world is None:
        _world = find()
    elif getattr(  # pragma: no cover - forked, in test_peers.py
            _world, 'pid', os.getpid()) != os.getpid():
        _world = Child(_world.rank, _world.size)
    return _world


def rank():
    """The number of this process: 0, 1, 2, ...

    Examples
    --------
    >>> from wnorm import distributed
    >>> distributed.rank()
    0
    """
    return world().rank


def size():
    """How many processes there are.

    Examples
    --------
    >>> from wnorm import distributed
    >>> distributed.size()
    1
    """
    return world().size
