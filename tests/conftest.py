"""What every test needs: a compile directory of its own, and a precision."""
import gc
import os
import re

WORKER = os.environ.get('PYTEST_XDIST_WORKER', 'main')
CACHE = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), '.cache', 'theano', WORKER)

#: Whether Theano is told to use a device. See tests/gpu.
ON_A_DEVICE = re.search(r'\bdevice=(cuda|opencl)',
                        os.environ.get('THEANO_FLAGS', ''))

# Theano's graphs are many small objects, of which few are garbage: looking
# for it as often as by default takes up to a quarter of the time.
gc.set_threshold(100000, 20, 20)

# before the first import of theano: workers must not wait for one another's
# compile lock
FLAGS = ['base_compiledir=' + CACHE]
if not ON_A_DEVICE:
    FLAGS += [
        # most tests are about values, not about speed
        'mode=FAST_COMPILE',
        # nothing is compiled: constants are not folded, which Theano does in
        # C, and convolutions run in Python (without the check that they don't)
        'optimizer_excluding=' + ':'.join(
            ['constant_folding', 'topo_constant_folding', 'conv_gemm',
             'AbstractConvCheck'] +
            ['local_conv%s_cpu' % op for op in (
                '2d', '2d_gradweight', '2d_gradinputs',
                '3d', '3d_gradweight', '3d_gradinputs')]),
        'floatX=float64',
    ]
# The user's own flags come last and win, but for a folder that is one for all
# workers. A worker inherits them together with those of the process that
# started it, whose folder it must not use.
USERS = 'WNORM_TESTS_THEANO_FLAGS'
if 'PYTEST_XDIST_WORKER' not in os.environ:
    os.environ[USERS] = os.environ.get('THEANO_FLAGS', '')
    own = os.environ[USERS]
else:
    own = re.sub(r'\b(base_compiledir=[^,]*)', r'\1/' + WORKER,
                 os.environ[USERS])
os.environ['THEANO_FLAGS'] = ','.join(FLAGS + [own])

import pytest  # noqa: E402


@pytest.fixture(params=['float32', 'float64'])
def floatX(request):
    """Runs a test in both precisions."""
    import theano
    before = theano.config.floatX
    theano.config.floatX = request.param
    yield request.param
    theano.config.floatX = before


@pytest.fixture(autouse=True)
def seed():
    """Lasagne's initializers draw the same numbers in every test."""
    import numpy as np
    import lasagne
    lasagne.random.set_rng(np.random.RandomState(42))


@pytest.fixture
def torch():
    """PyTorch, for the tests that are thereby marked `torch`."""
    torch = pytest.importorskip(
        'torch', reason='PyTorch is not installed: make test-torch does it')
    torch.set_num_threads(1)
    return torch


def pytest_collection_modifyitems(items):
    for item in items:
        if 'torch' in getattr(item, 'fixturenames', ()):
            item.add_marker(pytest.mark.torch)


def pytest_terminal_summary(terminalreporter):
    """Say on what it ran, and how much the installed Lasagne left out."""
    if ON_A_DEVICE:
        import theano
        from theano import gpuarray
        terminalreporter.write_line('Device: %s' % (
            '%s (%s)' % (theano.config.device, gpuarray.get_context(
                None).devname.strip())
            if gpuarray.pygpu_activated else 'none'))
    lacking = [report for report in terminalreporter.stats.get('skipped', [])
               if 'the installed Lasagne' in str(report.longrepr)]
    if lacking:
        import lasagne
        terminalreporter.write_line(
            '%d tests skipped: the installed Lasagne (%s) lacks what they '
            'test' % (len(lacking), lasagne.__version__))
