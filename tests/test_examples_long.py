"""The paper's experiments: their parts, and that an interruption is harmless.

The programs run as processes of their own where they are interrupted, with
the flags of the tests: nothing is compiled.
"""
import csv
import gzip
import hashlib
import importlib
import io
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
import tarfile
import time

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import get_all_layers, get_all_params, get_output
from theano.sandbox.rng_mrg import MRG_RandomStreams

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, 'examples')


@pytest.fixture(scope='module')
def modules():
    """The examples, imported from their folder as they import each other."""
    sys.path.insert(0, FOLDER)
    yield
    sys.path.remove(FOLDER)


def example(name):
    @pytest.fixture
    def module(modules):
        return importlib.import_module(name)
    return module


experiment = example('experiment')
cifar10 = example('cifar10')
semi = example('semi_supervised')
lstm = example('lstm')


# --- experiment.py -----------------------------------------------------------

class Toy(object):
    """A run of 4 epochs of 5 steps: a sum with noise.

    Each begins with the same values, and as if it were in another process.
    """
    made = {}  # compiled once for each precision

    def __init__(self, experiment, folder, again=False, **settings):
        if theano.config.floatX not in self.made:
            w = theano.shared(np.zeros(3, theano.config.floatX))
            stream = MRG_RandomStreams(7)
            x = T.scalar()
            function = theano.function([x], w.sum(), updates=[
                (w, .9 * w + x * stream.normal((3,)))])
            self.made[theano.config.floatX] = w, function, [
                (shared, shared.get_value())
                for shared in function.get_shared()]
        self.w, self.function, initial = self.made[theano.config.floatX]
        for shared, value in initial:
            shared.set_value(value)
        self.random = np.random.RandomState(3)
        self.run = experiment.Run(
            str(folder), dict(dict(rate=1), **settings), ['sum', 'square'],
            [self.function, self.function], self.random, again)
        self.steps = []

    def train(self, epochs=4, interrupt=None):
        def plan(epoch):
            # normal numbers leave half a pair behind, in the generator
            return np.round(self.random.normal(size=5), 3).tolist()

        def step(epoch, batch):
            self.steps.append((epoch, batch))
            if len(self.steps) == interrupt:
                os.kill(os.getpid(), signal.SIGINT)
            value = float(self.function(batch))
            return value, value ** 2

        self.run.train(epochs, plan, step, lambda epoch, means: means)

    def result(self):
        return (self.w.get_value().tolist(), self.run.rows,
                self.random.normal(size=3).tolist(),
                float(self.function(1.)), float(self.function(1.)),
                self.w.get_value().tolist(), read(self.run.log))


def read(path):
    with open(path) as file:
        return file.read()


def test_interrupted_and_continued(experiment, tmp_path, floatX, capsys):
    whole = Toy(experiment, tmp_path / 'whole')
    whole.train()
    assert whole.run.fresh and len(whole.run.rows) == 4
    expected = whole.result()
    handlers = [signal.getsignal(s) for s in experiment.SIGNALS]
    steps = []
    for number, interrupt in enumerate([2, 6, 1, 3, 8]):
        part = Toy(experiment, tmp_path / 'parts')
        assert part.run.fresh == (number == 0)
        if number < 4:
            with pytest.raises(SystemExit) as info:
                part.train(interrupt=interrupt)
            assert info.value.code == 128 + signal.SIGINT
            assert 'The same command continues' in capsys.readouterr().err
        else:
            part.train()
        steps += part.steps
        rows = part.run.rows
        assert read(part.run.log).count('\n') == 1 + len(rows)
    assert steps == whole.steps and len(steps) == 20
    assert [signal.getsignal(s) for s in experiment.SIGNALS] == handlers
    assert part.result() == expected
    # and once more: there is nothing left to do
    again = Toy(experiment, tmp_path / 'parts')
    again.train()
    assert not again.steps and again.run.rows == whole.run.rows
    # further epochs
    further = Toy(experiment, tmp_path / 'parts')
    further.train(5)
    assert len(further.steps) == 5 and len(further.run.rows) == 5


