"""Modules and names that the libraries no longer have."""
import ast
import builtins
from collections import namedtuple

from .module import binding
from .text import HAND, WRITE, Edit, Finding, shorten

#: What became of a name: since when it is gone; the path that it has now, or
#: None; else what to do. `call` is a pattern for a call of it.
Rule = namedtuple('Rule', 'since now advice call')
Rule.__new__.__defaults__ = (None, None, None)


def _renamed(since, names):
    return {old: Rule(since, new) for old, new in names.items()}


def _gone(since, names, advice):
    return {name: Rule(since, None, advice) for name in names.split()}


_CUDA = 'gone since Theano 1.0'
_NUMPY = 'NumPy before 1.24 had it'
_IMAGES = 'gone since SciPy 1.2'
_PYTHON = 'gone since Python 3'

#: By dotted paths, which include what is below them. What the stack brings
#: back, such as numpy.bool, is not here.
RULES = {
    'theano.sandbox.cuda': Rule(_CUDA, None, (
        'take it out; for an operation of its own: theano.gpuarray, or '
        "Theano's own, such as theano.tensor.nnet.conv2d")),
    'theano.sandbox.cuda.use': Rule(_CUDA, None, (
        'take it out, and start with: python -m wnorm gpu -- python ...')),
    'theano.sandbox.cuda.dnn': Rule(_CUDA, None, (
        'lasagne.layers.dnn for layers, theano.tensor.nnet.conv2d and '
        'theano.tensor.signal.pool.pool_2d for operations')),
    'theano.sandbox.gpuarray': Rule(
        'gone since Theano 0.9', 'theano.gpuarray'),
    'theano.misc.pycuda_init': Rule(_CUDA, None, 'take it out'),
    'theano.compat.python2x.OrderedDict': Rule(
        'gone since Theano 1.0', 'collections.OrderedDict'),
    'pylearn2': Rule('abandoned in 2016, Python 2 only', None, (
        'load the data with NumPy; ZCA is in wnorm.nn.weightnorm')),
    'numpy.asscalar': Rule(_NUMPY, None, 'x.item()', '{}.asarray({}).item()'),
    'numpy.long': Rule(_NUMPY, 'int'),
    'numpy.unicode': Rule(_NUMPY, 'str'),
    'numpy.rank': Rule(_NUMPY, 'numpy.ndim'),
    'numpy.typeDict': Rule(_NUMPY, 'numpy.sctypeDict'),
    'sklearn.externals.joblib': Rule(
        'gone since scikit-learn 0.23', 'joblib'),
    'sklearn.cross_validation.train_test_split': Rule(
        'gone since scikit-learn 0.20',
        'sklearn.model_selection.train_test_split'),
    'sklearn.cross_validation': Rule('gone since scikit-learn 0.20', None, (
        'sklearn.model_selection, whose splitters take the data later')),
    'sklearn.grid_search': Rule(
        'gone since scikit-learn 0.20', 'sklearn.model_selection'),
    'sklearn.datasets.fetch_mldata': Rule(
        'gone since scikit-learn 0.22', None,
        "sklearn.datasets.fetch_openml('mnist_784')"),
    'time.clock': Rule('gone since Python 3.8', 'time.process_time'),
    'inspect.getargspec': Rule('gone since Python 3.11', None,
                               'inspect.getfullargspec: it returns more'),
    'Image': Rule('an early name of Pillow', 'PIL.Image'),
    'PIL.Image.ANTIALIAS': Rule('gone since Pillow 10', 'PIL.Image.LANCZOS'),
}
RULES.update(_renamed('gone since SciPy 1.3', {
    'scipy.misc.logsumexp': 'scipy.special.logsumexp',
    'scipy.misc.comb': 'scipy.special.comb',
    'scipy.misc.factorial': 'scipy.special.factorial',
}))
RULES.update(_renamed('gone since SciPy 1.12', {
    'scipy.misc.face': 'scipy.datasets.face',
    'scipy.misc.ascent': 'scipy.datasets.ascent',
}))
RULES.update(_gone(_PYTHON, 'sys.setdefaultencoding', (
    'take it out, with reload(sys); encoding= where files are opened')))
RULES.update(_gone(
    _PYTHON, 'string.letters string.lowercase string.uppercase',
    'string.ascii_letters, ascii_lowercase, ascii_uppercase'))
RULES.update(_gone(
    _PYTHON, 'string.atof string.atoi string.find string.join string.lower '
    'string.replace string.rfind string.split string.strip string.upper',
    "the method, such as ','.join(x), or int, float"))
