"""Stands in for ``pkg_resources``, which setuptools 82 removed.

Lasagne 0.1 asks it for its own version, ``theano.gpuarray.linalg`` names its
exception.
"""
from importlib import metadata


class DistributionNotFound(Exception):
    pass


class Distribution(object):
    def __init__(self, version):
        self.version = version


def get_distribution(name):
    try:
        return Distribution(metadata.version(name))
    except metadata.PackageNotFoundError as error:
        raise DistributionNotFound(str(error))