def test_interrupted_where_an_epoch_ends(experiment, tmp_path):
    whole = Toy(experiment, tmp_path / 'a')
    whole.train(2)
    expected = whole.result()
    part = Toy(experiment, tmp_path / 'b')

    def finish(epoch, means):  # while testing
        os.kill(os.getpid(), signal.SIGTERM)
        return means

    with pytest.raises(SystemExit) as info:
        part.run.train(2, lambda epoch: np.round(
            part.random.normal(size=5), 3).tolist(), lambda epoch, batch: [
                float(value) ** power for value in [part.function(batch)]
                for power in (1, 2)], finish)
    assert info.value.code == 128 + signal.SIGTERM
    rest = Toy(experiment, tmp_path / 'b')
    assert len(rest.run.rows) == 1
    rest.train(2)
    assert rest.result() == expected


def test_an_error_keeps_the_last_epoch(experiment, tmp_path):
    whole = Toy(experiment, tmp_path / 'whole')
    whole.train(2)
    expected = whole.result()
    toy = Toy(experiment, tmp_path)
    toy.train(1)

    def step(epoch, batch):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        toy.run.train(2, lambda epoch: [1.], step, None)
    rest = Toy(experiment, tmp_path)
    rest.train(2)
    assert rest.result() == expected


TWICE = '''
import os, signal, sys
sys.path.insert(0, %r)
import experiment, numpy

class Nothing(object):
    def get_shared(self):
        return []

def step(epoch, batch):
    if epoch == 1:
        for number in range(%d):
            os.kill(os.getpid(), signal.%s)
    return [1.]

run = experiment.Run('out', {}, ['one'], [Nothing()],
                     numpy.random.RandomState(0))
run.train(3, lambda epoch: [1, 2], step, lambda epoch, means: means)
'''


@pytest.mark.parametrize('times, name, code, rows', [
    (1, 'SIGINT', 130, 1), (2, 'SIGINT', -2, 1), (1, 'SIGKILL', -9, 1)])
def test_signals(experiment, tmp_path, times, name, code, rows):
    run = subprocess.run(
        [sys.executable, '-c', TWICE % (FOLDER, times, name)],
        cwd=str(tmp_path), stderr=subprocess.PIPE, universal_newlines=True)
    assert run.returncode == code, run.stderr
    assert ('once more ends at once' in run.stderr) == (name == 'SIGINT')
    with np.load(str(tmp_path / 'out' / 'checkpoint.npz')) as file:
        assert file['rows'].tolist() == [[1.]]
        # after the step at hand, or not at all
        assert file['step'] == (1 if code == 130 else 0)
    assert (tmp_path / 'out' / 'log.csv').read_text() == 'epoch,one\n1,1\n'


def refused(function, *arguments):
    with pytest.raises(SystemExit) as info:
        function(*arguments)
    return str(info.value)


def test_other_settings(experiment, tmp_path, capsys):
    Toy(experiment, tmp_path).train(1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(SystemExit) as info:
        Toy(experiment, tmp_path, rate=2, norm='batch')
    assert "norm is 'batch', there None; rate is 2, there 1" in str(info.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    toy = Toy(experiment, tmp_path, again=True, rate=2)
    assert toy.run.fresh and not toy.run.rows
    with pytest.raises(SystemExit):
        toy.train(interrupt=2)
    assert 'The same command, without --restart, continues' in (
        capsys.readouterr().err)
    assert not Toy(experiment, tmp_path, rate=2).run.fresh


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: data[:-100], lambda data: b'text',
    lambda data: data.replace(b'settings', b'settingz')])
def test_damaged_checkpoint(experiment, tmp_path, damage):
    Toy(experiment, tmp_path).train(1)
    path = tmp_path / 'checkpoint.npz'
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    assert '%s is no checkpoint' % path in refused(Toy, experiment, tmp_path)
    assert path.read_bytes() == before


