import argparse
import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import theano

import wnorm
from running import first_on_path, python, silent, write
from wnorm.stack import doctor, preflight, remedies
from wnorm.stack import rows as rows_module
from wnorm.stack.blas import NoAdapter, loaded, of_numpys_wheel

# libraries that do nothing, but are imported in no time
LIBRARIES = {
    'numpy/__init__.py': """
__version__ = '1.26.4'
class ones(object):
    def __init__(self, size):
        pass
    def sum(self):
        return 2
""",
    'numpy/distutils/__init__.py': '',
    'scipy/__init__.py': '__version__ = "1.0"',
    'scipy/signal/__init__.py': '',
    'lasagne/__init__.py': '',
}


def diagnose(folder, *arguments, **environment):
    """``doctor --json`` in a folder whose modules come first.

    Returns
    -------
    findings : dict
    rows : dict
        The checks by their names.
    """
    environment.setdefault('THEANO_FLAGS', own_folder())
    done = python('-m', 'wnorm', 'doctor', '--json', *arguments, cwd=folder,
                  PYTHONPATH=first_on_path(folder), **environment)
    assert done.stderr == ''
    findings = json.loads(done.stdout)
    assert done.returncode == (0 if findings['ok'] else 1)
    assert findings['ok'] == (findings['problems'] == [])
    for title, status in (('problems', 'problem'), ('warnings', 'warning')):
        assert findings[title] == [check for check in findings['checks']
                                   if check['status'] == status]
        assert all(check['remedy'] for check in findings[title])
    rows = {}
    for check in findings['checks']:
        assert sorted(check) == ['name', 'remedy', 'status', 'value']
        assert check['status'] in rows_module.STATUSES
        rows.setdefault(check['name'], check)
    assert list(rows) == [name for name in doctor.NAMES if name in rows]
    return findings, rows


def own_folder():
    """The flags of the tests' compile folder alone."""
    return 'base_compiledir=' + theano.config.base_compiledir


# --- a machine on which all is well ---------------------------------------

def test_here(tmp_path):
    findings, rows = diagnose(tmp_path)
    assert findings['ok'], findings['problems']
    assert {'absent', 'ok'}.issuperset(
        check['status'] for check in findings['checks']
        if check['name'] not in doctor.OPTIONAL)
    assert rows['Python']['value'] == '%d.%d.%d (%s)' % (
        sys.version_info[:3] + (sys.executable,))
    import lasagne
    import scipy
    for name, module in (('wnorm', wnorm), ('NumPy', np), ('SciPy', scipy),
                         ('Theano', theano), ('Lasagne', lasagne)):
        value = rows[name]['value']
        assert value.startswith(module.__version__), value
        assert os.path.dirname(module.__file__) in value
    assert rows['Start-up hook']['value'] == 'armed at every start of Python'
    assert (', master' in rows['Lasagne']['value']) == (
        lasagne.__version__ != '0.1')
    assert shutil.which('g++') in rows['Compiler']['value']
    assert theano.config.base_compiledir in rows['Compile folder']['value']
    assert 'right in float64' in rows['Compiled test']['value']
    assert rows['BLAS']['value'] == (
        "NumPy's OpenBLAS, through an adapter (%s)" % of_numpys_wheel(
            loaded()))
    assert float(rows['BLAS speed']['value'].split()[0]) > .1
    assert 'theano.scan_module.scan_perform_ext' in findings['applied'] or (
        sys.version_info < (3, 11))
    assert all(findings['applied'].values())


# --- machines on which something is wrong ---------------------------------

IMPORTS_THAT_FAIL = {
    'raise OSError("no\\nluck")': 'OSError: no',
    'import sys; sys.exit()': 'SystemExit',
    'raise KeyboardInterrupt("?")': 'trying it crashes Python (SIGINT)',
    'import os; os._exit(0)': 'trying it ends Python (exit status 0)',
    'import os; os.write(2, b"so long"); os.abort()':
        'trying it crashes Python (SIGABRT), after it said: so long',
    'import os; os.kill(os.getpid(), 11)':
        'trying it crashes Python (SIGSEGV)',
    '__version__ = "9"':
        "AttributeError: module 'theano' has no attribute 'config'",
    'print("\\0rubbish{}", end=""); import no_such_module':
        "ModuleNotFoundError: No module named 'no_such_module'",
}


