"""examples/digits_mpi.py: its parts, and on several processes, also killed."""
import importlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from distributed.processes import mpiexec, needs_mpi
from running import EXAMPLES, in_c, python
from wnorm.distributed.joining import launcher

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, 'examples')
PROGRAM = os.path.join(FOLDER, 'digits_mpi.py')

#: Steps of an epoch: 1,347 images in batches of 128.
STEPS = 11


@pytest.fixture(scope='module')
def module():
    sys.path.insert(0, FOLDER)
    yield importlib.import_module('digits_mpi')
    sys.path.remove(FOLDER)


def environment(folder):
    """For :func:`running.python`."""
    return dict(THEANO_FLAGS=in_c(EXAMPLES), OMP_NUM_THREADS='1',
                MPLCONFIGDIR=str(folder))


def start(n, folder, *arguments):
    """Run the program on n processes."""
    options = dict(cwd=folder, limit=500, **environment(folder))
    return (python(PROGRAM, *arguments, **options) if n == 1 else
            mpiexec(n, PROGRAM, *arguments, **options))


def trained(n, folder, *arguments):
    """What it prints if it ends well, stdout and stderr."""
    done = start(n, folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def checkpoint(folder):
    with np.load(str(folder / 'checkpoint.npz')) as file:
        return dict(file)


def assert_same(one, other):
    for name in one:
        if name.startswith('state_') or name == 'rows':
            np.testing.assert_allclose(one[name], other[name], rtol=0,
                                       atol=1e-10, err_msg=name)


# --- in this process ---------------------------------------------------------

@pytest.fixture
def few(module, monkeypatch):
    """A few images, as Python's convolutions are slow."""
    X, X_test, y, y_test = module.load()
    monkeypatch.setattr(module, 'load', lambda: (
        X[:10], X_test[:5], y[:10], y_test[:5]))


def test_one_process(module, few, tmp_path, capsys):
    options = ['--batch-size', '8', '--out', str(tmp_path / 'out')]
    module.main(options + ['--epochs', '1'])
    assert 'DenseLayer (None, 10)' in capsys.readouterr().out  # the report
    first = checkpoint(tmp_path / 'out')
    module.main(options + ['--epochs', '2'])
    second = checkpoint(tmp_path / 'out')
    assert second['rows'][:1].tolist() == first['rows'].tolist()
    out = capsys.readouterr().out
    assert 'DenseLayer' not in out  # is not initialized again
    assert re.findall(r'^ +(\d)  \d\.\d{4}  \d+\.\d$', out, re.M) == ['1', '2']
    assert out.endswith('in the folder %s\n' % (tmp_path / 'out'))
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'checkpoint.npz', 'digits_mpi.png', 'log.csv', 'net.npz'}
    assert (tmp_path / 'out' / 'digits_mpi.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize('arguments', [
    ['--epochs', '0'], ['--batch-size', 'x'], ['--optimizer', 'adamax']])
def test_refuses(module, arguments, capsys):
    with pytest.raises(SystemExit) as info:
        module.main(arguments)
    assert info.value.code == 2 and arguments[0] in capsys.readouterr().err


def test_batches_larger_than_the_data(module, tmp_path):
    with pytest.raises(SystemExit) as info:
        module.main(['--batch-size', '5000', '--out', str(tmp_path)])
    assert '--batch-size 5000: there are 1347 images' in str(info.value)


def test_check_without_mpiexec(module, tmp_path, monkeypatch):
    # an interpreter elsewhere, with nothing beside it
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'python'))
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(SystemExit) as info:
        module.main(['--check'])
    assert re.match(r"--check needs mpiexec, and .*pip install 'wnorm\[mpi\]'",
                    str(info.value))


@needs_mpi
@pytest.mark.parametrize('difference, code', [(5e-11, 0), (2e-10, 1)])
def test_status_of_the_check(module, tmp_path, monkeypatch, capsys,
                             difference, code):
    # in place of the programs, what they would leave behind
    def start(processes, epochs, out, options):
        os.makedirs(out, exist_ok=True)
        np.savez(os.path.join(out, 'checkpoint.npz'), rows=[[processes]],
                 state_0=np.ones(2), state_1=1 + difference * (
                     processes == 3 and epochs == 5))

    monkeypatch.setattr(module, 'start', start)
    with pytest.raises(SystemExit) as info:
        module.main(['--check', '--epochs', '5'])
    assert info.value.code == code
    numbers = re.findall(r'^(\S+)  \d process', capsys.readouterr().out, re.M)
    assert numbers == ['0.0e+00', '%.1e' % difference, '0.0e+00']