def test_checkpoint_of_other_arrays(experiment, tmp_path):
    toy = Toy(experiment, tmp_path)
    toy.train(1)
    toy.run.state[0] = theano.shared(np.zeros(4))
    toy.run._save(toy.random.get_state())
    assert 'another version' in refused(Toy, experiment, tmp_path)
    toy.run.state.pop()
    toy.run._save(toy.random.get_state())
    assert 'another version' in refused(Toy, experiment, tmp_path)


def test_write_is_whole_or_nothing(experiment, tmp_path):
    path = str(tmp_path / 'file')
    experiment.write(path, lambda file: file.write(b'old'))

    def fail(file):
        file.write(b'ne')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.write(path, fail)
    assert read(path) == 'old'
    experiment.write(path, lambda file: file.write(b'new'))
    assert read(path) == 'new'
    assert os.listdir(str(tmp_path)) == ['file']


def test_read_log(experiment, tmp_path):
    toy = Toy(experiment, tmp_path)
    assert experiment.read_log(toy.run.log) == {
        'epoch': [], 'sum': [], 'square': []}
    toy.train(2)
    log = experiment.read_log(toy.run.log)
    assert log['epoch'] == [1., 2.]
    np.testing.assert_allclose(
        np.transpose([log['sum'], log['square']]), toy.run.rows, rtol=1e-5)


def test_check_md5(experiment, tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'a' * (3 << 20))
    expected = hashlib.md5(b'a' * (3 << 20)).hexdigest()
    experiment.check_md5(str(path), expected)
    experiment.check_md5('name', expected, path.read_bytes())
    path.write_bytes(b'a')
    message = refused(experiment.check_md5, str(path), expected)
    assert str(path) in message and expected in message
    assert hashlib.md5(b'a').hexdigest() in message


def test_without_extras(experiment, tmp_path, monkeypatch, capsys):
    for name in 'tqdm', 'matplotlib', 'sklearn.datasets':
        monkeypatch.setitem(sys.modules, name, None)
    toy = Toy(experiment, tmp_path)
    toy.train(1)
    assert len(toy.run.rows) == 1
    assert experiment.pyplot() is None
    words = capsys.readouterr().err
    assert 'tqdm is missing' in words and 'matplotlib is missing' in words
    assert "pip install 'wnorm[examples]'" in refused(experiment.digits)


def test_interruptible(experiment, capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as info:
        experiment.interruptible(main)
    assert info.value.code == 130
    assert capsys.readouterr().err == '\ninterrupted\n'


def test_digits(experiment):
    X, y, X_test, y_test = experiment.digits()
    assert X.shape == (1347, 8, 8) and X_test.shape == (450, 8, 8)
    assert X.min() == 0 and X.max() == 1
    assert (np.bincount(y_test) >= 43).all() and len(y) == 1347


# --- cifar10.py --------------------------------------------------------------

class Python2Pickler(pickle._Pickler):
    """Byte strings as Python 2 wrote its strings."""
    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack('<i', len(value)) + value)

    def save_string(self, value):
        self.save_bytes(value.encode('latin1'))

    dispatch[bytes] = save_bytes
    dispatch[str] = save_string


def python2_pickle(value):
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(value)
    return file.getvalue()


@pytest.fixture
def batches():
    """Six files in the form of CIFAR-10, of three images each."""
    random = np.random.RandomState(0)
    names = ['data_batch_%d' % i for i in range(1, 6)] + ['test_batch']
    return {name: {b'data': random.randint(0, 256, (3, 3072)).astype('uint8'),
                   b'labels': [number, number + 1, 9],
                   b'batch_label': b'a batch', b'filenames': [b'a', b'b']}
            for number, name in enumerate(names)}


