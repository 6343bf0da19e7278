"""One message a step: arrays packed into one, reduced, and unpacked.

Beside the arrays it carries a head: a few numbers of each process, which all
others receive.
"""
import sys

import numpy as np


class Message(object):
    """Sums of arrays over all processes.

    Parameters
    ----------
    world : World

    arrays : list of numpy arrays
        Of the shapes and dtypes of those to come.

    head : int
        How many numbers each process sends beside them.

    Attributes
    ----------
    nbytes : int
        How much a process contributes to a reduction.
    """
    def __init__(self, world, comm, arrays, head):
        self.world = world
        self.comm = comm
        self.head = head
        self.shapes = [array.shape for array in arrays]
        self.dtypes = [array.dtype for array in arrays]
        self.dtype = np.result_type('float32', *self.dtypes)
        self.first = self._room()
        self.ends = self.first + np.cumsum(
            [array.size for array in arrays], dtype=int)
        self.length = int(self.ends[-1])
        self._buffer = None

    @property
    def nbytes(self):
        return self.length * self.dtype.itemsize

    def fits(self, arrays):
        """Whether these have the shapes of the first ones."""
        return [array.shape for array in arrays] == self.shapes

    def _room(self):
        """How many numbers of the buffer come before the arrays."""
        return self.world.size * self.head

    def pack(self, arrays, factor):
        """Copy the arrays times `factor` into the buffer, unread if it is 0.

        Returns
        -------
        int or None
            The first array that is not finite.
        """
        # Means are views of the buffer: as long as somebody holds one, it
        # is not used again. (Two references: this one, and the argument.)
        if self._buffer is None or sys.getrefcount(self._buffer) > 2:
            self._buffer = np.empty(self.length, self.dtype)
        parts = self._parts()
        if factor == 0:
            self._buffer[self.first:] = 0
            return None
        with np.errstate(over='ignore', invalid='ignore'):
            for part, array in zip(parts, arrays):
                np.multiply(array, factor, out=part, casting='same_kind')
            data = self._buffer[self.first:]
            if np.isfinite(np.dot(data, data)):
                return None
        # squares may overflow where the numbers do not
        return next((number for number, part in enumerate(parts)
                     if not np.isfinite(part).all()), None)

    def reduce(self, head, timeout):
        """Send; returns the heads of all processes, a row each."""
        heads = self._buffer[:self.first].reshape(self.world.size, self.head)
        heads[...] = 0
        heads[self.world.rank] = head
        self.world.wait(self.comm.Iallreduce(
            self.world.MPI.IN_PLACE, self._buffer), timeout)
        return heads.astype('float64')

    def unpack(self, divisor):
        """The sums over `divisor`."""
        if divisor != 1:
            self._buffer[self.first:] /= self.dtype.type(divisor)
        return [part.astype(dtype, copy=False)
                for part, dtype in zip(self._parts(), self.dtypes)]

    def _parts(self):
        """The arrays in the buffer."""
        starts = [self.first] + list(self.ends[:-1])
        return [self._buffer[start:end].reshape(shape) for start, end, shape
                in zip(starts, self.ends, self.shapes)]


class HalfMessage(Message):
    """The same in float16, in two messages of half the size.

    Each process receives a part of the arrays from all, as float16 relative
    to the sender's largest number, sums them, and sends the sums to all.
    """
    def __init__(self, *args):
        super(HalfMessage, self).__init__(*args)
        self.part = -(-self.length // (4 * self.world.size)) * 4
        self.record = np.dtype([
            ('unit', 'f8'), ('head', 'f8', (self.head,)),
            ('data', 'f2', (self.part,))])
        self.sums = np.dtype([('unit', 'f8'), ('data', 'f2', (self.part,))])

    @property
    def nbytes(self):
        return self.record.itemsize * self.world.size

    def _room(self):
        return 0

    def reduce(self, head, timeout):
        size = self.world.size
        out = np.zeros(size, self.record)
        out['head'] = head
        out['unit'], data = _halved(self._padded(self._buffer))
        out['data'] = data.reshape(size, self.part)
        received = np.empty_like(out)
        self.world.wait(self.comm.Ialltoall(_bytes(out), _bytes(received)),
                        timeout)
        total = np.zeros(self.part, self.dtype)
        for row in received:
            total += row['data'] * self.dtype.type(row['unit'])
        mine = np.zeros(1, self.sums)
        mine['unit'], mine['data'][0] = _halved(total)
        everything = np.empty(size, self.sums)
        self.world.wait(self.comm.Iallgather(
            _bytes(mine), _bytes(everything)), timeout)
        sums = everything['data'] * everything['unit'].astype(
            self.dtype)[:, None]
        self._buffer[:] = sums.ravel()[:self.length]
        return received['head']

    def _padded(self, array):
        padded = np.zeros(self.world.size * self.part, self.dtype)
        padded[:self.length] = array
        return padded


def _halved(array):
    """(unit, float16): the array, relative to its largest number."""
    unit = float(np.max(np.abs(array), initial=0))
    if not (0 < unit < np.inf):  # what is not finite is refused by its head
        return 1., np.zeros(array.shape, 'float16')
    return unit, (array / array.dtype.type(unit)).astype('float16')


def _bytes(array):
    return array.view('uint8')
