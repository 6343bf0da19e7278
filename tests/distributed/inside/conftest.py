"""For tests that run in each of several processes.

``mpiexec -n 2 python -m pytest tests/distributed/inside`` starts them, see
test_processes.py. All run the same tests in the same order; a test that fails
in one process ends all, since others may wait for it.
"""
import os
import time

import pytest

from wnorm import distributed
from wnorm.distributed import peers

#: Not collected by a pytest that is one process, unless asked to.
if distributed.size() == 1 and 'WNORM_TESTS_INSIDE' not in os.environ:
    collect_ignore_glob = ['test_*.py']

#: What tests have to say at the end, on process 0.
LINES = []


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    peers.TIMEOUT = 60.
    folder = os.environ.get('WNORM_TESTS_INSIDE')
    if folder:  # pytest removes old folders, of which others make new ones
        config.option.basetemp = os.path.join(
            folder, str(distributed.rank()))


def pytest_sessionstart(session):
    if distributed.rank() > 0:  # process 0 speaks for all
        plugins = session.config.pluginmanager
        plugins.unregister(plugins.get_plugin('terminalreporter'))


def pytest_runtest_logreport(report):
    if report.failed and distributed.size() > 1:
        os.write(2, ('rank %d: %s\n%s\n%s\n' % (
            distributed.rank(), report.nodeid, report.longreprtext,
            report.capstderr)).encode())
        time.sleep(1)  # others fail as well, perhaps
        distributed.world().MPI.COMM_WORLD.Abort(1)


def pytest_terminal_summary(terminalreporter):
    for line in LINES:
        terminalreporter.write_line(line)


@pytest.fixture
def say():
    """For figures: ``say('largest difference', 1e-13)``."""
    return lambda *words: LINES.append(' '.join(map(str, words)))
