"""Handwritten digits: the same small convolutional net, normalized or not.

    python examples/digits.py [--seeds 3] [--epochs 15] [--out demo]

Trains on scikit-learn's 1,797 digits of 8 x 8 pixels, four nets side by side:
plain; weight-normalized, with data-dependent initialization; the same with
trained g; batch-normalized. Prints a table, draws the curves.
"""
import argparse
import os
import time

import lasagne
import matplotlib
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, InputLayer, Layer, MaxPool2DLayer, dnn, get_all_param_values,
    get_all_params, get_output, set_all_param_values)
from lasagne.nonlinearities import identity, softmax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from wnorm import initialize, weight_norm

matplotlib.use('Agg')  # no display needed
import matplotlib.pyplot as plt  # noqa: E402


# --- batch normalization, for a Lasagne that has none ----------------------

class BatchNormLayer(Layer):
    """Normalizes its input per channel; as Lasagne's layer of that name."""

    def __init__(self, incoming, nonlinearity, epsilon=1e-4, alpha=0.1,
                 **kwargs):
        super(BatchNormLayer, self).__init__(incoming, **kwargs)
        self.nonlinearity = nonlinearity
        self.epsilon, self.alpha = epsilon, alpha
        shape = (self.input_shape[1],)
        self.beta, self.gamma, self.mean, self.inv_std = [
            self.add_param(lasagne.init.Constant(value), shape, name=name,
                           trainable=trainable, regularizable=False)
            for name, value, trainable in (
                ('beta', 0., True), ('gamma', 1., True),
                ('mean', 0., False), ('inv_std', 1., False))]

    def get_output_for(self, input, deterministic=False, **kwargs):
        axes = [0] + list(range(2, input.ndim))
        pattern = ['x', 0] + ['x'] * (input.ndim - 2)
        mean, inv_std = self.mean, self.inv_std
        if not deterministic:
            mean = input.mean(axes)
            inv_std = T.inv(T.sqrt(input.var(axes) + self.epsilon))
            # clones that share memory with the averages carry their updates
            for average, value in ((self.mean, mean),
                                   (self.inv_std, inv_std)):
                running = theano.clone(average, share_inputs=False)
                running.default_update = (
                    (1 - self.alpha) * running + self.alpha * value)
                mean = mean + 0 * running
        beta, gamma, mean, inv_std = [
            value.dimshuffle(*pattern)
            for value in (self.beta, self.gamma, mean, inv_std)]
        return self.nonlinearity((input - mean) * (gamma * inv_std) + beta)


def batch_norm(layer):
    if hasattr(lasagne.layers, 'batch_norm'):
        return lasagne.layers.batch_norm(layer)
    nonlinearity, layer.nonlinearity = layer.nonlinearity, identity
    del layer.params[layer.b]
    layer.b = None
    return BatchNormLayer(layer, nonlinearity)


# --- the net and its training ----------------------------------------------

NETS = {
    'plain': lambda layer: layer,
    'weight norm': weight_norm,
    'weight norm, trained g': lambda layer: weight_norm(layer, train_g=True),
    'batch norm': batch_norm,
}


def build(norm):
    """Three convolutions and a classifier, each of them through `norm`."""
    net = InputLayer((None, 1, 8, 8))
    net = norm(dnn.Conv2DDNNLayer(net, 16, 3, pad=1))
    net = norm(dnn.Conv2DDNNLayer(net, 16, 3, pad=1))
    net = MaxPool2DLayer(net, 2)
    net = norm(dnn.Conv2DDNNLayer(net, 32, 3, pad=1))
    return norm(DenseLayer(net, 10, nonlinearity=softmax))


def loss_of(prediction, y):
    return -T.mean(T.log(prediction[T.arange(y.shape[0]), y] + 1e-7))


def compile_functions(net, learning_rate):
    """One step of training, and the error on a test set."""
    x, y = T.tensor4('x'), T.ivector('y')
    loss = loss_of(get_output(net, x), y)
    params = get_all_params(net, trainable=True)
    train = theano.function([x, y], loss, updates=lasagne.updates.adam(
        loss, params, learning_rate))
    prediction = T.argmax(get_output(net, x, deterministic=True), axis=1)
    return train, theano.function([x, y], T.mean(T.neq(prediction, y)))


def load():
    images, labels = load_digits(return_X_y=True)
    images = lasagne.utils.floatX(images.reshape(-1, 1, 8, 8) / 16. - .5)
    return train_test_split(images, labels.astype('int32'), test_size=.25,
                            random_state=0, stratify=labels)


