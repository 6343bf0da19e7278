"""``python -m wnorm gpu-setup``: fetches what a device needs."""
import glob
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile

from . import check, command, debian, libraries, survey
from .libraries import capability, dotted
from .settings import environment

SUMMARY = 'fetch what the GPU needs, into this environment; try it'

#: Debian's packages of Theano's GPU backend.
PYGPU = ['python3-pygpu', 'libgpuarray3', 'libgpuarray-dev']
PYGPU_NEEDS = ['mako', 'markupsafe']

OPENCL = ['pocl-opencl-icd', 'ocl-icd-libopencl1', 'libclblast1']

#: The oldest driver for which PyPI has what is needed.
OLDEST_DRIVER = (12, 1)


class Failure(Exception):
    """What keeps a device from being set up, for people."""


def add_arguments(parser):
    command.add_kind(parser)
    parser.add_argument('--time-limit', type=float, default=600,
                        metavar='SECONDS', help='how long the first '
                        'computation on the device may take '
                        '(default: %(default)s)')


def run(arguments):
    """The command.

    Returns
    -------
    int
        The exit status: 0 where a device works.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.kind == 'cuda':
            libraries_ready = prepare_cuda
        else:
            libraries_ready = prepare_opencl
        step('pygpu and libgpuarray')
        prepare_pygpu()
        libraries_ready()
        step('a first computation; it compiles for a minute')
        return conclude(arguments.kind, arguments.time_limit)
    except Failure as failure:
        return fail(str(failure))
    except (OSError, subprocess.SubprocessError) as error:
        return fail('%s: %s' % (type(error).__name__, error))
    except KeyboardInterrupt:
        return fail('interrupted: what was complete stays, the rest is '
                    'removed; run it again to go on', 130)
    finally:
        signal.signal(signal.SIGTERM, before)


def step(text):
    print('wnorm gpu-setup: ' + text, flush=True)


def fail(text, status=1):
    print('wnorm gpu-setup: ' + text, file=sys.stderr, flush=True)
    return status


def conclude(kind, time_limit):
    """Try the device, and say which one works or what is wrong."""
    found = survey.look(kind)
    wrong = [row for row in survey.rows(found) if row['status'] == 'problem']
    if not wrong:
        tried = check.run(environment(found), time_limit)
        if tried['status'] != 'problem':
            step('works: ' + tried['value'])
            if tried['remedy']:
                step(tried['remedy'])
            return 0
        wrong = [tried]
    raise Failure('\n'.join('%(name)s: %(value)s\n    -> %(remedy)s' % row
                            for row in wrong))


def replace(scratch, parts):
    """Move folders from `scratch` into :func:`libraries.home`, each whole."""
    for part in parts:
        target = os.path.join(libraries.home(), part)
        if os.path.isdir(target):
            os.rename(target, os.path.join(scratch, 'old-' + part))
        os.rename(os.path.join(scratch, part), target)


def scratch_folder():
    """A folder that is removed in the end, beside where its parts will lie."""
    home = libraries.home()
    try:
        os.makedirs(home, exist_ok=True)
        for left in glob.glob(os.path.join(home, 'scratch-*')):  # by a kill
            shutil.rmtree(left)
        return tempfile.TemporaryDirectory(prefix='scratch-', dir=home)
    except OSError as error:
        raise Failure('cannot write to %s (%s): use a virtual environment '
                      '(python3 -m venv FOLDER) and install wnorm there'
                      % (home, error.strerror))


def pip(target, *packages):
    """Install packages into a folder."""
    install = [sys.executable, '-m', 'pip', 'install', '--no-deps',
               '--only-binary=:all:', '--no-compile',
               '--disable-pip-version-check', '--target', target]
    if subprocess.run(install + list(packages),
                      stdin=subprocess.DEVNULL).returncode:
        raise Failure('pip cannot install %s: see what it says above'
                      % ' '.join(packages))


# --- pygpu ----------------------------------------------------------------

def prepare_pygpu():
    """Unpack Debian's pygpu, unless there is one that fits."""
    wrong = [found for found in survey.pygpu_rows('')
             if found['status'] == 'problem']
    if not wrong:
        return step('there already')
    with scratch_folder() as scratch:
        replace(scratch, unpack_pygpu(scratch))


