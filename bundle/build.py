"""Builds the folder for GPU nodes without network: ``make gpu-bundle``.

CPython and pygpu come from Debian's packages, the rest from PyPI; wnorm, its
tests and examples from here. CUDA, cuDNN and the driver are the node's own.
"""
import argparse
import glob
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, ROOT)

from wnorm import __version__  # noqa: E402
from wnorm.stack.gpu import debian, prepare  # noqa: E402

NAME = 'wnorm-gpu-' + __version__

#: The interpreter, its headers, and the libraries that it opens.
CPYTHON = ['python3.11-minimal', 'libpython3.11-minimal',
           'libpython3.11-stdlib', 'libpython3.11-dev', 'python3-distutils',
           'libexpat1', 'zlib1g',
           'libffi8', 'libbz2-1.0', 'liblzma5']
LIBRARIES = ['libexpat.so.1', 'libz.so.1', 'libffi.so.8', 'libbz2.so.1.0',
             'liblzma.so.5']

#: What tests and benchmarks import beyond what wnorm needs, and the way to the
#: node's MPI.
PACKAGES = ['pytest', 'pytest-xdist', 'tqdm', 'mpi4py']

#: What no program on a node needs.
WITHOUT = ['lib/python3.11/' + name for name in (
    'config-3.11-x86_64-linux-gnu', 'ensurepip', 'idlelib', 'lib2to3',
    'pydoc_data', 'test', 'tkinter', 'turtledemo')] + [
    'lib/python3/dist-packages/' + name for name in (
        'bin', 'numpy/**/tests', 'scipy/**/tests', 'numpy/**/*.pyi',
        'scipy/**/*.pyi', 'numpy/core/lib', 'numpy/random/lib',
        'numpy/f2py/src', 'theano/*/tests', 'share',
        '*.dist-info/direct_url.json')] + ['share/wnorm-gpu/python/bin']


def build(target, preset, report):
    """Write the archive `target`.

    Raises
    ------
    prepare.Failure
        With a sentence, if this machine cannot build it.
    """
    if sys.version_info[:2] != (3, 11):
        raise prepare.Failure(
            'the bundle has CPython 3.11, and its packages are installed by '
            'the same: make gpu-bundle PYTHON=python3.11')
    if not debian.available():
        raise prepare.Failure('the bundle is built from Debian packages, and '
                              'this system has no apt-get and dpkg-deb')
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with tempfile.TemporaryDirectory(
            dir=os.path.dirname(target), prefix='bundle-') as scratch:
        folder = os.path.join(scratch, NAME)
        prefix = os.path.join(folder, 'prefix')
        report('CPython, of Debian')
        place_cpython(os.path.join(scratch, 'debian'), prefix)
        report('pygpu and libgpuarray')
        place_pygpu(os.path.join(scratch, 'pygpu'), prefix)
        report('wnorm, Theano, Lasagne, NumPy, SciPy, pytest')
        place_packages(prefix)
        report('tests and examples')
        place_programs(folder)
        slim(prefix)
        report('compressing; it takes minutes')
        part = os.path.join(scratch, 'archive')
        compress(folder, part, preset)
        os.replace(part, target)