RULES.update(_gone(_PYTHON, 'string.maketrans', (
    'str.maketrans, or bytes.maketrans for bytes')))
RULES.update(_gone(_IMAGES, 'scipy.misc.imread', (
    'np.asarray(PIL.Image.open(path))')))
RULES.update(_gone(_IMAGES, 'scipy.misc.imsave scipy.misc.toimage', (
    'PIL.Image.fromarray(np.uint8(x)).save(path), x first stretched to '
    '0 .. 255 as these did')))
RULES.update(_gone(
    _IMAGES, 'scipy.misc.imresize scipy.misc.imrotate scipy.misc.imshow '
    'scipy.misc.imfilter scipy.misc.bytescale scipy.misc.fromimage',
    'Pillow: PIL.Image.fromarray(x), then resize, rotate, show, filter'))
RULES.update(_renamed('gone since Python 3.10', {
    'collections.' + name: 'collections.abc.' + name for name in (
        'Callable Container Hashable ItemsView Iterable Iterator KeysView '
        'Mapping MappingView MutableMapping MutableSequence MutableSet '
        'Sequence Set Sized ValuesView').split()}))
RULES.update(_renamed("NumPy's own, which SciPy no longer hands on", {
    'scipy.' + name: 'numpy.' + name for name in (
        'absolute arange argmax argsort array asarray ceil concatenate cos '
        'diag dot exp eye float32 float64 floor hstack int32 linspace mean '
        'median newaxis ones pi prod random sign sin std sum tile transpose '
        'uint8 var vstack where zeros').split()}))
# these are complex where they must be, which NumPy's own are not
RULES.update(_renamed("NumPy's own, which SciPy no longer hands on", {
    'scipy.' + name: 'numpy.lib.scimath.' + name for name in (
        'arccos arcsin arctanh log log10 log2 logn power sqrt').split()}))
RULES.update({'scipy.' + name: Rule(
    "NumPy's own, which SciPy no longer hands on", 'numpy.random.' + name)
    for name in ('rand', 'randn')})

#: Methods of dictionaries; fissix sees calls of them alone.
METHODS = {'has_key': '__contains__', 'iteritems': 'items',
           'iterkeys': 'keys', 'itervalues': 'values',
           'viewitems': 'items', 'viewkeys': 'keys', 'viewvalues': 'values'}

#: Built-ins of Python 2 that fissix leaves alone: those that have another
#: name; those that are gone.
BUILTINS = {'unicode': 'str', 'unichr': 'chr'}
GONE = {
    'buffer': 'memoryview',
    'cmp': '(a > b) - (a < b), or key= where it is for a sort',
    'coerce': 'convert by hand what is of two types',
    'file': 'open, or io.IOBase for isinstance',
}


def rule_for(path):
    """The rule for a dotted path, and the path that it is about.

    Returns
    -------
    (str, Rule) or None
    """
    while path:
        if path in RULES:
            return path, RULES[path]
        path = path.rpartition('.')[0]
    return None


def check(module):
    """
    wnorm.port.names.check(module)

    Removed names in a module.

    Parameters
    ----------
    module : :class:`wnorm.port.module.Module`

    Returns
    -------
    list of Finding, list of Edit
    """
    found, edits = [], []
    for node in module.nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            look = _imported
        elif isinstance(node, ast.Attribute) and not isinstance(
                module.parent(node), ast.Attribute):
            look = _used
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            look = _built_in
        else:
            continue
        if getattr(node, 'attr', None) in METHODS:
            found.append(Finding(
                node.lineno, HAND, '%s: dictionaries lost it' %
                module.source(node), METHODS[node.attr]))
        if not module.guarded(node):
            more, changes = look(module, node)
            found += more
            edits += changes
    return found, edits


def uses_built_ins(module):
    """Whether a module uses built-ins that are gone."""
    return any(_built_in(module, node)[1] for node in module.nodes
               if isinstance(node, ast.Name) and not module.guarded(node))


def _built_in(module, node):
    """A use of a built-in that is gone."""
    new = BUILTINS.get(node.id)
    if node.id in module.bound or node.id in module.aliases:
        return [], []
    if node.id in GONE:
        return [Finding(node.lineno, HAND, 'Python 2: ' + node.id,
                        GONE[node.id])], []
    if new is None:
        return [], []
    return [Finding(node.lineno, WRITE, 'Python 2: ' + node.id, new)], [
        module.replaced(node, new)]


