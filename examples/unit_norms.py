"""What weight normalization does to three filters, in numbers.

    python examples/unit_norms.py

Wraps a convolution of 3 filters of size (2, 2) on 2 channels and prints V,
V / ||V||, and the layer's own W = g V / sqrt(1e-6 + ||V||^2) with g = 1.
"""
import lasagne
import numpy as np
from lasagne.layers import InputLayer, dnn, get_output

from wnorm import weight_norm


def norms(W):
    """One norm per filter."""
    return np.sqrt(np.sum(W ** 2, axis=(1, 2, 3)))


def main():
    np.set_printoptions(precision=4, suppress=True,
                        formatter={'float_kind': '{:.4f}'.format})
    lasagne.random.set_rng(np.random.RandomState(1))
    conv = dnn.Conv2DDNNLayer(InputLayer((None, 2, 6, 6)), 3, (2, 2), pad=1,
                              W=lasagne.init.Normal(0.05))
    net = weight_norm(conv)
    V = conv.W_param.get_value()
    W = np.asarray(conv.W.eval())
    unit = V / norms(V)[:, None, None, None]
    print('V\n%s\n||V||            %s\n' % (V, norms(V)))
    print('V / ||V||\n%s\nits norms        %s\n' % (unit, norms(unit)))
    print('W = g V / sqrt(1e-6 + ||V||^2), g = 1\n%s' % W)
    print('its norms        %s' % norms(W))
    print('they fall short of 1 by 5e-7 / ||V||^2, the epsilon:')
    print('1 - ||W||        %s' % ' '.join('%.1e' % x for x in 1 - norms(W)))
    print('5e-7 / ||V||^2   %s\n' % ' '.join(
        '%.1e' % x for x in 5e-7 / norms(V) ** 2))
    data = lasagne.utils.floatX(np.random.RandomState(2).randn(4, 2, 6, 6))
    print('output of shape %s' % (get_output(net, data).eval().shape,))


if __name__ == '__main__':
    main()
