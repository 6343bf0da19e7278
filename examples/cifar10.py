"""ConvPool-CNN-C on CIFAR-10: section 5.1 of the weight normalization paper.

    python examples/cifar10.py --data DIR [--norm weight+mean-only ...]
    python -m wnorm gpu -- python examples/cifar10.py --data DIR
    python examples/cifar10.py          # without data: minutes on two cores

DIR has the official archive for Python, cifar-10-python.tar.gz from
https://www.cs.toronto.edu/~kriz/cifar.html, or what is in it, unpacked.
Nothing is downloaded; checksums are verified. Without --data the same net,
narrow, is trained on scikit-learn's 1,797 digits, enlarged.

The net is normalized in the ways that --norm names, one run after the other.
Each has a folder in --out, with log.csv, checkpoint.npz and, when it is done,
net.npz for wnorm.load. After Ctrl-C the same command continues where it was.
The picture, cifar10.png, shows all runs that have a log there.
"""
import argparse
import io
import os
import pickle
import tarfile

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, DropoutLayer, GaussianNoiseLayer, GlobalPoolLayer, InputLayer,
    MaxPool2DLayer, NINLayer, dnn, get_all_layers, get_all_params, get_output)
from lasagne.nonlinearities import LeakyRectify

import wnorm
from experiment import (
    Run, check_md5, common_arguments, digits, draw_runs, interruptible,
    positive)
from wnorm.nn import weightnorm
from wnorm.parameters import all_records

#: The full experiment, and what two cores do in minutes.
FULL = dict(epochs=200, width=96, learning_rate=.001)
SMALL = dict(epochs=20, width=8, learning_rate=.003)

BATCH_SIZE = 100

COLUMNS = ['loss', 'train_error', 'test_error']


# --- data ------------------------------------------------------------------

