"""An LSTM that predicts the next character of Python's standard library.

    python examples/lstm.py [--norm plain weight] [--out lstm]
    python -m wnorm gpu -- python examples/lstm.py --units 512 --epochs 50

The text is source code that comes with the interpreter: 200,000 characters of
modules such as argparse, the last tenth of which is the test set. Two nets
begin as the same function and see the same batches: a plain one, and one with
all weights normalized (each matrix of the LSTM by itself) and trained g.
Prints bits per character and a few lines that the nets write.

Each run has a folder in --out, with log.csv, checkpoint.npz and, when it is
done, net.npz for wnorm.load and sample.txt. After Ctrl-C the same command
continues where it was. The picture is lstm.png.
"""
import argparse
import os
import sysconfig

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, EmbeddingLayer, InputLayer, LSTMLayer, ReshapeLayer,
    get_all_params, get_output)

import wnorm
from experiment import (
    Run, common_arguments, draw_runs, interruptible, positive)

MODULES = ['argparse', 'ast', 'difflib', 'doctest', 'inspect', 'pdb',
           'subprocess', 'tarfile', 'typing', 'zipfile']

COLUMNS = ['train_bits', 'test_bits']

#: A gradient of a greater norm is scaled down.
CLIP = 5.


# --- data ------------------------------------------------------------------

def source_text(length, folder=None, modules=MODULES):
    """The first `length` characters of the modules' source."""
    folder = folder or sysconfig.get_paths()['stdlib']
    parts = []
    for module in modules:
        try:
            with open(os.path.join(folder, module + '.py'), 'rb') as file:
                parts.append(file.read().decode('ascii', 'ignore'))
        except OSError:
            continue  # not every Python comes with every module
    text = ''.join(parts)[:length]
    if len(text) < length:
        raise SystemExit('%s has %d characters of source, %d are needed: '
                         'lower --characters' % (folder, len(text), length))
    return text


def windows(codes, length):
    """Consecutive pieces of `length` characters, and of those that follow
    each: two arrays (n, length)."""
    number = (len(codes) - 1) // length
    return [codes[shift:shift + number * length].reshape(number, length)
            for shift in (0, 1)]


# --- the net ---------------------------------------------------------------

def build(norm, symbols, units):
    """From characters (n, length) to logits (n * length, symbols).

    The norm changes no value of the new net: g is the norm of V.
    """
    normalize = {
        'plain': lambda layer: layer,
        'weight': lambda layer: wnorm.weight_norm(layer, g='norm',
                                                  train_g=True),
    }[norm]
    net = InputLayer((None, None), T.imatrix())
    net = EmbeddingLayer(net, symbols, units, W=lasagne.init.Normal(.1))
    net = normalize(LSTMLayer(net, units, forgetgate=lasagne.layers.Gate(
        b=lasagne.init.Constant(1.))))
    net = ReshapeLayer(net, (-1, units))
    return normalize(DenseLayer(net, symbols, nonlinearity=None))


NORMS = ['plain', 'weight']


def bits(logits, y):
    """The mean of -log2 of the probabilities of `y`."""
    logits = logits - T.max(logits, axis=1, keepdims=True)
    log = logits - T.log(T.sum(T.exp(logits), axis=1, keepdims=True))
    return -T.mean(log[T.arange(y.shape[0]), y]) / np.log(2).astype(log.dtype)


def compile_functions(net, rate):
    """One step of training, the bits of a batch, the last logits."""
    x, y = T.imatrix(), T.imatrix()
    logits = get_output(net, x)
    loss = bits(logits, y.flatten())
    params = get_all_params(net, trainable=True)
    gradients = lasagne.updates.total_norm_constraint(
        T.grad(loss, params), CLIP)
    train = theano.function([x, y], loss, updates=lasagne.updates.adam(
        gradients, params, rate))
    return (train, theano.function([x, y], loss),
            theano.function([x], logits[-1]))


# --- training --------------------------------------------------------------