def unpack_pygpu(folder):
    """Fetch pygpu and libgpuarray from Debian, mako from PyPI.

    Returns
    -------
    list of str
        The parts of :func:`libraries.home` that are in `folder` now.
    """
    here = 'CPython %d.%d' % sys.version_info[:2]
    elsewhere = ("%s needs another pygpu 0.7: conda-forge has it for CPython "
                 "up to 3.9 (conda install -c conda-forge pygpu); Debian 12's "
                 'is for its own python3, 3.11' % here)
    if not debian.available():
        raise Failure("pygpu is on no PyPI, and this system has no apt-get "
                      'and dpkg-deb to unpack that of Debian: ' + elsewhere)
    debian.unpack(PYGPU, folder)
    packages = os.path.join(folder, 'usr/lib/python3/dist-packages')
    compiled = sorted(glob.glob(os.path.join(
        packages, 'pygpu', 'gpuarray.*.so')))
    suffix = sysconfig.get_config_var('EXT_SUFFIX')
    if not any(path.endswith('gpuarray' + suffix) for path in compiled):
        raise Failure(
            "this system's python3-pygpu is compiled for another Python "
            '(%s): %s' % (', '.join(map(os.path.basename, compiled)),
                          elsewhere))
    python, lib = [os.path.join(folder, part) for part in ('python', 'lib')]
    pip(python, *PYGPU_NEEDS)
    shutil.move(os.path.join(packages, 'pygpu'), python)
    os.mkdir(lib)
    # in lib, or lib/ARCHITECTURE
    for where, _, names in os.walk(os.path.join(folder, 'usr/lib')):
        for name in names:
            if name.startswith('libgpuarray.so'):
                shutil.move(os.path.join(where, name), lib)
    shutil.move(os.path.join(folder, 'usr/include'), folder)
    return ['lib', 'include', 'python']


# --- NVIDIA's libraries ---------------------------------------------------

def prepare_cuda():
    """Fetch NVRTC, cuBLAS and cuDNN from PyPI where the machine lacks them."""
    step('NVRTC, cuBLAS and cuDNN')
    driver = libraries.find_driver()
    (first, *_) = survey.driver_rows(driver)
    if first['status'] == 'problem':
        raise Failure('%(name)s: %(value)s\n    -> %(remedy)s' % first)
    step('%s, driver for CUDA %s' % (
        first['value'], dotted(driver.version)))
    found = libraries.find(driver)
    wanted = packages(found, driver)
    if not wanted:
        return step('there already')
    if driver.version < OLDEST_DRIVER:
        raise Failure('the driver is for CUDA %s, PyPI has libraries for CUDA '
                      '%s or later: update the driver, or install NVRTC, '
                      'cuBLAS and cuDNN of CUDA %s and name their folders: '
                      'WNORM_CUDA' % (
                          dotted(driver.version), dotted(OLDEST_DRIVER),
                          dotted(driver.version)))
    with scratch_folder() as scratch:
        target = os.path.join(scratch, 'cuda')
        pip(target, *wanted)
        now = libraries.find_driver()
        if now is None or now.error:
            raise Failure(
                'the GPU was there when this began, and now is not (%s): look '
                'at nvidia-smi and dmesg; then run it again' % (
                    now.error if now else 'no driver'))
        replace(scratch, ['cuda'])


def packages(found, driver):
    """The packages of PyPI that supply what was not found.

    Parameters
    ----------
    found : Found
    driver : Library

    Returns
    -------
    list of str
        Requirements for pip.
    """
    have = found.libraries
    header = not survey.without_cudnn() and any(
        row['status'] != 'ok' for row in survey.cudnn_rows(found))
    if have['nvrtc'] and have['cublas'] and not header:
        return []
    # PTX of a newer NVRTC is nothing to the driver; of CUDA 13 the packages
    # have other names and bring nothing that is needed here
    below = '<%d.%d' % ((12, driver.version[1] + 1)
                        if driver.version[0] == 12 else (13, 0))
    cudnn = 'nvidia-cudnn-cu12>=8.9,<' + (
        '9.11' if capability(driver) < libraries.OLDEST_CAPABILITY[13]
        else '10')
    return ['nvidia-%s-cu12%s' % (name, below) for name in (
        'cuda-nvrtc', 'cublas',
        'cuda-runtime', 'cuda-nvcc')] + [cudnn]  # these two for headers


# --- OpenCL ---------------------------------------------------------------

def prepare_opencl():
    """Install PoCL and CLBlast, where this is allowed."""
    step('OpenCL and CLBlast')
    lacking = [found for found in survey.opencl_rows(libraries.find_opencl())
               if found['status'] == 'problem']
    if not lacking:
        return step('there already')
    install = ['apt-get', 'install', '--yes', '--no-install-recommends'
               ] + OPENCL
    missing = ' and '.join(found['name'] for found in lacking)
    if not debian.available():
        raise Failure('%s must be installed, and this system has no apt-get: '
                      'install an OpenCL driver (such as PoCL), its loader '
                      'and CLBlast' % missing)
    if os.geteuid():
        raise Failure('%s must be installed, and this takes root: sudo %s'
                      % (missing, ' '.join(install)))
    subprocess.run(['apt-get', 'update'], stdin=subprocess.DEVNULL)
    variables = dict(os.environ, DEBIAN_FRONTEND='noninteractive')
    if subprocess.run(install, stdin=subprocess.DEVNULL,
                      env=variables).returncode:
        raise Failure('apt-get cannot install %s: see what it says above'
                      % ' '.join(OPENCL))
