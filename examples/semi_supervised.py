"""Digits from a few labels each: a GAN trained by feature matching.

    python examples/semi_supervised.py --data DIR [--labels-per-class 10]
    python -m wnorm gpu -- python examples/semi_supervised.py --data DIR
    python examples/semi_supervised.py      # without data: a few minutes

DIR has MNIST: the four official files train-images-idx3-ubyte.gz and so on,
or Keras' mnist.npz. Nothing is downloaded; checksums are verified. Without
--data it runs on scikit-learn's 1,797 digits of 8 x 8 pixels.

The method is that of Salimans et al. 2016 (arXiv 1606.03498), section 3.1 and
5: the discriminator, weight-normalized, tells ten digits and generated images
apart; the generator learns to make images with the same mean features. With
--unlabeled-weight 0 the discriminator sees labelled images only.

The folder --out gets log.csv, checkpoint.npz and, when it is done, net.npz and
generator.npz for wnorm.load. After Ctrl-C the same command continues where it
was. The picture, semi_supervised.png, has the learning curves and samples.
"""
import argparse
import gzip
import os

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (
    DenseLayer, GaussianNoiseLayer, InputLayer, get_all_layers,
    get_all_params, get_output)
from lasagne.nonlinearities import rectify, sigmoid
from theano.sandbox.rng_mrg import MRG_RandomStreams

import wnorm
from experiment import (
    Run, check_md5, common_arguments, digits, draw_curves, interruptible,
    positive, pyplot, read_log)
from wnorm import weight_norm
from wnorm.nn import adam_updates, batch_norm, log_sum_exp

#: The full experiment, and what two cores do in minutes.
FULL = dict(epochs=300, width=1000, batch_size=100, average=.0001)
SMALL = dict(epochs=60, width=200, batch_size=50, average=.005)

COLUMNS = ['loss_labelled', 'loss_unlabelled', 'loss_generator',
           'train_error', 'test_error']

#: How many numbers the generator makes an image from.
NOISE = 100


# --- data ------------------------------------------------------------------

FILES = ['train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz',
         't10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz']
ARCHIVE = 'mnist.npz'
MD5 = {
    'train-images-idx3-ubyte.gz': 'f68b3c2dcbeaaa9fbdd348bbdeb94873',
    'train-labels-idx1-ubyte.gz': 'd53e105ee54ea40749a09fcbcd1e9432',
    't10k-images-idx3-ubyte.gz': '9fb629c4189551a2d022fa330f9573f3',
    't10k-labels-idx1-ubyte.gz': 'ec29112dd5afa0611ce80d1b7f02629c',
    ARCHIVE: '8a61469f7ea1b51cbae51d4f78837e45',
}


def read_idx(path):
    """An array of bytes: two of 0, the type, the number of dimensions, each
    of them, then the values."""
    with gzip.open(path) as file:
        data = file.read()
    assert data[:3] == b'\0\0\x08', 'it is not of bytes in the IDX format'
    start = 4 + 4 * data[3]
    return np.frombuffer(data, np.uint8, offset=start).reshape(
        np.frombuffer(data[4:start], '>i4'))


def read_mnist(folder, checksums=MD5):
    """Images (n, 28, 28) from 0 to 1 and labels, for training and for
    testing."""
    paths = [os.path.join(folder, name) for name in FILES]
    archive = folder if os.path.isfile(folder) else os.path.join(
        folder, ARCHIVE)
    if os.path.isfile(archive):
        paths = [archive]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise SystemExit(
            '%s is missing. Get the four files of MNIST (%s) or Keras\' %s, '
            'or leave out --data' % (missing[0], ', '.join(FILES), ARCHIVE))
    for path in paths:
        check_md5(path, checksums[ARCHIVE if path == archive else
                                  os.path.basename(path)])
    try:
        if paths == [archive]:
            with np.load(archive, allow_pickle=False) as file:
                parts = [file[name] for name in (
                    'x_train', 'y_train', 'x_test', 'y_test')]
        else:
            parts = [read_idx(path) for path in paths]
        for X, y in parts[:2], parts[2:]:
            assert X.ndim == 3 and len(X) == len(y) and set(y) <= set(
                range(10)), 'it is not of digits'
    except Exception as error:  # damaged files fail in many ways
        raise SystemExit('%s is no MNIST (%s: %s)' % (
            folder, type(error).__name__, error))
    return [part.astype('int32') if part.ndim == 1 else part / 255.
            for part in parts]