def experiment(norm, text, options):
    """One run; returns its last row and what the net writes."""
    alphabet = sorted(set(text))
    codes = np.array([alphabet.index(c) for c in text], 'int32')
    cut = len(codes) * 9 // 10
    X, Y = windows(codes[:cut], options.length)
    X_test, Y_test = windows(codes[cut:], options.length)
    random = np.random.RandomState(options.seed)
    lasagne.random.set_rng(np.random.RandomState(random.randint(2 ** 15)))
    net = build(norm, len(alphabet), options.units)
    train, test, predict = compile_functions(net, options.learning_rate)

    folder = os.path.join(options.out, norm)
    settings = dict(
        norm=norm, characters=options.characters, symbols=len(alphabet),
        units=options.units, length=options.length, batch=options.batch_size,
        learning_rate=options.learning_rate, seed=options.seed,
        text=checksum(text), floatX=theano.config.floatX)
    run = Run(folder, settings, COLUMNS, [train, test], random,
              options.restart)

    def plan(epoch):
        order = random.permutation(len(X))
        return [order[start:start + options.batch_size] for start in range(
            0, len(X) - options.batch_size + 1, options.batch_size)]

    def step(epoch, batch):
        return [train(X[batch], Y[batch])]

    def finish(epoch, means):
        total = 0.
        for start in range(0, len(X_test), options.batch_size):
            piece = slice(start, start + options.batch_size)
            total += float(test(X_test[piece], Y_test[piece])) * len(
                X_test[piece])
        return list(means) + [total / len(X_test)]

    run.train(options.epochs, plan, step, finish, norm)
    wnorm.save(net, os.path.join(folder, 'net.npz'))
    sample = write_text(predict, alphabet, X_test[0], options.sample,
                        options.length, np.random.RandomState(options.seed))
    with open(os.path.join(folder, 'sample.txt'), 'w') as file:
        file.write(sample + '\n')
    return run.rows[-1], sample


def checksum(text):
    import zlib
    return zlib.crc32(text.encode())


def write_text(predict, alphabet, start, number, length, random):
    """`number` characters, each drawn after the last `length` ones."""
    codes = list(start)
    for _ in range(number):
        logits = predict(np.array([codes[-length:]], 'int32')).astype(float)
        p = np.exp(logits - logits.max())
        codes.append(random.choice(len(alphabet), p=p / p.sum()))
    return ''.join(alphabet[code] for code in codes[len(start):])


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--norm', nargs='+', choices=NORMS, default=NORMS,
                        help=' ')
    parser.add_argument('--epochs', type=positive, default=6)
    parser.add_argument('--units', type=positive, default=64)
    parser.add_argument('--length', type=positive, default=50,
                        help='of the sequences')
    parser.add_argument('--batch-size', type=positive, default=50)
    parser.add_argument('--learning-rate', type=float, default=.005)
    parser.add_argument('--characters', type=positive, default=200000,
                        help='of the text')
    parser.add_argument('--sample', type=int, default=300,
                        help='how many characters each net writes')
    common_arguments(parser, 'lstm')
    options = parser.parse_args(arguments)
    text = source_text(options.characters)
    if len(text) < 10 * options.length * max(2, options.batch_size):
        parser.error('--characters: too few for a batch of sequences')
    os.makedirs(options.out, exist_ok=True)
    for norm in options.norm:
        row, sample = experiment(norm, text, options)
        print('%-6s bits per character: %.3f in training, %.3f in the test'
              % ((norm,) + tuple(row)))
        print('\n'.join('    ' + line for line in sample.splitlines()),
              flush=True)
    draw_runs(options.out, NORMS, 'lstm.png', [
        ('train_bits', 'bits per character in training'),
        ('test_bits', 'bits per character, test')],
        "The standard library's source, LSTM of %d units" % options.units,
        sharey=True)
    print('Logs, nets and lstm.png are in the folder %s'
          % os.path.abspath(options.out))


if __name__ == '__main__':
    interruptible(main)
