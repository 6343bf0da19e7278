"""The examples: their parts here, as programs where that takes long."""
import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from lasagne.layers import DenseLayer, InputLayer, get_all_params, get_output

from running import EXAMPLES, in_c

FOLDER = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), 'examples')


def program(name, *arguments, **kwargs):
    return subprocess.run(
        [sys.executable, os.path.join(FOLDER, name)] + list(arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        universal_newlines=True, **kwargs)


# --- unit_norms.py -------------------------------------------------------------

def numbers(text):
    return np.array(re.findall(r'-?\d+\.\d+(?:e-?\d+)?', text), float)


def test_unit_norms(tmp_path):
    run = program('unit_norms.py', cwd=str(tmp_path))
    assert run.returncode == 0, run.stderr
    # from a fixed seed: the same output again
    assert program('unit_norms.py', cwd=str(tmp_path)).stdout == run.stdout
    parts = run.stdout.split('\n\n')
    text = run.stdout
    V = numbers(text.split('||V||  ')[0]).reshape(3, 2, 2, 2)
    norm = np.sqrt(np.sum(V ** 2, axis=(1, 2, 3)))
    unit = numbers(text.split('V / ||V||')[1].split('its norms')[0])
    np.testing.assert_allclose(unit.reshape(V.shape),
                               V / norm[:, None, None, None], atol=1e-3)
    assert text.count('its norms        [1.0000 1.0000 1.0000]') == 2
    W = numbers(text.split('g = 1\n')[1].split('its norms')[0])
    np.testing.assert_allclose(W, unit, atol=2e-4)
    short, expected = (numbers(text.split(label)[1].splitlines()[0]) for label
                       in ('1 - ||W||  ', '5e-7 / ||V||^2   '))
    np.testing.assert_allclose(short, expected, rtol=.05)
    np.testing.assert_allclose(expected, 5e-7 / norm ** 2, rtol=.05)
    assert 'output of shape (4, 3, 7, 7)' in parts[-1]


# --- depth.py ------------------------------------------------------------------

@pytest.mark.slow
def test_depth():
    run = program('depth.py', '--draws', '1')
    assert run.returncode == 0, run.stderr
    plain, kept, exploded, residual = [
        [float(word) for word in re.findall(
            r'[\d.]+(?:e[+-]\d+)?', line)[-5:]]
        for line in run.stdout.splitlines() if line.startswith(' ')]
    assert plain[3] < 1e-25 and exploded[3] > 1e6  # 0 in float32
    for norms in kept, residual:
        assert all(.1 < value < 10 for value in norms)


# --- digits.py -------------------------------------------------------------------

@pytest.fixture(scope='module')
def digits():
    spec = importlib.util.spec_from_file_location(
        'digits', os.path.join(FOLDER, 'digits.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits_batch_norm(digits):
    import lasagne
    import theano
    X = np.random.RandomState(0).randn(20, 5) * 3 + 1
    plain = DenseLayer(InputLayer((None, 5)), 4)
    t = X.dot(plain.W.get_value())
    for l in (digits.batch_norm(plain),
              digits.BatchNormLayer(DenseLayer(
                  InputLayer((None, 5)), 4, W=plain.W, b=None,
                  nonlinearity=None), lasagne.nonlinearities.rectify)):
        out = theano.function([], get_output(l, X))()  # updates averages
        np.testing.assert_allclose(out, np.maximum(
            (t - t.mean(axis=0)) / np.sqrt(t.var(axis=0) + 1e-4), 0),
            atol=1e-8)
        means = [p.get_value() for p in get_all_params(l)
                 if p.name.endswith('mean')]
        np.testing.assert_allclose(means, [.1 * t.mean(axis=0)])
        mean, = means
        inv_std, = [p.get_value() for p in get_all_params(l)
                    if p.name.endswith('inv_std')]
        np.testing.assert_allclose(
            get_output(l, X, deterministic=True).eval(),
            np.maximum((t - mean) * inv_std, 0))
    assert plain.b is None


def test_digits_table(digits):
    results = {'a': [([50., 6., 4.], .5), ([9., 5., 2.], .7)],
               'b': [([50., 20., 7.], .25), ([50., 20., 3.], .25)]}
    lines = digits.table(results, 3).splitlines()
    assert lines[0].split('  ')[-1] == 'seconds per epoch'
    columns = [re.split(r'\s{2,}', line) for line in lines[1:]]
    assert columns[0] == ['a', '3.0 (2.0 .. 4.0)', '2 (2 .. 3)',
                          '0.60 (0.50 .. 0.70)']
    assert columns[1] == ['b', '5.0 (3.0 .. 7.0)', '3 1 of 2 not in 3',
                          '0.25']
    none = digits.table({'c': [([50.], 1.)]}, 1)
    assert '1 of 1 not in 1' in none


def test_digits_picture(digits, tmp_path):
    path = tmp_path / 'curves.png'
    digits.draw({'a': [([50., 6., 4.], .5), ([9., 5., 2.], .7)]}, str(path))
    assert path.read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize('arguments', [
    ['--seeds', '0'], ['--epochs', '-1'], ['--batch-size', 'x']])
def test_digits_refuses(digits, arguments, capsys):
    with pytest.raises(SystemExit) as info:
        digits.main(arguments)
    assert info.value.code == 2 and arguments[0] in capsys.readouterr().err


@pytest.mark.slow
def test_digits(tmp_path):
    run = program('digits.py', '--seeds', '1', '--epochs', '6', '--out',
                  'curves', cwd=str(tmp_path),
                  env=dict(os.environ, THEANO_FLAGS=in_c(EXAMPLES)))
    assert run.returncode == 0, run.stderr
    assert {p.name for p in (tmp_path / 'curves').iterdir()} == {
        'digits.png', 'digits.txt'}
    lines = run.stdout.strip().splitlines()
    assert lines[-1].endswith(str(tmp_path / 'curves'))
    table = (tmp_path / 'curves' / 'digits.txt').read_text()
    assert table in run.stdout
    errors = {re.split(r'\s{2,}', line)[0]: float(re.split(
        r'\s{2,}', line)[1]) for line in table.splitlines()[1:]}
    assert list(errors) == ['plain', 'weight norm', 'weight norm, trained g',
                            'batch norm']
    assert errors['weight norm'] < 4 and errors['weight norm, trained g'] < 4
    assert 'epoch' in run.stderr and 'loss=' in run.stderr  # the bar
