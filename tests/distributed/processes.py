"""Runs programs in several processes, through mpiexec."""
import importlib.util
import subprocess
import sys

import pytest

from running import python
from wnorm.distributed.joining import INSTALL, launcher

#: Whether there is what the extra brings.
INSTALLED = bool(importlib.util.find_spec('mpi4py') and launcher(missing=''))

needs_mpi = pytest.mark.skipif(
    not INSTALLED, reason='mpi4py and mpich are not installed: ' + INSTALL)


def mpiexec(n, *arguments, cwd, limit=240, **environment):
    """Runs ``python arguments`` in `n` processes, in folder `cwd`.

    Parameters
    ----------
    limit : float
        Seconds until mpiexec is killed, which ends all processes.

    environment
        Variables to set, or with None to remove.

    Returns
    -------
    subprocess.CompletedProcess
        With text in `stdout` and `stderr`.
    """
    if not INSTALLED:
        pytest.skip(needs_mpi.kwargs['reason'])
    try:
        # more threads than cores would only be in one another's way
        return python('-n', n, sys.executable, *arguments, cwd=cwd,
                      limit=limit, executable=launcher(),
                      **dict(dict(OMP_NUM_THREADS=1), **environment))
    except subprocess.TimeoutExpired as error:
        pytest.fail('not done after %g s\n%s' % (limit, '\n'.join(
            text.decode(errors='replace') for text in
            (error.stdout, error.stderr) if text)))
