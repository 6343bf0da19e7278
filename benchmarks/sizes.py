"""Batch sizes, numbers of units and float64: nothing slower than the formula.

    python benchmarks/sizes.py --nets "dense 64, dense 2048"
"""
import harness
import nets
from harness import Column

NETS = ['dense 1024 b1', 'dense 1024 b8', 'dense 1024 b512', 'dense 64 b64',
        'dense 256 b64', 'dense 2048 b64', 'dense 1024 b64 float64',
        'conv 32 b16 float64']
QUICK = ['dense 64', 'dense 1024 b64 float64']


def to_formula(net, what, c):
    return 1.02 + c


COLUMNS = [Column('formula', 'formula', 'plain', None),
           Column('wnorm', 'wnorm', 'plain', None),
           Column('wnorm / formula', 'wnorm', 'formula', to_formula)]


def measure(options):
    yield harness.compare(
        'Sizes, against the formula',
        nets.cases(options, NETS, QUICK,
                   nets.PASSES[1:] if options.quick else nets.PASSES),
        nets.call,
        options.sides or nets.SIDES[:4], COLUMNS, options)


if __name__ == '__main__':
    harness.main(__doc__, measure)
