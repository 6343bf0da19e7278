"""Runs code in interpreters of its own."""
import itertools
import os
import subprocess
import sys

#: What a user may import, in any order, and use.
IMPORTS = {
    'theano': 'import theano; theano.config.floatX',
    'lasagne': 'import lasagne; lasagne.layers.DenseLayer',
    'wnorm': 'import wnorm; wnorm.weight_norm',
    'dnn': 'from lasagne.layers import dnn; dnn.Conv2DDNNLayer',
}
ORDERS = list(itertools.permutations(IMPORTS))

#: A script in two parts: what a child process needs, and the program.
SCRIPT = """
import theano
import lasagne
from lasagne.layers import dnn


def shape(units):
    layer = lasagne.layers.InputLayer((None, 2, 6, 6))
    return dnn.Conv2DDNNLayer(layer, units, (2, 2)).output_shape
"""
SPAWNS = SCRIPT + """

if __name__ == '__main__':
    import multiprocessing
    pool = multiprocessing.get_context('spawn').Pool(1)
    print(shape(3), pool.apply(shape, (4,)))
    pool.close()
    pool.join()
"""
PRINTED = '(None, 3, 5, 5) (None, 4, 5, 5)\n'

#: The same for pytest.
TESTS = SCRIPT + """

def test_shape():
    assert shape(3) == (None, 3, 5, 5)
"""


#: Where what examples compile is kept, which have a net in common. .ci/run
#: runs one of them afterwards.
EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), '.cache', 'theano', 'demo')


def in_c(folder=None):
    """THEANO_FLAGS for a program, without those that run the tests in Python;
    it compiles into `folder`, if given."""
    flags = [flag for flag in os.environ['THEANO_FLAGS'].split(',')
             if not flag.startswith(('mode', 'optimizer'))]
    if folder:
        flags.append('base_compiledir=' + folder)
    return ','.join(flags)


def python(*arguments, cwd, executable=sys.executable, limit=300,
           **environment):
    """Runs ``python arguments`` in folder `cwd`.

    Parameters
    ----------
    environment
        Variables to set, or with None to remove.

    Returns
    -------
    subprocess.CompletedProcess
        With text in `stdout` and `stderr`.
    """
    # Lasagne master's own, shown whenever its files are compiled anew
    environment.setdefault('PYTHONWARNINGS', 'ignore::SyntaxWarning')
    variables = {**os.environ, **environment}
    return subprocess.run(
        [str(executable)] + [str(argument) for argument in arguments],
        cwd=str(cwd), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True, timeout=limit,
        env={name: str(value) for name, value in variables.items()
             if value is not None})


def silent(done):
    """What a program printed that had to end well and without a warning."""
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    return done.stdout


def write(folder, files):
    """Writes files, given as path to text, and returns the folder."""
    for path, text in files.items():
        path = folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def first_on_path(folder):
    """``PYTHONPATH`` with a folder before all others."""
    return os.pathsep.join(filter(None, [
        str(folder), os.environ.get('PYTHONPATH')]))
