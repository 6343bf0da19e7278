"""A copied nn.py: which one it is, and what remains of it beside wnorm.nn."""
import ast
import difflib
import hashlib
import io
import re
import tokenize

from .fingerprints import IMPROVED_GAN, WEIGHTNORM
from .module import Module, binding
from .text import HAND, WRITE, Edit, Finding, apply, ranges

#: What replaces each of the two files.
FLAVOURS = {'wnorm.nn': IMPROVED_GAN, 'wnorm.nn.weightnorm': WEIGHTNORM}

#: Whose file it was.
ORIGINS = {'wnorm.nn': "improved-gan's nn.py",
           'wnorm.nn.weightnorm': "weightnorm's nn.py"}

#: A definition of these names is one of a copied nn.py; others, such as
#: relu or DenseLayer, may be anything.
TELLING = {'Deconv2DLayer', 'InitLayer', 'MeanOnlyBNLayer', 'MinibatchLayer',
           'WeightNormLayer', 'adamax_updates', 'centered_softplus',
           'l2normalize', 'mean_only_bn', 'weight_norm', 'ZCA'}

#: What the names are in wnorm.
DEFINES = {
    'wnorm.nn': {
        'BatchNormLayer': 'running averages 0.9/0.1, g not regularizable, '
                          '1e-6 added to the variance',
        'Deconv2DLayer': "'half' padding, flipped filters, stride (2, 2)",
        'DenseLayer': 'theta and weight_scale, fixed unless train_scale',
        'GaussianNoiseLayer': 'sigma=0.1, use_last_noise',
        'MinibatchLayer': 'dim_per_kernel=5',
        'WeightNormLayer': 'g fixed unless train_g, 1e-6 under the root, '
                           'W stays',
        'adam_updates': '(params, cost, lr=0.001, mom1=0.9, mom2=0.999)',
        'batch_norm': 'W stays',
        'centered_softplus': 'log(1 + exp(x)) - log(2)',
        'l2normalize': 'W_scale trained unless train_scale=False',
        'log_sum_exp': 'over axis 1, stable',
        'lrelu': 'max(x, 0.2 x)',
        'relu': 'max(x, 0)',
        'weight_norm': 'a WeightNormLayer with the nonlinearity of the layer',
    },
    'wnorm.nn.weightnorm': {
        'BatchNormLayer': 'running averages 0.9/0.1, W drawn again',
        'GlobalAvgLayer': 'the mean over the positions',
        'InitLayer': 'b and a fixed g, no norm',
        'MeanOnlyBNLayer': 'running mean 0.9/0.1, W drawn again',
        'WeightNormLayer': 'g trained, no epsilon, W drawn again',
        'ZCA': 'regularization=1e-5; apply and invert',
        'adam_updates': '(params, cost, lr=0.001, mom1=0.9, mom2=0.999)',
        'adamax_updates': '(params, cost, lr=0.001, mom1=0.9, mom2=0.999)',
        'batch_norm': 'W drawn again',
        'log_sum_exp': 'over axis 1, stable',
        'lrelu': 'max(x, 0.1 x)',
        'mean_only_bn': 'a MeanOnlyBNLayer on the layer without its bias',
        'no_norm': 'an InitLayer on the layer without its bias',
        'relu': 'max(x, 0)',
        'softmax_loss': 'labels or one-hot rows, stable',
        'weight_norm': 'a WeightNormLayer with the nonlinearity of the layer',
    },
}

#: A comment that goes with a file whatever is in it, or is code.
_LASTING = re.compile(
    r'#!|copyright|licen[cs]e|\(c\)|\w\(|='
    r'|^#\s*(def|class|return|import|from|print)\b', re.I | re.M)

#: Hexadecimal digits per logical line of a fingerprint.
_DIGITS = 6

#: Tokens that are not part of what a line says.
_LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING,
           tokenize.ENDMARKER)


