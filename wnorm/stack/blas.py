"""The BLAS that NumPy brings, given to Theano.

Without a BLAS to link, Theano calls NumPy's through its C API, which has no
product that accumulates: C += A B takes a temporary and a slow loop. A second
BLAS would bring a second pool of threads. So Theano gets the library that
NumPy has loaded already, through ``blas.cpp``, compiled once.

Set the environment variable ``WNORM_BLAS=0`` to leave Theano to itself.
"""
import hashlib
import os
import re
import subprocess
import tempfile

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'blas.cpp')

#: NumPy's OpenBLAS by the form that ``blas.cpp`` adapts.
ADAPTABLE = re.compile(r'libopenblas64_.*\.so')


class NoAdapter(Exception):
    """Why Theano does not get NumPy's BLAS."""


def enabled():
    return os.environ.get('WNORM_BLAS', '1').lower() not in (
        '0', 'no', 'off', 'false')


def mapped(maps='/proc/self/maps'):
    """The files that this process has loaded; none but on Linux."""
    try:
        with open(maps, errors='replace') as file:
            return sorted({line.split(None, 5)[5].strip() for line in file
                           if '/' in line})
    except OSError:
        return []


def numpy_library(paths):
    """The OpenBLAS of NumPy's wheel among `paths`.

    Raises
    ------
    NoAdapter
        If there is none of the form that ``blas.cpp`` adapts.
    """
    for path in paths:
        if (ADAPTABLE.match(os.path.basename(path)) and
                os.path.basename(os.path.dirname(path)) == 'numpy.libs'):
            return path
    raise NoAdapter("NumPy's BLAS is not the OpenBLAS of its wheels")


def adapter(library, folder, compiler):
    """What to link for the functions of `library` with 32-bit integers.

    Parameters
    ----------
    library : str
        NumPy's OpenBLAS.
    folder : str
        Where to keep what is compiled.
    compiler : str
        Theano's.

    Returns
    -------
    str
        A value of Theano's flag ``blas.ldflags``.

    Raises
    ------
    NoAdapter
        If it cannot be compiled, or its path cannot be told to Theano.
    """
    if re.search(r'\s', folder + library):
        raise NoAdapter('Theano takes no spaces in the path of a library: %s'
                        % folder)
    if not compiler:
        raise NoAdapter('Theano has no compiler')
    with open(SOURCE, 'rb') as file:
        state = os.stat(library)
        key = hashlib.sha256(file.read() + repr(
            (library, state.st_size, state.st_mtime)).encode())
    # one for each library: environments share Theano's folder
    folder = os.path.join(folder, 'wnorm-blas-' + key.hexdigest()[:16])
    target = os.path.join(folder, 'libwnorm_blas.so')
    if not os.path.exists(target):
        _compile(library, target, compiler)
    return '-L%s -lwnorm_blas -Wl,-rpath,%s' % (folder, folder)


def _compile(library, target, compiler):
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # elsewhere first: another process may be doing the same
        with tempfile.TemporaryDirectory(dir=os.path.dirname(
                target)) as workplace:
            made = os.path.join(workplace, 'made')
            done = subprocess.run(
                [compiler, '-O2', '-shared', '-fPIC', SOURCE, '-o', made,
                 library, '-Wl,-rpath,' + os.path.dirname(library),
                 '-Wl,--no-undefined', '-Wl,--allow-shlib-undefined'],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=120)
            if done.returncode:
                raise NoAdapter('the compiler says: ' + done.stdout.decode(
                    errors='replace').strip().split('\n')[-1])
            os.replace(made, target)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoAdapter('it cannot be compiled: %s' % error)