def stored(cifar10, folder, batches, archive):
    """Write the files or the archive; returns their checksums."""
    contents = {name: python2_pickle(batch)
                for name, batch in batches.items()}
    checksums = {name: hashlib.md5(content).hexdigest()
                 for name, content in contents.items()}
    checksums[cifar10.ARCHIVE] = None
    if archive:
        path = str(folder / cifar10.ARCHIVE)
        with tarfile.open(path, 'w:gz') as file:
            for name, content in contents.items():
                info = tarfile.TarInfo(cifar10.FOLDER + '/' + name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        with open(path, 'rb') as file:
            checksums[cifar10.ARCHIVE] = hashlib.md5(file.read()).hexdigest()
    else:
        (folder / cifar10.FOLDER).mkdir()
        for name, content in contents.items():
            (folder / cifar10.FOLDER / name).write_bytes(content)
    return checksums


@pytest.mark.parametrize('archive', [True, False])
@pytest.mark.parametrize('inside', [True, False])
def test_cifar10_is_read(cifar10, tmp_path, batches, archive, inside):
    checksums = stored(cifar10, tmp_path, batches, archive)
    folder = tmp_path
    if inside:  # what is in the folder is named itself
        folder = tmp_path / (cifar10.ARCHIVE if archive else cifar10.FOLDER)
    X, y, X_test, y_test = cifar10.read_cifar10(str(folder), checksums)
    assert y.tolist() == [0, 1, 9, 1, 2, 9, 2, 3, 9, 3, 4, 9, 4, 5, 9]
    assert y_test.tolist() == [5, 6, 9] and y.dtype == 'int32'
    data = np.concatenate([batches['data_batch_%d' % i][b'data']
                           for i in range(1, 6)]).reshape(15, 3, 32, 32)
    assert X.dtype == 'float32' and X_test.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(X, (data.astype(float) - 127.5) / 128)
    np.testing.assert_allclose(X_test[1, 2, 3, 4], (float(batches[
        'test_batch'][b'data'][1, 2 * 1024 + 3 * 32 + 4]) - 127.5) / 128)


def test_cifar10_checksums(cifar10, tmp_path, batches):
    for archive in True, False:
        folder = tmp_path / str(archive)
        folder.mkdir()
        stored(cifar10, folder, batches, archive)
        message = refused(cifar10.read_cifar10, str(folder))  # the official
        assert 'the official file has %s' % cifar10.MD5[
            cifar10.ARCHIVE if archive else 'data_batch_1'] in message


def test_cifar10_is_missing(cifar10, tmp_path, batches):
    message = refused(cifar10.read_cifar10, str(tmp_path))
    assert 'www.cs.toronto.edu' in message and cifar10.ARCHIVE in message
    checksums = stored(cifar10, tmp_path, batches, False)
    path = tmp_path / cifar10.FOLDER / 'data_batch_4'
    path.unlink()
    assert '%s: No such file' % path in refused(
        cifar10.read_cifar10, str(tmp_path), checksums)


class Harmful(object):
    def __reduce__(self):
        return os.mkdir, ('harm',)


def test_cifar10_loads_arrays_only(cifar10, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(cifar10.read_batch, 'file', pickle.dumps(
        {b'data': Harmful()}))
    assert 'mkdir' in message and not os.path.exists('harm')


@pytest.mark.parametrize('change', [
    {b'data': np.zeros((3, 3071), 'uint8')}, {b'labels': [1, 2]},
    {b'labels': [1, 2, 10]}, {b'data': np.zeros((3, 3072))}])
def test_cifar10_no_batch(cifar10, batches, change):
    batch = dict(batches['test_batch'])
    batch.update(change)
    assert 'file is no batch of CIFAR-10' in refused(
        cifar10.read_batch, 'file', python2_pickle(batch))
    assert 'is no batch' in refused(cifar10.read_batch, 'file', b'text')
    assert 'is no batch' in refused(cifar10.read_batch, 'file',
                                    python2_pickle({b'fine': 1}))


def test_cifar10_enlarged_digits(cifar10, experiment):
    X, y, X_test, y_test = cifar10.enlarged_digits(16)
    small = 2 * experiment.digits()[2] - 1
    assert X.shape == (1347, 3, 16, 16) and X_test.shape == (450, 3, 16, 16)
    for channel in range(3):
        np.testing.assert_allclose(X_test[:, channel, ::15, ::15],
                                   small[:, ::7, ::7], atol=1e-6)
    # bilinear: pixel i is at 7 i / 15
    np.testing.assert_allclose(
        X_test[5, 0, 0, 1], small[5, 0, 0] * 8 / 15 + small[5, 0, 1] * 7 / 15,
        atol=1e-6)
    assert abs(X).max() <= 1 + 1e-6


def test_cifar10_whitened(cifar10):
    random = np.random.RandomState(0)
    X, X_test = random.randn(200, 3, 2, 2), random.randn(9, 3, 2, 2)
    X *= np.arange(1, 13).reshape(3, 2, 2)
    y = np.arange(200)
    found, same, test, _ = cifar10.whitened(X, y, X_test, y[:9])
    flat = X.reshape(200, 12)
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True))
    matrix = (vectors / np.sqrt(values + 1e-5)).dot(vectors.T)
    for before, after in (X, found), (X_test, test):
        np.testing.assert_allclose(after.reshape(-1, 12), (
            before.reshape(-1, 12) - flat.mean(axis=0)).dot(matrix),
            atol=1e-8)
    assert same is y and found.dtype == theano.config.floatX


