"""The processes that train together: MPI's, or this one alone.

Nothing waits without a limit. Each collective operation is nonblocking and
polled; between two polls a process reads what others tell it through
`control`, a communicator for messages from one process to another:

=========  ==================================================================
message    sent
=========  ==================================================================
``roll``   by a process whose time limit is over, to all: who still answers?
``here``   as the answer, by those who wait as well
``gone``   by a process that ends, to the next one
=========  ==================================================================
"""
import atexit
import functools
import os
import pickle
import socket
import sys
import time

import numpy as np
from theano.gof import compilelock

from ..initialization.many import Alone
from . import log as logs

#: Seconds after which a process that does not answer is given up.
TIMEOUT = 300.

#: Seconds that processes have for answering a roll call.
GRACE = 2.

#: Seconds of polling without a pause, and the pause afterwards.
EAGER, PAUSE = .02, 1e-4

#: More collective operations than any process waits in: it has ended.
END = float('inf')

#: What launchers tell the processes that they start: how many there are.
LAUNCHERS = ['PMI_SIZE', 'OMPI_COMM_WORLD_SIZE', 'MPI_LOCALNRANKS',
             'SLURM_STEP_NUM_TASKS']

INSTALL = "pip install 'wnorm[mpi]'"


class AgreedError(Exception):
    """Raised by all processes, because of one: ``world.blamed``."""


class UnequalError(AgreedError, ValueError):
    """Processes differ in what must be equal, or equal what must differ."""


class NotFiniteError(AgreedError, FloatingPointError):
    """A process has computed NaN or infinity."""


class OtherProcessError(AgreedError, RuntimeError):
    """Another process has failed, in what all have to do."""


