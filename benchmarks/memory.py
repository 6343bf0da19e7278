"""Peak memory of one step, above what the process holds between steps.

    python benchmarks/memory.py --nets "dense 4096" --sides plain,wnorm

In units of one hidden layer's weight. Each net is alone in a child process,
whose peak the kernel counts anew for each step.
"""
import gc
import re

import harness
import nets

NETS = ['dense 4096 b32', 'conv 96 b16']
QUICK = ['dense 4096 b32']
SIDES = ['plain', 'formula', 'wnorm']

# each block of memory goes back to the system when it is freed
ENVIRONMENT = {'MALLOC_MMAP_THRESHOLD_': '65536',
               'NUMPY_MADVISE_HUGEPAGE': '0'}


def resident(name):
    """VmRSS, or since the last reset VmHWM, its maximum: in bytes."""
    with open('/proc/self/status') as file:
        return 1024 * int(re.search(name + r':\s*(\d+) kB',
                                    file.read()).group(1))


def peak(name, side, what):
    """In a child process: bytes, the median of five steps."""
    step = nets.call(nets.Net.parse(name), side, what)
    step()
    gc.collect()
    peaks = []
    for _ in range(5):
        with open('/proc/self/clear_refs', 'w') as file:
            file.write('5')  # resets VmHWM
        rest = resident('VmRSS')
        step()
        peaks.append(resident('VmHWM') - rest)
    return sorted(peaks)[2]


def limit(net):
    """How many weights more than the plain net.

    None where the layers are factored, but for smaller temporaries; else a
    weight and its gradient in each layer.
    """
    return {'dense': .1, 'conv': 8, 'lstm': 16}[net.kind]


def measure(options):
    cases = nets.cases(options, NETS, QUICK,
                       nets.PASSES[:1 if options.quick else 2])
    sides = options.sides or (['plain', 'wnorm'] if options.quick else SIDES)
    rows, records = [], []
    with harness.progress(total=len(cases) * len(sides)) as bar:
        for net, what in cases:
            peaks = {}
            for side in sides:
                bar.set_description('%s, %s, %s' % (net, what, side))
                peaks[side] = harness.in_child(
                    'memory', 'peak', str(net), side, what,
                    **ENVIRONMENT) / net.weight_bytes
                bar.update()
            row = [str(net), what] + ['%.2f' % peaks[side] for side in sides]
            if 'wnorm' in peaks:
                more = peaks['wnorm'] - peaks['plain']
                row.append('%.2f' % more + harness.verdict(more, limit(net)))
            rows.append(row)
            records.append({'net': str(net), 'pass': what, 'peaks': peaks})
    header = ['net', 'pass'] + sides + ['wnorm - plain'] * ('wnorm' in sides)
    yield harness.Table(
        'Peak memory of a step', header, rows,
        ["In units of one hidden layer's weight, above what stays allocated "
         "between the steps."], records)


if __name__ == '__main__':
    harness.main(__doc__, measure)