def test_cifar10_schedule(cifar10):
    # the paper's: 200 epochs, constant for 100, then linearly towards 0
    for epoch, rate, momentum in [(0, .001, .9), (99, .001, .9),
                                  (100, .001, .5), (150, .0005, .5),
                                  (199, .00001, .5)]:
        found = cifar10.schedule(epoch, 200, .001)
        np.testing.assert_allclose(found, (rate, momentum))


def test_cifar10_net(cifar10):
    net = cifar10.build(cifar10.weight, 96)
    shapes = [p.get_value().shape for p in get_all_params(net)]
    assert [s for s in shapes if len(s) > 1] == [
        (96, 3, 3, 3), (96, 96, 3, 3), (96, 96, 3, 3),
        (192, 96, 3, 3), (192, 192, 3, 3), (192, 192, 3, 3),
        (192, 192, 3, 3), (192, 192), (192, 192), (192, 10)]
    sizes = [l.output_shape[-1] for l in get_all_layers(net)
             if len(l.output_shape) == 4]
    assert sorted(set(sizes)) == [6, 8, 16, 32]
    assert net.output_shape == (None, 10)


@pytest.mark.slow  # convolutions in Python
@pytest.mark.parametrize('norm', ['plain', 'weight', 'mean-only',
                                  'weight+mean-only', 'batch'])
def test_cifar10_initialization(cifar10, norm):
    """All units start with mean 0 and deviation 1, in all normalizations."""
    random = np.random.RandomState(1)
    X = random.randn(10, 3, 16, 16)
    net = cifar10.build(cifar10.NORMS[norm], 1, 16)
    before = [p.get_value() for p in get_all_params(net)]
    cifar10.initialize(net, norm, 1, X)
    wrappers = [l for l in get_all_layers(net) if hasattr(l, 'axes_to_sum')]
    assert len(wrappers) == 10
    if norm == 'batch':  # nothing to do
        for param, value in zip(get_all_params(net), before):
            np.testing.assert_array_equal(param.get_value(), value)
        return
    first = wrappers[0]
    t = get_output(first.input_layer, X, deterministic=True).eval()
    out = t + (0 if norm.endswith('mean-only') else
               first.b.get_value()[:, None, None])
    # the noise of the initializing pass has variance .15 ** 2
    np.testing.assert_allclose(t.std(axis=(0, 2, 3)),
                               1 / np.sqrt(1 + .15 ** 2), rtol=.05)
    if not norm.endswith('mean-only'):
        np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), 0, atol=.05)


# --- semi_supervised.py ------------------------------------------------------

