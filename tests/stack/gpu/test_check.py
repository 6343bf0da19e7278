"""The comparison itself; what devices it has seen, tests/gpu says."""
import sys
import types

import numpy as np
import pytest
import theano
from theano import gpuarray

from wnorm.stack.gpu import check


@pytest.fixture(scope='module')
def computed():
    """What the CPU computes: it stands in for the device below."""
    return check.computed()


def test_expected_is_what_theano_computes(computed):
    expected, results, ops = computed
    assert len(expected) == 5
    for what in expected:
        assert results[what].dtype == np.float32
        assert check.relative_error(results[what], expected[what]) < 2e-6


@pytest.fixture
def device(computed, monkeypatch):
    """A device that computes `results`; the function sets them."""
    def compute(results=computed[1], ops=computed[2], name='cuda0', **dnn):
        context = types.SimpleNamespace(devname='Fake\n')
        monkeypatch.setattr(gpuarray, 'pygpu_activated', True)
        monkeypatch.setattr(gpuarray, 'get_context', lambda name: context)
        monkeypatch.setattr(gpuarray.dnn.dnn_available, 'msg', 'no handle',
                            raising=False)
        monkeypatch.setattr(check, 'computed',
                            lambda: (computed[0], results, ops))
        monkeypatch.setattr(theano, 'config', types.SimpleNamespace(
            device=name, dnn=types.SimpleNamespace(
                enabled=dnn.get('enabled', 'auto'))))
        return check.finding()
    return compute


def test_right(device):
    found = device(ops=['GpuDnnConv'])
    assert found['status'] == 'ok'
    assert found['value'].startswith('cuda0 (Fake): a convolution, ')
    assert found['value'].endswith('convolutions through cuDNN')


def test_right_without_cudnn(device):
    found = device()
    assert found['status'] == 'warning'
    assert 'do not go through cuDNN' in found['value']
    assert found['remedy'] == 'see what Theano says: no handle'
    assert device(enabled='False')['status'] == 'ok'
    assert device(name='opencl0:0')['status'] == 'ok'


def rounded(array):
    """With 10 bits of mantissa, as TF32 rounds what it multiplies."""
    bits = np.asarray(array, 'float32').view('uint32')
    return ((bits + 0x1000) & 0xffffe000).view('float32')


def test_tf32_is_noticed(device, computed):
    rng = np.random.RandomState(1)
    a, b = [rng.uniform(-1, 1, shape).astype('float32')
            for shape in ((70, 300), (300, 50))]
    exact = a.astype('float64').dot(b)
    error = check.relative_error(rounded(a).dot(rounded(b)), exact)
    assert error > 4 * check.TOLERANCE
    results = dict(computed[1])
    results['a gemm'] = results['a gemm'] + error * results['a gemm'].max()
    found = device(results)
    assert found['status'] == 'problem'
    assert 'a gemm by ' in found['value'] and 'TF32' in found['remedy']
    assert 'convolution' not in found['value']


def test_nan_is_wrong(device, computed):
    results = dict(computed[1])
    results['a reduction'] = results['a reduction'] * np.nan
    assert 'a reduction by nan' in device(results)['value']


# --- the process of its own ------------------------------------------------

def test_on_the_cpu():
    found = check.run({'THEANO_FLAGS': 'device=cpu,base_compiledir=' +
                       theano.config.base_compiledir}, 300)
    assert found['status'] == 'problem'
    assert found['value'].endswith('it was told device=cpu')


def program(path, text):
    """In place of Python."""
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)
    return str(path)


def test_a_finding_is_handed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', program(
        tmp_path / 'python', 'echo noise; echo "%s{\\"name\\": \\"$WHAT\\"}"'
        % check.MARK))
    assert check.run({'WHAT': 'x'}, 60) == {'name': 'x'}


def test_it_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', program(
        tmp_path / 'python', 'echo Mapped name >&2; sleep 60'))
    found = check.run({}, .5)
    assert found['value'] == ('it took longer than 0.5 seconds, after Theano '
                              'said: Mapped name')


def test_it_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', program(
        tmp_path / 'python', 'sleep 60'))

    def interrupt(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(check.subprocess.Popen, 'communicate', interrupt)
    with pytest.raises(KeyboardInterrupt):
        check.run({}, 60)


def test_what_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(check, 'finding', lambda: {'name': 1})
    check.main()
    assert capsys.readouterr().out == check.MARK + '{"name": 1}\n'