def place_cpython(scratch, prefix):
    os.makedirs(scratch)
    debian.unpack(CPYTHON, scratch)
    usr = os.path.join(scratch, 'usr')
    include = os.path.join(prefix, 'include', 'python3.11')
    for source, place in (('bin/python3.11', 'bin/python3.11'),
                          ('lib/python3.11', 'lib/python3.11'),
                          ('include/python3.11', 'include/python3.11')):
        os.makedirs(os.path.dirname(os.path.join(prefix, place)),
                    exist_ok=True)
        os.rename(os.path.join(usr, source), os.path.join(prefix, place))
    # Debian's looks for the architecture's own on the system
    (real,) = glob.glob(os.path.join(usr, 'include/*/python3.11/pyconfig.h'))
    shutil.copy(real, include)
    # Theano links -lpython3.11 from LIBDIR: the interpreter has all that is in
    # it, so here it is a linker script that adds nothing
    with open(os.path.join(prefix, 'lib', 'libpython3.11.so'), 'w') as file:
        file.write('OUTPUT_FORMAT(elf64-x86-64)\n')
    for data in glob.glob(os.path.join(
            prefix, 'lib/python3.11/_sysconfigdata*.py')):
        with open(data, 'a') as file:
            file.write('import sys\n'
                       'build_time_vars["LIBDIR"] = sys.prefix + "/lib"\n')
    spare = os.path.join(prefix, 'lib', 'spare')
    os.makedirs(spare)
    for name in LIBRARIES:
        found = (glob.glob(os.path.join(scratch, 'lib/*', name)) +
                 glob.glob(os.path.join(usr, 'lib/*', name)))
        shutil.copy(os.path.realpath(found[0]), os.path.join(spare, name))
    # what points out of the packages, such as to /etc
    for where, folders, names in os.walk(prefix):
        for name in folders + names:
            path = os.path.join(where, name)
            if os.path.islink(path) and not os.path.exists(path):
                os.unlink(path)


def place_pygpu(scratch, prefix):
    os.makedirs(scratch)
    home = os.path.join(prefix, 'share', 'wnorm-gpu')
    os.makedirs(home)
    for part in prepare.unpack_pygpu(scratch):
        os.rename(os.path.join(scratch, part), os.path.join(home, part))


def place_packages(prefix):
    target = os.path.join(prefix, 'lib', 'python3', 'dist-packages')
    subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-compile',
         '--disable-pip-version-check', '--target', target, '--constraint',
         os.path.join(ROOT, 'requirements.txt'), ROOT] + PACKAGES, check=True)


def place_programs(folder):
    ignore = shutil.ignore_patterns('__pycache__', '*.pyc')
    for name in ('tests', 'examples', 'benchmarks'):
        if os.path.isdir(os.path.join(ROOT, name)):
            shutil.copytree(os.path.join(ROOT, name),
                            os.path.join(folder, name), ignore=ignore)
    shutil.copy(os.path.join(ROOT, 'pyproject.toml'), folder)
    for name in ('run', 'run-tests', 'run-doctor'):
        shutil.copy(os.path.join(HERE, name), folder)


def slim(prefix):
    for pattern in WITHOUT:
        for path in glob.glob(os.path.join(prefix, pattern), recursive=True):
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.unlink(path)
    for where, _, names in os.walk(prefix):
        if os.path.basename(where) == '__pycache__':
            shutil.rmtree(where)
            continue
        for name in names:
            path = os.path.join(where, name)
            # what wheels have in NAME.libs is stripped, and would break; a
            # text, such as our libpython, is refused, and stays
            if '.so' in name and not os.path.islink(path) and (
                    not where.endswith('.libs')):
                subprocess.run(['strip', '--strip-unneeded', path],
                               stderr=subprocess.DEVNULL)


def compress(folder, target, preset):
    def plain(entry):
        """The same archive from the same files."""
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ''
        return entry

    with tarfile.open(target, 'w:xz', preset=preset) as archive:
        for where, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names) + [
                    name for name in folders
                    if os.path.islink(os.path.join(where, name))]:
                path = os.path.join(where, name)
                archive.add(path, os.path.relpath(
                    path, os.path.dirname(folder)), filter=plain)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--target', default=os.path.join(
        ROOT, 'dist', NAME + '.tar.xz'), help='(default: %(default)s)')
    parser.add_argument('--preset', type=int, choices=range(10), default=9,
                        help="xz's: 0 is fast, 9 small (default)")
    options = parser.parse_args()
    target = os.path.abspath(options.target)
    start = time.time()

    def report(text):
        print('%4.0f s  %s' % (time.time() - start, text), flush=True)

    try:
        build(target, options.preset, report)
    except (prepare.Failure, OSError, subprocess.SubprocessError) as error:
        sys.exit('gpu-bundle: %s' % error)
    report('%s: %.1f MB; to use it:\n        tar xf %s && %s/run-doctor' % (
        os.path.relpath(target), os.path.getsize(target) / 1e6,
        os.path.basename(target), NAME))


if __name__ == '__main__':
    main()
