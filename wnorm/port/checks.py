"""What is valid Python 3 and does not do what it did."""
import ast
import os
import re

from .text import CAUTION, HAND, WRITE, Edit, Finding, shorten

#: Functions whose first argument is whole numbers, and of which all are;
#: keywords of layers that are, and of functions.
_COUNT_FIRST = {'numpy.zeros', 'numpy.ones', 'numpy.empty'}
_COUNT_ALL = {'range', 'numpy.eye'}
_COUNT_KEYWORDS = {'num_units', 'num_filters', 'filter_size', 'batch_size'}
_COUNTS_OF = {
    'shape': {'zeros', 'ones', 'empty', 'full'},
    'size': {'binomial', 'choice', 'normal', 'randint', 'uniform'},
}

#: Distributions, whose shape is a number.
_SHAPED = {'gamma', 'pareto', 'standard_gamma', 'weibull'}

#: What Theano called its devices, in flags and in .theanorc.
_DEVICE = re.compile(
    r'(?<![\w-])((?:init_gpu_)?device\s*=\s*)gpu(?![A-Za-z_])')

#: A path on somebody's machine: two parts at least, as '/train.npz' is what
#: follows the name of a folder.
_PATH = re.compile(r'(~[\w.-]*(/|$)|/[\w.-]+/[\w./ -]*|[A-Za-z]:[\\/]\w)')
_EVERYWHERE = ('/tmp/', '/dev/', '/proc/', '/usr/', '/bin/', '/etc/', '/var/')

_PICKLES = ('pickle', 'cPickle', '_pickle', 'six.moves.cPickle')


def devices(module):
    """``device=gpu`` in the strings of a module."""
    return _gpus(module.text, module.strings())


def settings(name, text):
    """``device=gpu`` in .theanorc, or on a line of a script with the flags."""
    return _gpus(text, [
        match.span() for match in re.finditer('.+', text)
        if name.endswith('.theanorc') or 'THEANO_FLAGS' in match.group()])


def _gpus(text, spans):
    found, edits = [], []
    for span in spans:
        for match in _DEVICE.finditer(text, *span):
            line = text.count('\n', 0, match.start()) + 1
            found.append(Finding(
                line, WRITE, '%s: no device since Theano 1.0' % match.group(),
                match.group(1) + 'cuda'))
            edits.append(Edit(match.start(), match.end(),
                              match.group(1) + 'cuda'))
    return found, edits


def paths(module):
    """Paths of somebody's machine that this one has not."""
    found = []
    silent = module.docstrings()
    for node in module.nodes:
        if not isinstance(node, ast.Constant) or node in silent or (
                not isinstance(node.value, str)):
            continue
        parent = module.parent(node)
        if isinstance(parent, ast.BinOp) and parent.right is node or (
                isinstance(parent, ast.JoinedStr) and
                parent.values[0] is not node):
            continue  # the end of a path
        path = node.value
        if _PATH.match(path) and not path.startswith(_EVERYWHERE) and (
                not os.path.exists(os.path.expanduser(path))):
            option = _option(module, parent)
            line = (parent if isinstance(parent, ast.JoinedStr) else
                    node).lineno
            found.append(Finding(
                line, HAND, 'a path that is not on this machine: %r' %
                shorten(path), 'give %s' % option if option else
                "your data's path"))
    return found, []


def _option(module, node):
    """The name of the option that a keyword of add_argument is about."""
    call = module.parent(node)
    if isinstance(node, ast.keyword) and _adds_option(call):
        return call.args[0].value
    return None


def _adds_option(node):
    return (isinstance(node, ast.Call) and
            isinstance(node.func, ast.Attribute) and
            node.func.attr == 'add_argument' and node.args and
            isinstance(node.args[0], ast.Constant))


def options(module):
    """Options that are numbers by default and strings if given."""
    found = []
    for node in module.nodes:
        if not _adds_option(node):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if {'type', 'action', 'nargs', None} & set(given):
            continue
        default = given.get('default')
        if isinstance(default, ast.UnaryOp):
            default = default.operand
        value = getattr(default, 'value', None)
        if isinstance(value, bool):
            remedy = "action='store_%s'" % str(not value).lower()
        elif isinstance(value, (int, float)):
            remedy = 'type=%s' % type(value).__name__
        else:
            continue
        found.append(Finding(
            node.lineno, CAUTION, '%s, where it is given, is a string' %
            node.args[0].value, remedy))
    return found, []


