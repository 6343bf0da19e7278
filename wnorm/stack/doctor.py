"""``python -m wnorm doctor``: what is installed, what works, what to do.

Nothing that the libraries of this machine do may end the doctor. So they are
imported, and tried, in a child process with a time limit
(:func:`examine`), which sends what it finds line by line; what it could not
send any more, the doctor (:func:`diagnose`) concludes from how it ended.
"""
import importlib.machinery
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings

from . import blas, hook, mpi, preflight, remedies
from .gpu import check, command, settings, survey
from .rows import row

SUMMARY = 'say what is installed, what works, what is wrong and what to do'

#: What the rows are about, in the order of the table.
NAMES = ('Python', 'wnorm', 'Start-up hook', 'NumPy', 'SciPy', 'Theano',
         'Theano flags', 'Lasagne', 'Compiler', 'Python headers',
         'Compile folder', 'Compiled test', 'BLAS', 'BLAS speed', 'MPI',
         'GPU in use') + survey.NAMES

#: What the library can do without, however broken it is.
OPTIONAL = ('MPI', 'GPU in use') + survey.NAMES

#: Starts a line of the child that is meant for the doctor.
MARK = 'wnorm doctor: '


def add_arguments(parser):
    parser.add_argument('--json', action='store_true',
                        help='print one JSON object instead of the table')
    parser.add_argument('--run', action='store_true', dest='compute',
                        help='compute on the GPU too, and compare')
    command.add_kind(parser)
    parser.add_argument('--time-limit', type=float, default=300,
                        metavar='SECONDS',
                        help='when to stop waiting for Theano and the '
                        'compiler (default: %(default)s)')


def run(arguments):
    """The command: prints the findings.

    Returns
    -------
    int
        The exit status: 0 where the library can work, else 1.
    """
    try:
        if not arguments.json and sys.stderr and sys.stderr.isatty():
            print('Trying Theano; it compiles for a minute the first time ...',
                  file=sys.stderr)
        findings = diagnose(arguments.time_limit, arguments.kind,
                            arguments.compute)
        text = (json.dumps(findings, indent=2) if arguments.json else
                as_table(findings, shutil.get_terminal_size().columns))
        show(text)
    except KeyboardInterrupt:
        return 130
    return 0 if findings['ok'] else 1


def show(text):
    """Print, whatever characters the terminal can take, if it is there."""
    try:
        encoding = getattr(sys.stdout, 'encoding', None) or 'ascii'
        print(text.encode(encoding, 'backslashreplace').decode(encoding),
              flush=True)
    except OSError:  # nobody reads on, or the disk is full
        # else the interpreter would try again, and complain, at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def diagnose(time_limit, kind='cuda', compute=False):
    """All findings on this machine.

    Parameters
    ----------
    time_limit : float
        How many seconds Theano, Lasagne and the compiler may take.
    kind : {'cuda', 'opencl'}
        The devices to look for.
    compute : bool
        Whether to compute on one of them. Then it must work.

    Returns
    -------
    dict
        The rows of the table (`checks`), what was remedied (`applied`: what
        to why), the rows that matter most (`problems`, `warnings`), and
        whether the library can work (`ok`).
    """
    try:
        checks, applied = examine_in_child(time_limit)
    except OSError as error:  # no memory, say, for another process
        checks, applied = [failure('Theano', describe(error),
                                   'run again when the machine is free')], {}
    checks = (guarded('Python', python_rows) +
              guarded('Compiler', compiler_rows) +
              guarded('GPU', lambda: gpu_rows(kind, compute, time_limit)) +
              checks)
    checks.sort(key=lambda check: NAMES.index(check['name']))
    problems = [check for check in checks if check['status'] == 'problem']
    return {
        'ok': not problems,
        'checks': checks,
        'applied': applied,
        'problems': problems,
        'warnings': [check for check in checks
                     if check['status'] == 'warning'],
    }


def guarded(name, probe):
    """The rows of a probe, or one that says why it could not end."""
    rows = []
    try:
        for found in probe():
            rows.append(found)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: whatever a library does
        rows.append(failure(name, describe(error), remedy_for(name, error)))
    return rows


def failure(name, value, remedy):
    """A row on something that does not work."""
    return row(name, value, 'warning' if name in OPTIONAL else 'problem',
               remedy)


# --- printing -------------------------------------------------------------

