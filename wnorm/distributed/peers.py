"""The processes that train together, and how they wait for one another.

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
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
from theano.gof import compilelock

from ..initialization.many import Alone
from . import log as logs

#: Seconds after which a process that does not answer is given up.
TIMEOUT = 300.

#: Seconds that processes have for answering a roll call.
GRACE = 2.

#: Seconds until the other processes of an error that all raise speak, should
#: the one to blame not have done so.
PATIENCE = 3.

#: Seconds of polling without a pause, and the pause afterwards.
EAGER, PAUSE = .02, 1e-4

#: More collective operations than any process waits in: it has ended.
END = float('inf')

#: What the processes of MPI tell those that they start: their number as a
#: process, their rank, and how many they are.
MARK = 'WNORM_DISTRIBUTED'

#: What such a process is told.
CHILD = ('this process was started by rank %d, and is not itself one of those '
         'that train together: it can ask for rank(), size(), shard() and '
         'minibatches() only')


def say(text):
    """On stderr, in one piece, after what was printed before."""
    with suppress(OSError, ValueError, AttributeError):  # it is closed
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, ''.join(
            'wnorm.distributed: %s\n' % line
            for line in text.splitlines()).encode(errors='replace'))


class AgreedError(Exception):
    """Raised by all processes, because of one, which the message names."""


class UnequalError(AgreedError, ValueError):
    """Processes differ in what must be equal, or equal what must differ."""


class NotFiniteError(AgreedError, FloatingPointError):
    """A process has computed NaN or infinity."""


class OtherProcessError(AgreedError, RuntimeError):
    """Another process has failed, in what all have to do."""


class Child(Alone):
    """Not one of the processes of MPI, but started by one, such as those that
    load data: it takes after it, but cannot speak to the others."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def together(self, *args):
        raise RuntimeError(CHILD % self.rank)

    gather = spread = together