@pytest.mark.parametrize('code', IMPORTS_THAT_FAIL)
def test_a_theano_that_cannot_be_imported(tmp_path, code):
    write(tmp_path, dict(LIBRARIES, **{'theano/__init__.py': code}))
    findings, rows = diagnose(tmp_path)
    (problem,) = findings['problems']
    assert problem['name'] == 'Theano'
    assert problem['value'].startswith(IMPORTS_THAT_FAIL[code])
    assert rows['NumPy']['value'] == '1.26.4 (%s)' % (tmp_path / 'numpy')
    for name in ('Lasagne', 'Compiled test', 'BLAS'):
        assert (rows[name]['status'], rows[name]['value']) == (
            'skipped', 'not tried')
    if 'no_such_module' in code:
        assert problem['remedy'] == 'pip install no_such_module'
    else:  # the environment names the folder, and so may be at fault
        assert problem['remedy'] == (
            'correct THEANO_FLAGS=%s; or reinstall %s: pip install '
            '--force-reinstall --no-deps Theano==1.0.5' % (
                own_folder(), tmp_path / 'theano' / '__init__.py'))
    if not problem['value'].startswith('trying'):  # the child could go on
        assert 'numpy.distutils.__config__.blas_opt_info' in (
            findings['applied'])


def test_a_theano_that_hangs(tmp_path):
    write(tmp_path, dict(LIBRARIES, **{
        'theano/__init__.py': 'import subprocess, time\n'
        # what holds the child's output open is ended, too
        'subprocess.Popen(["sleep", "100"])\ntime.sleep(100)\n'}))
    findings, rows = diagnose(tmp_path, '--time-limit=4')
    assert [problem['name'] for problem in findings['problems']] == ['Theano']
    assert rows['Theano']['value'] == 'trying it takes longer than 4 seconds'
    assert rows['Theano']['remedy'].startswith(
        'try again with a longer --time-limit; or ')


# blocks the imports of some modules, in every interpreter
BLOCKER = """
import sys


class Blocker(object):
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in %r:
            raise ModuleNotFoundError("No module named %%r" %% name, name=name)


sys.meta_path.insert(0, Blocker)
"""


def test_libraries_that_are_missing(tmp_path):
    write(tmp_path, {'sitecustomize.py': BLOCKER % ['numpy']})
    findings, rows = diagnose(tmp_path)
    (problem,) = findings['problems']
    assert (problem['name'], problem['value'], problem['remedy']) == (
        'NumPy', "ModuleNotFoundError: No module named 'numpy'",
        "pip install 'numpy<2'")
    assert rows['Theano']['value'] == rows['SciPy']['value'] == 'not tried'
    assert findings['applied'] == {}


def test_theano_is_missing(tmp_path):
    write(tmp_path, dict(LIBRARIES, **{
        'sitecustomize.py': BLOCKER % ['theano']}))
    findings, rows = diagnose(tmp_path)
    (problem,) = findings['problems']
    assert (problem['name'], problem['remedy']) == (
        'Theano', 'pip install Theano==1.0.5')


def test_lasagne_is_broken(tmp_path):
    """With everything else in order, which therefore is tried."""
    write(tmp_path, {'lasagne/__init__.py': 'import sys; sys.exit("bye")'})
    findings, rows = diagnose(tmp_path)
    (problem,) = findings['problems']
    assert (problem['name'], problem['value']) == ('Lasagne',
                                                   'SystemExit: bye')
    assert problem['remedy'] == (
        'reinstall %s: pip install --force-reinstall --no-deps Lasagne'
        % (tmp_path / 'lasagne' / '__init__.py'))
    assert rows['Compiled test']['status'] == 'ok'


