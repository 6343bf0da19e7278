"""Handwritten digits on several processes: data-parallel training over MPI.

    mpiexec -n 4 python examples/digits_mpi.py [--optimizer adam]
    python examples/digits_mpi.py [--check]

The small convolutional net of digits.py, weight-normalized. Each process
computes the gradients of its part of each batch. It is the same program
without mpiexec, on one process; ``--check`` shows that the number of
processes does not matter: it trains on 1 and on 4, and on 2 and then, from
the checkpoint, on 3 and on 1, and compares the parameters.

Process 0 prints the table, and writes into --out: log.csv, digits_mpi.png,
net.npz for wnorm.load, and after each epoch checkpoint.npz. Ctrl-C ends all
processes at once; the same command, on any number of processes, continues
after the last complete epoch.
"""
import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile

from wnorm import distributed  # at the beginning: who fails ends the others

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import get_all_params, get_output

import wnorm
from digits import build, load, loss_of
from experiment import (
    NoBar, Run, common_arguments, draw_curves, positive, progress, pyplot,
    read_log)
from wnorm.distributed.joining import launcher

COLUMNS = ['loss', 'test_error']

UPDATES = {
    'sgd': lambda grads, params: lasagne.updates.sgd(grads, params, .1),
    'momentum': lambda grads, params: lasagne.updates.momentum(
        grads, params, .02),
    'adam': lambda grads, params: lasagne.updates.adam(grads, params, .005),
}

#: The largest difference that --check lets pass.
TOLERANCE = 1e-10


# --- training ----------------------------------------------------------------

def compile_functions(net, optimizer, log):
    """One step of training; loss and error on a set of images."""
    x, y, weight = T.tensor4('x'), T.ivector('y'), T.scalar('weight')
    loss = loss_of(get_output(net, x), y)
    params = get_all_params(net, trainable=True)
    # the line that several processes need
    grads = distributed.grads(loss, params, weight=weight, log=log)
    train = theano.function(
        [x, y, weight], updates=UPDATES[optimizer](grads, params))
    prediction = get_output(net, x, deterministic=True)
    error = T.mean(T.neq(T.argmax(prediction, axis=1), y))
    return train, theano.function([x, y], [loss_of(prediction, y), error])


def resume(train, options):
    """The run, on process 0; None elsewhere. And how many epochs are done."""
    run, done = None, theano.shared(np.array(0), 'epochs')
    if distributed.rank() == 0:
        run = Run(options.out, dict(
            batch=options.batch_size, optimizer=options.optimizer,
            seed=options.seed, floatX=theano.config.floatX), COLUMNS,
            [train], np.random.RandomState(0), options.restart)
        done.set_value(np.array(len(run.rows)))
    # Process 0 has the files, and gives the others what is in them: also what
    # the optimizer remembers. (Of a net with dropout all would draw the same.)
    distributed.broadcast([done] + train.get_shared())
    return run, int(done.get_value())


def experiment(options):
    """Train; returns the rows of the table on process 0, None elsewhere."""
    X, X_test, y, y_test = load()
    if options.batch_size > len(X):
        raise SystemExit('--batch-size %d: there are %d images' % (
            options.batch_size, len(X)))
    # each process draws other numbers: noise would differ, and parameters
    # become those of process 0
    lasagne.random.set_rng(np.random.RandomState(
        options.seed + distributed.rank()))
    net = build(lambda layer: wnorm.weight_norm(layer, train_g=True))
    distributed.broadcast(net)
    train, measure = compile_functions(
        net, options.optimizer, os.path.join(options.out, 'wnorm-log'))

    run, begun = resume(train, options)
    if begun == 0:
        mine = distributed.shard(len(X), seed=options.seed)
        report = distributed.initialize(
            net, [X[part] for part in np.array_split(mine, 4)])
        if run:
            print(report)

    with progress('digits') if run else NoBar() as bar:
        for epoch in range(begun, options.epochs):
            batches = distributed.minibatches(
                len(X), options.batch_size, epoch, options.seed)
            if not bar.total:
                bar.total = options.epochs * len(batches)
                bar.update(epoch * len(batches))
            for batch in batches:
                # Theano cannot flatten an empty batch: where this process
                # has no part, it takes an image that weighs nothing
                part = batch if len(batch) else [0]
                train(X[part], y[part], len(batch))
                bar.update()
            distributed.check(net)
            if run:
                run.finish_epoch([measure(X, y)[0],
                                  100 * measure(X_test, y_test)[1]], bar)
    if run:
        wnorm.save(net, os.path.join(options.out, 'net.npz'))
    return run and run.rows