def as_table(findings, width):
    """The findings as text for people."""
    width = max(width, 60)
    gap = 2 + max(len(check['name']) for check in findings['checks'])
    lines = []
    for check in findings['checks']:
        value = check['value']
        if check['status'] in ('problem', 'warning'):
            value = '%s: %s' % (check['status'].upper(), value)
        lines.append(textwrap.fill(
            value, width, initial_indent=check['name'].ljust(gap),
            subsequent_indent=' ' * gap, break_long_words=False,
            break_on_hyphens=False))

    def section(title, entries):
        lines.extend(['', title])
        for what, then in entries or [('none', '')]:
            for text, indent in ((what, '  '), (then, '      ')):
                if text:
                    lines.append(textwrap.fill(
                        text, width, initial_indent=indent,
                        subsequent_indent=indent, break_long_words=False,
                        break_on_hyphens=False))

    def complaints(checks):
        return [('%(name)s: %(value)s' % check, '-> ' + check['remedy'])
                for check in checks]

    section('Remedied', list(findings['applied'].items()))
    if findings['warnings']:
        section('Could be better', complaints(findings['warnings']))
    section('Problems', complaints(findings['problems']))
    return '\n'.join(lines)


# --- what is seen without importing anything ------------------------------

def python_rows():
    problem = preflight.python_problem()
    yield row('Python', problem or '%s (%s)' % (
        '.'.join(map(str, sys.version_info[:3])), sys.executable),
        'problem' if problem else 'ok',
        'use another Python' if problem else '')
    from wnorm import __version__
    yield row('wnorm', '%s (%s)' % (__version__, os.path.dirname(
        os.path.dirname(os.path.abspath(__file__)))))


def compiler_rows():
    path = preflight.compiler()
    if path:
        version = subprocess.run(
            [path, '--version'], stdin=subprocess.DEVNULL, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        first = version.stdout.decode(errors='replace').strip().split('\n')[0]
        if version.returncode:
            yield failure('Compiler', '%s does not run: %s' % (path, first),
                          'reinstall it')
        else:
            yield row('Compiler', '%s (%s)' % (first, path))
    else:
        yield missing_tool('Compiler', preflight.compiler_problem())
    problem = preflight.header_problem()
    yield (missing_tool('Python headers', problem) if problem else
           row('Python headers', 'found'))


def missing_tool(name, problem):
    """The row on a sentence of :mod:`preflight`, cause: remedy."""
    value, remedy = problem.split(': ', 1)
    if remedies.setting('cxx') is not None:  # compiling shows if it works
        return row(name, value + '; Theano was told what to use (cxx)',
                   'warning', remedy)
    return failure(name, value, remedy)


def gpu_rows(kind, compute, time_limit):
    """What a device needs; with `compute`, also what it computes."""
    device = remedies.setting('device') or 'cpu'
    if device.startswith('opencl'):
        kind = 'opencl'
    machine = survey.look(kind)
    rows = survey.rows(machine)
    problems = [found for found in rows if found['status'] == 'problem']
    needed = compute or device.startswith(kind)
    missing = problems and problems[0]['name'] == 'GPU'
    if missing and not needed:
        rows[0].update(status='absent', value=rows[0]['value'] +
                       ' (not needed)')
    for found in rows:
        if found['status'] in ('problem', 'warning') and (
                found['name'] != 'GPU'):
            # what a machine without a GPU lacks does not matter; one with a
            # GPU that cannot be used could be better
            if missing:
                found['status'] = 'absent'
            elif not needed:
                found['status'] = 'warning'
    yield from rows
    if compute and not problems:
        yield check.run(settings.environment(machine), time_limit)
    elif compute:
        yield row('GPU test', 'not tried', 'skipped')


# --- the child ------------------------------------------------------------

def examine_in_child(time_limit):
    """Rows from :func:`examine`, run in a process of its own.

    Returns
    -------
    checks : list of rows
    applied : dict
        The remedies that the child needed.
    """
    home = os.path.dirname(os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))))
    # whether the hook is there must be asked before wnorm is imported
    code = ('import sys; armed = "wnorm.stack.hook" in sys.modules; '
            'sys.path.append(sys.argv[1]); '
            'from wnorm.stack import doctor; doctor.examine(armed)')
    child = subprocess.Popen(
        [sys.executable, '-c', code, home], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True)  # so that its compilers end with it
    try:
        output, errors = child.communicate(timeout=time_limit)
        ending, advice = how_it_ended(child.returncode), ''
    except subprocess.TimeoutExpired:
        end(child)
        output, errors = child.communicate()
        ending = 'takes longer than %g seconds' % time_limit
        advice = 'try again with a longer --time-limit; or '
    except BaseException:
        end(child)
        raise
    return read_report(output.decode(errors='replace'),
                       errors.decode(errors='replace'), ending, advice)