def test_numpy_is_too_new(tmp_path):
    write(tmp_path, {'numpy/__init__.py': LIBRARIES[
        'numpy/__init__.py'].replace('1.26.4', '2.0.1')})
    findings, rows = diagnose(tmp_path)
    assert [check['value'] for check in findings['problems']] == [
        '2.0.1 is too new for Theano 1.0.5']
    assert rows['NumPy']['remedy'] == "pip install 'numpy<2'"


def test_no_compiler(tmp_path):
    findings, rows = diagnose(tmp_path, PATH=tmp_path)
    (problem,) = findings['problems']
    assert (problem['name'], problem['value'], problem['remedy']) == (
        'Compiler', 'g++ is missing',
        'install it (Debian, Ubuntu: apt-get install g++)')
    assert rows['Compiled test']['status'] == 'ok'  # slowly
    assert [check['value'] for check in findings['warnings']
            if check['name'] == 'Compiled test'] == [
        'Theano computes in Python, which is very slow']


def test_a_compiler_that_does_not_compile(tmp_path):
    findings, rows = diagnose(
        tmp_path, THEANO_FLAGS=own_folder() + ',cxx=/no/g++')
    (problem,) = findings['problems']
    assert (problem['name'], problem['value']) == (
        'Compiled test', 'FileNotFoundError: [Errno 2] No such file or '
        "directory: '/no/g++'")
    assert problem['remedy'].startswith('correct THEANO_FLAGS=base_compile')
    assert rows['BLAS']['status'] == 'skipped'


def test_nonsense_in_theano_flags(tmp_path):
    findings, rows = diagnose(
        tmp_path, THEANO_FLAGS=own_folder() + ',floatX=big')
    (problem,) = findings['problems']
    assert problem['name'] == 'Theano'
    assert problem['value'].startswith(
        'ValueError: Invalid value ("big") for configuration variable')
    assert problem['remedy'] == 'correct THEANO_FLAGS=%s,floatX=big' % (
        own_folder())


@pytest.mark.parametrize('flags, where', [
    (',device=gpu', 'THEANO_FLAGS'), ('', 'old.theanorc')])
def test_settings_of_2016(tmp_path, flags, where):
    write(tmp_path, {'old.theanorc': '[global]\ndevice = gpu\n'})
    findings, rows = diagnose(
        tmp_path, THEANORC='old.theanorc', THEANO_FLAGS=own_folder() + flags)
    (problem,) = findings['problems']
    assert problem['name'] == 'Theano'
    assert problem['remedy'] == (
        'take device=gpu out of %s to compute on the CPU; for a card: '
        'python -m wnorm gpu-setup' % where)


def test_the_hook_is_switched_off(tmp_path):
    write(tmp_path, dict(LIBRARIES, **{
        'theano/__init__.py': 'import numpy; numpy.bool'}))
    findings, rows = diagnose(tmp_path, WNORM_STACK=0)
    assert rows['Start-up hook']['value'] == 'switched off by WNORM_STACK=0'
    assert rows['Start-up hook']['status'] == 'warning'
    (problem,) = findings['problems']
    assert problem['value'] == (
        "AttributeError: module 'numpy' has no attribute 'bool'")
    assert problem['remedy'] == (
        'unset WNORM_STACK, which switches the remedies off')
    assert findings['applied'] == {}


def test_the_hook_is_not_installed(tmp_path):
    """An interpreter that reads no ``.pth`` file."""
    write(tmp_path, dict(LIBRARIES, **{'theano/__init__.py': '1 / 0'}))
    subprocess.check_call([sys.executable, '-m', 'venv', '--without-pip',
                           str(tmp_path / 'venv')])
    done = python(
        '-m', 'wnorm', 'doctor', '--json', cwd=tmp_path,
        executable=tmp_path / 'venv' / 'bin' / 'python',
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.path.dirname(
            os.path.dirname(wnorm.__file__))]))
    rows = {check['name']: check
            for check in json.loads(done.stdout)['checks']}
    assert (done.returncode, done.stderr) == (1, '')
    assert rows['Start-up hook']['status'] == 'warning'
    assert rows['Start-up hook']['value'] == (
        'not installed: armed by `import wnorm` only')
    assert 'import wnorm before theano' in rows['Start-up hook']['remedy']
    assert rows['Theano']['value'] == 'ZeroDivisionError: division by zero'