ARCHIVE = 'cifar-10-python.tar.gz'
FOLDER = 'cifar-10-batches-py'
MD5 = {
    ARCHIVE: 'c58f30108f718f92721af3b95e74349a',
    'data_batch_1': 'c99cafc152244af753f735de768cd75f',
    'data_batch_2': 'd4bba439e000b95fd0a9bffe97cbabec',
    'data_batch_3': '54ebc095f3ab1f0389bbae665268c751',
    'data_batch_4': '634d18415352ddfa80567beed471001a',
    'data_batch_5': '482c414d41f54cd18b22e5b47cb7c3cb',
    'test_batch': '40351d587109b95175f43aff81a1287e',
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and plain data; anything else is refused."""

    def find_class(self, module, name):
        if (module, name) not in [('numpy.core.multiarray', '_reconstruct'),
                                  ('numpy', 'ndarray'), ('numpy', 'dtype')]:
            raise pickle.UnpicklingError('it would load %s.%s'
                                         % (module, name))
        return super(ArrayUnpickler, self).find_class(module, name)


def read_batch(path, content):
    """Images (n, 3, 32, 32) of bytes, and labels, of one of the files."""
    try:
        batch = ArrayUnpickler(io.BytesIO(content), encoding='bytes').load()
        images, labels = batch[b'data'], np.array(batch[b'labels'])
        images = images.reshape(len(labels), 3, 32, 32)
        assert images.dtype == np.uint8 and set(labels) <= set(range(10))
    except Exception as error:  # a pickle fails in many ways
        raise SystemExit('%s is no batch of CIFAR-10 (%s: %s)'
                         % (path, type(error).__name__, error))
    return images, labels.astype('int32')


def read_cifar10(folder, checksums=MD5):
    """Images (n, 3, 32, 32) from -1 to 1 and labels, for training and for
    testing, from the archive in `folder` or from its files."""
    names = sorted(checksums)
    names.remove(ARCHIVE)
    for place in os.path.join(folder, FOLDER), folder:
        if os.path.exists(os.path.join(place, names[0])):
            contents = {}
            for name in names:
                path = os.path.join(place, name)
                try:
                    with open(path, 'rb') as file:
                        contents[path] = file.read()
                except OSError as error:
                    raise SystemExit('%s: %s. It belongs to CIFAR-10'
                                     % (path, error.strerror))
            break
    else:
        path = folder if os.path.isfile(folder) else os.path.join(
            folder, ARCHIVE)
        if not os.path.isfile(path):
            raise SystemExit(
                '%s has neither %s nor a folder %s. Get it from '
                'https://www.cs.toronto.edu/~kriz/cifar.html (CIFAR-10 python '
                'version), or leave out --data' % (folder, ARCHIVE, FOLDER))
        check_md5(path, checksums[ARCHIVE])
        with tarfile.open(path) as archive:
            contents = {name: archive.extractfile(
                FOLDER + '/' + name).read() for name in names}
    batches = []
    for path, content in contents.items():
        check_md5(path, checksums[os.path.basename(path)], content)
        batches.append(read_batch(path, content))
    X, y = [np.concatenate(parts) for parts in zip(*batches[:-1])]
    X, X_test = [(X - np.float32(127.5)) / 128 for X in (X, batches[-1][0])]
    return X, y, X_test, batches[-1][1]


def enlarged_digits(side=32):
    """scikit-learn's digits in the form of CIFAR-10: (n, 3, side, side)."""
    from scipy.ndimage import zoom
    return [part if part.ndim == 1 else np.repeat(zoom(
        (2 * part - 1).astype('float32'), (1, side / 8., side / 8.), order=1)[
            :, None], 3, axis=1) for part in digits()]


def whitened(X, y, X_test, y_test):
    """The images whitened by the ZCA transform of those for training."""
    zca = weightnorm.ZCA(x=X)
    X, X_test = [lasagne.utils.floatX(zca.apply(X)) for X in (X, X_test)]
    return X, y, X_test, y_test


# --- the net ---------------------------------------------------------------

def weight(layer):
    return wnorm.weight_norm(layer, train_g=True)


def mean_only(layer):
    return wnorm.mean_only_batch_norm(layer, weight_norm=False)


def weight_and_mean_only(layer):
    return wnorm.mean_only_batch_norm(layer, train_g=True)


NORMS = {
    'plain': weightnorm.no_norm,
    'weight': weight,
    'mean-only': mean_only,
    'batch': weightnorm.batch_norm,
    'weight+mean-only': weight_and_mean_only,
}


def build(norm, width, side=32):
    """The output layer, of logits; each layer with a W through `norm`."""
    def conv(layer, filters, **kwargs):
        return norm(dnn.Conv2DDNNLayer(
            layer, filters, 3, W=lasagne.init.Normal(.05),
            nonlinearity=LeakyRectify(.1), **kwargs))

    def nin(layer):
        return norm(NINLayer(layer, 2 * width, W=lasagne.init.Normal(.05),
                             nonlinearity=LeakyRectify(.1)))

    net = InputLayer((None, 3, side, side))
    net = GaussianNoiseLayer(net, .15)
    for filters in width, 2 * width:
        for _ in range(3):
            net = conv(net, filters, pad=1)
        net = DropoutLayer(MaxPool2DLayer(net, 2), .5)
    net = conv(net, 2 * width)
    net = nin(nin(net))
    net = GlobalPoolLayer(net)
    return norm(DenseLayer(net, 10, W=lasagne.init.Normal(.05),
                           nonlinearity=None))


def initialize(net, norm, width, batch):
    """Set scales and biases from data, as section 3 does: all units start
    with mean 0 and deviation 1. Batch normalization does that by itself."""
    if norm == 'mean-only':  # W with the scales that weight norm would have
        twin = build(weight_and_mean_only, width, batch.shape[-1])
        wnorm.initialize(twin, batch)
        for record, layer in zip(all_records(get_all_layers(twin)), [
                layer for layer in get_all_layers(net)
                if hasattr(layer, 'W')]):
            layer.W.set_value(record.W.eval())
    elif norm != 'batch':
        wnorm.initialize(net, batch)


# --- training --------------------------------------------------------------

def schedule(epoch, epochs, learning_rate):
    """Learning rate and first momentum of Adam: in the second half the one
    falls linearly to 0, and the other is less."""
    return (learning_rate * min(1., 2. - 2. * epoch / epochs),
            .9 if epoch < epochs / 2. else .5)


def compile_functions(net):
    """One step of training, and the number of errors on a batch."""
    x, y, rate, momentum = T.tensor4(), T.ivector(), T.scalar(), T.scalar()
    logits = get_output(net, x)
    averages = [update for layer in get_all_layers(net)
                for update in getattr(layer, 'bn_updates', [])]
    loss = weightnorm.softmax_loss(y, logits)
    train = theano.function(
        [x, y, rate, momentum], [loss, errors(logits, y)],
        updates=averages + weightnorm.adam_updates(
            get_all_params(net, trainable=True), loss, rate, momentum))
    test = theano.function([x, y], errors(
        get_output(net, x, deterministic=True), y))
    return train, test


def errors(logits, y):
    return T.sum(T.neq(T.argmax(logits, axis=1), y))


def experiment(norm, data, options):
    """One run."""
    X, y, X_test, y_test = data
    random = np.random.RandomState(options.seed)
    lasagne.random.set_rng(np.random.RandomState(random.randint(2 ** 15)))
    net = build(NORMS[norm], options.width, X.shape[-1])
    train, test = compile_functions(net)

    folder = os.path.join(options.out, norm)
    settings = dict(
        norm=norm, data='digits' if options.data is None else 'CIFAR-10',
        side=X.shape[-1], epochs=options.epochs, width=options.width,
        learning_rate=options.learning_rate, seed=options.seed,
        floatX=theano.config.floatX)
    run = Run(folder, settings, COLUMNS, [train, test], random,
              options.restart)
    if run.fresh:
        initialize(net, norm, options.width,
                   X[random.permutation(len(X))[:500]])

    def plan(epoch):
        order = random.permutation(len(X))
        return [order[start:start + BATCH_SIZE] for start in range(
            0, len(X) - BATCH_SIZE + 1, BATCH_SIZE)]

    def step(epoch, batch):
        rate, momentum = schedule(epoch, options.epochs,
                                  options.learning_rate)
        loss, wrong = train(X[batch], y[batch], rate, momentum)
        return loss, 100. * wrong / len(batch)

    def finish(epoch, means):
        wrong = sum(int(test(X_test[start:start + BATCH_SIZE],
                             y_test[start:start + BATCH_SIZE]))
                    for start in range(0, len(X_test), BATCH_SIZE))
        return list(means) + [100. * wrong / len(X_test)]

    run.train(options.epochs, plan, step, finish, norm)
    wnorm.save(net, os.path.join(folder, 'net.npz'))
    return run.rows[-1]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog='Defaults with --data: '
        '%s; without: %s.' % tuple(', '.join(
            '--%s %s' % (name.replace('_', '-'), value)
            for name, value in values.items()) for values in (FULL, SMALL)))
    parser.add_argument('--data', metavar='DIR',
                        help='folder with %s or its files' % ARCHIVE)
    parser.add_argument('--norm', nargs='+', choices=list(NORMS),
                        default=list(NORMS), help='default: each of them')
    parser.add_argument('--epochs', type=positive)
    parser.add_argument('--width', type=positive,
                        help='filters in the first block, half of the others')
    parser.add_argument('--learning-rate', type=float)
    parser.add_argument('--side', type=int, default=32, choices=[16, 24, 32],
                        help='of the enlarged digits, in pixels')
    common_arguments(parser, 'cifar10')
    options = parser.parse_args(arguments)
    for name, value in (SMALL if options.data is None else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)

    if options.data is None:
        print('No --data: a narrow net on enlarged digits, which says nothing '
              'about CIFAR-10.')
        title = "scikit-learn's digits, enlarged"
        data = whitened(*enlarged_digits(options.side))
    else:
        title = 'CIFAR-10'
        data = whitened(*read_cifar10(options.data))
    print('%s, first block of %d filters, %d epochs' % (
        title, options.width, options.epochs))
    os.makedirs(options.out, exist_ok=True)
    for norm in options.norm:
        row = experiment(norm, data, options)
        print('%-17s loss %.4f, error in training %.2f %%, test error %.2f %%'
              % ((norm,) + tuple(row)), flush=True)
    draw_runs(options.out, NORMS, 'cifar10.png', [
        ('train_error', 'error in training (%)'),
        ('test_error', 'test error (%)')],
        '%s, %d epochs' % (title, options.epochs))
    print('Logs, nets and cifar10.png are in the folder %s'
          % os.path.abspath(options.out))


if __name__ == '__main__':
    interruptible(main)
