"""How far activations and gradients come in 200 layers.

    python examples/depth.py [--draws 3]

Builds a plain net of 200 layers and a residual one of 100 blocks of two, both
weight-normalized, and prints the norm of the activations, over that of the
input, at some depths; and of the gradient at the input, over that at the
output: with g = 1 and normal V as they come, and after norm-preserving
initialization.
"""
import argparse
import sys

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, ElemwiseSumLayer, InputLayer, get_output)

from wnorm import initialize_norm_preserving, weight_norm

sys.setrecursionlimit(20000)  # Theano's gradient of so many layers


def dense(layer, units, **kwargs):
    return weight_norm(DenseLayer(layer, units, W=lasagne.init.Normal(),
                                  **kwargs))


def plain(units=256):
    """The outputs of 200 layers."""
    layers = [InputLayer((None, units), T.matrix())]
    for _ in range(200):
        layers.append(dense(layers[-1], units))
    return layers


def residual(units=64):
    """The outputs of 100 blocks, of a layer with and one without rectifier."""
    layers = [InputLayer((None, units), T.matrix())]
    for _ in range(100):
        branch = dense(dense(layers[-1], units), units, nonlinearity=None)
        layers.append(ElemwiseSumLayer([layers[-1], branch]))
    return layers


def norm(rows):
    """The root mean square of the rows' norms."""
    return T.sqrt(T.mean(T.sum(T.sqr(rows), axis=1)))


def measuring(layers):
    """A function from a batch, and the gradient at the output, to the norms
    of all outputs and of the gradient at the input."""
    outputs = get_output(layers)
    gradient = T.matrix()
    return theano.function(
        [outputs[0], gradient],
        [T.stack([norm(output) for output in outputs]) / norm(outputs[0]),
         norm(T.grad(None, outputs[0], known_grads={outputs[-1]: gradient})) /
         norm(gradient)],
        mode=theano.Mode('py', None))  # run a few times: not compiled in C


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--draws', type=int, default=3)
    options = parser.parse_args()
    for name, make in ('200 plain layers', plain), ('100 blocks', residual):
        lasagne.random.set_rng(np.random.RandomState(0))
        layers = make()
        number = len(layers) - 1
        depths = [1, number // 4, number // 2, number]
        measure = measuring(layers)
        random = np.random.RandomState(1)
        data = [lasagne.utils.floatX(random.randn(
            20, layers[0].shape[1])) for _ in range(2)]
        print('%s of %d units, %s: after %s; gradient' % (
            name, layers[0].shape[1], theano.config.floatX,
            ', '.join(map(str, depths))))
        for draw in range(-1, options.draws):
            if draw >= 0:
                lasagne.random.set_rng(np.random.RandomState(draw))
                initialize_norm_preserving(layers[-1])
            with np.errstate(under='ignore'):
                norms, gradient = measure(*data)
            print('  %-24s %s; %.3g' % (
                'g = 1' if draw < 0 else 'norm-preserving, draw %d' % draw,
                ', '.join('%.3g' % norms[depth] for depth in depths),
                gradient))


if __name__ == '__main__':
    main()