def end(child):
    """Kill the child and what it started."""
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def how_it_ended(status):
    """What an exit status of the child, which ended too early, tells."""
    if status >= 0:
        return 'ends Python (exit status %d)' % status
    names = {-number: number.name for number in signal.Signals}
    return 'crashes Python (%s)' % names.get(status, 'signal %d' % -status)


def read_report(output, errors, ending, advice=''):
    """The child's rows and remedies, and a row on an early end.

    Parameters
    ----------
    output, errors : str
        What the child sent, and what it printed.
    ending, advice : str
        How it ended and what to do, if it did not end well.
    """
    checks, applied, stage = [], {}, 'NumPy'
    for line in output.splitlines():
        if line.startswith(MARK) and line.endswith('}'):  # not cut off
            message = json.loads(line[len(MARK):])
            checks += message.get('rows', [])
            applied.update(message.get('applied', {}))
            stage = message.get('stage', stage)
    if stage is not None:
        last = ' '.join(errors.split())[-300:]
        checks.append(failure(
            stage, 'trying it %s%s' % (
                ending, last and ', after it said: ' + last),
            advice + remedy_for(stage)))
        names = [name for name, probe, needs in STAGES]
        checks += [row(name, 'not tried', 'skipped')
                   for name in names[names.index(stage) + 1:]]
    return checks, applied


def examine(armed):
    """Import and try the libraries; runs in the child.

    Parameters
    ----------
    armed : bool
        Whether the start-up hook had run before :mod:`wnorm` was imported.
    """
    # Python's and C's standard output are for whatever the libraries print
    report = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)

    def send(**message):
        report.write('\n%s%s\n' % (MARK, json.dumps(message)))
        report.flush()

    send(rows=[hook_row(armed)])
    failed = set()
    for name, probe, needs in STAGES:
        send(stage=name)
        lacking = failed.intersection(needs)
        if lacking:
            rows = [row(name, 'not tried', 'skipped')]
        else:
            rows = guarded(name, probe)
        if lacking or any(found['status'] == 'problem' for found in rows):
            failed.add(name)
        send(rows=rows, applied=remedies.applied)
    send(stage=None)
    report.close()


def hook_row(armed):
    name = 'Start-up hook'
    if not hook.enabled():
        return row(name, 'switched off by WNORM_STACK=%s'
                   % os.environ['WNORM_STACK'], 'warning',
                   'unset WNORM_STACK, unless this machine needs no remedy')
    if not armed:
        return row(name, 'not installed: armed by `import wnorm` only',
                   'warning', 'import wnorm before theano and lasagne, or '
                   'reinstall wnorm (pip install --force-reinstall --no-deps)')
    return row(name, 'armed at every start of Python')


def library_row(name, module, which=''):
    folder = os.path.dirname(getattr(module, '__file__', None) or '')
    return row(name, '%s%s (%s)' % (getattr(module, '__version__', '?'),
                                    which, folder or 'where is unknown'))


def numpy_rows():
    import numpy
    numpy.ones(2).sum()
    if int(numpy.__version__.split('.')[0]) >= 2:
        yield row('NumPy', numpy.__version__ + ' is too new for Theano 1.0.5',
                  'problem', "pip install 'numpy<2'")
    else:
        yield library_row('NumPy', numpy)


def scipy_rows():
    import scipy
    import scipy.signal  # noqa: F401  what Theano needs of it
    yield library_row('SciPy', scipy)


def folder_rows():
    """Whether Theano's compile folder can be written.

    Theano itself would take minutes to give up where the disk is full.
    """
    folder = os.path.expanduser(
        remedies.setting('compiledir') or remedies.setting('base_compiledir')
        or '~/.theano')
    existing = folder
    while not os.path.exists(existing):
        existing = os.path.dirname(os.path.abspath(existing))
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(2 ** 20))
    except OSError as error:
        yield failure(
            'Compile folder', '%s: %s' % (folder, error.strerror),
            'make room there and see that you may write, or name another '
            'folder: THEANO_FLAGS=base_compiledir=FOLDER')
    else:
        yield row('Compile folder', folder)


def theano_rows():
    import theano
    theano.config.compiledir  # makes it
    yield library_row('Theano', theano)


def flag_rows():
    from theano import configparser
    text = os.environ.get('THEANO_FLAGS', '')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        flags = configparser.parse_config_string(text)
    wrong = [str(warning.message) for warning in caught]
    known = {variable.fullname for variable in configparser._config_var_list}
    wrong += ["Theano has no flag '%s'" % name for name in flags
              if name not in known]
    if wrong:
        yield row('Theano flags', '; '.join(wrong), 'warning',
                  'correct THEANO_FLAGS, which is NAME=VALUE,NAME=VALUE')
    else:
        files = [name for name in configparser.config_files
                 if os.path.exists(name)]
        yield row('Theano flags', '; '.join(
            ['THEANO_FLAGS=' + text] * bool(text) + files)
            or "none: Theano's defaults")