# --- on several processes ----------------------------------------------------

@needs_mpi
@pytest.mark.slow
def test_check(tmp_path):
    out, _ = trained(1, tmp_path, '--check', '--epochs', '2')
    lines = re.findall(r'^(\S+)  (\d process.*)$', out, re.M)
    assert [what for _, what in lines] == [
        '4 processes', '2 processes, from epoch 2 on 3',
        '2 processes, from epoch 2 on 1']
    assert all(0 <= float(number) < 1e-10 for number, _ in lines)
    assert 'of what adam remembers' in out
    assert not (tmp_path / 'digits_mpi').exists()


@needs_mpi
@pytest.mark.slow
def test_check_on_several_processes(tmp_path):
    done = mpiexec(2, PROGRAM, '--check', cwd=tmp_path)
    assert done.returncode == 2
    assert '--check starts mpiexec itself' in done.stderr


@needs_mpi
@pytest.mark.slow
def test_only_process_0_speaks(tmp_path):
    # the last batch has one image, and two processes have none of it
    options = ['--epochs', '2', '--batch-size', '673', '--seed', '3']
    out, err = trained(3, tmp_path, '--out', 'three', *options)
    assert out.count('DenseLayer (None, 10)') == 1
    assert out.count('epoch  loss    test error %') == 1
    assert out.count('digits_mpi.png are in the folder') == 1
    # as each bar begins
    assert err.count('digits: 0step') == err.count('initialize:   0%') == 1
    three = tmp_path / 'three'
    assert {path.name for path in three.iterdir()} == {
        'checkpoint.npz', 'digits_mpi.png', 'log.csv', 'net.npz', 'wnorm-log'}
    assert (three / 'digits_mpi.png').read_bytes()[:4] == b'\x89PNG'
    alone, _ = trained(1, tmp_path, '--out', 'one', *options)
    assert alone.split('epoch  loss')[1].splitlines()[:3] == (
        out.split('epoch  loss')[1].splitlines()[:3])
    assert_same(checkpoint(three), checkpoint(tmp_path / 'one'))
    # and a checkpoint of other settings is refused
    before = (three / 'checkpoint.npz').read_bytes()
    refused = start(2, tmp_path, '--out', 'three', '--seed', '4')
    assert refused.returncode == 1
    assert 'seed is 4, there 3' in refused.stderr
    assert (three / 'checkpoint.npz').read_bytes() == before


def shown(path):
    """The last step that the progress bar of 1000 epochs shows."""
    return max([0] + [int(step) for step in re.findall(
        r' (\d+)/%d \[' % (1000 * STEPS), path.read_text(errors='ignore'))])


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize('name', ['SIGKILL'])
def test_stopped_in_mid_epoch(tmp_path, name):
    path = tmp_path / 'output'
    begin = ['--optimizer', 'momentum', '--out', 'run']
    with open(str(path), 'wb') as output:
        process = subprocess.Popen(
            [launcher(), '-n', '2', sys.executable, PROGRAM, '--epochs',
             '1000'] + begin, cwd=str(tmp_path), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
            env=dict(os.environ, **environment(tmp_path)))
    try:
        while shown(path) < STEPS or shown(path) % STEPS not in range(2, 8):
            assert process.poll() is None, path.read_text()
            time.sleep(.02)
        if name == 'SIGINT':  # what Ctrl-C does
            process.send_signal(signal.SIGINT)
        else:
            log, = (tmp_path / 'run' / 'wnorm-log').glob('rank-1.log')
            os.kill(int(re.search('"pid": (\\d+)', log.read_text()).group(1)),
                    signal.SIGKILL)
        assert process.wait(timeout=30) != 0
    finally:
        process.kill()
        process.wait()
    found = checkpoint(tmp_path / 'run')
    epochs = len(found['rows'])
    assert 1 <= epochs < 1000 and found['step'] == 0
    end = ['--epochs', str(epochs + 1)]
    out, err = trained(3, tmp_path, *(begin + end))
    assert 'the last run did not end well' in err
    assert 'DenseLayer' not in out
    trained(1, tmp_path, '--optimizer', 'momentum', '--out', 'whole', *end)
    assert_same(checkpoint(tmp_path / 'whole'), checkpoint(tmp_path / 'run'))
