"""Whether this machine has all that a device needs, as findings."""
import collections
import os
import re
import sys

from .. import remedies
from ..rows import problem, row
from . import libraries
from .libraries import LARGEST_CAPABILITY, TITLES, dotted

SETUP = 'python -m wnorm gpu-setup'
OPENCL = SETUP + ' --opencl'

#: What the rows are about, in their order.
NAMES = ('GPU', 'NVIDIA driver', 'OpenCL', 'CLBlast', 'pygpu', 'libgpuarray',
         'NVRTC', 'cuBLAS', 'cuDNN', 'cuDNN header', 'GPU test')

#: The versions of cuDNN that Theano can use, with our header.
CUDNN = (7, 8, 9)

#: What there is for a device.
#:
#: kind : 'cuda' or 'opencl'
#: driver : Library or None, of CUDA
#: found : Found, of CUDA
#: opencl : dict of kinds to Library or None
Survey = collections.namedtuple('Survey', 'kind driver found opencl')


def look(kind):
    """Search the machine for what a device of `kind` needs.

    Parameters
    ----------
    kind : {'cuda', 'opencl'}

    Returns
    -------
    Survey
    """
    if kind == 'opencl':
        return Survey(kind, None, None, libraries.find_opencl())
    driver = libraries.find_driver()
    return Survey(kind, driver, libraries.find(driver), None)


def rows(survey):
    """Findings on a survey.

    Returns
    -------
    list of rows
        A 'problem' keeps Theano from using the device.
    """
    if survey.kind == 'opencl':
        return opencl_rows(survey.opencl) + pygpu_rows(OPENCL)
    return (driver_rows(survey.driver) + pygpu_rows(SETUP) +
            library_rows(survey.found) + cudnn_rows(survey.found))


def without_cudnn():
    """Whether the user told Theano not to use cuDNN."""
    return (remedies.setting('dnn.enabled') or '').lower() == 'false'


# --- CUDA -----------------------------------------------------------------

def driver_rows(driver):
    if driver is None:
        return [problem('GPU', 'none found: no NVIDIA driver (libcuda.so) is '
                        'installed', "install the card's driver, until "
                        'nvidia-smi shows the card; without a card: ' +
                        OPENCL)]
    if driver.error:
        return [problem('GPU', 'the NVIDIA driver (%s) does not work: %s'
                        % (driver.path, driver.error),
                        'see what nvidia-smi says; without a card: ' +
                        OPENCL)]
    if not driver.devices:
        return [problem('GPU', 'the NVIDIA driver (%s) sees no GPU'
                        % driver.path, 'look at CUDA_VISIBLE_DEVICES, and at '
                        'what nvidia-smi says; without a card: ' + OPENCL)]
    found = [row('GPU', '; '.join(map(describe, driver.devices)))]
    return found + [row('NVIDIA driver', 'for CUDA ' + str(driver))]


def describe(device):
    text = '%s, compute capability %s, %.0f GiB' % (
        device['name'], dotted(device['capability']),
        device['memory'] / 2.**30)
    if tuple(device['capability']) > LARGEST_CAPABILITY:
        # see capability.c
        text += (' (libgpuarray is told %s, the last that it can name; the '
                 'driver translates)' % dotted(LARGEST_CAPABILITY))
    return text


def library_rows(found):
    """NVRTC and cuBLAS, without either of which libgpuarray is no use."""
    return [library_row(kind, library, found, 'problem')
            for kind, library in found.libraries.items() if kind != 'cudnn']


def library_row(kind, library, found, status):
    title = TITLES[kind]
    if library:
        return row(title, str(library))
    passed = [text for text in found.passed_over
              if text.startswith(title + ' ')]
    return row(title, '; '.join(passed) or '%s was not found'
               % libraries.FILES[kind], status,
               '%s fetches one that fits; or name its folder: WNORM_CUDA'
               % SETUP)


def cudnn_rows(found):
    library, title = found.libraries['cudnn'], TITLES['cudnn']
    if without_cudnn():
        return [row(title, 'switched off by dnn.enabled', 'absent')]
    if library is None:
        return [library_row('cudnn', None, found, 'warning')]
    if library.version[0] not in CUDNN:
        return [problem(title, '%s: Theano can use versions %d to %d'
                        % (library, CUDNN[0], CUDNN[-1]),
                        "pip install 'nvidia-cudnn-cu%d<%d'"
                        % (library.cuda, CUDNN[-1] + 1))]
    return [row(title, str(library)), header_row(library, found)]


def header_row(library, found):
    title = 'cuDNN header'
    package = 'pip install nvidia-cudnn-cu%d==%s.*' % (
        library.cuda, dotted(library.version))
    off = '; or do without: THEANO_FLAGS=dnn.enabled=False'
    if found.cudnn_header is None:
        return problem(title, 'cudnn.h was not found, which Theano compiles '
                       'against', package + off)
    folder, version = found.cudnn_header
    if version != library.version:
        return problem(title, '%s (%s), but the library is %s: what Theano '
                       'compiles would crash' % (
                           dotted(version), folder, dotted(library.version)),
                       package + off)
    if not found.cuda_headers:
        return problem(title, "%s (%s), but CUDA's own headers were not "
                       'found' % (dotted(version), folder),
                       'pip install nvidia-cuda-runtime-cu{0} '
                       'nvidia-cuda-nvcc-cu{0}'.format(library.cuda) + off)
    return row(title, '%s (%s)' % (dotted(version), folder))


# --- OpenCL ---------------------------------------------------------------

def opencl_rows(found):
    titles = [('opencl', 'OpenCL', 'install an OpenCL driver and its loader'),
              ('clblast', 'CLBlast', 'install it')]
    result = []
    for kind, title, remedy in titles:
        library = found[kind]
        if library is None or library.error:
            result.append(problem(
                title, '%s was not found' % libraries.FILES[kind]
                if library is None else str(library.error),
                '%s (Debian, Ubuntu, as root: %s)' % (remedy, OPENCL)))
        else:
            result.append(row(title, library.path))
    return result


# --- pygpu ----------------------------------------------------------------

def pygpu_rows(command):
    folder = libraries.pygpu_folder()
    if folder is None:
        return [problem('pygpu', 'not found', command)]
    version = libraries.pygpu_version(folder)
    if not libraries.pygpu_fits(folder):
        return [problem('pygpu', '%s was not compiled for %s %d.%d'
                        % ((folder, sys.implementation.name) +
                           sys.version_info[:2]), command)]
    found = row('pygpu', '%s (%s)' % (version, folder))
    if not re.match(r'0\.7\.', version):
        found = problem('pygpu', '%s (%s): Theano needs 0.7'
                        % (version, folder), command)
    library = libraries.gpuarray_library()
    if library is None:
        return [found, problem('libgpuarray', 'libgpuarray.so was not found, '
                               'which pygpu loads', command)]
    if libraries.gpuarray_headers() is None:
        return [found, problem('libgpuarray', '%s, but its headers '
                               '(gpuarray/array.h) were not found' % library,
                               command)]
    return [found, row('libgpuarray', os.path.realpath(library))]
