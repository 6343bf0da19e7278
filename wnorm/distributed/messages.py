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
                np.multiply(array, factor, out=part, dtype=self.dtype)
            data = self._buffer[self.first:]
            if np.isfinite(np.dot(data, data)):
                return None
        # squares may overflow where the numbers do not
        return next((number for number, part in enumerate(parts)
                     if not np.isfinite(part).all()), None)

    def reduce(self, head):
        """Send; returns the heads of all processes, a row each."""
        heads = self._buffer[:self.first].reshape(self.world.size, self.head)
        heads[...] = 0
        heads[self.world.rank] = head
        self.world.wait(self.comm.Iallreduce(
            self.world.MPI.IN_PLACE, self._buffer))
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

    Each process receives a part of the numbers from all, sums them, and sends
    the sums to all. They travel relative to a unit, the largest of the piece
    of an array that a part contains.
    """
    def __init__(self, *args):
        super(HalfMessage, self).__init__(*args)
        size = self.world.size
        # of a whole number of 8 bytes
        self.part = -(-self.length // (4 * size)) * 4
        # how many numbers of each array are in each part
        self.counts = np.diff(np.clip(
            np.append(0, self.ends) - self.part * np.arange(size)[:, None],
            0, self.part))
        self.sums = np.dtype([('units', 'f8', self.counts.shape[1:]),
                              ('data', 'f2', (self.part,))])
        self.record = np.dtype(
            [('head', 'f8', (self.head,))] + self.sums.descr)

    @property
    def nbytes(self):
        return self.record.itemsize * self.world.size

    def _room(self):
        return 0

    def reduce(self, head):
        size = self.world.size
        out, everything = np.zeros(size, self.record), np.zeros(
            size, self.sums)
        received, mine = np.empty_like(out), np.zeros(1, self.sums)
        out['head'] = head
        for record, part, counts in zip(out, self._pieces(), self.counts):
            _halve(part, counts, record)
        self.world.wait(self.comm.Ialltoall(
            as_bytes(out), as_bytes(received)))
        counts = self.counts[self.world.rank]
        _halve(sum(self._whole(record, counts) for record in received),
               counts, mine[0])
        self.world.wait(self.comm.Iallgather(
            as_bytes(mine), as_bytes(everything)))
        for record, part, counts in zip(everything, self._pieces(),
                                        self.counts):
            part[:] = self._whole(record, counts)
        return received['head']

    def _pieces(self):
        """The parts of the buffer, one per process."""
        return [self._buffer[rank * self.part:(rank + 1) * self.part]
                for rank in range(self.world.size)]

    def _whole(self, record, counts):
        """The numbers of a record."""
        return record['data'][:counts.sum()] * np.repeat(
            record['units'].astype(self.dtype), counts)


def _halve(numbers, counts, record):
    """Put numbers into a record, as float16 relative to units."""
    filled, ends = counts > 0, np.cumsum(counts)
    units = np.ones(len(counts))
    units[filled] = np.maximum.reduceat(
        np.abs(numbers), (ends - counts)[filled])
    units[units == 0] = 1
    # what is not finite is refused by its head
    with np.errstate(invalid='ignore', over='ignore'):
        record['data'][:len(numbers)] = numbers / np.repeat(
            units.astype(numbers.dtype), counts)
    record['units'] = units


def as_bytes(array):
    """The memory of a contiguous array."""
    return array.reshape(-1).view('uint8')
