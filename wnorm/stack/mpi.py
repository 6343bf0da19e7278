"""Which MPI there is: the library that mpi4py loads, and who starts it."""
import os
import re
import shutil
import subprocess
import sys

from .rows import row

INSTALL = "pip install 'wnorm[mpi]'"

#: How an mpiexec speaks of itself, by the libraries that it can start.
FAMILIES = {'MPICH': r'HYDRA|MPICH|Intel|MVAPICH',
            'Open MPI': r'Open ?MPI|OpenRTE|PRRTE|prterun'}


def library(MPI):
    """Such as ``MPICH 5.0.2``."""
    name, version = MPI.get_vendor()
    return '%s %s' % (name, '.'.join(map(str, version)))


def family(text):
    """The one of :data:`FAMILIES` that `text` tells of, or None."""
    for name, pattern in FAMILIES.items():
        if re.search(pattern, text):
            return name


def launchers():
    """The paths of mpiexec: that of this environment, and those on the
    PATH."""
    folders = [os.path.dirname(sys.executable or '')] + os.environ.get(
        'PATH', os.defpath).split(os.pathsep)
    found = [shutil.which('mpiexec', path=folder)
             for folder in folders if folder]
    return list(dict.fromkeys(filter(None, found)))


def starts(path, MPI):
    """Whether an mpiexec can start programs with this library, as far as
    one can tell."""
    try:
        said = subprocess.run(
            [path, '--version'], stdin=subprocess.DEVNULL, timeout=30,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    mine, its = family(library(MPI)), family(said.decode(errors='replace'))
    return None in (mine, its) or mine == its


def rows():
    """What the doctor says."""
    try:
        import mpi4py
    except ModuleNotFoundError as error:
        if error.name != 'mpi4py':
            raise
        yield row('MPI', 'mpi4py is not installed (needed by several '
                  'processes only): ' + INSTALL, 'absent')
        return
    name = 'mpi4py ' + mpi4py.__version__
    mpi4py.rc.initialize = False  # which could end Python
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        yield row('MPI', '%s has no MPI library: %s' % (
            name, ' '.join(str(error).split())), 'warning', INSTALL +
            "; on a cluster, load the module of the site's MPI")
        return
    name = '%s, %s' % (library(MPI), name)
    found = launchers()
    fitting = [path for path in found if starts(path, MPI)]
    first = shutil.which('mpiexec')
    if not found:
        yield row('MPI', name + ', and no mpiexec', 'warning', INSTALL)
    elif not fitting:
        yield row('MPI', '%s; %s cannot start it' % (
            name, ' or '.join(found)), 'warning', 'use the mpiexec of the '
            'same MPI, or its library: MPI4PY_LIBMPI=LIBRARY')
    elif first and first not in fitting:
        yield row('MPI', '%s; %s, the first on the PATH, cannot start it'
                  % (name, first), 'warning',
                  'start programs by ' + fitting[0])
    else:
        yield row('MPI', '%s (%s)' % (name, fitting[0]))
