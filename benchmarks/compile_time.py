"""Compile time, with nothing compiled before and from the cache; imports.

    python benchmarks/compile_time.py --nets "dense 512"

Each figure is from child processes that take turns. Cold: in an empty
base_compiledir. Warm: the same again, in that folder. With --quick only warm,
in Theano's own folder.
"""
import os
import shutil
import tempfile
import time

import harness
import numpy as np

NETS = ['dense 512 b128', 'conv 32 b1']
QUICK = ['dense 512']
SIDES = ['plain', harness.CONTROL, 'formula', 'wnorm']
LIMITS = {'cold': 1.2, 'warm': 1.05}
FIRST_USE_MS = 50


def build(name, side, what):
    """In a child process: seconds from the layers to the function."""
    import nets
    import theano
    theano.function([], theano.tensor.constant(1) + 1)  # what any one needs
    began = time.perf_counter()
    nets.compiled(nets.Net.parse(name), side, what)
    return time.perf_counter() - began


def first_use():
    """In a child process: seconds that wnorm adds to lasagne."""
    import lasagne
    layer = lasagne.layers.DenseLayer(lasagne.layers.InputLayer((None, 9)), 9)
    began = time.perf_counter()
    import wnorm
    wnorm.weight_norm(layer)
    return time.perf_counter() - began


def times(net, what, sides, cold, warm, bar):
    """Seconds of each side, 'cold' and 'warm', in so many rounds.

    Without cold rounds, in Theano's own folder, which one more round fills.
    """
    seconds = {state: {side: [] for side in sides} for state in LIMITS}
    flags = os.environ.get('THEANO_FLAGS', '')
    with tempfile.TemporaryDirectory() as top:
        for turn in range(max(1, cold) + warm):
            state = 'cold' if turn < max(1, cold) else 'warm'
            for side in harness.order(sides, turn):
                bar.set_description('%s, %s, %s %s' % (net, what, state, side))
                environment = {}
                if cold:
                    folder = os.path.join(top, side.replace(' ', '-'))
                    environment['THEANO_FLAGS'] = (
                        '%s,base_compiledir=%s' % (flags, folder))
                    if state == 'cold':
                        shutil.rmtree(folder, ignore_errors=True)
                seconds[state][side].append(harness.in_child(
                    'compile_time', 'build', str(net), side, what,
                    **environment))
                bar.update()
    return seconds


def measure(options):
    import nets  # not at the top: first_use is to load wnorm itself
    cases = nets.cases(options, NETS, QUICK, ['train Adam'])
    sides = options.sides or (
        ['plain', 'wnorm'] if options.quick else SIDES)
    cold, warm = (0, 3) if options.quick else (3, options.rounds)
    header = ['net', 'pass', 'cache', 'plain s'] + sides[1:]
    rows, records = [], []
    with harness.progress(
            total=len(cases) * len(sides) * (max(1, cold) + warm)) as bar:
        for net, what in cases:
            seconds = times(net, what, sides, cold, warm, bar)
            for state, limit in list(LIMITS.items())[0 if cold else 1:]:
                row = [str(net), what, state,
                       '%.2f' % np.median(seconds[state]['plain'])]
                for side in sides[1:]:
                    row.append(harness.figure(
                        harness.ratio(seconds[state], side),
                        limit if side == 'wnorm' else None))
                rows.append(row)
            records.append({'net': str(net), 'pass': what, 'times': seconds})
    yield harness.Table(
        'Compile time', header, rows,
        ['Median of processes in turn: %d cold, %d warm.' % (cold, warm)],
        records)

    used = [1000 * harness.in_child('compile_time', 'first_use')
            for _ in range(warm)]
    yield harness.Table(
        'Import and first use of weight_norm, beyond lasagne', ['ms'],
        [['%.0f' % np.median(used) + harness.verdict(
            np.median(used), FIRST_USE_MS)]], [], used)


if __name__ == '__main__':
    harness.main(__doc__, measure)