def labelled(y, per_class, random):
    """The indices of the examples of which the labels are used."""
    order = random.permutation(len(y))
    chosen = [order[y[order] == label][:per_class] for label in range(10)]
    fewest = min(map(len, chosen))
    if fewest < per_class:
        raise SystemExit('--labels-per-class %d: there are %d of a class'
                         % (per_class, fewest))
    return np.concatenate(chosen)


# --- the nets --------------------------------------------------------------

def build_generator(width, pixels, noise):
    """From noise to images: two batch-normalized layers, then one with
    weight normalization."""
    net = InputLayer((None, NOISE), noise)
    for _ in range(2):
        net = batch_norm(DenseLayer(net, width // 2,
                                    nonlinearity=T.nnet.softplus), g=None)
    return weight_norm(DenseLayer(net, pixels, nonlinearity=sigmoid),
                       train_g=True)


def build_discriminator(width, pixels):
    """From images to the logits of ten digits; and the last hidden layer.

    The logit of the eleventh class, generated images, is 0.
    """
    net = GaussianNoiseLayer(InputLayer((None, pixels)), .3)
    for units in width, width // 2, width // 4, width // 4, width // 4:
        features = weight_norm(DenseLayer(
            net, max(1, units), W=lasagne.init.Normal(.1),
            nonlinearity=rectify))
        net = GaussianNoiseLayer(features, .5)
    return weight_norm(DenseLayer(net, 10, W=lasagne.init.Normal(.1),
                                  nonlinearity=None), train_g=True), features


def losses(labelled, y, unlabelled, generated):
    """Of the discriminator, from logits: cross entropy of the labels, and of
    real against generated, where D(x) = Z / (Z + 1) with Z the sum of the
    exponentials of the ten logits."""
    supervised = T.mean(log_sum_exp(labelled) -
                        labelled[T.arange(y.shape[0]), y])
    real, fake = log_sum_exp(unlabelled), log_sum_exp(generated)
    return supervised, .5 * (T.mean(T.nnet.softplus(real) - real) +
                             T.mean(T.nnet.softplus(fake)))


def averaged(params, rate):
    """Running averages of parameters over training.

    Returns
    -------
    updates, averages
        Lists of (param, its value).
    """
    steps = theano.shared(lasagne.utils.floatX(0))
    rate = T.constant(lasagne.utils.floatX(rate))
    sums = [theano.shared(0 * param.get_value()) for param in params]
    updates = [(mean, mean + rate * (param - mean))
               for param, mean in zip(params, sums)]
    # as in Adam: they start from 0
    weight = 1 - (1 - rate) ** steps
    return updates + [(steps, steps + 1)], [
        (param, mean / weight) for param, mean in zip(params, sums)]


def compile_functions(net, features, generator, options):
    """A step of the discriminator, one of the generator, the number of errors
    on a batch, images from noise, and what sets the parameters to their
    averages."""
    x, x_unlabelled, y = T.matrix(), T.matrix(), T.ivector()
    noise, rate = T.matrix(), options.learning_rate
    images = get_output(generator)
    statistics = [update for layer in get_all_layers(generator)
                  for update in getattr(layer, 'bn_updates', [])]
    logits = get_output(net, x)
    supervised, unsupervised = losses(
        logits, y, get_output(net, x_unlabelled), get_output(net, images))
    params = get_all_params(net, trainable=True)
    updates, averages = averaged(params, options.average)
    train = theano.function(
        [x, y, x_unlabelled], [
            supervised, unsupervised,
            T.mean(T.neq(T.argmax(logits, axis=1), y))],
        updates=updates + adam_updates(
            params, supervised + lasagne.utils.floatX(
                options.unlabeled_weight) * unsupervised, rate, .5))

    difference = T.mean(get_output(features, x_unlabelled), axis=0) - T.mean(
        get_output(features, images), axis=0)
    matching = T.mean(T.sqr(difference))
    train_generator = theano.function(
        [x_unlabelled], matching, updates=statistics + adam_updates(
            get_all_params(generator, trainable=True), matching, rate, .5))

    predicted = T.argmax(get_output(net, x, deterministic=True), axis=1)
    return (train, train_generator,
            theano.function([x, y], T.sum(T.neq(predicted, y)),
                            givens=averages),
            theano.function([noise], get_output(generator, noise)),
            theano.function([], updates=averages))


# --- training --------------------------------------------------------------

