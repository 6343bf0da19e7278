"""What is done before Theano or Lasagne is imported, and why.

Each remedy is a function that looks for the one problem it mends, leaves a
working installation alone, and reports what it did to :data:`applied`, where
the doctor reads it.
"""
import configparser
import contextlib
import importlib.util
import inspect
import logging
import os
import re
import shlex
import sys
import textwrap
import types
import warnings

from wnorm.stack import hook

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


def _search(name, path):
    """What the import would find without this package, or None.

    Every other finder is asked, not the search path alone: editable installs
    come with finders of their own.
    """
    for finder in sys.meta_path:
        # an old finder may have find_module alone
        find_spec = getattr(finder, 'find_spec', None)
        # by name: whoever imports wnorm anew does not get the same class
        if find_spec is not None and (
                getattr(finder, '__module__', None) != hook.__name__):
            spec = find_spec(name, path)
            if spec is not None:
                return spec
    return None


class _Around(object):
    """Loads a module with something done before and after.

    Parameters
    ----------
    loader
        The module's own, which does the work.
    around : function
        From the module to a context manager.
    """

    def __init__(self, loader, around):
        self.loader = loader
        self.around = around

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.loader
        with self.around(module):
            self.loader.exec_module(module)


def _mended(around):
    """The action for a module that is loaded `around` something."""
    def action(name, path):
        spec = _search(name, path)
        if spec is not None:
            spec.loader = _Around(spec.loader, around)
        return spec

    return action


# --- Theano ---------------------------------------------------------------

def _theano(name, path):
    if _search(name, path) is not None:
        warn_about_toolchain()
        restore_numpy_names()
        restore_scipy_names()
        describe_blas()
        skip_compiled_scan()
    return None


def warn_about_toolchain():
    """Say what to install where Theano could not compile anything."""
    from wnorm.stack import preflight
    for problem in (preflight.compiler_problem(), preflight.header_problem()):
        if problem and setting('cxx') is None:
            warnings.warn(problem, RuntimeWarning, stacklevel=2)


