"""Old code to try on, in the words of these tests."""
from running import write
from wnorm.port import project


def port(folder, files, newline=None):
    """Ports files given as name to text; what is skipped fails.

    Returns
    -------
    dict of str to Ported
    """
    ported, skipped = project.port(str(write(folder, files)))
    assert skipped == []
    return {one.file.name: one for one in ported}


def port_one(folder, text):
    return port(folder, {'a.py': text})['a.py']


def rows(one):
    """What was found, as lines, kinds, what and remedy."""
    return [tuple(finding) for finding in one.report()]


def lines(one, kind=None):
    return [finding.line for finding in one.report()
            if kind in (None, finding.kind)]
