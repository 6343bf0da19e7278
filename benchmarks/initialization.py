"""Data-dependent initialization: one batch, many batches, all in one.

    python benchmarks/initialization.py --nets "conv 96"

Seconds of a call of ``initialize``, compiling included (Theano's compiled
code is in its cache), and the peak of memory during it. Each in a child
process. The batches are drawn one by one, and each pass draws them again.
"""
import gc
import time

import harness
import numpy as np
from memory import ENVIRONMENT, resident

import nets
import wnorm

NETS = ['dense 512 b128', 'conv 96 b16']
QUICK = ['dense 512 b128']
BATCHES = 50


class Batches(object):
    """Random batches, each time the same."""

    def __init__(self, net, number):
        self.net = net
        self.number = number

    def __iter__(self):
        random = np.random.RandomState(1)
        for _ in range(self.number):
            yield random.randn(*self.net.shape).astype(self.net.dtype)

    def __len__(self):
        return self.number


def data(net, kind):
    """What is given to ``initialize``."""
    if kind == 'one batch':
        batch, = Batches(net, 1)
        return batch
    batches = Batches(net, BATCHES)
    if kind == '%d batches' % BATCHES:
        return batches
    return np.concatenate(list(batches))


KINDS = ['one batch', '%d batches' % BATCHES, '%d in one' % BATCHES]


def measured(name, kind):
    """In a child process: seconds, bytes of the peak, and of one batch."""
    net = nets.Net.parse(name)
    batches = data(net, kind)
    seconds, peaks = [], []
    for _ in range(3):
        layer = nets.build(net, 'wnorm')
        gc.collect()
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')  # resets VmHWM
        rest, began = resident('VmRSS'), time.perf_counter()
        wnorm.initialize(layer, batches)
        seconds.append(time.perf_counter() - began)
        peaks.append(resident('VmHWM') - rest)
    # the first call fills caches
    return float(np.median(seconds[1:])), float(np.median(peaks[1:]))


def measure(options):
    names = options.nets or (QUICK if options.quick else NETS)
    rows, records = [], []
    with harness.progress(total=len(names) * len(KINDS)) as bar:
        for name in names:
            for kind in KINDS:
                bar.set_description('%s, %s' % (name, kind))
                seconds, peak = harness.in_child(
                    'initialization', 'measured', name, kind, **ENVIRONMENT)
                rows.append([name, kind, '%.2f' % seconds,
                             '%.1f' % (peak / 1e6)])
                records.append({'net': name, 'data': kind,
                                'seconds': seconds, 'peak': peak})
                bar.update()
    yield harness.Table(
        'Initialization', ['net', 'data', 'seconds', 'peak MB'], rows,
        ["'%d in one' is the same data as one batch." % BATCHES,
         'The peak is above what is allocated before.'], records)


if __name__ == '__main__':
    harness.main(__doc__, measure)
