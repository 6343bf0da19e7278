"""Runs Python with Theano's C code under AddressSanitizer and UBSan.

    python tests/ops/sanitize.py -m pytest --capture=sys -m compiled

All modules are compiled with both; whatever they report ends the process.
"""
import os
import subprocess
import sys

# a comma would end the flag of Theano
FLAGS = ['-g', '-fno-omit-frame-pointer', '-fsanitize=address',
         '-fsanitize=undefined', '-fno-sanitize-recover=undefined']
FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), '.cache', 'sanitize')


def library(name):
    """The path of one of the compiler's libraries."""
    path = subprocess.check_output(['g++', '-print-file-name=' + name],
                                   universal_newlines=True).strip()
    if not os.path.isabs(path):
        raise RuntimeError('g++ has no %s: install libasan and libubsan '
                           '(Debian: a part of libgcc-12-dev)' % name)
    return os.path.realpath(path)


def environment(folder=FOLDER):
    """The variables to set, with a folder for what is compiled."""
    flags = [os.environ.get('THEANO_FLAGS', ''), 'base_compiledir=' + folder,
             'gcc.cxxflags=' + ' '.join(FLAGS)]
    return {
        'THEANO_FLAGS': ','.join(flag for flag in flags if flag),
        # they must come before all else, which python is not linked with
        'LD_PRELOAD': ' '.join(map(library, ['libasan.so', 'libubsan.so'])),
        # so that an array given back too often is seen
        'PYTHONMALLOC': 'malloc',
        # Python itself frees little of its memory at exit
        'ASAN_OPTIONS': 'detect_leaks=0:exitcode=99',
        'UBSAN_OPTIONS': 'print_stacktrace=1:exitcode=99'}


if __name__ == '__main__':
    os.environ.update(environment())
    os.execv(sys.executable, [sys.executable] + sys.argv[1:])
