"""What every test on a device needs."""
import os

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


def pytest_collection_modifyitems(items):
    for item in items:
        if str(item.fspath).startswith(HERE + os.sep):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def device():
    """The name of the device; without one there is nothing to test."""
    import theano
    from theano import gpuarray
    if not gpuarray.pygpu_activated:
        reason = ('Theano uses no GPU: start the tests by make test-opencl '
                  'or make test-gpu')
        # a device was promised: then to skip would be to pass unseen
        if os.environ.get('WNORM_GPU_REQUIRED') == '1':
            pytest.fail(reason)
        pytest.skip(reason)
    return theano.config.device


@pytest.fixture
def cuda(device):
    if not device.startswith('cuda'):
        pytest.skip('OpenCL has no cuDNN')


@pytest.fixture
def cudnn(cuda):
    from theano.gpuarray import dnn
    if not dnn.dnn_available(None):
        pytest.skip('no cuDNN: %s' % dnn.dnn_available.msg)
