"""Theano with NumPy's BLAS through the adapter, and without.

    python benchmarks/blas.py [--quick]

Which BLAS Theano calls is settled when it is imported. So each side has a
process of its own, which stays alive and is asked in turn: 'stock' is Theano
left to itself (WNORM_BLAS=0), 'adapter' what wnorm gives it, 'adapter again'
the same once more: the A/A control. The nets are plain Lasagne, without
weight normalization.
"""
import json
import os
import subprocess
import sys

import harness

#: Seconds in which the threads of the side before fall asleep.
PAUSE = .05

SIDES = {'stock': '0', 'adapter': '1', 'adapter again': '1'}

CASES = [
    ('dot 64', 'product'), ('dot 1000', 'product'), ('dot 1000', 'C += A B'),
    ('gemv 1000', 'product'), ('batched_dot 32 x 64', 'product'),
] + [(net, what) for net in (
    'conv 96 b16', 'conv 32 b1', 'dense 64 b16', 'dense 512 b128',
    'dense 1024 b64', 'dense 4096 b32', 'lstm 256 b32')
    for what in ('train SGD', 'inference')]

QUICK = ('dot 64', 'gemv 1000', 'conv 32 b1', 'dense 64 b16', 'dense 1024 b64')


# --- a side's process -------------------------------------------------------

def operation(name, what):
    """A function of Theano's on constant float32 data."""
    import numpy as np
    import theano
    import theano.tensor as T

    def data(*shape):
        return theano.shared(np.full(shape, 1e-3, 'float32'))

    kind, size = name.split()[:2]
    n = int(size)
    if what == 'C += A B':  # as the update of weights by a batch of 32
        c = data(n, n)
        return theano.function(
            [], updates=[(c, c + T.dot(data(n, 32), data(32, n)))])
    if kind == 'dot':
        result = T.dot(data(n, n), data(n, n))
    elif kind == 'gemv':
        result = T.dot(data(n, n), data(n))
    else:
        result = T.batched_dot(data(n, 64, 64), data(n, 64, 64))
    # left where it is: its copy would be timed with it
    return theano.function([], theano.Out(result, borrow=True))


def serve():
    """Compile and time, as the lines on standard input say."""
    call = None
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        order, arguments = json.loads(line)
        if order == 'compile':
            call = None  # the last one's memory
            name, what = arguments
            if what in ('train SGD', 'inference'):
                import nets
                call = nets.call(nets.Net.parse(name), 'plain', what)
            else:
                call = operation(name, what)
            answer = None
        elif order == 'repetitions':
            answer = harness.repetitions(call, *arguments)
        else:
            answer = harness.clock(call, *arguments, pause=PAUSE)
        print(json.dumps(answer), file=answers, flush=True)


class Side(object):
    """A process that serves, seen from the one that asks."""

    def __init__(self, switch):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), 'serve'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            universal_newlines=True, env=dict(os.environ, WNORM_BLAS=switch))

    def ask(self, order, *arguments):
        self.process.stdin.write(json.dumps([order, arguments]) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.communicate()


# --- the program ------------------------------------------------------------

def measure_case(sides, name, what, options):
    """Seconds per call in each round, by side."""
    for side in sides.values():  # one after the other: Theano has a lock
        side.ask('compile', name, what)
    counts = {key: side.ask('repetitions', options.seconds)
              for key, side in sides.items()}
    times = {key: [] for key in sides}
    for number in range(options.rounds):
        for key in harness.order(list(sides), number):
            times[key].append(sides[key].ask('clock', counts[key]))
    return times


def measure(options):
    rows, records = [], []
    sides = {key: Side(switch) for key, switch in SIDES.items()}
    try:
        for name, what in CASES:
            if (name not in options.nets if options.nets else
                    options.quick and name not in QUICK):
                continue
            times = measure_case(sides, name, what, options)
            records.append({'net': name, 'pass': what, 'times': times})
            stock, adapter = [1000 * sorted(times[key])[options.rounds // 2]
                              for key in ('stock', 'adapter')]
            rows.append([
                name, what, '%.3g' % stock, '%.3g' % adapter,
                harness.control(harness.ratio(
                    times, 'adapter again', 'adapter')),
                harness.figure(harness.ratio(times, 'adapter', 'stock'))])
            print('%s, %s' % (name, what), file=sys.stderr)
    finally:
        for side in sides.values():
            side.end()
    yield harness.Table(
        "NumPy's BLAS for Theano", ['net', 'pass', 'stock ms', 'adapter ms',
                                    'A/A', 'adapter / stock'],
        rows, [], records)


if __name__ == '__main__':
    if sys.argv[1:] == ['serve']:
        serve()
    else:
        harness.main(__doc__, measure)