class World(Alone):
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
        self.pid = os.getpid()
        os.environ[MARK] = '%d %d %d' % (self.pid, self.rank, self.size)
        self.comm = self.control = self.log = None
        self._control, self._opening = MPI.COMM_WORLD.Idup()
        self._may_log = True
        self.steps = self.blamed = 0
        self._limit = None
        self.waits = 0  # of all collective operations, in order
        self._sent, self._gone = [], None
        self._called = 0, -END  # a roll call: by whom, and when
        self._spoke = None
        # The processes compile the same functions at the same time, and wait
        # for the lock on Theano's folder of compiled code: each time 5 to 10
        # seconds, as it comes.
        compilelock.lock = functools.partial(
            compilelock.lock, min_wait=.05, max_wait=.2, verbosity=0)
        self._excepthook = sys.excepthook
        sys.excepthook = self._fail
        atexit.register(self._leave)

    # --- communicators ------------------------------------------------------

    def channel(self):
        """A communicator of its own for one purpose."""
        self._open()
        return self._duplicate()

    def _open(self):
        if self.comm is None:
            self.wait(self._opening)
            self.comm = self._duplicate()

    def _duplicate(self):
        try:
            comm, request = self.MPI.COMM_WORLD.Idup()
        except self.MPI.Exception as error:  # pragma: no cover - after 2000
            raise RuntimeError(
                'MPI has no more communicators (%s): each call of grads() '
                'takes one. Call it once per loss, not in a loop' % error)
        self.wait(request)
        return comm

    def _is_open(self):
        """Whether all processes have come, and can be spoken to."""
        if self.control is None and self._opening.Test():
            self.control = self._control
        return self.control is not None

    # --- waiting ------------------------------------------------------------

    def wait(self, request):
        """Until a nonblocking operation is complete; stops all processes if
        that takes longer than the time limit or will never be."""
        if os.getpid() != self.pid:  # pragma: no cover - test_peers.py
            raise RuntimeError(CHILD % self.rank)
        self.waits += 1
        if request.Test():
            return
        limit = TIMEOUT if self._limit is None else self._limit
        begun = heard = time.monotonic()
        while not request.Test():
            now = time.monotonic()
            # while another calls, this one answers
            if now > max(begun + limit, self._called[1] + 2 * GRACE):
                self._call_roll(  # pragma: no cover - test_faults.py
                    request, limit)
            if now - heard > .005:
                heard = now
                self._hear()
            # Other processes on this core get their turn: those waited for,
            # perhaps. Large messages don't suffer from the pause.
            if now - begun < EAGER:
                os.sched_yield()
            else:
                time.sleep(PAUSE)

    @contextmanager
    def limited(self, timeout):
        """Within, waiting for the others takes so many seconds at most."""
        before, self._limit = self._limit, timeout
        try:
            yield
        finally:
            self._limit = before

    def _hear(self):
        """Read what others say; returns who answered a call, and what."""
        here = {}
        while self._is_open() and self.control.Iprobe():
            kind, rank, where, waits = self.control.recv()
            if kind == 'roll':  # pragma: no cover - test_faults.py
                self._called = rank, time.monotonic()
                self._speak()
                self._send('here', rank, self._place())
            elif kind == 'here':  # pragma: no cover - test_faults.py
                here[rank] = where
            else:
                self._gone = rank, where, waits
        # it may have ended after what this process is still waiting in
        if (self._gone is not None and  # pragma: no cover - test_faults.py
                self._gone[2] < self.waits < END):
            self.stop('rank %d has ended (%s), and %s waits for it: all '
                      'processes must make the same number of steps'
                      % (self._gone[:2] + (self._me(),)))
        return here

    def _send(self, kind, rank, where):  # pragma: no cover - test_faults.py
        self._sent.append(self.control.isend(
            (kind, self.rank, where, self.waits), rank))

    def _speak(self):  # pragma: no cover - test_faults.py
        """Say where this process waits, once."""
        if self._spoke != self.waits:
            self._spoke = self.waits
            say('rank %d waits: %s' % (self.rank, self._place()))

    def _place(self):
        """How far this process is, and where in the user's program."""
        if self.waits == END:
            return 'ended, ' + self.where
        frame = sys._getframe()
        while frame and frame.f_globals.get('__name__', '').split('.')[0] in (
                'wnorm', 'theano', 'lasagne'):
            frame = frame.f_back
        return self.where + (frame and ', at %s:%d' % (os.path.basename(
            frame.f_code.co_filename), frame.f_lineno) or '')

    def _call_roll(self, request, limit):  # pragma: no cover - test_faults.py
        """Find out who is silent; say so, and end all processes. Returns if
        the operation is complete after all, or if another calls."""
        if not self._is_open():  # pragma: no cover - ends the process
            self.stop('%s waited %g s: not every process has come to '
                      'wnorm.distributed' % (self._me(), limit))
        self._speak()
        for rank in range(self.size):
            if rank != self.rank:
                self._send('roll', rank, '')
        here, begun = {self.rank: self._place()}, time.monotonic()
        while time.monotonic() - begun < GRACE:
            here.update(self._hear())
            caller, when = self._called
            if caller < self.rank and when > begun:
                return
            if request.Test():
                say('%s goes on, after more than %g s' % (self._me(), limit))
                return
            time.sleep(.01)
        self.stop('\n'.join(['%s waited in vain' % self._me()] +
                            self._answers(here, limit)))

    def _answers(self, here, limit):
        """What a roll call tells, in lines."""
        places = {}
        for rank, place in here.items():
            places.setdefault(place, []).append(rank)
        lines = ['%s: %s' % (logs.ranks(there), place)
                 for place, there in sorted(places.items())]
        silent = set(range(self.size)).difference(here)
        if silent:
            lines.append('no answer within %g s from %s: stopped, lost or '
                         'still computing' % (limit, logs.ranks(silent)))
            lines += ['rank %d was %s; process %d on %s%s' % (
                last.rank, last, last.pid, last.host,
                ' is %s' % last.state() if last.state() else '')
                for last in (logs.read(self.log.folder) if self.log else [])
                if last.rank in silent]
        elif len(places) == 1:
            lines.append('all processes wait in the same place: is the '
                         'connection between them slow or broken, or has a '
                         'parameter another shape on one of them?')
        else:
            lines.append('all processes wait, not for the same: do all call '
                         'the same functions, in the same order?')
        return lines

    # --- exchanging ---------------------------------------------------------

    def gather(self, thing):
        """What each process gives, in the order of ranks, on process 0;
        None on the others."""
        self._open()
        data = np.frombuffer(pickle.dumps(thing), 'uint8')
        lengths = np.zeros(self.size, 'int64')
        self.wait(self.comm.Igather(np.array([data.size]), lengths))
        parts = np.empty(lengths.sum(), 'uint8')
        self.wait(self.comm.Igatherv(data, [parts, lengths]))
        if self.rank == 0:
            return [pickle.loads(part.tobytes()) for part in np.split(
                parts, np.cumsum(lengths)[:-1])]

    def spread(self, thing):
        """What process 0 gives."""
        self._open()
        data = np.frombuffer(pickle.dumps(thing), 'uint8')
        length = np.array([data.size])
        self.wait(self.comm.Ibcast(length))
        if self.rank:
            data = np.empty(length[0], 'uint8')
        self.wait(self.comm.Ibcast(data))
        return thing if self.rank == 0 else pickle.loads(data.tobytes())

    def together(self, function):
        """What `function` returns; if it fails in one process, all raise."""
        result = error = None
        try:
            result = function()
        except Exception as caught:
            error = caught
        messages = self.exchange(error and '%s: %s' % (
            type(error).__name__, error))
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
        self._write('step', self.steps, done, self.where)

    def open_log(self, folder):
        """Say how the last run ended, and begin a new log."""
        if not self._may_log:
            return
        found = list(filter(None, self.exchange(
            folder and (time.time(), logs.read(folder)))))
        if not found:
            return
        self._may_log = False
        if self.rank == 0:
            message = logs.report([last for _, lasts in found
                                   for last in lasts])
            if message:
                say(message)
        problem = None
        try:
            if folder:
                self.log = logs.StepLog(folder, found[0][0], self.rank,
                                        self.size)
                if self.rank == 0:
                    logs.clean(folder, self.size)
        except OSError as error:
            problem = str(error)
        problems = self.gather(problem)
        if self.rank == 0 and any(problems):
            without = [rank for rank, one in enumerate(problems) if one]
            say('%s: no log of %s. Give grads() a folder, log=FOLDER, or '
                'log=None' % (problems[without[0]], logs.ranks(without)))

    def _write(self, what, *about):
        """To the log, without which a run goes on as well."""
        if self.log is not None:
            try:
                getattr(self.log, what)(*about)
            except OSError as error:
                self.log = None
                say('%s: no log of rank %d from now on' % (error, self.rank))

    def blame(self, rank, error):
        """For `error` that all processes raise because of one of them.

        Not an attribute of the error: Theano raises another one of its class.
        """
        self.blamed = rank
        return error

    # --- ends ---------------------------------------------------------------

    def _me(self):
        return 'rank %d (%s)' % (self.rank, self.where)

    def stop(self, message):  # pragma: no cover - test_faults.py
        """End all processes."""
        say(message)
        self.abort(logs.GAVE_UP, message)

    # What the process ran is written before this, in the tests.
    def abort(self, how, why=''):  # pragma: no cover
        try:
            self._write('end', how, why)
            time.sleep(.1)  # what was said is on its way
        finally:
            self.MPI.COMM_WORLD.Abort(1)
            time.sleep(5)  # it returns, and then the end comes
            os._exit(1)

    def _fail(self, kind, error, trace):
        """What is done about an exception that nobody caught."""
        if os.getpid() != self.pid:  # pragma: no cover - a forked child
            self._excepthook(kind, error, trace)
            sys.stderr.flush()
            os._exit(1)  # without closing MPI, which is its parent's
        how, why = logs.FAILED, kind.__name__
        try:
            if not isinstance(error, AgreedError):
                # if all fail alike, one says it
                time.sleep(.2 * self.rank.bit_length())
            elif self.blamed != self.rank:  # pragma: no cover - ended by it
                how, why = logs.STOPPED, 'by rank %d' % self.blamed
                time.sleep(PATIENCE)  # it says it, and ends this one
            say('%s has failed' % self._me())
            # of an error of all, without what Theano adds to its message
            if isinstance(error, AgreedError):  # pragma: no cover
                # test_faults.py: test_nan
                error.args = str(error).split('\nApply node')[:1]
                error.__suppress_context__ = True
            self._excepthook(kind, error, trace)
            sys.stderr.flush()
            why = why if how == logs.STOPPED else '%s: %s' % (why, error)
        finally:
            self.abort(how, why)

    def _leave(self):
        """At the end of the program, let the others know.

        A process that waits for this one learns it from the one after it.
        """
        if (os.getpid() != self.pid or  # pragma: no cover - a forked child
                self.MPI.Is_finalized()):
            return
        self._write('end', logs.ENDED)
        message = 'gone', self.rank, self.where, self.waits
        self.waits = END
        begun, is_patient, told = time.monotonic(), True, None
        # what is on its way to this one is read before MPI is closed
        while self._gone is None or told is None or not told.Test():
            if told is None and self._is_open():
                told = self.control.isend(
                    message, (self.rank + 1) % self.size)
            self._hear()
            if (is_patient and  # pragma: no cover - test_faults.py
                    time.monotonic() - begun > TIMEOUT):
                is_patient = False
                say('rank %d has ended, and waits for rank %d to end'
                    % (self.rank, (self.rank - 1) % self.size))
            time.sleep(.005)