def _imported(module, node):
    """An import of something that is gone."""
    if getattr(node, 'level', 0):
        return [], []
    paths = [alias.name if isinstance(node, ast.Import) else
             '%s.%s' % (node.module, alias.name) for alias in node.names]
    rules = [rule_for(path) for path in paths]
    if not any(rules):
        return [], []
    found = []
    unused = [not _loads(module, node, alias) for alias in node.names]
    if all(rule and rule[0].startswith('theano.sandbox.cuda') and idle
           for rule, idle in zip(rules, unused)):
        rest = ('import theano' if isinstance(node, ast.Import) and not all(
            alias.asname for alias in node.names) else None)
        return [Finding(node.lineno, WRITE, '%s: %s' % (
            shorten(module.source(node)), _CUDA),
            rest or 'not used: taken out')], [
                module.replaced(node, rest) if rest else module.without(node)]
    lines = []
    for alias, path, rule in zip(node.names, paths, rules):
        statement = _statement(node, alias)
        if rule:
            old, (since, now, advice, call) = rule
            new = now and _import_of(now + path[len(old):], node, alias)
            found.append(Finding(
                node.lineno, WRITE if new else HAND,
                '%s: %s' % (path, since), new or advice or now))
            statement = new or statement
        lines.append(statement)
    if lines == [_statement(node, alias) for alias in node.names]:
        return found, []
    start, end = module.span(node)
    margin = module.text[module.text.rfind('\n', 0, start) + 1:start]
    # what stays together, stays together
    glue = '; ' if margin.strip() else '\n' + margin
    return found, [Edit(start, end, glue.join(lines))]


def _statement(node, alias):
    """One part of an import as a statement."""
    name = alias.name + (' as ' + alias.asname if alias.asname else '')
    if isinstance(node, ast.Import):
        return 'import ' + name
    return 'from %s import %s' % (node.module, name)


def _import_of(path, node, alias):
    """The statement that binds a path to the name of another; or None."""
    name, old = binding(node, alias)
    if '.' not in path:
        if hasattr(builtins, path):
            return None
        return 'import ' + path + (' as ' + name if name != path else '')
    if isinstance(node, ast.Import) and not alias.asname and '.' in alias.name:
        return 'import ' + path
    parent, _, last = path.rpartition('.')
    return 'from %s import %s' % (parent, last) + (
        ' as ' + name if name != last else '')


def _loads(module, node, alias):
    """Whether the module uses what a part of an import binds."""
    name, _ = binding(node, alias)
    if name == '*':
        return True
    if isinstance(node, ast.Import) and not alias.asname:
        return any(isinstance(use, ast.Attribute) and (
            module.dotted(use) or '').startswith(alias.name)
            for use in module.nodes)
    return any(isinstance(use, ast.Name) and use.id == name
               for use in module.nodes)


def _used(module, node):
    """A use of something that is gone, such as ``np.rank(x)``."""
    path = module.dotted(node)
    rule = rule_for(path)
    if rule is None:
        return [], []
    old, (since, now, advice, call) = rule
    what = '%s: %s' % (path, since)
    # the part of it that the rule is about; an import may have bound more
    base = node
    while isinstance(base, ast.Attribute) and module.dotted(base) != old:
        base = base.value
    outer = module.parent(node)
    if call and isinstance(outer, ast.Call) and outer.func is node and (
            len(outer.args) == 1 and not outer.keywords):
        head, tail = call.format(module.source(node.value), '\0').split('\0')
        (start, end), (first, last) = map(
            module.span, (outer, outer.args[0]))
        return [Finding(node.lineno, WRITE, what, head + shorten(
            module.text[first:last]) + tail)], [
                Edit(start, first, head), Edit(last, end, tail)]
    if isinstance(base, ast.Name):
        # what is renamed is so where it is imported
        return ([], []) if now else (
            [Finding(node.lineno, HAND, what, advice)], [])
    new = now and _spelled(module, now)
    if not new:
        return [Finding(node.lineno, HAND, what, advice or now)], []
    return [Finding(node.lineno, WRITE, what, new)], [
        module.replaced(base, new)]


def _spelled(module, path):
    """How a module that imports enough for it calls a path, or None."""
    parent, _, name = path.rpartition('.')
    if not parent and hasattr(builtins, name):
        return name
    while parent:
        known = module.called(parent)
        if known is not None:
            return known + '.' + name
        parent, _, part = parent.rpartition('.')
        name = part + '.' + name
    return None