def logical_lines(source):
    """What each logical line of a definition says, whatever its layout.

    Comments, documentation and spaces are left out, strings and numbers are
    spelled in one way; so are blocks, by their depth.

    Returns
    -------
    list of (int, str)
        Numbers of physical lines, counted from 0, with a hash of each.
    """
    lines, depth, words, first = [], 0, [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.INDENT:
            depth += 1
        elif token.type == tokenize.DEDENT:
            depth -= 1
        elif token.type == tokenize.NEWLINE:
            if not _is_string(words):
                text = '%d %s' % (depth, ' '.join(map(_spelled, words)))
                lines.append((first, hashlib.sha256(
                    text.encode('utf-8')).hexdigest()[:_DIGITS]))
            words = []
        elif token.type not in _LAYOUT:
            if not words:
                first = token.start[0] - 1
            words.append(token)
    return lines


def _is_string(words):
    return all(word.type == tokenize.STRING for word in words)


def _spelled(token):
    if token.type in (tokenize.STRING, tokenize.NUMBER):
        try:
            return repr(ast.literal_eval(token.string))
        except ValueError:  # an f-string
            pass
    return token.string


def definitions(module):
    """The functions and classes at the top of a module, the last of a name."""
    return {node.name: node for node in module.tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def fingerprint(module, node):
    """Of a definition: the hashes of its logical lines, as one string."""
    return ''.join(line for _, line in logical_lines(_whole(module, node)))


def fingerprints(text):
    """Of all definitions of a module: what fingerprints.py is made of."""
    module = Module(text)
    return {name: fingerprint(module, node)
            for name, node in sorted(definitions(module).items())}


def _first_line(node):
    return min([node.lineno] + [part.lineno for part in node.decorator_list])


def _whole(module, node):
    """The source of a definition, from its first line to its last."""
    lines = module.text.split('\n')[_first_line(node) - 1:node.end_lineno]
    return '\n'.join(lines) + '\n'


def _differences(module, node, known):
    """The lines of a definition that another one has not.

    And those after which the other has some that this one has not.
    """
    start = _first_line(node)
    lines = logical_lines(_whole(module, node))
    known = [known[i:i + _DIGITS] for i in range(0, len(known), _DIGITS)]
    numbers = []
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(
            None, known, [line for _, line in lines],
            autojunk=False).get_opcodes():
        if tag == 'delete':
            numbers.append(start + lines[max(j - 1, 0)][0])
        elif tag != 'equal':
            numbers += [start + first for first, _ in lines[j:j_end]]
    return sorted(set(numbers))


class Copy(object):
    """
    wnorm.port.dropin.Copy(module)

    What is known of an nn.py.

    Attributes
    ----------
    flavour : str
        The module of wnorm that it is a copy of.
    same : set of str
        Definitions that it has from there as they are.
    elsewhere : set of str
        Those that are the other flavour's.
    kept : dict
        Known names that stay, as they differ or use something that is not
        what it was where they come from, with the names of that.
    differing : dict
        Known names with the lines that differ.
    added : list of str
        What is in neither file.
    """

    def __init__(self, module):
        self.module, self.defined = module, definitions(module)
        prints = {name: fingerprint(module, node)
                  for name, node in self.defined.items()}
        lines = {flavour: sum(
            len(known[name]) for name in prints
            if known.get(name) == prints[name])
            for flavour, known in FLAVOURS.items()}
        names = {flavour: len(set(prints) & set(known))
                 for flavour, known in FLAVOURS.items()}
        self.flavour = max(sorted(FLAVOURS), key=lambda flavour: (
            lines[flavour], names[flavour]))
        known = FLAVOURS[self.flavour]
        other = FLAVOURS[_other(self.flavour)]
        self.same = {name for name in prints
                     if known.get(name) == prints[name]}
        self.elsewhere = {
            name for name in prints if name not in self.same and
            other.get(name) == prints[name]}
        self.differing = {
            name: _differences(module, node, known.get(
                name, other.get(name)))
            for name, node in self.defined.items()
            if (name in known or name in other) and
            name not in self.same | self.elsewhere}
        self.added = [name for name in self.defined
                      if name not in known and name not in other]
        self.kept = self._kept()

    def _kept(self):
        """Names that differ, and what would use another's in their place."""
        # nor is a name the original's that an import or assignment binds
        other = {name for node in self.module.tree.body
                 for name in _bound(node)} & set().union(*DEFINES.values())
        kept = dict.fromkeys(
            set(self.differing) | other & set(self.defined), ())
        while True:
            more = {name: used for name in self.same | self.elsewhere
                    for used in [_uses(self.defined[name]) & (
                        set(kept) | other | self._of_the_other(name))]
                    if used and name not in kept}
            if not more:
                return kept
            kept.update(more)

    def _of_the_other(self, name):
        """What a known name would not find as it is in this file.

        ``weight_norm`` reads the same in both files, and means the layer of
        its own.
        """
        one, two = FLAVOURS.values()
        others = self.same if name in self.elsewhere else self.elsewhere
        return {used for used in others if one.get(used) != two.get(used)}

    @property
    def dropped(self):
        return (self.same | self.elsewhere) - set(self.kept)


def _other(flavour):
    return next(name for name in FLAVOURS if name != flavour)


def _uses(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _bound(node):
    """The names that a statement binds but by a definition."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {binding(node, alias)[0] for alias in node.names}
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return set()
    return {part.id for part in ast.walk(node)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def is_copy(module):
    """Whether a module is, or has in it, a copied nn.py.

    It has something to do with Lasagne, and defines what only such a file
    does, twice, or once to the letter.
    """
    if not any(path.split('.')[0] in ('lasagne', 'wnorm')
               for path in module.aliases.values()):
        return False
    defined = definitions(module)
    telling = TELLING & set(defined)
    return len(telling) >= 2 or any(
        known.get(name) == fingerprint(module, defined[name])
        for name in telling for known in FLAVOURS.values())


def replace(module, needed=()):
    """
    wnorm.port.dropin.replace(module, needed=())

    What is left of an nn.py when wnorm has the rest.

    Parameters
    ----------
    module : :class:`wnorm.port.module.Module`

    needed : container of str
        Names that other files use from this module, or a set with ``'*'``:
        imports that bind them are kept.

    Returns
    -------
    str, list of Finding
        The new text, or the old one where nothing can go.
    """
    copy = Copy(module)
    text = module.text
    if copy.dropped:
        text = _remainder(copy, set(needed))
    found = []
    if copy.dropped:
        head = next(line for line in text.split('\n')
                    if line.startswith('from wnorm.nn'))
        there, elsewhere = (len(copy.dropped & names) for names in (
            copy.same, copy.elsewhere))
        found.append(Finding(
            1, WRITE, 'a copy of %s: %d of its %d definitions are the same '
            'there%s' % (
                ORIGINS[copy.flavour], there, len(copy.defined),
                elsewhere and ', %d in %s' % (
                    elsewhere, ORIGINS[_other(copy.flavour)]) or ''), head))
    for name in copy.kept:
        line = _first_line(copy.defined[name])
        if name not in copy.differing:
            home = copy.flavour if name in copy.same else _other(copy.flavour)
            what = ', '.join(sorted(copy.kept[name]))
            found.append(Finding(
                line, HAND, '%s: as in %s, but %s' % (
                    name, ORIGINS[home], what and
                    'what it uses is not: ' + what or
                    'something else has its name, too'), 'stays'))
            continue
        home = copy.flavour if name in DEFINES[copy.flavour] else _other(
            copy.flavour)
        found.append(Finding(line, HAND, '%s: differs from %s on line%s %s' % (
            name, ORIGINS[home], 's' * (len(copy.differing[name]) > 1),
            ranges(copy.differing[name])),
            'stays; without it %s.%s: %s' % (
                home, name, DEFINES[home][name])))
    return text, found


def names(module):
    """The names to be had from a module, as far as can be known."""
    known = module.bound | set(module.aliases)
    for flavour in FLAVOURS:
        if module.aliases.get('*') == flavour + '.*':
            known |= set(DEFINES[flavour])
    return known


def _remainder(copy, needed):
    """The text without what wnorm has, and with the imports of that."""
    module, edits, kept = copy.module, [], []
    for node in module.tree.body:
        if getattr(node, 'name', None) in copy.dropped:
            edits.append(_cut(module, node))
        elif not isinstance(node, (ast.Import, ast.ImportFrom)) and (
                not _is_docstring(module, node)):
            kept.append(node)
    used = set().union(needed, *map(_uses, kept))
    bound = {getattr(node, 'name', None) for node in kept}.union(
        *map(_bound, kept))
    imports = []
    for node in module.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = _bound(node)
            if '*' in needed or names & (used | {'*'}) or (
                    getattr(node, 'module', None) == '__future__'):
                imports.append(node)
                bound |= names
            else:
                edits.append(module.without(node))
    lines = _import_lines(copy, bound)
    text = apply(module.text, edits)
    if not kept and not imports:
        text = text.strip() + '\n' if _LASTING.search(text) else ''
    return _with_lines(text, lines)


def _import_lines(copy, bound):
    """The imports of what wnorm has.

    Of all, if the file had all, and nothing else has a name of theirs: who
    imports all from the file gets what he got.
    """
    lines = []
    for flavour, names in ((copy.flavour, copy.same),
                           (_other(copy.flavour), copy.elsewhere)):
        names = sorted(names & copy.dropped)
        if not names:
            continue
        known = set(DEFINES[flavour])
        if flavour == copy.flavour and known <= set(copy.defined) and not (
                (known & copy.dropped) & bound):
            names = ['*']
        line = 'from %s import %s' % (flavour, ', '.join(names))
        if len(line) > 79:
            line = 'from %s import (\n    %s)' % (
                flavour, ',\n    '.join(names))
        lines.append(line)
    return lines


def _is_docstring(module, node):
    return node is module.tree.body[0] and node in {
        module.parent(value) for value in module.docstrings()}


def _cut(module, node):
    """The edit that takes a definition out, with the comments on top of it.

    Code that is commented out stays, and what the file begins with.
    """
    lines = module.text.split('\n')
    first, end = _first_line(node) - 1, node.end_lineno
    top = first
    while top and lines[top - 1].startswith('#'):
        top -= 1
    if top and not _LASTING.search('\n'.join(lines[top:first])):
        first = top
    while end < len(lines) - 1 and not lines[end].strip():
        end += 1
    start = sum(len(line) + 1 for line in lines[:first])
    stop = start + sum(len(line) + 1 for line in lines[first:end])
    return Edit(start, min(stop, len(module.text)), '')


def _with_lines(text, lines):
    """A text with imports after its own, or at its beginning."""
    module = Module(text)
    rows, at = text.split('\n'), 0
    for node in module.tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)) and (
                not _is_docstring(module, node)):
            break  # it may use them
        at = node.end_lineno
    if not module.tree.body:
        at = len(rows) - 1  # the last row is empty
    elif not at:  # below the comments that begin the file
        while rows[at].startswith('#'):
            at += 1
    return '\n'.join(rows[:at] + lines + rows[at:])
