"""Packaging. Beyond the usual it installs ``wnorm.pth``, the start-up hook."""
import os
import re

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

HERE = os.path.dirname(os.path.abspath(__file__))


def read(name):
    with open(os.path.join(HERE, name), encoding='utf-8') as f:
        return f.read()


class build_hook(Command):
    """Put ``wnorm.pth`` where it lands in site-packages.

    A sub-command of ``build``, because that runs for wheels and, with
    `editable_mode` set, for editable installs alike.
    """
    description = 'add the start-up hook to the build'
    user_options = []
    hook = 'wnorm.pth'
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options('build_py', ('build_lib', 'build_lib'))

    def _target(self):
        if self.editable_mode:  # the wheel itself, not what it links to
            return self.get_finalized_command('install').install_purelib
        return self.build_lib

    def run(self):
        self.mkpath(self._target())
        self.copy_file(os.path.join(HERE, self.hook), self._target())

    def get_source_files(self):
        return [self.hook]

    def get_outputs(self):
        return [os.path.join(self.build_lib, self.hook)]

    def get_output_mapping(self):
        return {}


class build_with_hook(build):
    sub_commands = build.sub_commands + [('build_hook', None)]


# what the examples need beyond the library
EXAMPLES = ['scikit-learn', 'matplotlib', 'tqdm']

# data-parallel training; on a cluster, mpi4py with the site's own MPI
MPI = ['mpi4py', 'mpich']

# what python -m wnorm port converts Python 2 with
PORT = ['fissix']

setup(
    name='wnorm',
    version=re.search(r"^__version__ = '(.*)'", read('wnorm/__init__.py'),
                      re.M).group(1),
    description='Weight normalization for Lasagne, and Theano 1.0.5 and '
                'Lasagne running on current machines',
    long_description=read('README.md'),
    long_description_content_type='text/markdown',
    license='MIT',
    packages=find_packages(include=['wnorm', 'wnorm.*']),
    package_data={'wnorm.ops': ['epilogue.hpp', 'kernels.hpp'],
                  'wnorm.stack': ['blas.cpp'],
                  'wnorm.stack.gpu': ['capability.cpp', 'cudnn/cudnn.h']},
    cmdclass={'build': build_with_hook, 'build_hook': build_hook},
    python_requires='>=3.8,<3.12',
    install_requires=[
        'Theano==1.0.5',
        'Lasagne>=0.1',
        'numpy>=1.23.2,<2',
        'scipy',
    ],
    extras_require={
        'docs': ['furo', 'myst-parser', 'numpydoc', 'sphinx'],
        'examples': EXAMPLES,
        'mpi': MPI,
        'port': PORT,
        'test': EXAMPLES + MPI + PORT + ['hypothesis', 'joblib', 'pytest',
                                         'pytest-cov', 'pytest-xdist'],
        'torch': ['torch'],
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'License :: OSI Approved :: MIT License',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.8',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
