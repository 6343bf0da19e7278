"""Weight normalization for Lasagne (Salimans & Kingma 2016)."""
from .stack import hook as _hook  # arms the remedies if no .pth file did

__version__ = '0.1.0'

# public name: the module that defines it, imported on first use, so that the
# start-up hook and ``python -m wnorm`` load neither Theano nor Lasagne
_HOMES = {
    'WeightNormLayer': 'layers',
    'weight_norm': 'layers',
    'weight_norm_network': 'networks',
    'normalize_param': 'parameters',
    'Gain': 'gains',
    'MeanOnlyBatchNormLayer': 'mean_only',
    'mean_only_batch_norm': 'mean_only',
    'initialize': 'initialization',
    'init_updates': 'initialization',
    'initialize_norm_preserving': 'norm_preserving',
    'fold': 'folding',
    'save': 'checkpoints',
    'load': 'checkpoints',
    'summary': 'inspection',
    'plot_gains': 'inspection',
    'explain': 'ops.explain',
    'Layout': 'filters',
    'register': 'filters',
}

# modules that ``import wnorm`` offers in the same way
_MODULES = ['distributed', 'filters', 'initialization', 'interop', 'layers', 'nn', 'ops']

__all__ = sorted(_HOMES)


def __getattr__(name):
    import importlib
    if name in _MODULES:
        return importlib.import_module('%s.%s' % (__name__, name))
    if name in _HOMES:
        home = importlib.import_module('%s.%s' % (__name__, _HOMES[name]))
        return globals().setdefault(name, getattr(home, name))
    raise AttributeError('module %r has no attribute %r' % (__name__, name))


def __dir__():
    return sorted(set(globals()) | set(__all__) | set(_MODULES))