def mnist(semi, folder, archive):
    """Files in the form of MNIST, of 30 and 20 images."""
    random = np.random.RandomState(0)
    parts = []
    for number in 30, 20:
        parts += [random.randint(0, 256, (number, 28, 28)).astype('uint8'),
                  np.arange(number).astype('uint8') % 10]
    if archive:
        np.savez(str(folder / semi.ARCHIVE), x_train=parts[0],
                 y_train=parts[1], x_test=parts[2], y_test=parts[3])
    else:
        for name, part in zip(semi.FILES, parts):
            with gzip.open(str(folder / name), 'wb') as file:
                file.write(bytes([0, 0, 8, part.ndim]) + struct.pack(
                    '>%di' % part.ndim, *part.shape) + part.tobytes())
    return parts, {p.name: hashlib.md5(p.read_bytes()).hexdigest()
                   for p in folder.iterdir()}


@pytest.mark.parametrize('archive', [True, False])
def test_mnist_is_read(semi, tmp_path, archive):
    parts, checksums = mnist(semi, tmp_path, archive)
    found = semi.read_mnist(str(tmp_path), checksums)
    for part, value in zip(parts, found):
        np.testing.assert_allclose(value, part if part.ndim == 1 else
                                   part / 255.)
    assert found[1].dtype == 'int32'
    if archive:
        semi.read_mnist(str(tmp_path / semi.ARCHIVE), checksums)
    message = refused(semi.read_mnist, str(tmp_path))
    assert 'the official file has ' + semi.MD5[
        semi.ARCHIVE if archive else semi.FILES[0]] in message


def test_mnist_is_missing(semi, tmp_path):
    mnist(semi, tmp_path, False)
    (tmp_path / semi.FILES[2]).unlink()
    message = refused(semi.read_mnist, str(tmp_path))
    assert '%s is missing' % (tmp_path / semi.FILES[2]) in message


@pytest.mark.parametrize('content', [
    b'\0\0\x08\x01\0\0\0\x02\1', b'\0\0\x0d\x01\0\0\0\x01\1',
    b'\0\0\x08\x01\0\0\0\x01\1', b''])