def setting(name):
    """What the user tells Theano in THEANO_FLAGS or .theanorc, or None.

    To be had before Theano is imported, and without it.
    """
    flags = shlex.shlex(os.environ.get('THEANO_FLAGS', ''), posix=True)
    flags.whitespace, flags.whitespace_split = ',', True
    try:
        values = [flag.strip()[len(name) + 1:] for flag in flags
                  if flag.strip().startswith(name + '=')]
    except ValueError:  # an open quotation, for Theano to report
        values = []
    if values:
        return values[-1]
    files = configparser.RawConfigParser()
    try:
        files.read(os.path.expanduser(path) for path in os.environ.get(
            'THEANORC', '~/.theanorc').split(os.pathsep))
    except configparser.Error:
        pass  # for Theano to report
    return files.get('global', name, fallback=None)


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

    Theano asks ``numpy.distutils.__config__``. The wheels of NumPy before
    1.26 have it, but without the entry, and Theano crashes. Where all of it
    is gone, Theano falls into a search that prints, or crashes under a
    recent setuptools.
    """
    import numpy
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        import numpy.distutils
        try:
            import numpy.distutils.__config__
        except ImportError:
            numpy.distutils.__config__ = types.SimpleNamespace()
    config = numpy.distutils.__config__
    if not hasattr(config, 'blas_opt_info'):
        config.blas_opt_info = {'libraries': ['openblas'], 'library_dirs': []}
        logging.getLogger('theano.tensor.blas').addFilter(_not_the_fallback)
        applied['numpy.distutils.__config__.blas_opt_info'] = (
            'gone from NumPy, asked by Theano when it looks for a BLAS: names '
            "OpenBLAS, which it links if the system has it (else -lblas, else "
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


def _has_more_than_empty_props(thing, name):
    """``hasattr``, but for the ``__props__`` of an Op without any."""
    return hasattr(thing, name) and (name != '__props__' or
                                     bool(thing.__props__))


@contextlib.contextmanager
def _with_cache(module):
    yield
    # its name for the function, nobody else's
    module.hasattr = _has_more_than_empty_props
    applied['theano.gof.cc'] = (
        'compiled Ops without parameters, such as Dot22, anew in every '
        'process: kept like the others')


#: Why Theano did not get NumPy's BLAS: a :exc:`wnorm.stack.blas.NoAdapter`,
#: or None.
no_adapter = None


def adapt_blas():
    """Give Theano the BLAS that NumPy has loaded, if the user gave it none.

    It spares Theano the search for one too: four runs of the compiler at
    every import.
    """
    global no_adapter
    from theano import config
    from wnorm.stack import blas
    # the flag itself: Theano forgets what THEANO_FLAGS said of it
    if not type(config.blas).ldflags.is_default:
        return
    try:
        blas.require_enabled()
        config.blas.ldflags = blas.adapter(
            blas.of_numpys_wheel(blas.loaded()), config.compiledir, config.cxx)
    except blas.NoAdapter as error:
        no_adapter = error
    else:
        applied['theano.config.blas.ldflags'] = (
            "NumPy's OpenBLAS through an adapter: Theano's own way to it has "
            'no accumulating product')


#: What Theano declares in C, in terms of what it defines in C++.
_GEMM = """
extern "C" void %(s)sgemm_(
    char* ta, char* tb, const int* m, const int* n, const int* k,
    const %(type)s* alpha, const %(type)s* a, const int* lda,
    const %(type)s* b, const int* ldb,
    const %(type)s* beta, %(type)s* c, const int* ldc) {
    %(s)sgemm_(ta, tb, (int*)m, (int*)n, (int*)k, (%(type)s*)alpha,
               (%(type)s*)a, (int*)lda, (%(type)s*)b, (int*)ldb,
               (%(type)s*)beta, c, (int*)ldc);
}
"""


def complete_batched_dot(BatchedDot):
    """Add the functions that its C code lacks if there is no BLAS to link."""
    support = BatchedDot.c_support_code

    def c_support_code(self):
        return (support(self) + _GEMM % {'s': 's', 'type': 'float'} +
                _GEMM % {'s': 'd', 'type': 'double'})

    BatchedDot.c_support_code = c_support_code
    applied['theano.tensor.blas.BatchedDot'] = (
        "does not link where Theano has no BLAS but NumPy's: T.batched_dot "
        'gets the functions that it lacks')


def let_matrices_be_empty(GemmRelated):
    """Have products of empty matrices computed.

    NumPy's empty arrays have strides of 0, which this code in C takes for
    matrices that no BLAS could compute with.
    """
    GemmRelated.encode_strides_in_unit = re.sub(
        r'(N.)\[(.)\]==1', r'\1[\2]==1 || !\1[0] || !\1[1]',
        GemmRelated.encode_strides_in_unit)
    GemmRelated.compute_strides = re.sub(
        r'\((N.)\[(.)\] > 1\)', r'(\1[\2] > 1 && \1[0] && \1[1])',
        GemmRelated.compute_strides)
    version = GemmRelated.build_gemm_version
    # what was compiled before is not used again
    GemmRelated.build_gemm_version = lambda self: version(self) + (1,)
    applied['theano.tensor.blas.GemmRelated'] = (
        "refuses empty matrices, as NumPy's now have strides of 0: taken")


@contextlib.contextmanager
def _with_blas(module):
    import numpy
    adapt_blas()
    yield
    if 0 in numpy.empty((0, 2)).strides:
        let_matrices_be_empty(module.GemmRelated)
    if not module.config.blas.ldflags:
        complete_batched_dot(module.BatchedDot)


@contextlib.contextmanager
def _with_sparse(module):
    yield
    from theano import config
    from theano.compile import optdb
    if config.blas.ldflags:
        optdb['specialize'].remove_tags('local_usmm', 'fast_run')
        applied['theano.sparse.opt.local_usmm'] = (
            'with a BLAS to link, Theano computes z - a * dot(x, y), x '
            'sparse, in the place of z, even where z is an input: left out')


def index_with_tuples(Op):
    """Have an Op's Python code index with tuples, where it does with lists."""
    source = re.sub(
        r'\[(\[region_slices.* in xrange\(nd\)\]|region_slice)\]',
        r'[tuple(\1)]', textwrap.dedent(inspect.getsource(Op.perform)))
    scope = {}
    exec(source, Op.perform.__globals__, scope)
    Op.perform = scope['perform']


@contextlib.contextmanager
def _with_pooling(module):
    yield
    for Op in module.Pool, module.AveragePoolGrad, module.MaxPoolRop:
        index_with_tuples(Op)
    applied['theano.tensor.signal.pool'] = (
        'its code in Python indexes with lists of slices, which NumPy '
        'refuses: with tuples')