def experiment(data, options):
    """The run; returns its last row and 100 images."""
    X, y, X_test, y_test = data
    side = X.shape[-1]
    X, X_test = [lasagne.utils.floatX(part.reshape(len(part), -1))
                 for part in (X, X_test)]
    chosen = labelled(y, options.labels_per_class,
                      np.random.RandomState(options.seed))
    size = options.batch_size
    if size > len(X):
        raise SystemExit('--batch-size %d: there are %d images to train with'
                         % (size, len(X)))

    random = np.random.RandomState(options.seed)
    lasagne.random.set_rng(np.random.RandomState(random.randint(2 ** 15)))
    noise = MRG_RandomStreams(random.randint(1, 2 ** 15)).uniform(
        (size, NOISE))
    generator = build_generator(options.width, side ** 2, noise)
    net, features = build_discriminator(options.width, side ** 2)
    train, train_generator, test, generate, average = compile_functions(
        net, features, generator, options)

    run = Run(options.out, dict(
        data='digits' if options.data is None else 'MNIST',
        floatX=theano.config.floatX, **{name: getattr(options, name) for name
                                        in ('width', 'batch_size', 'average',
                                            'labels_per_class', 'seed',
                                            'unlabeled_weight',
                                            'learning_rate')}),
              COLUMNS, [train, train_generator, test], random,
              options.restart)
    if run.fresh:
        wnorm.initialize(net, X[random.permutation(len(X))[:500]])

    def plan(epoch):
        steps = len(X) // size
        repeats = -(-steps * size // len(chosen))
        orders = [np.concatenate([random.permutation(chosen)
                                  for _ in range(repeats)]),
                  random.permutation(len(X)), random.permutation(len(X))]
        return [[order[step * size:(step + 1) * size] for order in orders]
                for step in range(steps)]

    def step(epoch, batches):
        few, real, other = batches
        supervised, unsupervised, wrong = train(X[few], y[few], X[real])
        return supervised, unsupervised, train_generator(X[other]), 100 * wrong

    def finish(epoch, means):
        wrong = sum(int(test(X_test[start:start + 500],
                             y_test[start:start + 500]))
                    for start in range(0, len(X_test), 500))
        return list(means) + [100. * wrong / len(X_test)]

    run.train(options.epochs, plan, step, finish)
    average()  # what was tested
    for name, layer in ('net', net), ('generator', generator):
        wnorm.save(layer, os.path.join(options.out, name + '.npz'))
    images = generate(lasagne.utils.floatX(np.random.RandomState(
        options.seed).uniform(size=(100, NOISE))))
    return run.rows[-1], images.reshape(100, side, side)


def draw(out, images, title):
    """The learning curves, and generated images."""
    plt = pyplot()
    if plt is None:
        return
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5))
    log = read_log(os.path.join(out, 'log.csv'))
    draw_curves(left, {'labelled, in training': log}, 'train_error',
                'error (%)')
    draw_curves(left, {'test': log}, 'test_error', 'error (%)')
    images = np.pad(images, [(0, 0), (1, 1), (1, 1)], 'constant')
    side = images.shape[-1]
    right.imshow(images.reshape(10, 10, side, side).transpose(
        0, 2, 1, 3).reshape(10 * side, 10 * side), cmap='gray_r')
    right.set_axis_off()
    right.set_title('generated')
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(os.path.join(out, 'semi_supervised.png'), dpi=80)
    plt.close(figure)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog='Defaults with --data: '
        '%s; without: %s.' % tuple(', '.join(
            '--%s %s' % (name.replace('_', '-'), value)
            for name, value in values.items()) for values in (FULL, SMALL)))
    parser.add_argument('--data', metavar='DIR', help='folder with MNIST')
    parser.add_argument('--labels-per-class', type=positive, default=10)
    parser.add_argument('--unlabeled-weight', type=float, default=1.,
                        help='of the loss without labels')
    parser.add_argument('--epochs', type=positive)
    parser.add_argument('--width', type=positive,
                        help='of the first layer, four times the last')
    parser.add_argument('--batch-size', type=positive)
    parser.add_argument('--average', type=float,
                        help='rate of the average that is tested')
    parser.add_argument('--learning-rate', type=float, default=.003)
    common_arguments(parser, 'semi_supervised')
    options = parser.parse_args(arguments)
    for name, value in (SMALL if options.data is None else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.data is None:
        title = "scikit-learn's digits"
        print("No --data: scikit-learn's digits instead of MNIST.")
        data = digits()
    else:
        title = 'MNIST'
        data = read_mnist(options.data)
    title += ', %d labels per class' % options.labels_per_class
    row, images = experiment(data, options)
    print('%s: error in training %.2f %%, test error %.2f %%'
          % ((title,) + tuple(row[-2:])))
    draw(options.out, images, title)
    print('Log, nets and semi_supervised.png are in the folder %s'
          % os.path.abspath(options.out))


if __name__ == '__main__':
    interruptible(main)