class World(object):
    """The processes of MPI's COMM_WORLD.

    Attributes
    ----------
    where : str
        How far this process has come, for messages.
    """
    where = 'before the first step'

    def __init__(self, MPI):
        self.MPI = MPI
        self.rank = MPI.COMM_WORLD.rank
        self.size = MPI.COMM_WORLD.size
        self.comm = self.control = self.log = None
        self.steps = self.blamed = 0
        self.waits = 0  # of all collective operations, in order
        self._sent, self._gone = [], None
        # The processes compile the same functions at the same time, and wait
        # for the lock on Theano's folder of compiled code: each time 5 to 10
        # seconds, as it comes.
        compilelock.lock = functools.partial(
            compilelock.lock, min_wait=.05, max_wait=.2, verbosity=0)
        self._excepthook = sys.excepthook
        sys.excepthook = self._fail
        atexit.register(self._leave)

    # --- communicators ------------------------------------------------------

    def channel(self, timeout=None):
        """A communicator of its own for one purpose."""
        self._open(timeout)
        return self._duplicate(timeout)

    def _open(self, timeout):
        if self.control is None:
            self.control = self._duplicate(timeout)
            self.comm = self._duplicate(timeout)

    def _duplicate(self, timeout):
        comm, request = self.MPI.COMM_WORLD.Idup()
        self.wait(request, timeout)
        return comm

    # --- waiting ------------------------------------------------------------

    def wait(self, request, timeout=None):
        """Until a nonblocking operation is complete; stops all processes if
        that takes longer than `timeout` or will never be."""
        self.waits += 1
        if request.Test():
            return
        limit = TIMEOUT if timeout is None else timeout
        begun = heard = time.monotonic()
        while not request.Test():
            now = time.monotonic()
            if now - begun > limit:
                self._call_roll(limit)
            if now - heard > .005:
                heard = now
                self._hear()
            # Other processes on this core get their turn: those waited for,
            # perhaps. Large messages don't suffer from the pause.
            if now - begun < EAGER:
                os.sched_yield()
            else:
                time.sleep(PAUSE)

    def _hear(self):
        """Read what others say; returns the ranks that answered a call."""
        here = {}
        while self.control is not None and self.control.Iprobe():
            kind, rank, where, waits = self.control.recv()
            if kind == 'roll':
                self._say('%s waits' % self._me())
                self._send('here', rank)
            elif kind == 'here':
                here[rank] = where
            else:
                self._gone = rank, where, waits
        # it may have ended after what this process is still waiting in
        if self._gone is not None and self._gone[2] < self.waits < END:
            self.stop('rank %d has ended (%s), and rank %d waits for it (%s): '
                      'all processes must make the same number of steps'
                      % (self._gone[:2] + (self.rank, self.where)))
        return here

    def _send(self, kind, rank):
        self._sent.append(self.control.isend(
            (kind, self.rank, self.where, self.waits), rank))

    def _call_roll(self, limit):
        """Find out who is silent; say so, and end all processes."""
        if self.control is None:
            self.stop('not every process has come to wnorm.distributed '
                      'within %g s' % limit)
        others = [rank for rank in range(self.size) if rank != self.rank]
        for rank in others:
            self._send('roll', rank)
        here, begun = {}, time.monotonic()
        while time.monotonic() - begun < GRACE and len(here) < len(others):
            here.update(self._hear())
            time.sleep(.01)
        silent = [rank for rank in others if rank not in here]
        lines = ['rank %d: %s' % item for item in sorted(here.items())]
        lines.append('no answer within %g s from %s: stopped, lost or still '
                     'computing' % (limit, ', '.join(
                         'rank %d' % rank for rank in silent))
                     if silent else
                     'all processes wait, not for the same: do all call the '
                     'same functions, in the same order?')
        self.stop('%s waited in vain\n%s' % (self._me(), '\n'.join(lines)))

    # --- exchanging ---------------------------------------------------------

    def exchange(self, thing, timeout=None):
        """What each process gives, in the order of ranks."""
        return self.spread(self.gather(thing, timeout), timeout)

    def gather(self, thing, timeout=None):
        """What each process gives, in the order of ranks, on process 0;
        None on the others."""
        self._open(timeout)
        data = np.frombuffer(pickle.dumps(thing), 'uint8')
        lengths = np.zeros(self.size, 'int64')
        self.wait(self.comm.Igather(np.array([data.size]), lengths),
                  timeout)
        parts = np.empty(lengths.sum(), 'uint8')
        self.wait(self.comm.Igatherv(data, [parts, lengths]), timeout)
        if self.rank == 0:
            return [pickle.loads(part.tobytes()) for part in np.split(
                parts, np.cumsum(lengths)[:-1])]

    def spread(self, thing, timeout=None):
        """What process 0 gives."""
        self._open(timeout)
        data = np.frombuffer(pickle.dumps(thing), 'uint8')
        length = np.array([data.size])
        self.wait(self.comm.Ibcast(length), timeout)
        if self.rank:
            data = np.empty(length[0], 'uint8')
        self.wait(self.comm.Ibcast(data), timeout)
        return thing if self.rank == 0 else pickle.loads(data.tobytes())

    def together(self, function, timeout=None):
        """What `function` returns; if it fails in one process, all raise."""
        result = error = None
        try:
            result = function()
        except Exception as caught:
            error = caught
        messages = self.exchange(error and '%s: %s' % (
            type(error).__name__, error), timeout)
        failed = [rank for rank in range(self.size) if messages[rank]]
        if failed:
            if error is not None:
                raise error
            raise self.blame(failed[0], OtherProcessError(
                'rank %d: %s' % (failed[0], messages[failed[0]])))
        return result

    # --- steps --------------------------------------------------------------

    def step(self, call, done):
        """A process has come to a reduction, or has its result."""
        self.where = '%s step %d%s' % ('after' if done else 'in', call.steps,
                                       call.suffix)
        self.steps += not done
        if self.log is not None:
            self.log.step(self.steps, done, self.where)

    def open_log(self, folder, timeout=None):
        """Say how the last run ended, and begin a new log."""
        if folder is None or self.log is not None:
            return
        found = self.exchange((time.time(), logs.read(folder)), timeout)
        if self.rank == 0:
            message = logs.report([last for _, lasts in found
                                   for last in lasts])
            if message:
                self._say(message)
            logs.clean(folder, self.size)
        self.log = self.together(lambda: logs.StepLog(folder, {
            'run': found[0][0], 'rank': self.rank, 'size': self.size,
            'pid': os.getpid(), 'host': socket.gethostname()}), timeout)

    def blame(self, rank, error):
        """For `error` that all processes raise because of one of them."""
        self.blamed = rank
        return error

    # --- ends ---------------------------------------------------------------

    def _me(self):
        return 'rank %d (%s)' % (self.rank, self.where)

    def _say(self, text):
        """On stderr, in one piece."""
        sys.stdout.flush()
        os.write(2, ''.join('wnorm.distributed: %s\n' % line
                            for line in text.splitlines()).encode())

    def stop(self, message):
        """End all processes."""
        self._say(message)
        self.abort('failed: ' + ' '.join(message.split()))

    def abort(self, reason):
        if self.log is not None:
            self.log.end(reason)
        time.sleep(.1)  # what was said is on its way
        self.MPI.COMM_WORLD.Abort(1)
        time.sleep(5)  # it returns, and then the end comes
        os._exit(1)

    def _fail(self, kind, error, trace):
        """What is done about an exception that nobody caught."""
        blamed = self.blamed if isinstance(error, AgreedError) else self.rank
        if blamed == self.rank:
            self._say('%s has failed' % self._me())
            if isinstance(error, AgreedError):
                # all is in its message; without what Theano adds to it
                error.args = str(error).split('\nApply node')[:1]
                error.__suppress_context__ = True
            self._excepthook(kind, error, trace)
            sys.stderr.flush()
            self.abort('failed: %s: %s' % (kind.__name__, error))
        else:
            time.sleep(1)  # the other process says it
            self.abort('stopped by rank %d' % blamed)

    def _leave(self):
        """At the end of the program, let the others know.

        A process that waits for this one learns it from the one before it.
        """
        if self.log is not None:
            self.log.end('ended')
        if self.control is None or self.MPI.Is_finalized():
            return
        self._send('gone', (self.rank + 1) % self.size)
        self.waits = END
        # what is on its way to this one is read before MPI is closed
        while self._gone is None:
            self._hear()
            time.sleep(.005)


