"""Training with the other optimizers: nothing slower than the formula.

    python benchmarks/optimizers.py --passes "train RMSprop"

Adamax is in Lasagne master only; here it is the same formula.
"""
import harness
import nets
import sizes

NETS = ['dense 512 b128', 'dense 1024 b64', 'conv 32 b1']
QUICK = ['dense 512']
PASSES = ['train ' + name for name in nets.OPTIMIZERS
          if name not in ('SGD', 'Adam')]  # those are in speed.py
QUICK_PASSES = ['train momentum', 'train RMSprop']


def measure(options):
    yield harness.compare(
        'Optimizers, against the formula',
        nets.cases(options, NETS, QUICK,
                   QUICK_PASSES if options.quick else PASSES), nets.call,
        options.sides or nets.SIDES[:4], sizes.COLUMNS, options)


if __name__ == '__main__':
    harness.main(__doc__, measure)
