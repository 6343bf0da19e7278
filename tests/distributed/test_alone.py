"""One process: everything works, and needs no MPI."""
import os

import pytest

from running import python, silent

from .processes import mpiexec

#: What a user's program does.
PROGRAM = '''
import sys

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, InputLayer, get_output

from wnorm import distributed, weight_norm

lasagne.random.set_rng(np.random.RandomState(0))
net = weight_norm(DenseLayer(InputLayer((None, 5)), 3), train_g=True)
distributed.broadcast(net)
rng = np.random.RandomState(0)
x_data, y_data = rng.rand(20, 5), rng.rand(20, 3)
distributed.initialize(net, x_data[distributed.shard(20)])
distributed.check(net)
x, y = T.dmatrices('x', 'y')
loss = T.mean(T.sqr(get_output(net, x) - y))
params = lasagne.layers.get_all_params(net, trainable=True)
grads = distributed.grads(loss, params, weight=x.shape[0])
train = theano.function([x, y], loss, updates=lasagne.updates.adam(
    grads, params, .1))
losses = []
for epoch in range(20):
    for batch in distributed.minibatches(20, 8, epoch):
        losses.append(train(x_data[batch], y_data[batch]))
assert np.mean(losses[-3:]) < np.mean(losses[:3])
print(distributed.rank(), distributed.size(),
      sys.modules.get('mpi4py') is not None)
'''

#: An import of mpi4py fails, as where it is not installed.
BLOCKED = '''
import sys
sys.modules['mpi4py'] = None
''' + PROGRAM


@pytest.mark.parametrize('program', [
    pytest.param(PROGRAM, id='as it is'),
    pytest.param(BLOCKED, id='without mpi4py')])
def test_without_mpiexec(program, tmp_path):
    path = tmp_path / 'train.py'
    path.write_text(program)
    assert silent(python(path, cwd=tmp_path)) == '0 1 False\n'
    # and leaves no files
    assert os.listdir(str(tmp_path)) == ['train.py']


def test_one_process_of_mpiexec(tmp_path):
    path = tmp_path / 'train.py'
    path.write_text(PROGRAM)
    done = mpiexec(1, path, cwd=tmp_path)
    assert silent(done).startswith('0 1 ')


def test_no_other_process_is_asked(tmp_path):
    # without the extra, arguments are checked all the same
    done = python('-c', '''
import theano
from wnorm import distributed
param = theano.shared(1.)
for arguments in [dict(weight='1'), dict(timeout=0)]:
    try:
        distributed.grads(param ** 2, [param], **arguments)
    except (TypeError, ValueError) as error:
        print(error)
grads = distributed.grads(param ** 2, [param])
print(grads[0].eval())
# a weight that is an input of its own is used
n = theano.tensor.dscalar()
print(theano.function([n], distributed.grads(
    param ** 2, [param], weight=n))(3.)[0])
''', cwd=tmp_path)
    lines = silent(done).splitlines()
    assert [line.split()[0] for line in lines[:2]] == ['weight', 'timeout']
    assert lines[2:] == ['2.0', '2.0']


def test_how_several_processes_ended(tmp_path):
    """One process says it once, and writes nothing itself."""
    assert silent(python('-c', """
from wnorm.distributed.log import StepLog
StepLog('wnorm-log', 1., 1, 2).step(3, True, 'after step 3')
""", cwd=tmp_path)) == ''
    program = """
import theano
from wnorm import distributed
param = theano.shared(1.)
distributed.grads(param ** 2, [param])
"""
    done = python('-c', program, cwd=tmp_path)
    assert done.stderr.startswith('wnorm.distributed: the last run did not '
                                  'end well. First stopped rank 1, after '
                                  'step 3, ')
    assert done.returncode == 0
    assert list((tmp_path / 'wnorm-log').iterdir()) == []
    assert silent(python('-c', program, cwd=tmp_path)) == ''
