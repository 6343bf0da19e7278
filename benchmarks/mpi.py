"""Data-parallel training: what the processes and their messages cost.

    python benchmarks/mpi.py --processes 1,2,4

Three tables: the reduction of a message by its size, beside a copy of it in
memory; what a model, fitted to that, says of more machines than there are
here; and a training step on several processes against the same work in one.
"""
import json
import os
import subprocess
import sys
import time

import harness
import numpy as np
from harness import Table

NETS = ['dense 512 b128', 'dense 2048 b128', 'conv 32 b32', 'lstm 64 b32']
QUICK = ['dense 64 b32']
NUMBERS = [10 ** 4, 10 ** 5, 10 ** 6, 10 ** 7, 10 ** 8]
QUICK_NUMBERS = [10 ** 4, 10 ** 5]

CORES = len(os.sched_getaffinity(0))

#: Of the model: machines; networks by name, seconds of a message however
#: short it is, and bytes in a second.
MACHINES = [8, 64, 512]
NETWORKS = [('10 Gbit/s', 50e-6, 10e9 / 8), ('100 Gbit/s', 5e-6, 100e9 / 8)]
STEP = .1  # seconds that a machine computes in a step


# --- in each process --------------------------------------------------------

class Stopwatch(object):
    """The time that methods take."""

    def __init__(self, owner, names):
        self.seconds = {name: [] for name in names}
        for name in names:
            setattr(owner, name, self._timed(name, getattr(owner, name)))

    def _timed(self, name, method):
        def call(*args, **kwargs):
            begun = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[name].append(time.perf_counter() - begun)
        return call

    def median(self, count):
        """Of the last `count` calls of all methods together."""
        return float(np.median(np.sum(
            [seconds[-count:] for seconds in self.seconds.values()], axis=0)))


def steps(name, seconds):
    """A step of the net `name`, of which this process has a part of the batch.

    Returns
    -------
    dict
        `step`, seconds; `reduction`, of that, in it; `bytes` of the message.
    """
    from wnorm import distributed
    from wnorm.distributed import messages, reduction
    import lasagne
    import nets
    import theano
    import theano.tensor as T
    net = nets.Net.parse(name)
    layer = nets.build(net, 'wnorm')
    distributed.broadcast(layer)
    x = T.TensorType(net.dtype, (False,) * len(net.shape))('x')
    y = T.ivector('y')
    loss = lasagne.objectives.categorical_crossentropy(
        lasagne.layers.get_output(layer, x), y).mean()
    params = lasagne.layers.get_all_params(layer, trainable=True)
    grads = distributed.grads(loss, params, weight=x.shape[0], log=None)
    train = theano.function([x, y], loss, updates=lasagne.updates.adam(
        grads, params, nets.RATE))
    X, Y = [array[distributed.rank()::distributed.size()]
            for array in net.data()]
    watch = Stopwatch(messages.Message, ['pack', 'reduce', 'unpack'])
    for _ in range(3):
        train(X, Y)
    once = _agreed(harness.clock(lambda: train(X, Y), 5))
    count = max(5, int(seconds / once))
    step = harness.clock(lambda: train(X, Y), count)
    calls = [node.op.call for node in train.maker.fgraph.toposort()
             if reduction.is_mean(node)]
    return {'step': step, 'reduction': watch.median(count) if
            distributed.size() > 1 else 0.,
            'bytes': sum(call.message.nbytes for call in calls),
            'params': sum(param.get_value(borrow=True).size
                          for param in params)}