def pickles(module):
    """Python 2's pickles read without encoding, or through text files."""
    found, edits = [], []
    for node in module.nodes:
        what = _pickling(module, node)
        if what is None:
            continue
        if what.startswith('load') and node.args and not {
                'encoding', None} & {word.arg for word in node.keywords}:
            found.append(Finding(
                node.lineno, WRITE, '%s: strings and arrays that Python 2 '
                'pickled fail' % shorten(module.source(node)),
                "encoding='latin1'"))
            edits.append(_with_argument(module, node, "encoding='latin1'"))
        stream = node.args[:1] if what == 'load' else (
            node.args[1:2] if what == 'dump' else [])
        for opened in _opened(module, stream):
            more, changes = _binary(module, opened, what)
            found += more
            edits += changes
    return found, edits


def _with_argument(module, call, new):
    """The edit that gives a call one more argument."""
    end = max(module.span(part)[1] for part in call.args + [
        word.value for word in call.keywords])
    # the last one may be in brackets
    rest = _without_comments(module.text[end:module.span(call)[1] - 1])
    end += rest.rfind(')') + 1
    return Edit(end, end, ', ' + new)


def _without_comments(text):
    """What is between expressions, comments made blank."""
    return re.sub(r'#[^\n]*', lambda comment: ' ' * len(comment.group()),
                  text)


def _pickling(module, node):
    """'load', 'loads', 'dump' or 'dumps', if a node calls pickle's."""
    path = isinstance(node, ast.Call) and module.dotted(node.func) or ''
    parent, _, name = path.rpartition('.')
    return name if parent in _PICKLES and name in (
        'load', 'loads', 'dump', 'dumps') else None


def _is_open(module, node):
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and
            node.func.id in ('open', 'file') and node.args and
            node.func.id not in module.bound | set(module.aliases))


def _opened(module, stream):
    """The calls of open that give a file to pickle."""
    for value in stream:
        if _is_open(module, value):
            yield value
        elif isinstance(value, ast.Name):
            for node in ast.walk(module.scope(value)):
                for target, source in _assigned(node):
                    if isinstance(target, ast.Name) and (
                            target.id == value.id) and (
                                _is_open(module, source)):
                        uses = [use for use in ast.walk(module.scope(value))
                                if isinstance(use, ast.Name) and
                                use.id == target.id and
                                isinstance(use.ctx, ast.Load)]
                        if all(_harmless(module, use) for use in uses):
                            yield source


def _assigned(node):
    if isinstance(node, ast.Assign):
        return [(target, node.value) for target in node.targets]
    if isinstance(node, ast.With):
        return [(item.optional_vars, item.context_expr)
                for item in node.items]
    return []


def _harmless(module, use):
    """Whether a file is used as a binary one may be."""
    parent = module.parent(use)
    return _pickling(module, parent) is not None or (
        isinstance(parent, ast.Attribute) and parent.attr == 'close')


def _binary(module, call, what):
    """The edit that opens a file as a binary one."""
    mode = call.args[1] if len(call.args) > 1 else next(
        (word.value for word in call.keywords if word.arg == 'mode'), None)
    if mode is None and not call.keywords:
        edit, new = _with_argument(module, call, "'rb'"), 'rb'
    elif isinstance(mode, ast.Constant) and mode.value in (
            'r', 'w', 'a', 'rU', 'U'):
        new = {'rU': 'r', 'U': 'r'}.get(mode.value, mode.value) + 'b'
        edit = module.replaced(mode, repr(new))
    else:
        return [], []
    return [Finding(call.lineno, WRITE, '%s: a pickle is bytes' % shorten(
        module.source(call)), repr(new))], [edit]


def saved_objects(module):
    """``np.load(path).item()``, which NumPy no longer reads unasked."""
    found = []
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and node.attr == 'item' and (
                isinstance(node.value, ast.Call)) and (
                    module.dotted(node.value.func) == 'numpy.load') and not (
                        {'allow_pickle', None} & {
                            word.arg for word in node.value.keywords}):
            found.append(Finding(
                node.lineno, HAND, '%s: NumPy reads no objects unasked, '
                'since 1.16.3' % shorten(module.source(node)),
                "allow_pickle=True, encoding='latin1', for a file that you "
                'trust'))
    return found, []


