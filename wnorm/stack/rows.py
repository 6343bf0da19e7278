"""Findings: what the doctor prints, and what the GPU command refuses by."""

#: What a row says of its subject: it works; it is not there and not needed;
#: it works, but could work better; it keeps the library from working; it was
#: not tried, as something before it does not work.
STATUSES = ('ok', 'absent', 'warning', 'problem', 'skipped')


def row(name, value, status='ok', remedy=''):
    """One line of the table: what, how it is, and what to do about it."""
    return {'name': name, 'status': status, 'value': value, 'remedy': remedy}


def problem(name, value, remedy):
    return row(name, value, 'problem', remedy)