def sizes(numbers, seconds):
    """The reduction of messages of so many numbers, and a copy of them.

    Returns
    -------
    list of dict
        Seconds of `whole`, of `reduce` in it, which is without packing and
        unpacking; of a `copy`, and of the addition (`add`) of two; of the
        way from a device to the host and back (`device`), 0 without one.
    """
    from wnorm.distributed.joining import world
    from wnorm.distributed.messages import Message
    peers, results = world(), []
    for n in numbers:
        array = np.ones(n, 'float32')
        other = np.empty_like(array)
        message = Message(peers, peers.channel(), [array], 1)
        watch = Stopwatch(message, ['reduce'])

        def reduce():
            message.pack([array], 1.)
            message.reduce([0.])
            message.unpack(1)

        reduce()
        once = _agreed(harness.clock(reduce, 3))
        count = max(3, min(10000, int(seconds / once)))
        whole, others = harness.clock(reduce, count), max(3, count // 4)
        results.append({
            'whole': whole, 'reduce': watch.median(count),
            'copy': harness.clock(lambda: np.copyto(other, array), others),
            'add': harness.clock(lambda: np.add(other, array, out=other),
                                 others),
            'device': to_and_fro(array, others)})
        peers.spread(None)  # together into the next size
    return results


def to_and_fro(array, count):
    """Seconds from a device to the host and back, 0 without a device."""
    import theano
    if not harness.device():
        return 0.
    shared = theano.shared(array)
    # as Theano does before and after the Op: into new memory
    return harness.clock(lambda: shared.set_value(shared.get_value()), count)


def _agreed(seconds):
    """The same for all: processes must take the same number of steps."""
    from wnorm.distributed.joining import world
    return max(world().exchange(seconds))


# --- in the program ---------------------------------------------------------

def on(processes, function, *arguments):
    """What a function returned in process 0 of so many."""
    threads = max(1, CORES // processes)
    command = [sys.executable, os.path.abspath(__file__), '--work', json.dumps(
        [function] + list(arguments))]
    if processes > 1:
        from wnorm.distributed.joining import launcher
        command = [launcher(), '-n', str(processes)] + command
    done = subprocess.run(
        command, stdout=subprocess.PIPE, universal_newlines=True, check=True,
        env=harness.environment(OMP_NUM_THREADS=str(threads),
                                OPENBLAS_NUM_THREADS=str(threads)))
    return json.loads(done.stdout.splitlines()[-1])


def named(processes):
    return '%d%s' % (processes, ' (oversubscribed)' * (processes > CORES))


def step_table(options):
    """Sides in turn: one after the other in each round."""
    rows, records = [], []
    sides = options.processes
    with harness.progress(total=len(options.nets) * options.rounds *
                          len(sides)) as bar:
        for net in options.nets:
            found = {side: [] for side in sides}
            for number in range(options.rounds):
                for side in harness.order(sides, number):
                    bar.set_description('%s on %d' % (net, side))
                    found[side].append(on(side, 'steps', net,
                                          options.seconds))
                    bar.update()
            times = {side: [one['step'] for one in found[side]]
                     for side in sides}
            for side in sides:
                shares = [one['reduction'] / one['step']
                          for one in found[side]]
                rows.append([
                    net, '%d' % found[side][0]['params'], named(side),
                    '%.2f' % (1e3 * np.median(times[side])),
                    harness.figure(harness.ratio(times, side, 1)),
                    '%.0f %%' % (100 * np.median(shares)),
                    '%.2f MB' % (found[side][0]['bytes'] / 1e6)])
                records.append(dict(net=net, processes=side,
                                    found=found[side]))
    return Table(
        'A training step (Adam) on several processes',
        ['net', 'parameters', 'processes', 'ms', 'over one process',
         'in the reduction', 'message'], rows,
        ['The batch of the net is divided among the processes, and so are '
         'the %d cores: one process has all of them. In the reduction: '
         'packing, waiting for the slowest, sending, unpacking. One process '
         'sends nothing, and has the updates inside the product that makes '
         'the gradient (docs/speed.md).' % CORES], records)


def size_table(options):
    rows, records = [], []
    for processes in options.processes:
        if processes == 1:
            continue
        rounds = [on(processes, 'sizes', options.numbers, options.seconds)
                  for _ in range(options.rounds)]
        for place, n in enumerate(options.numbers):
            one = {key: np.median([found[place][key] for found in rounds])
                   for key in ('whole', 'reduce', 'copy', 'add', 'device')}
            rows.append([
                '%.0e' % n, named(processes), '%.3f' % (1e3 * one['whole']),
                '%.3f' % (1e3 * one['reduce']), '%.3f' % (1e3 * one['copy']),
                '%.1f' % (one['whole'] / one['copy']),
                '%.2f' % (4 * n / one['whole'] / 1e9),
                '%.3f' % (1e3 * one['device']) if one['device'] else ''])
            records.append(dict(one, n=n, processes=processes))
    return Table(
        'A message of float32 numbers',
        ['numbers', 'processes', 'ms', 'of it sending', 'copying, ms',
         'over copying', 'GB/s', 'device, ms'], rows,
        ['All processes on this machine, through shared memory. Copying: '
         'numpy.copyto of as many numbers, while the other processes do the '
         'same. Device: from it to the host and back, where Theano uses '
         'one.'], records)


def fit(n, seconds):
    """(alpha, beta): seconds of any message, and of a byte."""
    n, t = np.asarray(n, float), np.asarray(seconds)
    # each relative to itself: otherwise the largest alone would count
    return np.linalg.lstsq(np.stack([1 / t, n / t], 1), np.ones_like(t),
                           rcond=None)[0]


def model(machines, size, latency, bandwidth, alpha, local):
    """Seconds of a reduction of `size` bytes on so many machines.

    By halves, and back: log2 rounds each way, in which each machine sends,
    and receives, all but one part of the message, and adds as much.

    Parameters
    ----------
    alpha, local : float
        Seconds that a reduction, and a byte of it, take on the machine
        itself: packing, adding, unpacking.
    """
    part = (machines - 1.) / machines
    return (alpha + 2 * np.ceil(np.log2(machines)) * latency +
            2 * part * size / bandwidth + size * local)


def model_table(records, options):
    fewest = min(one['processes'] for one in records)
    here = [one for one in records if one['processes'] == fewest]
    size = [4. * one['n'] for one in here]
    alpha, beta = fit(size, [one['whole'] for one in here])
    _, local = fit(size, [one['whole'] - one['reduce'] + one['add']
                          for one in here])
    rows, found = [], []
    for n in options.numbers:
        for name, latency, bandwidth in NETWORKS:
            seconds = [model(machines, 4. * n, latency, bandwidth, alpha,
                             local) for machines in MACHINES]
            rows.append(['%.0e' % n, name] + ['%.2f ms, %.0f %%' % (
                1e3 * t, 100 * STEP / (STEP + t)) for t in seconds])
            found.append(dict(n=n, network=name, seconds=seconds))
    return Table(
        'MODEL, not measured: a reduction on more machines, and the '
        'efficiency of a step that computes for %.0f ms' % (1e3 * STEP),
        ['numbers', 'network'] + ['%d machines' % n for n in MACHINES], rows,
        ['Fitted to the table above, %d processes: a message takes alpha = '
         '%.3f ms, and beta = %.3f ns a byte; without what MPI takes to send '
         'it here, but with an addition, %.3f ns a byte. The model takes '
         'alpha, this, and of the networks %s.' % (
             fewest, 1e3 * alpha, 1e9 * beta, 1e9 * local, ', '.join(
                 '%s: %.0f us a message' % (name, 1e6 * latency)
                 for name, latency, _ in NETWORKS))], found)


def measure(options):
    if not (1 in options.processes and max(options.processes) > 1):
        sys.exit('--processes needs 1, which the others are compared to, and '
                 'a larger number')
    options.nets = options.nets or (QUICK if options.quick else NETS)
    options.numbers = options.numbers or (
        QUICK_NUMBERS if options.quick else NUMBERS)
    sizes = size_table(options)
    yield sizes
    yield model_table(sizes.records, options)
    yield step_table(options)


def extend(parser):
    def integers(text):
        return [int(float(word)) for word in text.split(',')]
    parser.add_argument('--processes', type=integers, default=[1, 2, 4],
                        help='how many, 1 among them (default: 1,2,4)')
    parser.add_argument('--numbers', type=integers,
                        help='of a message (default: 1e4,1e5 ... 1e8)')
    # each of them starts the processes anew
    parser.set_defaults(rounds=5, seconds=1)


def work(function, *arguments):
    """What a process does."""
    from wnorm import distributed
    result = globals()[function](*arguments)
    if distributed.rank() == 0:
        print(json.dumps(result))


if __name__ == '__main__':
    if sys.argv[1:2] == ['--work']:
        work(*json.loads(sys.argv[2]))
    else:
        harness.main(__doc__, measure, extend=extend)