@contextlib.contextmanager
def _without_mpi(module):
    # importing mpi4py.MPI begins MPI: a child that a process of MPI starts
    # must not, and without a library of MPI it is a RuntimeError
    before = {name: module for name, module in sys.modules.items()
              if name == 'mpi4py'}
    sys.modules['mpi4py'] = None
    try:
        yield
    finally:
        del sys.modules['mpi4py']
        sys.modules.update(before)


def _io(name, path):
    """Where MPI has begun already, Theano may use it."""
    spec = _search(name, path)
    if (spec is not None and 'mpi4py.MPI' not in sys.modules and
            _search('mpi4py', None) is not None):
        spec.loader = _Around(spec.loader, _without_mpi)
        applied['theano.tensor.io'] = (
            'begins MPI in every process that imports Theano, for Ops that '
            'send arrays, and fails without an MPI library: it does not')
    return spec


def _downsample(name, path):
    return _stand_in(name, path, 'downsample', (
        'removed from Theano 0.9, imported by Lasagne 0.1: '
        'calls theano.tensor.signal.pool'))


@contextlib.contextmanager
def _with_rewrites(module):
    yield
    from wnorm.stack.gpu import rewrites
    applied.update(rewrites.register())


def _gpuarray(name, path):
    spec = _search(name, path)
    if spec is not None and (setting('device') or 'cpu') != 'cpu':
        spec.loader = _Around(spec.loader, _with_rewrites)
    return spec


# --- Lasagne --------------------------------------------------------------

@contextlib.contextmanager
def _without_setuptools(module):
    """Has a ``pkg_resources`` while `module` imports it.

    For that module alone: who finds none later must be able to use something
    else.
    """
    from wnorm.stack import pkg_resources
    sys.modules['pkg_resources'] = pkg_resources
    try:
        yield
    finally:
        sys.modules.pop('pkg_resources', None)


def _needs_pkg_resources(name, path):
    if ('pkg_resources' in sys.modules or
            importlib.util.find_spec('pkg_resources') is not None):
        return None
    spec = _search(name, path)
    if spec is not None and spec.loader is not None:
        spec.loader = _Around(spec.loader, _without_setuptools)
        applied['pkg_resources'] = (
            'removed from setuptools 82: a stand-in while Lasagne 0.1 and '
            'theano.gpuarray.linalg import it')
    return spec


class _NumPyOfOld(object):
    """NumPy with a linspace that takes a number of steps such as 4.0."""

    def __getattr__(self, name):
        import numpy
        return getattr(numpy, name)

    def linspace(self, start, stop, num=50, **options):
        import numpy
        return numpy.linspace(start, stop, int(num), **options)


@contextlib.contextmanager
def _with_numpy_of_old(module):
    yield
    module.np = _NumPyOfOld()


def _special(name, path):
    import numpy
    spec = _search(name, path)
    try:
        numpy.linspace(0, 1, 2.)
    except TypeError:
        if spec is not None:
            spec.loader = _Around(spec.loader, _with_numpy_of_old)
            applied[name] = (
                'TPSTransformerLayer gives numpy.linspace a square root, '
                'which NumPy 1.18 ceased to take: made an integer')
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
    if not hasattr(lasagne.layers.conv, 'BaseConvLayer'):
        return False  # Lasagne 0.1 knows only the backend that Theano dropped
    from theano import gpuarray
    return gpuarray.pygpu_activated and gpuarray.dnn.dnn_present()


def _stand_in(name, path, module, reason):
    """The spec of the file `module` of this package under the name `name`.

    None where `path` is given and holds the real module.
    """
    if path is not None and _search(name, path) is not None:
        return None
    applied[name] = reason
    return importlib.util.spec_from_file_location(
        name, os.path.join(os.path.dirname(__file__), module + '.py'))


_ACTIONS = {
    'theano': _theano,
    'theano.gof.cc': _mended(_with_cache),
    'theano.tensor.blas': _mended(_with_blas),
    'theano.tensor.io': _io,
    'theano.sparse.opt': _mended(_with_sparse),
    'theano.tensor.signal.downsample': _downsample,
    'theano.tensor.signal.pool': _mended(_with_pooling),
    'lasagne.layers.dnn': _dnn,
    'lasagne.layers.special': _special,
    'lasagne': _needs_pkg_resources,
    'theano.gpuarray.linalg': _needs_pkg_resources,
    'theano.gpuarray.opt': _gpuarray,
}
