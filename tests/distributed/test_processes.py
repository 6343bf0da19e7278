"""The tests in `inside`, in several processes."""
import os
import tempfile

import pytest

from .processes import mpiexec

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def inside(n, *options, **environment):
    """What pytest prints, of tests that n processes run together."""
    with tempfile.TemporaryDirectory() as folder:
        done = mpiexec(
            n, '-m', 'pytest', os.path.join(HERE, 'inside'), '-q',
            '-p', 'no:xdist', '-p', 'no:cacheprovider',
            '-p', 'no:hypothesispytest', '-o', 'faulthandler_timeout=200',
            *options, cwd=ROOT, limit=500,
            WNORM_TESTS_INSIDE=folder, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_processes():
    print(inside(2, '-m', 'not slow'))


@pytest.mark.slow
@pytest.mark.parametrize('n', [1, 3, 4])
def test_other_numbers_of_processes(n):
    print(inside(n, '-m', 'not slow'))


@pytest.mark.slow
def test_what_takes_long():
    print(inside(2, '-m', 'slow'))
