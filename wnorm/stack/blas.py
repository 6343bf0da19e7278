"""The BLAS that NumPy brings, given to Theano.

Without a BLAS to link, Theano calls NumPy's through its C API, which has no
product that accumulates: C += A B takes a temporary and a slow loop. A second
BLAS would bring a second pool of threads. So Theano gets the library that
NumPy has loaded already, through ``blas.cpp``, compiled once.

Set the environment variable ``WNORM_BLAS=0`` to leave Theano to itself.
"""
import contextlib
import ctypes
import hashlib
import os
import re
import subprocess
import tempfile

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'blas.cpp')

#: What to do where NumPy's BLAS cannot be had.
INSTALL = ('install OpenBLAS (Debian, Ubuntu: apt-get install '
           'libopenblas-dev), which Theano finds by itself')


class NoAdapter(Exception):
    """Why Theano does not get NumPy's BLAS, and what to do about it."""

    def __init__(self, why, remedy):
        super().__init__(why)
        self.remedy = remedy


def require_enabled():
    """Raise :exc:`NoAdapter` if the user wants none."""
    value = os.environ.get('WNORM_BLAS', '1')
    if value.lower() in ('0', 'no', 'off', 'false'):
        raise NoAdapter('switched off by WNORM_BLAS=%s' % value,
                        'unset WNORM_BLAS')


def loaded(maps='/proc/self/maps'):
    """The BLAS libraries that this process has loaded, SciPy's own aside.

    Parameters
    ----------
    maps : str
        The system's list of all that is loaded. Linux alone has it.
    """
    try:
        with open(maps, errors='replace') as file:
            paths = {line.split(None, 5)[5].strip() for line in file
                     if '/' in line}
    except OSError:
        return []
    return [path for path in sorted(paths) if re.match(
        'lib.*(blas|mkl_rt|mkl_core|blis|atlas)', os.path.basename(path)) and
        'scipy.libs' not in path]


def of_numpys_wheel(paths):
    """The library among `paths` that a wheel of NumPy has brought.

    Raises
    ------
    NoAdapter
        If there is none.
    """
    for path in paths:
        if os.path.basename(os.path.dirname(path)) == 'numpy.libs':
            return path
    raise NoAdapter(
        "NumPy's BLAS is %s, not the OpenBLAS of the wheels on PyPI" % (
            ' or '.join(paths) or 'not known'), INSTALL)


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
        If there can be none.
    """
    if not compiler:
        raise NoAdapter('Theano has no compiler for an adapter',
                        'see that g++ is there and that Theano may use it')
    # they part Theano's flag, the linker's options, a search path
    if re.search(r'[\s,:]', folder):
        raise NoAdapter(
            'what is compiled in %s cannot be linked, as its name has a '
            'space, comma or colon' % folder,
            'name another folder: THEANO_FLAGS=base_compiledir=FOLDER')
    try:
        with open(SOURCE, 'rb') as file:
            # one for each library, whose name has a hash of its content:
            # environments share Theano's folder
            key = hashlib.sha256(file.read() + os.fsencode(library))
        name = 'wnorm_openblas_' + key.hexdigest()[:16]
        target = os.path.join(folder, 'lib%s.so' % name)
        try:
            ctypes.CDLL(target)
        except OSError:  # it is not there yet, or broken
            compile_adapter(library, target, compiler)
            ctypes.CDLL(target)  # which fails if a function is missing
    except (OSError, subprocess.SubprocessError) as error:
        raise NoAdapter("an adapter to NumPy's BLAS cannot be had: %s" % error,
                        INSTALL)
    # names openblas: Theano looks for this word
    return '-L%s -l%s' % (folder, name)


def compile_adapter(library, target, compiler):
    """Compile ``blas.cpp`` for `library`, or raise :exc:`NoAdapter`."""
    # under another name first: a second process may be doing the same
    handle, made = tempfile.mkstemp(prefix='libwnorm_',
                                    dir=os.path.dirname(target))
    os.close(handle)
    try:
        done = subprocess.run(
            [compiler, '-O2', '-shared', '-fPIC', SOURCE, '-o', made, library],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=120)
        if done.returncode:
            raise NoAdapter(
                "an adapter to NumPy's BLAS cannot be compiled: " +
                ' '.join(done.stdout.decode(errors='replace').split())[-300:],
                'see that %s can link a shared library; or %s' % (
                    compiler, INSTALL))
        os.replace(made, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(made)
