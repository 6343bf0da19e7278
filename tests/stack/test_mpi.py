"""What the doctor says of MPI."""
import os
import sys

import pytest

from running import python, silent, write

pytest.importorskip('mpi4py')

SAYS = ('from wnorm.stack import mpi; '
        '[print(row["status"], "|", row["value"], "|", row["remedy"]) '
        'for row in mpi.rows()]')
ELSEWHERE = 'import sys; sys.executable = "/nowhere/python"; '
HERE = os.path.dirname(sys.executable)


def says(folder, code='', **environment):
    done = python('-c', code + SAYS, cwd=folder, **environment)
    return silent(done)[:-1].split(' | ')


def mpiexec(folder, text):
    """A PATH with an mpiexec alone."""
    write(folder, {'mpiexec': '#!/bin/sh\n' + text})
    (folder / 'mpiexec').chmod(0o755)
    return str(folder)


def test_here(tmp_path):
    status, value, *_ = says(tmp_path)
    assert status == 'ok'
    assert value.startswith('MPICH ') and ', mpi4py ' in value
    assert value.endswith('(%s)' % os.path.join(HERE, 'mpiexec'))


def test_not_installed(tmp_path):
    status, value, *_ = says(
        tmp_path, 'import sys; '
        'sys.modules["mpi4py"] = None; ')
    assert (status, value) == (
        'absent', 'mpi4py is not installed (needed by several processes '
        "only): pip install 'wnorm[mpi]'")


def test_broken(tmp_path):
    """What is missing is something else: the doctor says what."""
    write(tmp_path, {'mpi4py.py': 'import no_such_module'})
    done = python('-c', SAYS, cwd=tmp_path, PYTHONPATH=tmp_path)
    assert done.stderr.endswith("No module named 'no_such_module'\n")


def test_no_library(tmp_path):
    status, value, remedy = says(tmp_path, MPI4PY_LIBMPI='/no/libmpi.so')
    assert status == 'warning'
    assert 'has no MPI library: cannot load MPI library /no/libmpi.so' in value
    assert remedy.startswith("pip install 'wnorm[mpi]'")


def test_no_mpiexec(tmp_path):
    status, value, remedy = says(tmp_path, ELSEWHERE, PATH=tmp_path)
    assert status == 'warning'
    assert value.endswith(', and no mpiexec')
    assert remedy == "pip install 'wnorm[mpi]'"


@pytest.mark.parametrize('text', [
    'echo "mpiexec (OpenRTE) 4.1.4"', 'echo "mpiexec (Open MPI) 5.0.11"'])
def test_mpiexec_of_another(tmp_path, text):
    path = mpiexec(tmp_path, text)
    status, value, remedy = says(tmp_path, ELSEWHERE, PATH=path)
    assert status == 'warning'
    assert value.endswith('; %s/mpiexec cannot start it' % path)
    assert 'MPI4PY_LIBMPI' in remedy
    # the right one is there, but who types mpiexec gets the other
    status, value, remedy = says(tmp_path, PATH=path)
    assert status == 'warning'
    assert value.endswith(
        '; %s/mpiexec, the first on the PATH, cannot start it' % path)
    assert remedy == 'start programs by %s/mpiexec' % HERE


@pytest.mark.parametrize('text, status', [
    ('echo "what is this"', 'ok'),  # one cannot tell
    ('echo "Intel(R) MPI Library for Linux* OS, Version 2021.9"', 'ok'),
])
def test_mpiexec_that_may_do(tmp_path, text, status):
    path = mpiexec(tmp_path, text)
    assert says(tmp_path, ELSEWHERE, PATH=path)[0] == status


def test_mpiexec_that_does_not_run(tmp_path):
    path = mpiexec(tmp_path, '')
    (tmp_path / 'mpiexec').write_text('#!/no/such/shell\n')
    status, value, _ = says(tmp_path, ELSEWHERE, PATH=path)
    assert (status, 'cannot start it' in value) == ('warning', True)