def _started():
    """How many processes a launcher says that there are; 1 without one."""
    for name in LAUNCHERS:
        if os.environ.get(name, '').isdigit():
            return int(os.environ[name])
    return 1


def find():
    """The world that this process is part of."""
    started = _started()
    if started == 1 and 'mpi4py.MPI' not in sys.modules:
        return Alone()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # no mpi4py; no MPI library
        raise ImportError(
            'this is one of %d processes, and mpi4py cannot be used (%s): %s'
            % (started, error, INSTALL))
    size = MPI.COMM_WORLD.size
    if size == 1 and started > 1:
        raise RuntimeError(
            "this is one of %d processes, but mpi4py's MPI, %s, knows of one "
            'only: they were started by the mpiexec of another MPI. Start '
            'them with its own, %s' % (started, library(MPI), launcher(
                missing='which is not on this machine: ' + INSTALL)))
    return World(MPI) if size > 1 else Alone()


def library(MPI):
    """Such as ``MPICH 5.0.2``."""
    name, version = MPI.get_vendor()
    return '%s %s' % (name, '.'.join(map(str, version)))


def launcher(missing=None):
    """The path of mpiexec: that of this environment, or of the system.

    Raises
    ------
    RuntimeError
        If there is none, unless `missing` is given to be returned instead.
    """
    import shutil
    here = os.path.dirname(sys.executable)
    found = shutil.which('mpiexec', path=os.pathsep.join(
        [here, os.environ.get('PATH', os.defpath)]))
    if found is None and missing is None:
        raise RuntimeError('there is no mpiexec, neither in %s nor on the '
                           'PATH: %s' % (here, INSTALL))
    return found or missing


_world = None


def world():
    """The world of this process, found once."""
    global _world
    if _world is None:
        _world = find()
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