def lasagne_rows():
    import lasagne
    from lasagne.layers import InputLayer, dnn  # noqa: F401
    # master's version has stood at 0.2.dev1 since 2016
    which = (', master' if hasattr(lasagne.layers, 'BatchNormLayer') else
             ', the release on PyPI')
    yield library_row('Lasagne', lasagne, which)


def compiled_rows():
    """Whether compiled functions compute what NumPy computes."""
    import numpy
    import theano
    import theano.tensor as T
    start = time.time()
    dtype = 'float64' if theano.config.floatX == 'float64' else 'float32'
    rng = numpy.random.RandomState(1)
    a, b, c, images, filters = [
        rng.uniform(-1, 1, shape).astype(dtype) for shape in (
            (5, 7), (7, 3), (5, 3), (2, 3, 6, 5), (4, 3, 2, 3))]
    inputs = [T.TensorType(dtype, (False,) * value.ndim)() for value in (
        a, b, c, images, filters)]
    results = theano.function(inputs, [
        T.tanh(inputs[2]) * 2 + 1,
        inputs[2] + T.dot(inputs[0], inputs[1]),
        T.nnet.conv2d(inputs[3], inputs[4]),
    ], mode='FAST_RUN')(a, b, c, images, filters)
    expected = {
        'tanh': numpy.tanh(c) * 2 + 1,
        'a product of matrices': c + numpy.dot(a, b),
        'a convolution': sum(
            # a convolution, not a correlation: filters are flipped
            numpy.einsum('bchw,fc->bfhw', images[:, :, i:i + 5, j:j + 3],
                         filters[:, :, 1 - i, 2 - j])
            for i in range(2) for j in range(3)),
    }
    wrong = [what for what, result in zip(expected, results)
             if not numpy.allclose(result, expected[what], 1e-4, 1e-4)]
    if wrong:
        yield row('Compiled test', 'Theano computes %s wrong'
                  % ' and '.join(wrong), 'problem', 'empty the folder %s; '
                  'if that is not it, try another BLAS, or none: '
                  'THEANO_FLAGS=blas.ldflags=' % theano.config.compiledir)
    else:
        yield row('Compiled test', 'elementwise, matrix product and '
                  'convolution are right in %s (%.1f s, %s)'
                  % (dtype, time.time() - start, theano.config.compiledir))
    if not theano.config.cxx:
        yield row('Compiled test', 'Theano computes in Python, which is very '
                  'slow', 'warning', 'give it a compiler: see that g++ is '
                  'there and that THEANO_FLAGS and .theanorc do not say cxx=')


def blas_rows():
    import theano
    product, update = blas_speed()  # and so the library is loaded
    flags = theano.config.blas.ldflags
    # which is NumPy's where Theano has no other
    adapted = 'theano.config.blas.ldflags' in remedies.applied
    path = blas_in_use(blas.loaded(), bool(flags) and not adapted)
    refusal = remedies.no_adapter
    why = refusal or 'told to link none (blas.ldflags=)'
    remedy = refusal.remedy if refusal else (
        'unset blas.ldflags in THEANO_FLAGS or .theanorc')
    if adapted:
        yield row('BLAS', "NumPy's OpenBLAS, through an adapter (%s)" % path)
    elif not flags:
        yield row('BLAS', "NumPy's, through its C API, which has no "
                  'accumulating product (%s): %s' % (path, why), 'warning',
                  remedy)
    elif is_reference(path):
        yield row('BLAS', '%s, the reference BLAS, which is slow (%s)%s' % (
            flags, path, refusal and ': %s' % refusal or ''), 'warning',
            remedy)
    else:
        yield row('BLAS', '%s (%s)' % (flags, path))
    yield row('BLAS speed', '%.3g GFLOP/s for A B, 1000 x 1000 in float32; '
              '%.3g for C += A B, the update of such weights by a batch of 32'
              % (product, update))


