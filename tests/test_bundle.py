"""The folder for GPU nodes: built, unpacked elsewhere, and used there."""
import os
import shutil
import subprocess
import sys

import pytest

from wnorm.stack.gpu import debian

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir(os.path.join(ROOT, 'bundle')),
                       reason='only a checkout can build the bundle'),
    pytest.mark.skipif(not debian.available() or
                       sys.version_info[:2] != (3, 11),
                       reason='the bundle is built from Debian packages, by '
                       'CPython 3.11')]

PROGRAM = """
import lasagne, numpy as np, sys, theano, wnorm
l = lasagne.layers.InputLayer((None, 4))
l = wnorm.weight_norm(lasagne.layers.DenseLayer(l, 3))
print(wnorm.initialize(l, np.random.rand(20, 4).astype(theano.config.floatX)))
print(sys.prefix)
print([path for path in sys.path[1:] if not path.startswith(sys.prefix)])
print([line.split()[-1] for line in open('/proc/self/maps')
       if 'libpython' in line])
"""


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """The folder, unpacked in another place than it was built in."""
    archive = tmp_path_factory.mktemp('built') / 'wnorm-gpu.tar.xz'
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, 'bundle', 'build.py'),
         '--target', str(archive), '--preset', '1'], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
    assert os.listdir(str(archive.parent)) == [archive.name]
    assert archive.stat().st_size < 80e6
    place = tmp_path_factory.mktemp('elsewhere')
    subprocess.run(['tar', 'xf', str(archive)], cwd=str(place), check=True)
    shutil.rmtree(str(archive.parent))
    (folder,) = place.iterdir()
    return folder


def run(folder, *command, **variables):
    """In an environment in which nothing of this machine is named."""
    variables = dict(dict(PATH='/usr/bin:/bin', HOME=str(folder)),
                     **variables)
    done = subprocess.run(
        [str(command[0])] + [str(word) for word in command[1:]], cwd='/',
        env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode()


def test_a_program(bundle, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(PROGRAM)
    (tmp_path / 'link').symlink_to(bundle / 'run')
    status, text = run(bundle, tmp_path / 'link', '--cpu', program,
                       PYTHONPATH='/nowhere', PYTHONHOME='/nowhere')
    assert status == 0, text
    lines = text.splitlines()
    assert lines[-3:] == [str(bundle / 'prefix'), '[]', '[]']
    assert 'DenseLayer' in text


def test_doctor(bundle):
    status, text = run(bundle, bundle / 'run-doctor', '--opencl')
    # whether there is OpenCL, or not
    assert (status == 0) == ('Problems\n  none' in text), text
    assert 'pygpu           0.7' in text
    assert 'Compiled test   elementwise' in text


def test_without_a_compiler(bundle, tmp_path):
    for name in ('sh', 'uname', 'getconf', 'grep', 'readlink', 'dirname'):
        (tmp_path / name).symlink_to(shutil.which(name))
    status, text = run(bundle, bundle / 'run-doctor', PATH=str(tmp_path))
    assert status == 1
    assert text.startswith('wnorm: g++ is missing, with which Theano compiles')


@pytest.mark.parametrize('program, answer, text', [
    ('uname', 'aarch64', 'this is for x86_64, the node is aarch64'),
    ('getconf', 'glibc 2.31', 'this needs glibc 2.36 or later'),
    ('getconf', 'glibc 2.35', 'this needs glibc 2.36 or later')])
def test_another_node(tmp_path, program, answer, text):
    # it says so before it needs anything else of the bundle
    path = tmp_path / program
    path.write_text('#!/bin/sh\necho %s\n' % answer)
    path.chmod(0o755)
    status, said = run(tmp_path, os.path.join(ROOT, 'bundle', 'run'),
                       '--cpu', '-c', 'pass',
                       PATH='%s:/usr/bin:/bin' % tmp_path)
    assert (status, text in said) == (1, True), said


def test_tests(bundle):
    status, text = run(bundle, bundle / 'run-tests', '--cpu',
                       'tests/test_filters.py', 'tests/test_naming.py')
    assert status == 0, text
    assert ' passed' in text


def test_no_trace_of_where_it_was_built(bundle):
    done = subprocess.run(
        ['grep', '-rIlF', ROOT + os.sep, str(bundle / 'prefix')],
        stdout=subprocess.PIPE)
    assert done.stdout == b''
