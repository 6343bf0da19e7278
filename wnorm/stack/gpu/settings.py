"""The environment in which Theano uses a device."""
import collections
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

from .. import preflight, remedies
from . import libraries
from .libraries import FILES, LARGEST_CAPABILITY, dotted

HERE = os.path.dirname(os.path.abspath(__file__))

#: What takes the place of cuDNN's header, before it on the search path.
HEADER = os.path.join(HERE, 'cudnn')

#: Theano's default, and what it leaves out: its key for what it has compiled
#: knows no header and no library.
COMPILEDIR = ('compiledir_%%(short_platform)s-%%(processor)s-'
              '%%(python_version)s-%%(python_bitwidth)s-%s')

DETERMINISTIC = [('dnn.conv.algo_bwd_filter', 'deterministic'),
                 ('dnn.conv.algo_bwd_data', 'deterministic'),
                 ('deterministic', 'more')]

#: Rewrites that end in a kernel which OpenCL cannot compile.
NOT_ON_OPENCL = ['local_gpua_crossentropysoftmaxargmax1hotwithbias',
                 'local_gpua_crossentropysoftmax1hotwithbiasdx']

#: What lies here, the linker finds by itself. On LD_LIBRARY_PATH it would
#: come before libraries that a Python brings along.
FOUND_BY_ITSELF = r'(/usr)?/(lib|lib64|lib/[^/]+-linux-gnu)$'


def environment(survey, deterministic=False):
    """The variables to set for a device.

    Parameters
    ----------
    survey : Survey
        One without problems.
    deterministic : bool
        Whether to compute the same bits in every run.

    Returns
    -------
    OrderedDict
        Of names to texts.
    """
    cuda = survey.kind == 'cuda'
    used = collections.OrderedDict(
        (kind, library) for kind, library in (
            [('driver', survey.driver)] + list(survey.found.libraries.items())
            if cuda else survey.opencl.items()) if library)
    key = fingerprint(survey, used)
    runtime = prepare(survey, used, os.path.join(
        base_compiledir(), 'wnorm-' + key))
    home = libraries.home()
    folders = list(collections.OrderedDict.fromkeys(
        os.path.dirname(os.path.realpath(library.path))
        for library in used.values()))
    library_path = [runtime] + [
        folder for folder in [os.path.join(home, 'lib')] + folders
        if not re.match(FOUND_BY_ITSELF, folder)]
    include = [libraries.gpuarray_headers()]
    if cuda:
        include += survey.found.cuda_headers
    flags = [('floatX', remedies.setting('floatX') or 'float32'),
             ('compiledir_format', COMPILEDIR % key)]
    flags += cuda_flags(survey.found, runtime) if cuda else []
    flags += DETERMINISTIC if deterministic else []
    return collections.OrderedDict([
        ('THEANO_FLAGS', join_flags(flags, survey.kind)),
        ('LD_LIBRARY_PATH', before('LD_LIBRARY_PATH', library_path)),
        ('LIBRARY_PATH', before('LIBRARY_PATH', library_path)),
        ('CPATH', before('CPATH', include)),
        ('PYTHONPATH', before('PYTHONPATH', [os.path.join(home, 'python')])),
        # `python` is to be this one
        ('PATH', before('PATH', [os.path.dirname(sys.executable)])),
        ('WNORM_GPU_RUNTIME', runtime),
        # which is right, and seen to by our header
        ('PYTHONWARNINGS', ','.join(filter(None, [
            os.environ.get('PYTHONWARNINGS'),
            'ignore:Your cuDNN version is more recent:UserWarning']))),
        # no library may round what it multiplies to 10 bits unasked
        ('NVIDIA_TF32_OVERRIDE', os.environ.get('NVIDIA_TF32_OVERRIDE', '0')),
    ])


def before(name, folders):
    """The value of a path variable with `folders` first, once each."""
    old = os.environ.get(name, '').split(os.pathsep)
    return os.pathsep.join(collections.OrderedDict.fromkeys(
        filter(None, folders + old)))


def cuda_flags(found, runtime):
    if not found.libraries['cudnn']:
        return [('dnn.enabled', 'False')]
    return [('dnn.include_path', HEADER),
            ('cuda.include_path', found.cudnn_header[0]),
            ('dnn.library_path', runtime),
            ('dnn.bin_path', runtime)]


def join_flags(flags, kind):
    """THEANO_FLAGS: ours, then the user's, who may have others."""
    theirs = os.environ.get('THEANO_FLAGS', '').strip(', ')
    flags = ['%s=%s' % flag for flag in flags] + [theirs] * bool(theirs)
    if kind == 'opencl':
        excluded = (remedies.setting('optimizer_excluding') or '').split(':')
        flags.append('optimizer_excluding=' + ':'.join(
            collections.OrderedDict.fromkeys(
                filter(None, excluded + NOT_ON_OPENCL))))
    # their device only if it is one of this kind
    device = remedies.setting('device') or ''
    flags.append('device=' + (
        device if device.startswith(kind) else
        {'cuda': 'cuda0', 'opencl': 'opencl0:0'}[kind]))
    return ','.join(flags)


def base_compiledir():
    return os.path.abspath(os.path.expanduser(
        remedies.setting('base_compiledir') or '~/.theano'))


def fingerprint(survey, used):
    """Changes with whatever makes compiled code another."""
    digest = hashlib.sha256(repr([
        (kind, os.path.realpath(library.path), sorted(library.answer.items()))
        for kind, library in used.items()]).encode())
    for path in sorted(glob.glob(os.path.join(HEADER, '*'))) + [
            os.path.join(HERE, name)
            for name in ('capability.cpp', 'rewrites.py')]:
        with open(path, 'rb') as file:
            digest.update(file.read())
    names = ['%s%s' % (name, dotted(used[kind].version))
             for name, kind in (('cuda', 'nvrtc'), ('cudnn', 'cudnn'))
             if kind in used] or [survey.kind]
    return '-'.join(names + [digest.hexdigest()[:8]])


# --- the folder of unversioned names ---------------------------------------

def prepare(survey, used, folder):
    """Make the folder of the names that libgpuarray and Theano open.

    Returns
    -------
    str
        The folder, complete.
    """
    if os.path.isdir(folder):
        return folder
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    # built beside it, so that no other process sees half of it
    scratch = tempfile.mkdtemp(dir=os.path.dirname(folder))
    try:
        for kind, library in used.items():
            name = os.path.join(scratch, FILES[kind])
            if kind == 'driver' and any(
                    tuple(device['capability']) > LARGEST_CAPABILITY
                    for device in library.devices):
                compile_capability(library.path, name)
            else:
                os.symlink(os.path.realpath(library.path), name)
        try:
            os.rename(scratch, folder)
        except OSError:
            if not os.path.isdir(folder):  # else another process was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def compile_capability(driver, target):
    """Compile ``capability.cpp`` against the driver."""
    compiler = preflight.compiler()
    if not compiler:
        raise OSError(preflight.compiler_problem())
    subprocess.run(
        [compiler, '-shared', '-fPIC', '-O1', '-o', target,
         os.path.join(HERE, 'capability.cpp'), '-Wl,--no-as-needed',
         os.path.realpath(driver), '-ldl', '-Wl,-soname,libcuda.so'],
        check=True, stdin=subprocess.DEVNULL)