def blas_speed(seconds=.3):
    """GFLOP/s of A B and of C += A B, in float32, through Theano."""
    import numpy
    import theano
    import theano.tensor as T
    speeds = []
    for inner, accumulate in ((1000, False), (32, True)):
        a, b, c = [theano.shared(numpy.full(shape, 1e-3, 'float32'))
                   for shape in ((1000, inner), (inner, 1000), (1000, 1000))]
        result = T.dot(a, b) + (c if accumulate else 0)
        function = theano.function([], updates=[(c, result)], mode='FAST_RUN')
        times = []
        while sum(times) < seconds and len(times) < 9:
            start = time.time()
            function()
            times.append(time.time() - start)
        speeds.append(2e-9 * 1000 * inner * 1000 / numpy.median(times))
    return speeds


def blas_in_use(paths, linked):
    """The one of the loaded libraries `paths` that Theano computes with.

    Parameters
    ----------
    linked : bool
        Whether Theano links a library of its own, or else uses NumPy's.
    """
    # NumPy's wheels bring one that nothing else links
    found = sorted(paths, key=lambda path: ('numpy.libs' in path) == linked)
    return found[0] if found else 'file unknown'


def is_reference(path):
    """Whether it is the BLAS that only defines what a BLAS must compute."""
    path = os.path.realpath(path)
    return (os.path.basename(path).startswith('libblas') and
            not re.search('openblas|atlas|blis|mkl', path))


def device_rows():
    """Whether Theano uses the device that it was told to use.

    Where it cannot, it only says so, and computes on the CPU.
    """
    import theano
    from theano import gpuarray
    device = theano.config.device
    if gpuarray.pygpu_activated:
        yield row('GPU in use', '%s (%s)' % (
            device, gpuarray.get_context(None).devname.strip()))
    elif device != 'cpu':
        yield row('GPU in use', 'none: Theano computes on the CPU, although '
                  'it was told device=' + device, 'warning',
                  'let it be set for you: python -m wnorm gpu -- PROGRAM')


#: What the child tries, in this order, and what must have worked before.
STAGES = (
    ('NumPy', numpy_rows, ()),
    ('SciPy', scipy_rows, ('NumPy',)),
    ('Compile folder', folder_rows, ()),
    ('Theano', theano_rows, ('NumPy', 'SciPy', 'Compile folder')),
    ('Theano flags', flag_rows, ('Theano',)),
    ('Lasagne', lasagne_rows, ('Theano',)),
    ('Compiled test', compiled_rows, ('Theano',)),
    ('BLAS', blas_rows, ('Theano', 'Compiled test')),
    ('MPI', mpi.rows, ()),
    ('GPU in use', device_rows, ('Theano',)),
)


# --- what to do about an error --------------------------------------------

def describe(error):
    """An error's type and what of its text tells most."""
    text = str(error).strip()
    # what the compiler says, in the midst of pages of code
    said = re.search(r'\S*\s+(?:fatal )?error:[^\n\\]*', text)
    text = (said.group() if said else text.split('\n')[0])[:300]
    return '%s: %s' % (type(error).__name__, text) if text else (
        type(error).__name__)


def remedy_for(name, error=None):
    """What to do when the library or the step `name` fails with `error`.

    Without an error it took the interpreter down.
    """
    package = {'NumPy': "'numpy<2'", 'SciPy': 'scipy',
               'Theano': 'Theano==1.0.5', 'Lasagne': 'Lasagne'}.get(name)
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.split('.')[0]
        return 'pip install ' + (
            package if package and missing == name.lower() else missing)
    if isinstance(error, Warning):
        return 'unset PYTHONWARNINGS, which makes warnings errors'
    advice = []
    if name in ('Theano', 'Lasagne', 'Compiled test', 'BLAS'):
        if not hook.enabled():
            return 'unset WNORM_STACK, which switches the remedies off'
        flags = os.environ.get('THEANO_FLAGS')
        if 'old GPU back-end' in str(error):
            return ('take device=%s out of %s to compute on the CPU; for a '
                    'card: python -m wnorm gpu-setup' % (
                        remedies.setting('device'), 'THEANO_FLAGS'
                        if 'device=' in (flags or '') else
                        os.environ.get('THEANORC', '~/.theanorc')))
        if flags and name != 'Lasagne':
            advice.append('correct THEANO_FLAGS=' + flags)
            if isinstance(error, ValueError):  # what Theano raises for them
                return advice[0]
        if not package:
            advice.append("empty Theano's compile folder, or name another: "
                          'THEANO_FLAGS=base_compiledir=FOLDER')
    if package:
        advice.append('reinstall %s: pip install --force-reinstall --no-deps '
                      '%s' % (found_at(name.lower()) or name, package))
    return '; or '.join(advice or ['reinstall or remove it'])


def found_at(module):
    """The file that an import of `module` would run, or None."""
    spec = importlib.machinery.PathFinder.find_spec(module)
    return spec and spec.origin
