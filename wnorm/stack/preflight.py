"""What must be on the machine before anything is downloaded.

As a script it prints what is missing, one line each, and how to get it::

    python3 wnorm/stack/preflight.py [--without venv]

It is written so that any Python can run it: whoever has the wrong one is to
read a sentence, not a traceback.
"""
from __future__ import print_function

import argparse
import os
import sys
import sysconfig

#: The oldest and the newest Python that Theano 1.0.5 and NumPy agree on.
OLDEST, NEWEST = (3, 8), (3, 11)


def python_problem():
    """What is wrong with the running Python.

    Returns
    -------
    str or None
        One sentence with the remedy, or None if nothing is wrong; the other
        functions of this module alike.
    """
    name = 'Python %d.%d' % sys.version_info[:2]
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        why = 'Theano 1.0.5 cannot be built on 3.12 or later'
    elif sys.implementation.name != 'cpython':
        name = sys.implementation.name + "'s " + name
        why = 'Theano compiles C code for CPython alone'
    else:
        return None
    return ('%s does not work here: use CPython 3.8 to 3.11 (%s), '
            'for instance: make PYTHON=python3.11' % (name, why))


def venv_problem():
    """What keeps the running Python from making a virtual environment."""
    try:
        import ensurepip  # noqa: F401  Debian leaves out this, not venv
        import venv  # noqa: F401
    except ImportError:
        return ("Python's venv module is missing: install it (Debian, "
                'Ubuntu: apt-get install python%d.%d-venv)'
                % sys.version_info[:2])
    return None


def header_problem():
    """Whether the headers of the running Python are missing."""
    # those of the interpreter that a virtual environment was made from, too
    paths = sysconfig.get_paths()
    for folder in (paths['include'], paths['platinclude']):
        if os.path.isfile(os.path.join(folder, 'Python.h')):
            return None
    return ("Python.h, Python's C header, is missing from %s: install it "
            '(Debian, Ubuntu: apt-get install python%d.%d-dev)'
            % ((paths['include'],) + sys.version_info[:2]))


def compiler():
    """The path of the C++ compiler that Theano would use, or None."""
    names = ['clang++', 'g++'] if sys.platform == 'darwin' else ['g++']
    for name in names:
        for folder in os.environ.get('PATH', os.defpath).split(os.pathsep):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    return None


def compiler_problem():
    """Whether the C++ compiler is missing."""
    if compiler():
        return None
    if sys.platform == 'darwin':
        return 'clang++ is missing: install it (xcode-select --install)'
    return 'g++ is missing: install it (Debian, Ubuntu: apt-get install g++)'


def problems(without=()):
    """All that is missing, but for the checks named in `without`."""
    checks = [('python', python_problem), ('compiler', compiler_problem)]
    if python_problem() is None:  # else another one's headers are needed
        checks += [('headers', header_problem), ('venv', venv_problem)]
    found = [check() for name, check in checks if name not in without]
    return [problem for problem in found if problem]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description='Say what must be installed first.')
    parser.add_argument(
        '--without', action='append', default=[], metavar='CHECK',
        choices=['python', 'compiler', 'headers', 'venv'],
        help='leave out this check: %(choices)s')
    found = problems(parser.parse_args(argv).without)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
