"""Installs into fresh virtual environments, as users do."""
import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from running import (
    IMPORTS, ORDERS, PRINTED, SPAWNS, TESTS, python, silent, write)

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent.parent
NOT_SOURCE = shutil.ignore_patterns('.*', '*.egg-info', '__pycache__',
                                    'build', 'dist', 'demo')
# what the environment of the tests must not lend to the fresh one
NEUTRAL = dict.fromkeys([
    'PYTHONPATH', 'THEANO_FLAGS', 'THEANORC', 'WNORM_STACK',
    'COVERAGE_PROCESS_START', 'COVERAGE_PROCESS_CONFIG'])


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the source tree, as pip leaves its traces where it builds."""
    return Path(shutil.copytree(
        str(HERE), str(tmp_path_factory.mktemp('source') / 'wnorm'),
        ignore=NOT_SOURCE))


@pytest.fixture(scope='module')
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp('sdist')
    done = python('-c', 'import sys; from setuptools import build_meta; '
                  'build_meta.build_sdist(sys.argv[1])', folder, cwd=source)
    assert done.returncode == 0, done.stderr
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp('wheel'))


def build_wheel(source, folder):
    pip(sys.executable, 'wheel', '--no-deps', '--wheel-dir', folder, source)
    (file,) = folder.iterdir()
    return file


def pip(executable, *arguments):
    """Runs pip where no folder with an egg-info is in the way."""
    done = python('-m', 'pip', '--quiet', *arguments, executable=executable,
                  cwd=Path(sys.prefix), limit=1200, **NEUTRAL)
    assert done.returncode == 0, done.stdout + done.stderr


# --- what is built --------------------------------------------------------

def test_sdist(sdist):
    with tarfile.open(str(sdist)) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert names.issuperset([
        'wnorm.pth', 'setup.py', 'pyproject.toml', 'LICENSE', 'README.md',
        'Makefile', 'requirements.txt', 'wnorm/__init__.py',
        'wnorm/stack/hook.py', 'tests/test_install.py'])
    assert not [name for name in names if name.endswith('.pyc')]


def contents(wheel):
    with zipfile.ZipFile(str(wheel)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel(wheel, sdist, tmp_path):
    files = contents(wheel)
    # the root of a wheel is what lands in site-packages
    assert files['wnorm.pth'] == b'import wnorm.stack.hook\n'
    python_files = {path.relative_to(HERE).as_posix()
                    for path in HERE.glob('wnorm/**/*.py')}
    assert {name for name in files if name.endswith('.py')} == python_files
    (metadata,) = [email.message_from_bytes(text)
                   for name, text in files.items()
                   if name.endswith('/METADATA')]
    # in no particular order
    assert sorted(metadata['Requires-Python'].split(',')) == ['<3.12', '>=3.8']
    needed = {re.split('[<>=; ]', requirement)[0]
              for requirement in metadata.get_all('Requires-Dist')
              if 'extra' not in requirement}
    assert needed == {'Theano', 'Lasagne', 'numpy', 'scipy'}
    assert metadata['License'] == 'MIT'
    # the wheel made from the sdist is the same
    others = contents(build_wheel(sdist, tmp_path))
    assert {name for name in others if '.dist-info/' not in name} == {
        name for name in files if '.dist-info/' not in name}
    assert others['wnorm.pth'] == files['wnorm.pth']


# --- what is installed ----------------------------------------------------

class Environment(object):
    """A fresh virtual environment, and a user in another folder."""

    def __init__(self, folder):
        self.folder, self.user = folder / 'venv', folder / 'home'
        self.user.mkdir()
        subprocess.check_call([sys.executable, '-m', 'venv',
                               str(self.folder)])
        self.executable = self.folder / 'bin' / 'python'
        (self.site,) = self.folder.glob('lib/python*/site-packages')

    def pip(self, *arguments):
        pip(self.executable, *arguments)

    def python(self, *arguments):
        return python(*arguments, executable=self.executable, cwd=self.user,
                      limit=600, HOME=self.user, **NEUTRAL)


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path)


# a cell in a notebook, run by what runs notebooks
NOTEBOOK = """
from jupyter_client.manager import start_new_kernel