def test_hook_rows(monkeypatch):
    monkeypatch.delenv('WNORM_STACK', raising=False)
    assert doctor.hook_row(True)['status'] == 'ok'
    assert doctor.hook_row(False)['status'] == 'warning'


# --- the compile folder ---------------------------------------------------

def test_compile_folder_below_a_file(tmp_path, monkeypatch):
    write(tmp_path, {'file': ''})
    monkeypatch.setenv('THEANO_FLAGS',
                       'base_compiledir=%s/deep/er' % (tmp_path / 'file'))
    (row,) = doctor.folder_rows()
    assert row['status'] == 'problem'
    assert row['value'] == str(tmp_path / 'file/deep/er: Not a directory')
    assert 'THEANO_FLAGS=base_compiledir=FOLDER' in row['remedy']


def test_compile_folder_that_is_yet_to_be_made(tmp_path, monkeypatch):
    monkeypatch.setenv('THEANO_FLAGS', 'compiledir=%s/new/folder' % tmp_path)
    (row,) = doctor.folder_rows()
    assert row == doctor.row('Compile folder', str(tmp_path / 'new/folder'))
    assert not (tmp_path / 'new').exists()


def test_compile_folder_on_a_full_disk(tmp_path):
    """Found at once, where Theano would try for minutes."""
    write(tmp_path, dict(LIBRARIES, **{'sitecustomize.py': """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""}))
    flags = 'base_compiledir=%s' % tmp_path
    findings, rows = diagnose(tmp_path, THEANO_FLAGS=flags,
                              COVERAGE_PROCESS_START=None,
                              COVERAGE_PROCESS_CONFIG=None)
    (problem,) = findings['problems']
    assert (problem['name'], problem['value']) == (
        'Compile folder', '%s: File too large' % tmp_path)
    assert rows['Theano']['status'] == 'skipped'


# --- the compiled function ------------------------------------------------

def test_a_theano_that_computes_wrong(monkeypatch):
    compiled = theano.function

    def wrong(inputs, outputs, mode):
        function = compiled(inputs, outputs)

        def call(*values):
            elementwise, product, convolution = function(*values)
            return elementwise, product + 1, convolution[:, :, ::-1]
        return call
    monkeypatch.setattr(theano, 'function', wrong)
    rows = list(doctor.compiled_rows())
    assert rows[0]['status'] == 'problem'
    assert rows[0]['value'] == (
        'Theano computes a product of matrices and a convolution wrong')
    assert theano.config.compiledir in rows[0]['remedy']


# --- flags ----------------------------------------------------------------

def test_flags_that_theano_ignores(monkeypatch):
    monkeypatch.setenv(
        'THEANO_FLAGS', 'floatX, cxx=,flaotX=float32,blas.ldflags="-a,-b",')
    (row,) = doctor.flag_rows()
    assert (row['status'], row['value']) == (
        'warning', "Config key 'floatX' has no value, ignoring it; Theano "
        "has no flag 'flaotX'")


def test_flags(monkeypatch, tmp_path):
    write(tmp_path, {'theanorc': ''})
    monkeypatch.setenv('THEANO_FLAGS', '')
    monkeypatch.setattr(theano.configparser, 'config_files',
                        [str(tmp_path / 'none')])
    assert list(doctor.flag_rows()) == [
        doctor.row('Theano flags', "none: Theano's defaults")]
    theano.configparser.config_files.append(str(tmp_path / 'theanorc'))
    monkeypatch.setenv('THEANO_FLAGS', 'floatX=float32')
    assert list(doctor.flag_rows()) == [doctor.row(
        'Theano flags', 'THEANO_FLAGS=floatX=float32; %s'
        % (tmp_path / 'theanorc'))]


# --- BLAS -----------------------------------------------------------------

NUMPYS = '/v/numpy.libs/libopenblas64_p-r0.so'
REFERENCE = '/usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0'
OPENBLAS = '/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3'


@pytest.mark.parametrize('paths, linked, used', [
    ([NUMPYS], False, NUMPYS),
    ([REFERENCE, NUMPYS], True, REFERENCE),
    ([REFERENCE, NUMPYS], False, NUMPYS),
    (['/opt/my blas/libmkl_rt.so.2'], False, '/opt/my blas/libmkl_rt.so.2'),
    ([], True, 'file unknown')])
def test_blas_in_use(paths, linked, used):
    assert doctor.blas_in_use(paths, linked) == used


@pytest.mark.parametrize('path, reference', [
    (REFERENCE, True), (OPENBLAS, False), ('/usr/lib/libblas.so.3', True),
    ('/usr/lib/libopenblas.so.0', False), ('/usr/lib/atlas/libblas.so', False),
    ('file unknown', False)])
def test_is_reference(path, reference):
    assert bool(doctor.is_reference(path)) == reference


@pytest.fixture
def blas_row(monkeypatch):
    """What the doctor says of a BLAS."""
    def tell(flags, paths, refusal=None, adapted=False):
        monkeypatch.setattr(doctor, 'blas_speed', lambda: (200, 9))
        monkeypatch.setattr(doctor.blas, 'loaded', lambda: paths)
        monkeypatch.setattr(remedies, 'no_adapter', refusal)
        monkeypatch.setattr(remedies, 'applied', {
            'theano.config.blas.ldflags': ''} if adapted else {})
        with theano.change_flags({'blas.ldflags': flags}):
            found, speed = doctor.blas_rows()
        assert (found['name'], speed['name']) == ('BLAS', 'BLAS speed')
        assert speed['value'].startswith('200 GFLOP/s for A B, ')
        assert '; 9 for C += A B, ' in speed['value']
        return found
    return tell


def test_numpys_blas(blas_row):
    assert blas_row('-L/c -lwnorm', ['/c/libwnorm_openblas.so', NUMPYS],
                    adapted=True) == doctor.row(
        'BLAS', "NumPy's OpenBLAS, through an adapter (%s)" % NUMPYS)


def test_the_users_blas(blas_row):
    assert blas_row('-lopenblas', [OPENBLAS, NUMPYS]) == doctor.row(
        'BLAS', '-lopenblas (%s)' % OPENBLAS)


REFUSAL = NoAdapter('so it is', 'change it')


@pytest.mark.parametrize('refusal, why, remedy', [
    (REFUSAL, 'so it is', 'change it'),
    (None, 'told to link none (blas.ldflags=)',
     'unset blas.ldflags in THEANO_FLAGS or .theanorc')])
def test_the_fallback(blas_row, refusal, why, remedy):
    assert blas_row('', [NUMPYS], refusal) == doctor.row(
        'BLAS', "NumPy's, through its C API, which has no accumulating "
        'product (%s): %s' % (NUMPYS, why), 'warning', remedy)


@pytest.mark.parametrize('refusal, why, remedy', [
    (REFUSAL, ': so it is', 'change it'),
    (None, '', 'unset blas.ldflags in THEANO_FLAGS or .theanorc')])
def test_the_reference_blas(blas_row, refusal, why, remedy):
    assert blas_row('-lblas', [REFERENCE, NUMPYS], refusal) == doctor.row(
        'BLAS', '-lblas, the reference BLAS, which is slow (%s)%s'
        % (REFERENCE, why), 'warning', remedy)


# --- compiler, GPU --------------------------------------------------------

@pytest.fixture
def path(monkeypatch, tmp_path):
    """The folder that alone is searched for programs."""
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('THEANO_FLAGS', raising=False)
    monkeypatch.setenv('THEANORC', str(tmp_path / 'theanorc'))
    return tmp_path


def program(path, code):
    path.write_text('#!/bin/sh\n' + code)
    path.chmod(0o755)


def test_a_compiler_that_does_not_run(path):
    program(path / 'g++', 'echo no licence; exit 3')
    row = list(doctor.compiler_rows())[0]
    assert (row['status'], row['value']) == (
        'problem', '%s does not run: no licence' % (path / 'g++'))


def test_a_compiler_that_cannot_even_be_started(path):
    program(path / 'g++', '')
    (path / 'g++').write_text('#!/no/such/shell\n')
    row = doctor.guarded('Compiler', doctor.compiler_rows)[0]
    assert row['status'] == 'problem'
    assert row['value'].startswith('FileNotFoundError')
    assert row['remedy'] == 'reinstall or remove it'


def test_missing_tools(path, monkeypatch):
    monkeypatch.setattr(preflight, 'header_problem',
                        lambda: 'Python.h is missing: install it')
    tools = list(doctor.compiler_rows())
    assert [row['status'] for row in tools] == ['problem', 'problem']
    assert (tools[1]['value'], tools[1]['remedy']) == (
        'Python.h is missing', 'install it')
    monkeypatch.setenv('THEANO_FLAGS', 'cxx=')
    tools = list(doctor.compiler_rows())
    assert [row['status'] for row in tools] == ['warning', 'warning']
    assert tools[0]['value'] == (
        'g++ is missing; Theano was told what to use (cxx)')


def test_a_wrong_python(monkeypatch):
    monkeypatch.setattr(preflight, 'python_problem', lambda: 'too new')
    row = next(doctor.python_rows())
    assert (row['status'], row['value'], row['remedy']) == (
        'problem', 'too new', 'use another Python')


# --- the GPU --------------------------------------------------------------

@pytest.fixture
def gpu(monkeypatch):
    """What is found on the machine, and on the device."""
    def findings(*rows):
        monkeypatch.setattr(doctor.survey, 'look', lambda kind: kind)
        monkeypatch.setattr(doctor.survey, 'rows', lambda kind: [
            doctor.row(name, 'on ' + kind, status, 'do this')
            for name, status in rows])
        monkeypatch.setattr(doctor.settings, 'environment',
                            lambda machine: {'for': machine})
        monkeypatch.setattr(
            doctor.check, 'run', lambda variables, time_limit: doctor.row(
                'GPU test', '%s within %d s' % (variables, time_limit)))
        monkeypatch.setenv('THEANO_FLAGS', '')
    return findings


def statuses(*arguments):
    return [(found['name'], found['status'])
            for found in doctor.gpu_rows(*arguments)]


def test_no_gpu(gpu):
    gpu(('GPU', 'problem'), ('pygpu', 'ok'), ('cuDNN', 'warning'))
    assert statuses('cuda', False, 9) == [
        ('GPU', 'absent'), ('pygpu', 'ok'), ('cuDNN', 'absent')]
    first = next(doctor.gpu_rows('cuda', False, 9))
    assert first['value'] == 'on cuda (not needed)'


def test_no_gpu_but_one_is_asked_for(gpu, monkeypatch):
    gpu(('GPU', 'problem'), ('cuDNN', 'warning'))
    assert statuses('cuda', True, 9) == [
        ('GPU', 'problem'), ('cuDNN', 'absent'), ('GPU test', 'skipped')]
    monkeypatch.setenv('THEANO_FLAGS', 'device=cuda0')
    assert statuses('cuda', False, 9) == [
        ('GPU', 'problem'), ('cuDNN', 'absent')]


def test_gpu_that_is_not_set_up(gpu):
    gpu(('GPU', 'ok'), ('pygpu', 'problem'))
    assert statuses('cuda', False, 9) == [('GPU', 'ok'), ('pygpu', 'warning')]


def test_gpu_that_computes(gpu, monkeypatch):
    gpu(('GPU', 'ok'))
    assert list(doctor.gpu_rows('cuda', True, 9))[1]['value'] == (
        "{'for': 'cuda'} within 9 s")
    monkeypatch.setenv('THEANO_FLAGS', 'device=opencl0:0')
    assert list(doctor.gpu_rows('cuda', True, 9))[1]['value'] == (
        "{'for': 'opencl'} within 9 s")


def test_a_search_that_fails(monkeypatch):
    def look(kind):
        raise OSError('no memory')
    monkeypatch.setattr(doctor.survey, 'look', look)
    (found,) = doctor.guarded(
        'GPU', lambda: doctor.gpu_rows('cuda', False, 9))
    assert (found['status'], found['value']) == (
        'warning', 'OSError: no memory')  # a CPU will do


def test_device_in_use(monkeypatch):
    from theano import gpuarray
    assert list(doctor.device_rows()) == []
    monkeypatch.setattr(theano, 'config',
                        types.SimpleNamespace(device='cuda0'))
    (found,) = doctor.device_rows()
    assert (found['status'], found['value']) == (
        'warning', 'none: Theano computes on the CPU, although it was told '
        'device=cuda0')
    monkeypatch.setattr(gpuarray, 'pygpu_activated', True)
    monkeypatch.setattr(gpuarray, 'get_context', lambda name:
                        types.SimpleNamespace(devname='Fake '))
    assert list(doctor.device_rows()) == [
        doctor.row('GPU in use', 'cuda0 (Fake)')]


def test_a_device_that_theano_cannot_use(tmp_path):
    findings, rows = diagnose(
        tmp_path, THEANO_FLAGS=own_folder() + ',device=cuda7', PATH=os.path
        .dirname(sys.executable) + os.pathsep + os.environ['PATH'])
    assert rows['GPU in use']['status'] == 'warning'
    assert rows['GPU in use']['remedy'].endswith('wnorm gpu -- PROGRAM')


# --- the child, seen from the doctor --------------------------------------

def sent(*messages):
    return ''.join('\nrubbish\n%s%s\n' % (doctor.MARK, json.dumps(message))
                   for message in messages)


def test_report_of_a_child_that_says_nothing():
    checks, applied = doctor.read_report('', 'Sorry.\n', 'crashes')
    assert checks[0]['name'] == 'NumPy'
    assert checks[0]['value'] == 'trying it crashes, after it said: Sorry.'
    assert {check['status'] for check in checks[1:]} == {'skipped'}
    assert applied == {}


def test_report_of_a_child_that_is_cut_off():
    output = sent({'rows': [doctor.row('NumPy', '1')]},
                  {'stage': 'GPU in use', 'applied': {'what': 'why'}})
    checks, applied = doctor.read_report(
        output + doctor.MARK + '{"rows": [{"na', '', 'crashes')
    assert [(check['name'], check['status']) for check in checks] == [
        ('NumPy', 'ok'), ('GPU in use', 'warning')]  # a CPU will do
    assert checks[1]['value'] == 'trying it crashes'
    assert applied == {'what': 'why'}


def test_report_of_a_child_that_ends_well():
    assert doctor.read_report(sent({'stage': None}), 'noise', 'crashes') == (
        [], {})


@pytest.mark.parametrize('status, text', [
    (3, 'ends Python (exit status 3)'), (-9, 'crashes Python (SIGKILL)'),
    (-99, 'crashes Python (signal 99)')])
def test_how_it_ended(status, text):
    assert doctor.how_it_ended(status) == text


def test_no_child_can_be_started(monkeypatch):
    monkeypatch.setattr(sys, 'executable', '/no/such/python')
    findings = doctor.diagnose(1)
    assert not findings['ok']
    assert findings['problems'][0]['name'] == 'Theano'
    assert findings['problems'][0]['value'].startswith('FileNotFoundError')


def test_interrupted(monkeypatch):
    """The child does not live on."""
    started = []

    class Child(subprocess.Popen):
        def communicate(self, timeout):
            started.append(self)
            raise KeyboardInterrupt
    monkeypatch.setattr(subprocess, 'Popen', Child)
    assert doctor.run(argparse.Namespace(
        json=True, time_limit=9, kind='cuda', compute=False)) == 130
    (child,) = started
    assert child.returncode == -9
    child.stdout.close()
    child.stderr.close()


def test_guarded_lets_an_interrupt_through():
    def probe():
        yield doctor.row('GPU', 'one')
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        doctor.guarded('GPU', probe)


# --- describing errors ----------------------------------------------------

@pytest.mark.parametrize('error, text', [
    (ValueError(), 'ValueError'),
    (ValueError('\n one\ntwo'), 'ValueError: one'),
    (Exception('code', "failed: g++: error: no option '-x'\nmore"),
     "Exception: g++: error: no option '-x'"),
    (Exception('00001 #include\n x.c:1: fatal error: no Python.h\nmore'),
     'Exception: x.c:1: fatal error: no Python.h'),
    (ValueError('x' * 999), 'ValueError: ' + 'x' * 300),
])
def test_describe(error, text):
    assert doctor.describe(error) == text


def test_remedy_for_a_step_without_a_package(monkeypatch):
    monkeypatch.delenv('THEANO_FLAGS')
    assert doctor.remedy_for('BLAS', OSError()) == (
        "empty Theano's compile folder, or name another: "
        'THEANO_FLAGS=base_compiledir=FOLDER')


def test_remedy_for_a_warning():
    assert doctor.remedy_for('Theano', DeprecationWarning()) == (
        'unset PYTHONWARNINGS, which makes warnings errors')


def test_remedy_for_a_module_without_a_name():
    assert doctor.remedy_for('cffi', ModuleNotFoundError()) == (
        'reinstall or remove it')


def test_found_at(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(write(tmp_path, {'space/file': ''})))
    assert doctor.found_at('json') == json.__file__
    assert doctor.found_at('no_such_module') is None
    assert doctor.found_at('space') is None  # a namespace


# --- printing -------------------------------------------------------------

FINDINGS = {
    'ok': False,
    'checks': [doctor.row('NumPy', '1.26'),
               doctor.row('Start-up hook', 'away', 'warning', 'get it'),
               doctor.row('Theano', 'word ' * 20 + 'end', 'problem', 'mend'),
               doctor.row('pygpu', 'not found', 'absent')],
    'applied': {'numpy.bool': 'removed'},
    'warnings': [doctor.row('Start-up hook', 'away', 'warning', 'get it')],
    'problems': [doctor.row('Theano', 'broken', 'problem', 'mend it')],
}


def test_table():
    assert doctor.as_table(FINDINGS, 70).splitlines() == [
        'NumPy          1.26',
        'Start-up hook  WARNING: away',
        'Theano         PROBLEM: word word word word word word word word word',
        '               ' + ' '.join(['word'] * 11),
        '               end',
        'pygpu          not found',
        '',
        'Remedied',
        '  numpy.bool',
        '      removed',
        '',
        'Could be better',
        '  Start-up hook: away',
        '      -> get it',
        '',
        'Problems',
        '  Theano: broken',
        '      -> mend it',
    ]


def test_table_of_a_healthy_machine():
    healthy = {'checks': FINDINGS['checks'][:1], 'applied': {},
               'warnings': [], 'problems': []}
    assert doctor.as_table(healthy, 10).splitlines() == [
        'NumPy  1.26', '', 'Remedied', '  none', '', 'Problems', '  none']


@pytest.mark.parametrize('as_json, terminal', [
    (False, True), (False, False), (True, True)])
def test_run(monkeypatch, capsys, as_json, terminal):
    monkeypatch.setattr(doctor, 'diagnose', lambda *given: dict(
        FINDINGS, ok=given == (7, 'opencl', True)))
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: terminal, raising=False)
    status = doctor.run(argparse.Namespace(
        json=as_json, time_limit=7, kind='opencl', compute=True))
    out, err = capsys.readouterr()
    assert status == 0
    assert out.startswith('{' if as_json else 'NumPy ')
    assert ('compiles for a minute' in err) == (terminal and not as_json)
    assert doctor.run(argparse.Namespace(
        json=True, time_limit=8, kind='opencl', compute=True)) == 1


def test_characters_that_the_terminal_lacks(tmp_path):
    code = ('from wnorm.stack import doctor; '
            'doctor.show("caf\\xe9 \\udcff")')
    assert silent(python('-c', code, cwd=tmp_path,
                         PYTHONIOENCODING='ascii')) == 'caf\\xe9 \\udcff\n'


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
@pytest.mark.parametrize('where', ['/dev/full', None])
def test_nobody_reads_what_is_printed(tmp_path, where):
    code = ('import os; %s; from wnorm.stack import doctor; '
            'doctor.show("words")' % (
                'os.dup2(os.open(%r, os.O_WRONLY), 1)' % where if where else
                'import sys; sys.stdout = None'))
    assert silent(python('-c', code, cwd=tmp_path)) == ''