def test_no_mnist(semi, tmp_path, content):
    _, checksums = mnist(semi, tmp_path, False)
    path = tmp_path / semi.FILES[1]
    path.write_bytes(gzip.compress(content))
    checksums[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    assert 'is no MNIST' in refused(semi.read_mnist, str(tmp_path), checksums)


def test_labelled(semi):
    y = np.arange(200) % 10
    chosen = semi.labelled(y, 3, np.random.RandomState(0))
    assert sorted(y[chosen]) == sorted(list(range(10)) * 3)
    assert len(set(chosen)) == 30
    other = semi.labelled(y, 3, np.random.RandomState(1))
    assert set(chosen) != set(other)
    assert '--labels-per-class 21' in refused(
        semi.labelled, y, 21, np.random.RandomState(0))


def test_semi_supervised_losses(semi):
    random = np.random.RandomState(0)
    few, real, fake = [3 * random.randn(6, 10) for _ in range(3)]
    y = np.array([0, 3, 9, 9, 2, 1], 'int32')
    supervised, unsupervised = [loss.eval() for loss in semi.losses(
        *[T.constant(v) for v in (few, y, real, fake)])]
    p = np.exp(few) / np.exp(few).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(supervised, -np.log(
        p[np.arange(6), y]).mean())
    D = [np.exp(v).sum(axis=1) / (1 + np.exp(v).sum(axis=1))
         for v in (real, fake)]
    np.testing.assert_allclose(unsupervised, -.5 * (
        np.log(D[0]).mean() + np.log(1 - D[1]).mean()))


def test_semi_supervised_average(semi, floatX):
    p = theano.shared(np.array([5., -1.], floatX))
    updates, averages = semi.averaged([p], .1)
    values = [np.array(value, floatX) for value in (
        [1., 2.], [3., -4.], [0., 7.])]
    move = theano.function([], updates=updates)
    for value in values:
        p.set_value(value)
        move()
    weights = np.array([.9 ** 2, .9, 1.]) / (.9 ** 2 + .9 + 1)
    (param, mean), = averages
    assert param is p
    assert mean.dtype == floatX
    np.testing.assert_allclose(mean.eval(), weights.dot(values), rtol=1e-5)


def test_semi_supervised_nets(semi):
    net, features = semi.build_discriminator(1000, 784)
    assert [p.get_value().shape for p in get_all_params(net)
            if p.ndim == 2] == [(784, 1000), (1000, 500), (500, 250),
                                (250, 250), (250, 250), (250, 10)]
    assert features.output_shape == (None, 250)
    trained = get_all_params(net, trainable=True)
    assert len(trained) == 6 * 2 + 1  # V and b, and g of the last
    noise = np.random.RandomState(0).uniform(size=(7, semi.NOISE))
    generator = semi.build_generator(40, 64, T.constant(noise))
    images = get_output(generator).eval()
    assert images.shape == (7, 64) and 0 < images.min() < images.max() < 1


# --- lstm.py -----------------------------------------------------------------

def test_lstm_text(lstm, tmp_path):
    (tmp_path / 'a.py').write_bytes('eins \u00e4 zwei'.encode())
    (tmp_path / 'c.py').write_bytes(b'drei')
    text = lstm.source_text(12, str(tmp_path), ['a', 'b', 'c'])
    assert text == 'eins  zweidr'
    message = refused(lstm.source_text, 15, str(tmp_path), ['a', 'b', 'c'])
    assert str(tmp_path) in message and '14 characters' in message
    assert len(lstm.source_text(200000)) == 200000  # this Python has them


def test_lstm_windows(lstm):
    X, Y = lstm.windows(np.arange(11), 3)
    assert X.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert Y.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert lstm.windows(np.arange(10), 3)[1].tolist()[-1] == [7, 8, 9]


def test_lstm_bits(lstm):
    logits = np.random.RandomState(0).randn(5, 4) * 100
    y = np.array([0, 3, 1, 1, 2], 'int32')
    shifted = logits - logits.max(axis=1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(lstm.bits(T.constant(logits), T.constant(
        y)).eval(), -log[np.arange(5), y].mean() / np.log(2))


def test_lstm_both_begin_alike(lstm):
    x = np.array([[1, 0, 2, 4], [3, 3, 1, 0]], 'int32')
    outputs = []
    for norm in lstm.NORMS:
        lasagne.random.set_rng(np.random.RandomState(5))
        net = lstm.build(norm, 5, 3)
        outputs.append(get_output(net, T.constant(x)).eval())
        gains = [p.name for p in get_all_params(net, trainable=True)
                 if p.name == 'g' or p.name.startswith('g_')]
        assert len(gains) == (9 if norm == 'weight' else 0)
    assert outputs[0].shape == (8, 5)
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-12)


def test_lstm_writes(lstm):
    seen = []

    def predict(codes):
        seen.append(codes[0].tolist())
        logits = np.full(3, -1e9)
        logits[(codes[0, -1] + 1) % 3] = 0  # the next one, for certain
        return logits

    text = lstm.write_text(predict, 'abc', [2, 0], 4, 2,
                           np.random.RandomState(0))
    assert text == 'bcab'
    assert seen == [[2, 0], [0, 1], [1, 2], [2, 0]]


# --- options -----------------------------------------------------------------

@pytest.mark.parametrize('name, arguments', [
    ('cifar10', ['--norm', 'layer']), ('cifar10', ['--epochs', '0']),
    ('cifar10', ['--width', 'x']), ('semi_supervised', ['--epochs', '-1']),
    ('semi_supervised', ['--labels-per-class', '0']),
    ('lstm', ['--norm', 'batch']), ('lstm', ['--units', '0']),
    ('lstm', ['--characters', '3000', '--out', 'no'])])
def test_refuses(modules, name, arguments, capsys):
    with pytest.raises(SystemExit) as info:
        importlib.import_module(name).main(arguments)
    assert info.value.code == 2 and arguments[0] in capsys.readouterr().err
    assert not os.path.exists('no')


def test_batches_larger_than_the_data(semi, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert '--batch-size 5000: there are 1347 images' in refused(
        semi.main, ['--batch-size', '5000'])


# --- the programs, interrupted -----------------------------------------------

class Program(object):
    """A program that runs; what it prints goes into files."""

    def __init__(self, name, folder, log, *arguments):
        self.out, self.error = [
            folder / ('%s.%s' % (log, kind)) for kind in ('out', 'error')]
        environment = dict(os.environ, OMP_NUM_THREADS='1',
                           MPLCONFIGDIR=str(folder))
        with open(str(self.out), 'wb') as out, open(
                str(self.error), 'wb') as error:
            self.process = subprocess.Popen(
                [sys.executable, os.path.join(FOLDER, name + '.py')] +
                list(arguments),
                cwd=str(folder), env=environment, stdout=out, stderr=error)

    def interrupt(self):
        """Send Ctrl-C after three steps, not all of which the bar shows."""
        while not re.search(r' ([3-9]|\d\d)/\d', self.error.read_text(
                errors='ignore')):
            assert self.process.poll() is None, self.error.read_text()
            time.sleep(.05)
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait() == 130, self.error.read_text()
        assert 'The same command continues' in self.error.read_text()

    def finish(self):
        assert self.process.wait() == 0, self.error.read_text()
        return self.out.read_text()


PROGRAMS = [
    ('cifar10', ['--side', '16', '--width', '1', '--epochs', '1', '--norm',
                 'weight+mean-only'], 'weight+mean-only', 'cifar10.png'),
    ('semi_supervised', ['--width', '4', '--epochs', '1'], '',
     'semi_supervised.png'),
    ('lstm', ['--units', '4', '--epochs', '2', '--characters', '12000',
              '--length', '10', '--sample', '5', '--norm', 'weight'],
     'weight', 'lstm.png')]


@pytest.mark.slow
@pytest.mark.parametrize('name, arguments, folder, picture', PROGRAMS,
                         ids=[program[0] for program in PROGRAMS])
def test_interrupted_program(tmp_path, name, arguments, folder, picture):
    again = [name, tmp_path, 'parts', '--out', 'parts'] + arguments
    Program(*again).interrupt()
    place = tmp_path / 'parts' / folder
    with np.load(str(place / 'checkpoint.npz')) as file:
        assert len(file['rows']) == 0 and file['step'] >= 3
    Program(*again).finish()
    uninterrupted = Program(name, tmp_path, 'whole', '--out', 'whole',
                            *arguments)
    assert str(tmp_path / 'whole') in uninterrupted.finish()
    whole = tmp_path / 'whole' / folder
    assert (place / 'log.csv').read_bytes() == (
        whole / 'log.csv').read_bytes()
    with open(str(whole / 'log.csv')) as file:
        rows = list(csv.DictReader(file))
    epochs = int(arguments[arguments.index('--epochs') + 1])
    assert [int(row['epoch']) for row in rows] == list(range(1, epochs + 1))
    for archive in [p.name for p in whole.iterdir() if p.suffix == '.npz']:
        with np.load(str(whole / archive)) as a, np.load(
                str(place / archive)) as b:
            assert set(a) == set(b) and len(a) > 5
            for key in a:
                np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    assert (whole / 'net.npz').exists() and not list(place.glob('*.part'))
    if name == 'semi_supervised':  # for use with deterministic=True
        with np.load(str(whole / 'generator.npz')) as generator:
            means = [generator[key] for key in generator
                     if key.endswith('avg_batch_mean')]
        assert means and all(mean.any() for mean in means)
    data = (tmp_path / 'whole' / picture).read_bytes()
    assert data[:4] == b'\x89PNG'