CELL = '''
import lasagne
from lasagne.layers import dnn
layer = lasagne.layers.InputLayer((None, 2, 6, 6))
print(dnn.Conv2DDNNLayer(layer, 3, (2, 2)).output_shape)
'''
manager, client = start_new_kernel(kernel_name='python3')
try:
    reply = client.execute_interactive(
        CELL, timeout=120, output_hook=lambda message: print(
            message['content'].get('name'), message['content'].get('text'),
            end='') if message['msg_type'] == 'stream' else None)
    print(reply['content']['status'])
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


def check_imports(environment, orders):
    for order in orders:
        assert silent(environment.python('-c', '\n'.join(
            IMPORTS[name] for name in order))) == ''


def check_programs(environment):
    write(environment.user, {'script.py': SPAWNS, 'test_script.py': TESTS})
    assert silent(environment.python('script.py')) == PRINTED


def check_doctor(environment):
    findings = json.loads(silent(environment.python(
        '-m', 'wnorm', 'doctor', '--json')))
    assert findings['ok'], findings['problems']
    rows = {check['name']: check['value'] for check in findings['checks']}
    assert rows['Start-up hook'] == 'armed at every start of Python'
    return rows


def check_removal(environment):
    assert (environment.site / 'wnorm.pth').read_text() == (
        'import wnorm.stack.hook\n')
    environment.pip('uninstall', '--yes', 'wnorm')
    assert not list(environment.site.glob('*wnorm*'))
    code = ('import sys; '
            'print([name for name in sys.modules if "wnorm" in name])')
    assert silent(environment.python('-c', code)) == '[]\n'


def test_install_from_a_wheel(environment, wheel):
    environment.pip('install', wheel, 'pytest', 'ipykernel', 'jupyter_client')
    check_imports(environment, ORDERS[::4])
    check_programs(environment)
    assert '1 passed' in silent(environment.python('-m', 'pytest', '-q'))
    write(environment.user, {'notebook.py': NOTEBOOK})
    done = environment.python('notebook.py')
    assert (done.returncode, done.stdout) == (
        0, 'stdout (None, 3, 5, 5)\nok\n'), done.stderr
    rows = check_doctor(environment)
    assert str(environment.site) in rows['wnorm']
    assert rows['Lasagne'].startswith('0.1, the release on PyPI')
    check_removal(environment)


def test_editable_install(environment, source):
    environment.pip('install', '--editable', source)
    check_imports(environment, ORDERS[::5])
    check_programs(environment)
    assert str(source) in check_doctor(environment)['wnorm']
    check_removal(environment)


def lasagne_checkout():
    """A folder with the source of Lasagne's master, or None."""
    for folder in [os.environ.get('LASAGNE_CHECKOUT', '')] + os.environ.get(
            'PYTHONPATH', '').split(os.pathsep):
        if folder and os.path.exists(os.path.join(folder, 'lasagne')):
            if os.path.exists(os.path.join(folder, 'setup.py')):
                return folder
    return None


@pytest.mark.skipif(lasagne_checkout() is None, reason=(
    "needs a checkout of Lasagne's master in LASAGNE_CHECKOUT, or on "
    'PYTHONPATH'))
@pytest.mark.parametrize('how', ['copied', 'editable'])
def test_install_beside_lasagne_master(environment, wheel, tmp_path, how):
    checkout = Path(shutil.copytree(
        lasagne_checkout(), str(tmp_path / 'Lasagne'), ignore=NOT_SOURCE))
    environment.pip('install', *['--editable'] * (how == 'editable'),
                    checkout)
    environment.pip('install', wheel)
    check_imports(environment, ORDERS[::5])
    check_programs(environment)
    rows = check_doctor(environment)
    assert rows['Lasagne'].startswith('0.2.dev1, master')
    assert str(checkout if how == 'editable' else environment.site) in (
        rows['Lasagne'])
