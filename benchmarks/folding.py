"""Time of inference after ``wnorm.fold``, against the plain net.

    python benchmarks/folding.py --nets "dense 512"
"""
import harness
import nets
from harness import Column

NETS = ['dense 512 b128', 'dense 1024 b64', 'dense 4096 b32', 'conv 96 b16',
        'conv 32 b1', 'lstm 256 b32']
QUICK = ['dense 512', 'conv 32']
SIDES = ['plain', 'plain again', 'wnorm', 'folded']


def to_plain(net, what, c):
    return 1.02 + c  # nothing


COLUMNS = [Column('wnorm', 'wnorm', 'plain', None),
           Column('folded', 'folded', 'plain', to_plain)]


def measure(options):
    yield harness.compare(
        'Inference after folding',
        nets.cases(options, NETS, QUICK, ['inference']), nets.call,
        options.sides or SIDES, COLUMNS, options)


if __name__ == '__main__':
    harness.main(__doc__, measure)
