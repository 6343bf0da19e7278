"""What is done before Theano or Lasagne is imported, and why.

Each remedy is a function that looks for the one problem it mends, leaves a
working installation alone, and reports what it did to :data:`applied`, where
the doctor reads it.
"""
import importlib.machinery
import importlib.util
import logging
import os
import sys
import types
import warnings

#: What was remedied in this process, in order: ``{what: why}``.
applied = {}

#: Names that NumPy 1.24 removed and that Theano and Lasagne still use.
NUMPY_NAMES = dict(bool=bool, int=int, float=float, complex=complex,
                   object=object, str=str)


def before_import(name, path=None):
    """Apply the remedies that the import of module `name` calls for.

    Returns
    -------
    importlib.machinery.ModuleSpec or None
        Where the module is found: a stand-in, or None for "search on".
    """
    return _ACTIONS[name](name, path)


# --- Theano ---------------------------------------------------------------

def _theano(name, path):
    if importlib.machinery.PathFinder.find_spec(name, path) is not None:
        warn_about_toolchain()
        restore_numpy_names()
        restore_scipy_names()
        describe_blas()
        skip_compiled_scan()
    return None


def warn_about_toolchain():
    """Say what to install where Theano could not compile anything."""
    from wnorm.stack import preflight
    if 'cxx=' in os.environ.get('THEANO_FLAGS', '').replace(' ', ''):
        return  # the user has decided
    for problem in (preflight.compiler_problem(), preflight.header_problem()):
        if problem:
            warnings.warn(problem, RuntimeWarning, stacklevel=2)


def restore_numpy_names():
    """Give NumPy the six names back that are Python's own types."""
    import numpy
    with warnings.catch_warnings():
        # asking for numpy.bool, .object or .str announces their future
        warnings.simplefilter('ignore')
        missing = [name for name in NUMPY_NAMES if not hasattr(numpy, name)]
    for name in missing:
        setattr(numpy, name, NUMPY_NAMES[name])
    if missing:
        applied['numpy.' + ', numpy.'.join(missing)] = (
            'removed in NumPy 1.24, used by Theano: restored as the built-ins')


def restore_scipy_names():
    """Put three functions back where Theano's Python convolution looks.

    Without them a convolution cannot run under ``mode=FAST_COMPILE`` or
    ``linker=py``.
    """
    try:
        from scipy.signal import _signaltools, _sigtools, signaltools
    except ImportError:
        return  # before SciPy 1.8 the names are where Theano looks
    restored = []
    for name in ('_valfrommode', '_bvalfromboundary', 'convolve'):
        if name not in vars(signaltools):
            setattr(signaltools, name, getattr(_signaltools, name))
            restored.append('scipy.signal.signaltools.' + name)
    # sys.modules, not a search: the module may be there and be deprecated
    if 'scipy.signal.sigtools' not in sys.modules:
        sys.modules['scipy.signal.sigtools'] = _sigtools
        restored.append('scipy.signal.sigtools')
    if restored:
        applied[', '.join(restored)] = (
            "moved in SciPy 1.8, used by Theano's convolution in Python")


def describe_blas():
    """Tell Theano which BLAS to try, where NumPy no longer tells it.

    Theano asks ``numpy.distutils.__config__``. Where that is gone, it falls
    into a search that prints, or crashes under a recent setuptools.
    """
    import numpy
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        import numpy.distutils
    if not getattr(numpy.distutils, '__config__', None):
        numpy.distutils.__config__ = types.SimpleNamespace(
            blas_opt_info={'libraries': ['openblas'], 'library_dirs': []})
        logging.getLogger('theano.tensor.blas').addFilter(_not_the_fallback)
        applied['numpy.distutils.__config__'] = (
            'gone from NumPy, asked by Theano for the BLAS: names OpenBLAS, '
            "which Theano links if the system has it (else -lblas, else "
            "NumPy's own)")


def _not_the_fallback(record):
    """Drops the news of every import that NumPy's BLAS is the one in use.

    The doctor says it, with what it costs.
    """
    return 'NumPy C-API based implementation' not in record.getMessage()


def skip_compiled_scan():
    """Keep Theano from compiling a module that CPython 3.11 cannot compile."""
    name = 'theano.scan_module.scan_perform_ext'
    if sys.version_info >= (3, 11) and name not in sys.modules:
        sys.modules[name] = None
        applied[name] = ('does not compile under CPython 3.11: theano.scan '
                         'runs its Python loop (about 6 % slower)')


def _downsample(name, path):
    return _stand_in(name, path, 'downsample', (
        'removed from Theano 0.9, imported by Lasagne 0.1: '
        'calls theano.tensor.signal.pool'))


# --- Lasagne --------------------------------------------------------------

class _WithoutSetuptools(importlib.machinery.SourceFileLoader):
    """Loads a module that imports ``pkg_resources``, where that is missing.

    The stand-in is there for that module alone: who finds no
    ``pkg_resources`` later must be able to use something else.
    """

    def exec_module(self, module):
        from wnorm.stack import pkg_resources
        sys.modules['pkg_resources'] = pkg_resources
        try:
            super(_WithoutSetuptools, self).exec_module(module)
        finally:
            del sys.modules['pkg_resources']


def _needs_pkg_resources(name, path):
    spec = importlib.machinery.PathFinder.find_spec(name, path)
    if spec is None or importlib.util.find_spec('pkg_resources') is not None:
        return None
    spec.loader = _WithoutSetuptools(name, spec.origin)
    applied['pkg_resources'] = (
        'removed from setuptools 82: a stand-in while Lasagne 0.1 and '
        'theano.gpuarray.linalg import it')
    return spec


def _dnn(name, path):
    if dnn_usable():
        return None
    return _stand_in(name, None, 'dnn', (
        'needs cuDNN through a GPU backend that is not in use: the same '
        "layers on Theano's abstract convolutions"))


def dnn_usable():
    """Whether Lasagne's own ``layers.dnn`` can be imported here."""
    import lasagne.layers
    if not hasattr(lasagne.layers, 'BaseConvLayer'):
        return False  # Lasagne 0.1 knows only the backend that Theano dropped
    from theano import gpuarray
    return gpuarray.pygpu_activated and gpuarray.dnn.dnn_present()


def _stand_in(name, path, module, reason):
    """The spec of the file `module` of this package under the name `name`.

    None where `path` is given and holds the real module.
    """
    real = importlib.machinery.PathFinder.find_spec(name, path)
    if real is not None and name != 'lasagne.layers.dnn':
        return None
    applied[name] = reason
    return importlib.util.spec_from_file_location(
        name, os.path.join(os.path.dirname(__file__), module + '.py'))


_ACTIONS = {
    'theano': _theano,
    'theano.tensor.signal.downsample': _downsample,
    'lasagne.layers.dnn': _dnn,
    'lasagne': _needs_pkg_resources,
    'theano.gpuarray.linalg': _needs_pkg_resources,
}
