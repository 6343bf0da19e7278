"""How a layer is called in messages, and how tables are printed."""
import difflib


def describe(layer):
    """Name `layer` as its author knows it.

    Parameters
    ----------
    layer : :class:`lasagne.layers.Layer`

    Returns
    -------
    str
        Such as ``DenseLayer 'fc1' (None, 10)``: the class, the name if there
        is one, the output shape if it can be told.
    """
    words = [type(layer).__name__]
    if getattr(layer, 'name', None) is not None:
        words.append(repr(layer.name))
    try:
        words.append(str(layer.output_shape))
    except Exception:  # a message must not fail because a layer is odd
        pass
    return ' '.join(words)


def suggest(name, known):
    """Such as `` Did you mean 'g'?``, or nothing if nothing is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return ' Did you mean %r?' % close[0] if close else ''


def table(rows, right=()):
    """Rows of text in columns; the columns `right` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
        for row in rows)