# --- what came out -----------------------------------------------------------

def table(rows):
    lines = ['epoch  loss    test error %']
    lines += ['%5d  %.4f  %.1f' % ((epoch,) + tuple(row))
              for epoch, row in enumerate(rows, 1)]
    return '\n'.join(lines)


def draw(out, title):
    plt = pyplot()
    if plt is None:
        return
    log = read_log(os.path.join(out, 'log.csv'))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for ax, column, label in zip(axes, COLUMNS, ['loss', 'test error (%)']):
        draw_curves(ax, {title: log}, column, label)
    figure.tight_layout()
    figure.savefig(os.path.join(out, 'digits_mpi.png'), dpi=80)
    plt.close(figure)


# --- the check ---------------------------------------------------------------

def start(processes, epochs, out, options):
    """Run this program on some processes."""
    flags = os.environ.get('THEANO_FLAGS', '').split(',') + ['floatX=float64']
    # several processes are about to share this machine's cores
    environment = dict(os.environ, OMP_NUM_THREADS='1',
                       THEANO_FLAGS=','.join(filter(None, flags)))
    # Theano's mark of a device in use, with which a child would not start
    environment.pop('THEANO_GPU_IS_ALREADY_ACTIVE', None)
    command = [sys.executable, os.path.abspath(__file__)]
    for name, value in dict(
            epochs=epochs, out=out, batch_size=options.batch_size,
            seed=options.seed, optimizer=options.optimizer).items():
        command += ['--' + name.replace('_', '-'), str(value)]
    if processes > 1:
        command = [launcher(), '-n', str(processes)] + command
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        universal_newlines=True)
    if done.returncode:
        raise SystemExit('%s\n%d process%s failed: %s' % (
            done.stdout, processes, 'es' * (processes > 1),
            ' '.join(command)))


def state(out):
    """Parameters, and what the optimizer remembers."""
    with np.load(os.path.join(out, 'checkpoint.npz')) as file:
        return [file[name] for name in file if name.startswith('state')]


def check(options):
    """Compare numbers of processes; returns whether they do the same."""
    try:
        launcher()
    except RuntimeError as error:
        raise SystemExit('--check needs mpiexec, and %s' % error)
    half, whole = max(1, options.epochs // 2), options.epochs
    with tempfile.TemporaryDirectory() as folder:
        place = functools.partial(os.path.join, folder)
        start(1, whole, place('1'), options)
        expected = state(place('1'))
        print('%d epochs in batches of %d; largest difference from 1 process '
              'of any parameter,\nor of what %s remembers:' % (
                  whole, options.batch_size, options.optimizer))
        worst = 0.

        def compare(out, what):
            difference = max(
                np.abs(one - other).max() for one, other in zip(
                    expected, state(out)))
            print('%.1e  %s' % (difference, what), flush=True)
            return max(worst, difference)

        start(4, whole, place('4'), options)
        worst = compare(place('4'), '4 processes')
        start(2, half, place('2'), options)
        for processes in 3, 1:
            out = place('2, then %d' % processes)
            shutil.copytree(place('2'), out)
            start(processes, whole, out, options)
            worst = compare(out, '2 processes, from epoch %d on %d' % (
                half + 1, processes))
    return worst <= TOLERANCE


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--epochs', type=positive, default=10)
    parser.add_argument('--batch-size', type=positive, default=128,
                        help='of all processes together')
    parser.add_argument('--optimizer', choices=sorted(UPDATES),
                        default='adam', help=' ')
    parser.add_argument('--check', action='store_true',
                        help='compare numbers of processes')
    common_arguments(parser, 'digits_mpi')
    options = parser.parse_args(arguments)
    if options.check:
        if distributed.size() > 1:
            parser.error('--check starts mpiexec itself')
        sys.exit(not check(options))
    rows = experiment(options)
    if rows:  # on process 0
        print(table(rows))
        draw(options.out, '%s, batches of %d' % (
            options.optimizer, options.batch_size))
        print('Log, net and digits_mpi.png are in the folder %s'
              % os.path.abspath(options.out))


if __name__ == '__main__':
    main()
