"""Weights to and from other frameworks: a module for each."""


def __getattr__(name):
    if name != 'torch':
        raise AttributeError('module %r has no attribute %r'
                             % (__name__, name))
    import importlib
    return importlib.import_module(__name__ + '.torch')