def divisions(module, is_python_2):
    """``range(a / b)`` and the like, where Python 2 divided whole numbers.

    In these places a float is an error, in Python 2 as well: the operands
    were whole numbers, and ``//`` does what ``/`` did. In a file that may be
    Python 3, only those of range are: a library may take floats.
    """
    if module.aliases.get('division') == '__future__.division':
        return [], []
    divided = _certain(module)
    written = divided if is_python_2 else [
        part for node in _ranges(module) for part in _divided(node)]
    return ([Finding(
        node.lineno, WRITE if node in written else CAUTION,
        '%s: a float, where a whole number is needed' %
        shorten(module.source(node)),
        '//' + ' if it was meant so' * (node not in written))
        for node in divided], [_floored(module, node) for node in written])


def _certain(module):
    """The divisions whose results must be whole numbers, each once."""
    return list(dict.fromkeys(
        part for node in list(_counts(module)) + _counted(module)
        for part in _divided(node)))


def _ranges(module):
    """The arguments of range."""
    return [part for node in module.nodes
            if isinstance(node, ast.Call) and
            _called(module, node) == 'range' for part in node.args]


def _counted(module):
    """What is assigned, once, to a name that then is an argument of range."""
    names = {name for part in _ranges(module) for name in _named(part)}
    stores, values = [], {}
    for node in module.nodes:
        if isinstance(node, ast.arg):
            stores.append(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(
                node.ctx, ast.Load):
            stores.append(node.id)
            parent = module.parent(node)
            if isinstance(parent, ast.Assign):
                values[node.id] = parent.value
    return [values[name] for name in sorted(names)
            if name in values and stores.count(name) == 1]


def _called(module, call):
    """The path of a function that is called, or the name of a built-in."""
    name = getattr(call.func, 'id', None)
    return module.dotted(call.func) or (
        None if name in module.bound else name)


def _floored(module, division):
    """The edit that makes / a //."""
    start = module.span(division.left)[1]
    end = module.span(division.right)[0]
    # between the operands: brackets, comments, continued lines
    at = start + _without_comments(module.text[start:end]).index('/')
    return Edit(at, at + 1, '//')


def _divided(node):
    """The divisions whose result a number is made of by + - * and brackets."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return [part for item in node.elts for part in _divided(item)]
    if isinstance(node, ast.UnaryOp):
        return _divided(node.operand)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Div):
            if any(isinstance(part, ast.Constant) and
                   isinstance(part.value, float)
                   for part in ast.walk(node)):
                return []
            return [node] + _divided(node.left)
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
            return _divided(node.left) + _divided(node.right)
    return []


def _named(node):
    """The names of which a number is made in the same way."""
    if isinstance(node, ast.BinOp):
        return _named(node.left) + _named(node.right)
    return [node.id] if isinstance(node, ast.Name) else []


def _counts(module):
    """The expressions that must be whole numbers."""
    for node in module.nodes:
        if isinstance(node, ast.Slice):
            for part in (node.lower, node.upper, node.step):
                if part is not None:
                    yield part
        elif isinstance(node, ast.Call):
            name = _called(module, node)
            method = getattr(node.func, 'attr', None)
            if name in _COUNT_ALL or method == 'reshape':
                # a module's takes the array first
                for part in node.args[method == 'reshape' and
                                      name is not None:]:
                    yield part
            elif name in _COUNT_FIRST:
                for part in node.args[:1]:
                    yield part
            last = (name or method or '').rpartition('.')[2]
            for word in node.keywords:
                if word.arg in _COUNT_KEYWORDS or last in _COUNTS_OF.get(
                        word.arg, ()):
                    yield word.value
                elif word.arg in _COUNTS_OF and isinstance(
                        word.value, ast.Tuple) and last not in _SHAPED:
                    yield word.value


def possible_divisions(module):
    """Other divisions of what looks like whole numbers: to be looked at."""
    if module.aliases.get('division') == '__future__.division':
        return []
    certain = set(_certain(module))
    return [Finding(node.lineno, CAUTION, '%s: Python 2 divided whole '
                    'numbers without remainder' % shorten(
                        module.source(node)), '// if it was meant so')
            for node in module.nodes
            if isinstance(node, ast.BinOp) and
            isinstance(node.op, ast.Div) and node not in certain and
            _whole(node.left) and _whole(node.right) and
            not _rounded(module, node)]


def evaluated_input(module):
    """``input()``, which evaluated what was typed."""
    return [Finding(node.lineno, CAUTION, '%s: Python 2 evaluated it' %
                    shorten(module.source(node)),
                    'int(...) or so, if a number was meant')
            for node in module.nodes
            if isinstance(node, ast.Call) and
            _called(module, node) == 'input']


#: Encodings that are not between text and bytes.
_CODECS = {'base64', 'bz2', 'hex', 'quopri', 'rot13', 'uu', 'zlib'}


def calls(module):
    """Calls that Python 3 does not take so."""
    found = []
    for node in module.nodes:
        if not isinstance(node, ast.Call) or module.guarded(node):
            continue
        method = getattr(node.func, 'attr', None)
        first = node.args[0] if node.args else None
        by_cmp = 'cmp' in {word.arg for word in node.keywords}
        if _called(module, node) == 'sorted' and (
                by_cmp or len(node.args) > 1) or method == 'sort' and (
                    by_cmp or isinstance(first, ast.Lambda)):
            found.append(Finding(
                node.lineno, HAND, '%s: no comparison by a function of two' %
                shorten(module.source(node)),
                'key=functools.cmp_to_key(...), or a key'))
        if method in ('encode', 'decode') and (
                getattr(first, 'value', None) in _CODECS):
            found.append(Finding(
                node.lineno, HAND, '%s: not between text and bytes' %
                shorten(module.source(node)),
                'codecs.%s(x, %r), of bytes but for rot13' % (
                    method, first.value)))
    return found, []


def _whole(node):
    """Whether an expression looks like a whole number."""
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and (
            node.value.attr == 'shape')
    if isinstance(node, ast.Call):
        return getattr(node.func, 'id', None) in ('len', 'int')
    if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Div):
        return _whole(node.left) and _whole(node.right)
    return isinstance(node, (ast.Name, ast.Attribute)) and re.search(
        r'(^|_)(n|num|nr|size|count|batch|batches|epoch|width|height)(_|$)',
        getattr(node, 'attr', getattr(node, 'id', ''))) is not None


def _rounded(module, node):
    """Whether what is done with a quotient is the same for both."""
    parent = module.parent(node)
    return isinstance(parent, ast.Call) and getattr(
        parent.func, 'id', getattr(parent.func, 'attr', None)) in (
            'int', 'float', 'ceil', 'floor')


def uses_lists(module):
    """Whether a module takes for a list what is one in Python 2 alone."""
    lists = {}
    for node in module.nodes:
        if isinstance(node, ast.Assign) and _lazy(module, node.value):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    lists[target.id] = node.value

    def lazy(node):
        return _lazy(module, node) or isinstance(
            node, ast.Name) and node.id in lists

    for node in module.nodes:
        if isinstance(node, ast.Subscript):
            # a range can be asked, not told
            if lazy(node.value) and not (
                    isinstance(node.ctx, ast.Load) and
                    _lazy(module, lists.get(getattr(
                        node.value, 'id', None), node.value)) == 'range'):
                return True
        elif isinstance(node, ast.Call):
            name = getattr(node.func, 'id', getattr(node.func, 'attr', None))
            value = getattr(node.func, 'value', None)
            if name == 'shuffle' and any(map(lazy, node.args)) or (
                    name in ('sort', 'append', 'reverse') and value and
                    lazy(value)):
                return True
            if name == 'len' and node.args and _lazy(
                    module, node.args[0]) in ('map', 'filter', 'zip'):
                return True
        elif isinstance(node, ast.BinOp) and isinstance(
                node.op, (ast.Add, ast.Mult)):
            if _lazy(module, node.left) or _lazy(module, node.right):
                return True
    return False


def _lazy(module, node):
    """What makes a list in Python 2, if a node calls it; else None."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            name = node.func.id
            if name in ('map', 'filter', 'zip', 'range') and (
                    name not in module.bound and
                    name not in module.aliases):
                return name
        elif isinstance(node.func, ast.Attribute) and (
                node.func.attr in ('keys', 'values', 'items')) and not (
                    node.args or node.keywords):
            return node.func.attr
    return None
