"""Time of training and inference, against the plain net.

    python benchmarks/speed.py --nets "dense 512" --sides plain,wnorm

The ratios below 1 are owed to mending Theano, not to normalization: wnorm's
rewrites also compute an optimizer's updates in fewer passes over memory than
Theano does for a plain net. The side 'same epilogue' is the plain net with
that mended, too.

With WNORM_BLAS=0 in the environment, on Theano as it is without the BLAS that
wnorm gives it; on a GPU with `python -m wnorm gpu --` before the command. The
targets do not apply there.
"""
import harness
import nets
import theano
from harness import Column

NETS = ['dense 512 b128', 'dense 1024 b64', 'dense 4096 b32', 'conv 96 b16',
        'conv 32 b1', 'lstm 256 b32']
QUICK = ['dense 512', 'conv 32']

#: SGD, Adam, inference
TARGETS = {'dense 512 b128': (1.08, .62, 1.06),
           'dense 1024 b64': (1.12, .53, 1.08),
           'dense 4096 b32': (1.30, .40, 1.27)}


def promised():
    """Whether the targets apply."""
    return theano.config.blas.ldflags and not harness.device()


def to_plain(net, what, c):
    if not promised():
        return None
    if str(net) in TARGETS and what in nets.PASSES:
        return TARGETS[str(net)][nets.PASSES.index(what)]
    return 1.02 + c if net.kind != 'dense' else None


def to_mended(net, what, c):
    if promised() and str(net) in NETS[:2]:
        return 1.08


COLUMNS = [
    Column('formula', 'formula', 'plain', None),
    Column('wnorm', 'wnorm', 'plain', to_plain),
    Column('same epilogue', 'same epilogue', 'plain', None),
    Column('wnorm / same epilogue', 'wnorm', 'same epilogue', to_mended),
]


def measure(options):
    blas = theano.config.blas.ldflags
    yield harness.compare(
        'Speed, on a GPU' if harness.device() else
        'Speed, with a BLAS' if blas else 'Speed, stock Theano',
        nets.cases(options, NETS, QUICK if blas else QUICK[:1]), nets.call,
        options.sides or nets.SIDES, COLUMNS, options, [
            'Time over that of the plain net: median of %d rounds '
            '(quartiles).' % options.rounds,
            "A ratio below 1 is owed to mending what Theano wastes on an "
            "optimizer's updates, not to normalization. 'same epilogue' is "
            "the plain net with that mended: wnorm over that is what "
            "normalization costs."])


if __name__ == '__main__':
    harness.main(__doc__, measure)