def start(name, seed, X):
    """Initial parameters of a net."""
    random = np.random.RandomState(seed)
    lasagne.random.set_rng(random)
    net = build(NETS[name])
    if name.startswith('weight norm'):
        initialize(net, X[random.permutation(len(X))[:500]])
    return get_all_param_values(net)


def run(name, options, bar):
    """Train one net from several seeds.

    Yields the test errors (%), one per epoch, and the seconds per epoch.
    """
    X, X_test, y, y_test = load()
    net = build(NETS[name])
    # compiled once; each seed begins with what Adam began with
    train, test = compile_functions(net, options.learning_rate)
    fresh = [(shared, shared.get_value()) for shared in train.get_shared()]
    for seed in range(1, options.seeds + 1):
        for shared, value in fresh:
            shared.set_value(value)
        set_all_param_values(net, start(name, seed, X))
        random = np.random.RandomState(seed)
        errors, seconds = [], []
        for epoch in range(options.epochs):
            began = time.time()
            order = random.permutation(len(X))
            losses = [train(X[batch], y[batch]) for batch in np.array_split(
                order, max(1, len(X) // options.batch_size))]
            seconds.append(time.time() - began)
            errors.append(100. * float(test(X_test, y_test)))
            bar.set_description('%s, seed %d' % (name, seed), refresh=False)
            bar.set_postfix(loss='%.3f' % np.mean(losses),
                            error='%.1f %%' % errors[-1], refresh=False)
            bar.update()
        yield errors, np.median(seconds)


# --- what came out ----------------------------------------------------------

def spread(values, form):
    """Median and range."""
    middle, low, high = np.median(values), np.min(values), np.max(values)
    if low == high:
        return form % middle
    return '%s (%s .. %s)' % (form % middle, form % low, form % high)


def table(results, epochs):
    rows = [('', 'test error %', 'epochs to 5 % error', 'seconds per epoch')]
    for name, runs in results.items():
        errors = np.array([errors for errors, _ in runs])
        reached = [np.argmax(e <= 5) + 1 for e in errors if (e <= 5).any()]
        missed = len(errors) - len(reached)
        rows.append((
            name,
            spread(errors[:, -1], '%.1f'),
            (spread(reached, '%.0f') if reached else '') +
            (' %d of %d not in %d' % (missed, len(errors), epochs)
             if missed else ''),
            spread([seconds for _, seconds in runs], '%.2f')))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(
        row, widths)).rstrip() for row in rows)


def draw(results, path):
    figure, axes = plt.subplots(figsize=(8, 5))
    for name, runs in results.items():
        errors = np.array([errors for errors, _ in runs])
        epochs = np.arange(1, errors.shape[1] + 1)
        line, = axes.plot(epochs, np.median(errors, axis=0), label=name)
        axes.fill_between(epochs, errors.min(axis=0), errors.max(axis=0),
                          color=line.get_color(), alpha=.15, linewidth=0)
    axes.set_yscale('symlog', linthresh=1)  # an error may be 0
    axes.set_ylim(bottom=0)
    ticks = [0, 1, 2, 5, 10, 20, 50, 100]
    axes.set_yticks(ticks)
    axes.set_yticklabels(map(str, ticks))
    axes.minorticks_off()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel('epoch')
    axes.set_ylabel('test error (%)')
    axes.set_title('scikit-learn digits, median and range of %d seed%s' % (
        len(runs), '' if len(runs) == 1 else 's'))
    axes.grid(alpha=.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError('%s is not 1 or more' % text)
    return value


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--seeds', type=positive, default=3,
                        help='how many runs of each net')
    parser.add_argument('--epochs', type=positive, default=15)
    parser.add_argument('--batch-size', type=positive, default=50)
    parser.add_argument('--learning-rate', type=float, default=.003)
    parser.add_argument('--out', default='demo',
                        help='folder for the table and the picture')
    options = parser.parse_args(arguments)
    os.makedirs(options.out, exist_ok=True)

    results = {}
    with tqdm(total=len(NETS) * options.seeds * options.epochs,
              unit='epoch') as bar:
        for name in NETS:
            bar.set_description(name + ': compiling')
            results[name] = list(run(name, options, bar))
    text = table(results, options.epochs)
    print('\n' + text + '\n')
    with open(os.path.join(options.out, 'digits.txt'), 'w') as f:
        f.write(text + '\n')
    draw(results, os.path.join(options.out, 'digits.png'))
    print('digits.txt and digits.png are in the folder %s'
          % os.path.abspath(options.out))


if __name__ == '__main__':
    main()
