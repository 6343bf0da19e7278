"""Sides timed in turn, and how their ratios are told.

In each round every side runs for a while, the order changing from round to
round; a ratio is the median over the rounds of the ratio of two sides within
one round, given with its quartiles. A side that is the plain net once more,
'plain again', shows what a ratio of 1 looks like on this machine (the A/A
control). Half of its interquartile range is called c, and allowed for where
the target is to cost nothing.
"""
import argparse
import functools
import gc
import json
import os
import re
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
from tqdm import tqdm

SLICES = 5
CONTROL = 'plain again'
CONTROL_RANGE = .97, 1.03

#: A bar that is gone at the end, and never there but on a terminal.
progress = functools.partial(tqdm, leave=False, disable=None)


# --- timing -----------------------------------------------------------------

def order(sides, number):
    """The sides as round `number` takes them: rotated, then backwards too."""
    start = number // 2 % len(sides)
    turned = sides[start:] + sides[:start]
    return turned[::-1] if number % 2 else turned


def clock(call, count, pause=0):
    """Seconds of a call: the median of `count`, after one more.

    That one brings the side's own data into the cache.
    """
    time.sleep(pause)
    stamps = []
    for _ in range(count + 1):
        call()
        stamps.append(time.perf_counter())
    return float(np.median(np.diff(stamps)))


def repetitions(call, seconds, pause=0):
    """How many calls take that long."""
    return max(1, int(np.ceil(seconds / clock(call, 3, pause))))


def in_turn(calls, rounds, seconds, tick=lambda: None, pause=0):
    """Time the `calls`, a dict of functions, in rotation.

    In a round each side runs for `seconds` at least, in up to SLICES slices
    that alternate with the other sides'. With a `pause` in one, after so many
    seconds in which the threads of another library fall asleep: after their
    last work they keep a core busy for a while.

    Returns
    -------
    dict of lists
        Seconds of a call, by round: the median of the slices.
    """
    counts = {side: repetitions(call, seconds, pause)
              for side, call in calls.items()}
    slices = 1 if pause else min(SLICES, *counts.values())
    counts = {side: -(-count // slices) for side, count in counts.items()}
    times = {side: [] for side in calls}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            clocked = {side: [] for side in calls}
            for turn in range(slices):
                for side in order(list(calls), number + turn):
                    clocked[side].append(
                        clock(calls[side], counts[side], pause))
            for side in calls:
                times[side].append(float(np.median(clocked[side])))
            tick()
    finally:
        gc.enable()
    return times


def ratio(times, side, base='plain'):
    """Quartiles of the ratio of two sides within a round."""
    return np.percentile(np.divide(times[side], times[base]), [25, 50, 75])


def noise(times):
    """The c of this module's first lines."""
    low, _, high = ratio(times, CONTROL)
    return (high - low) / 2


# --- tables -----------------------------------------------------------------

#: A table as it is printed, and the numbers behind it.
Table = namedtuple('Table', 'title header rows notes records')

#: The time of `side` over that of `base`. `limit(net, what, c)` is the target,
#: None for none.
Column = namedtuple('Column', 'title side base limit')

MISSED = 'MISSED'


def figure(quartiles, limit=None):
    """A ratio, and whether it is what it should be."""
    low, middle, high = quartiles
    text = '%.2f (%.2f-%.2f)' % (middle, low, high)
    if limit is None:
        return text
    return text + verdict(middle, limit)


def verdict(value, limit):
    return (' <= %.2f' if value <= limit else ' > %%.2f %s' % MISSED) % limit


def control(quartiles):
    low, high = CONTROL_RANGE
    return figure(quartiles) + (
        '' if low <= quartiles[1] <= high else ' UNSTEADY')


def compare(title, cases, make, sides, columns, options, notes=(),
            pause=0):
    """The table of a program.

    Parameters
    ----------
    cases : list of (net, what is measured of it)
    make : function of net, side and what
        Returns one step, a function without arguments.
    sides : list of str
        'plain' among them.
    columns : list of Column
        Those left out whose side is not measured.
    """
    columns = [column for column in columns
               if column.side in sides and column.base in sides]
    checked = CONTROL in sides
    header = (['net', 'pass', 'plain ms'] + ['A/A'] * checked +
              [column.title for column in columns])
    rows, records = [], []
    with progress(total=len(cases) * (len(sides) + options.rounds)) as bar:
        for net, what in cases:
            bar.set_description('%s, %s' % (net, what))
            calls = {}
            for side in sides:
                calls[side] = make(net, side, what)
                bar.update()
            times = in_turn(calls, options.rounds, options.seconds,
                            bar.update, pause)
            del calls
            gc.collect()  # functions of Theano are cycles
            c = noise(times) if checked else 0
            records.append({'net': str(net), 'pass': what, 'times': times})
            row = [str(net), what, '%.2f' % (
                1000 * np.median(times['plain']))]
            if checked:
                row.append(control(ratio(times, CONTROL)))
            for column in columns:
                limit = column.limit and column.limit(net, what, c)
                row.append(figure(ratio(times, column.side, column.base),
                                  limit))
            rows.append(row)
    return Table(title, header, rows, notes, records)


def markdown(table):
    lines = [table.header] + table.rows
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    lines.insert(1, ['-' * width for width in widths])
    return '\n'.join(
        ['## ' + table.title, ''] +
        ['| %s |' % ' | '.join(map(str.ljust, line, widths))
         for line in lines] +
        [''] + [note + '\n' for note in table.notes])


# --- the machine ------------------------------------------------------------

def threads():
    """How many the BLAS uses, and therefore PyTorch too."""
    return int(os.environ.get('OPENBLAS_NUM_THREADS') or
               len(os.sched_getaffinity(0)))


def device():
    """The name of the device that Theano uses, None for the CPU."""
    from theano import gpuarray
    if gpuarray.pygpu_activated:
        name = gpuarray.type.get_context(None).devname
        return name.decode() if isinstance(name, bytes) else name


def machine():
    """A paragraph: what it ran on, and how busy that was."""
    import lasagne
    import theano
    import wnorm
    with open('/proc/cpuinfo') as file:
        cpu = re.search(r'model name\s*: (.*)', file.read())
    with open('/proc/meminfo') as file:
        memory = int(re.search(r'MemTotal: *(\d+)', file.read()).group(1))
    compiler = subprocess.run(
        [theano.config.cxx, '-dumpfullversion'], stdout=subprocess.PIPE,
        universal_newlines=True).stdout.strip()
    libraries = [word for word in theano.config.blas.ldflags.split()
                 if word.startswith('-l')]
    return (
        '%s, %d cores, %.0f GB, load %.1f when it started. Python %s, NumPy '
        '%s, Theano %s, Lasagne %s, wnorm %s, %s %s. BLAS: %s, %d threads.%s'
        % (
            cpu.group(1) if cpu else 'unknown CPU',
            len(os.sched_getaffinity(0)), memory / 1e6, os.getloadavg()[0],
            sys.version.split()[0], np.__version__, theano.__version__,
            lasagne.__version__, wnorm.__version__,
            os.path.basename(theano.config.cxx), compiler,
            ' '.join(libraries) or "none linked, NumPy's C API", threads(),
            ' Device: %s.' % device() if device() else ''))


# --- programs ---------------------------------------------------------------

def environment(**variables):
    """For a child; without the mark of a device in use, which Theano leaves
    and with which it would refuse to start."""
    variables = dict(os.environ, **variables)
    variables.pop('THEANO_GPU_IS_ALREADY_ACTIVE', None)
    return variables


def in_child(module, function, *arguments, **variables):
    """What a function of another module returns in a fresh interpreter."""
    code = ('import json, sys; sys.path.insert(0, %r); import %s as module; '
            'print(json.dumps(module.%s(*json.loads(sys.argv[1]))))' % (
                os.path.dirname(os.path.abspath(__file__)), module, function))
    done = subprocess.run(
        [sys.executable, '-c', code, json.dumps(arguments)],
        env=environment(**variables), stdout=subprocess.PIPE,
        universal_newlines=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def words(text):
    return [word.strip() for word in text.split(',')]


def parse(doc, arguments=None, extend=lambda parser: None):
    """The options that all programs share; `doc` is the program's, `extend`
    adds its own."""
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true',
                        help='fewer nets, shorter rounds')
    parser.add_argument('--nets', type=words, help="such as 'dense 512, "
                        "conv 32 b8': of the program's own, or others")
    parser.add_argument('--passes', type=words,
                        help="such as 'train SGD, inference'")
    parser.add_argument('--sides', type=words, help="such as 'plain, wnorm'")
    parser.add_argument('--rounds', type=int,
                        help='default: 9, with --quick 7')
    parser.add_argument('--seconds', type=float, help='of each side in a '
                        'round; default: 0.15, with --quick 0.05')
    parser.add_argument('--out', metavar='STEM',
                        help='write STEM.md and STEM.json too')
    extend(parser)
    options = parser.parse_args(arguments)
    if options.sides and 'plain' not in options.sides:
        parser.error("--sides lacks 'plain', which the others are compared to")
    options.rounds = options.rounds or (7 if options.quick else 9)
    options.seconds = options.seconds or (.05 if options.quick else .15)
    return options


def main(doc, measure, **kwargs):
    """Runs a program: `measure` makes a table, or several, from options."""
    options = parse(doc, **kwargs)
    print(machine() + '\n', flush=True)
    texts, records = [machine() + '\n'], {}
    write(options.out, texts, records)
    for table in measure(options):
        texts.append(markdown(table))
        records[table.title] = table.records
        print(texts[-1], flush=True)
        write(options.out, texts, records)  # it may not live to the last


def write(stem, texts, records):
    if stem:
        with open(stem + '.md', 'w') as file:
            file.write('\n'.join(texts))
        with open(stem + '.json', 'w') as file:
            json.dump(records, file, indent=1)
