"""Where the libraries of a GPU lie on this machine, and what fits together.

They come from the system, from wheels in this Python's site-packages or from
those of another Python (a node's PyTorch, say). A library that is older or
newer than the rest allows is passed over for the next one.
"""
import collections
import glob
import json
import os
import re
import subprocess
import sys
import sysconfig

from . import probe

#: The names that libgpuarray and Theano open. They must be found under
#: exactly these, which most machines lack: their files end in numbers.
FILES = {'driver': 'libcuda.so', 'nvrtc': 'libnvrtc.so',
         'cublas': 'libcublas.so', 'cudnn': 'libcudnn.so',
         'opencl': 'libOpenCL.so', 'clblast': 'libclblast.so'}

#: How people call them.
TITLES = {'driver': 'NVIDIA driver', 'nvrtc': 'NVRTC', 'cublas': 'cuBLAS',
          'cudnn': 'cuDNN', 'opencl': 'OpenCL', 'clblast': 'CLBlast'}

#: Where a system keeps libraries.
SYSTEM = ['/usr/lib/*-linux-gnu', '/usr/lib64', '/usr/lib',
          '/usr/local/nvidia/lib64', '/usr/local/nvidia/lib',
          '/usr/lib/wsl/lib', '/usr/local/cuda/lib64',
          '/usr/local/cuda-*/lib64', '/usr/local/lib']

#: The same for headers.
SYSTEM_HEADERS = ['/usr/local/cuda/include', '/usr/local/cuda-*/include',
                  '/usr/local/include', '/usr/include',
                  '/usr/include/*-linux-gnu']

#: The largest compute capability that libgpuarray can name: it has room for
#: two digits, and would make compute_10 of 10.0 and compute_12 of 12.0.
LARGEST_CAPABILITY = (9, 0)

#: The oldest cards that the compiler and the libraries of a major version of
#: CUDA serve.
OLDEST_CAPABILITY = {11: (3, 5), 12: (5, 0), 13: (7, 5)}

#: From this version on cuDNN serves the cards of CUDA 13 alone.
CUDNN_OF_CUDA_13 = (9, 11)

#: Seconds that a library, or another Python, may take to answer.
PATIENCE = 60


class Library(collections.namedtuple('Library', 'kind path answer')):
    """A file and what it says of itself: a dict with `version`, or `error`."""

    @property
    def error(self):
        return self.answer.get('error')

    @property
    def version(self):
        return tuple(self.answer.get('version', ()))

    @property
    def cuda(self):
        """The major version of CUDA that it was built for."""
        return self.answer.get('cuda') or (self.version or (0,))[0]

    @property
    def folder(self):
        return os.path.dirname(self.path)

    @property
    def devices(self):
        """What a driver sees: dicts of `name`, `capability`, `memory`."""
        return self.answer.get('devices', [])

    def __str__(self):
        return ('%s (%s)' % (dotted(self.version), self.path)
                if self.version else self.path)


#: What was found: libraries by kind (None: there is none that fits), folders
#: of headers, and sentences on those that were passed over.
Found = collections.namedtuple(
    'Found', 'libraries cudnn_header cuda_headers passed_over')


def dotted(version):
    return '.'.join(map(str, version))


def home():
    """The folder that gpu-setup fills; removing it undoes gpu-setup.

    ``python/`` holds pygpu and what it imports, ``lib/`` libgpuarray,
    ``include/`` its headers, ``cuda/`` NVIDIA's wheels.
    """
    return os.path.join(sys.prefix, 'share', 'wnorm-gpu')


# --- folders --------------------------------------------------------------

def from_environment():
    """Folders that the user names."""
    named = [os.environ.get(name, '') for name in (
        'WNORM_CUDA', 'LD_LIBRARY_PATH')]
    folders = [folder for text in named for folder in text.split(os.pathsep)
               # what settings put there stands for what lies elsewhere
               if folder != os.environ.get('WNORM_GPU_RUNTIME')]
    for name in ('CUDA_HOME', 'CUDA_PATH', 'CUDA_ROOT', 'CONDA_PREFIX'):
        root = os.environ.get(name)
        if root:
            folders += [os.path.join(root, part) for part in (
                'lib64', 'lib', os.path.join('targets', '*', 'lib'))]
    return folders


def from_wheels(search_path):
    """Folders of NVIDIA's wheels in the site-packages of a Python."""
    return [os.path.join(folder, 'nvidia', '*', 'lib')
            for folder in search_path if folder]


def from_other_pythons():
    """The same for every other Python that PATH leads to."""
    pythons, folders = [], []
    for folder in os.environ.get('PATH', os.defpath).split(os.pathsep):
        for name in ('python3', 'python'):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK) and path not in pythons and (
                    folder != os.path.dirname(sys.executable)):
                pythons.append(path)
    for path in pythons:
        # as it starts by itself: our PYTHONPATH is not for it
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith('PYTHON')}
        try:
            done = subprocess.run(
                [path, '-c', 'import sys; print("\\n".join(sys.path))'],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, timeout=PATIENCE, env=clean)
        except (OSError, subprocess.TimeoutExpired):
            continue
        folders += from_wheels(
            done.stdout.decode(errors='replace').splitlines())
    return folders


def expand(patterns):
    """The folders that match, once each and in this order."""
    found = [folder for pattern in patterns if pattern
             for folder in sorted(glob.glob(pattern)) if os.path.isdir(folder)]
    return list(collections.OrderedDict.fromkeys(found))


def files(kind, folders):
    """The files of a library in `folders`, links to one file but once."""
    found = collections.OrderedDict()
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(
                folder, FILES[kind] + '*'))):
            name = os.path.basename(path)
            if re.fullmatch(re.escape(FILES[kind]) + r'[.\d]*', name):
                found.setdefault(os.path.realpath(path), path)
    return list(found.values())


# --- libraries ------------------------------------------------------------

def examine(kind, path):
    """Load a library in another process, and ask for its version."""
    command = [sys.executable, probe.__file__, kind, path]
    # beside it lie those that it needs itself
    variables = dict(os.environ, LD_LIBRARY_PATH=os.pathsep.join(filter(
        None, [os.path.dirname(path), os.environ.get('LD_LIBRARY_PATH')])))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=PATIENCE, env=variables)
        answer = json.loads(done.stdout.decode())
    except subprocess.TimeoutExpired:
        answer = {'error': 'it does not answer within %d seconds' % PATIENCE}
    except ValueError:
        answer = {'error': 'it ends the process that loads it'}
    return Library(kind, path, answer)


def find_driver():
    """The driver: the first that works, else the first there is, else None."""
    found = [examine('driver', path) for path in files('driver', expand(
        from_environment() + SYSTEM))]
    return next((library for library in found if not library.error),
                found[0] if found else None)


def find(driver=None):
    """The set of libraries that fit the driver and one another.

    Parameters
    ----------
    driver : Library or None
        None where there is none: then any version fits.

    Returns
    -------
    Found
    """
    near = expand(from_environment() + SYSTEM + from_wheels(
        [os.path.join(home(), 'cuda')] + sys.path))
    found = choose(near, driver)
    if None in found.libraries.values():
        found = choose(near + expand(from_other_pythons()), driver)
    return found


def choose(folders, driver):
    """The most complete set in `folders`, of the newest CUDA among equals."""
    candidates, passed_over = [], []
    for kind in ('nvrtc', 'cublas', 'cudnn'):
        for library in (examine(kind, path) for path in files(kind, folders)):
            problem = misfit(library, driver)
            if problem:
                passed_over.append(problem)
            else:
                candidates.append(library)
    sets = []
    for major in sorted({library.cuda for library in candidates}):
        chosen = dict.fromkeys(('nvrtc', 'cublas', 'cudnn'))
        for library in candidates:
            if library.cuda == major and not chosen[library.kind]:
                chosen[library.kind] = library
        sets.append(chosen)
    best = max(sets or [dict.fromkeys(('nvrtc', 'cublas', 'cudnn'))],
               key=lambda chosen: (sum(map(bool, chosen.values())),
                                   sets and sets.index(chosen)))
    return Found(best, cudnn_header(best['cudnn'], folders),
                 cuda_headers(best, folders), passed_over)


def misfit(library, driver):
    """Why a library cannot be used with a driver and its cards, or None."""
    title = TITLES[library.kind]
    if library.error:
        return '%s %s cannot be used: %s' % (title, library.path,
                                             library.error)
    if driver is None or driver.error:
        return None
    # PTX of a newer NVRTC is refused by the driver; the other libraries run
    # with any driver of their major version
    if library.kind == 'nvrtc' and library.version > driver.version or (
            library.cuda > driver.version[0]):
        return ('%s %s is newer than the driver, which is for CUDA %s: update '
                'the driver, or install an older %s'
                % (title, library, dotted(driver.version), title))
    oldest = OLDEST_CAPABILITY.get(library.cuda, (0, 0))
    if library.kind == 'cudnn' and library.version >= CUDNN_OF_CUDA_13:
        oldest = OLDEST_CAPABILITY[13]
    if driver.devices and capability(driver) < oldest:
        return ('%s %s does not serve cards of compute capability %s any '
                'more: install an older one' % (
                    title, library, dotted(capability(driver))))
    return None


def capability(driver):
    """The smallest compute capability of the cards that the driver sees."""
    return min(tuple(device['capability']) for device in driver.devices)


def find_opencl():
    """OpenCL's loader and CLBlast, by kind: libraries, or None."""
    folders = expand(from_environment() + SYSTEM)
    chosen = {}
    for kind in ('opencl', 'clblast'):
        found = [examine(kind, path) for path in files(kind, folders)]
        chosen[kind] = next(
            (library for library in found if not library.error),
            found[0] if found else None)
    return chosen


# --- headers --------------------------------------------------------------

def include_folders(folders):
    """Where the headers of the libraries in `folders` may lie."""
    patterns = []
    for folder in folders:
        # lib, or lib/ARCHITECTURE
        for up in (os.pardir, os.path.join(os.pardir, os.pardir)):
            patterns.append(os.path.join(folder, up, 'include'))
        if os.path.basename(os.path.dirname(os.path.dirname(folder))) == (
                'nvidia'):  # a wheel of the same site-packages
            patterns.append(os.path.join(
                folder, os.pardir, os.pardir, '*', 'include'))
    found = [os.path.normpath(folder)
             for folder in expand(patterns + SYSTEM_HEADERS)]
    return list(collections.OrderedDict.fromkeys(found))


def header_version(folder):
    """The version of the cuDNN header in `folder`, or None."""
    for name in ('cudnn_version.h', 'cudnn.h'):  # before cuDNN 8, the latter
        try:
            with open(os.path.join(folder, name), errors='replace') as file:
                text = file.read()
        except OSError:
            continue
        parts = [re.search(r'#define\s+CUDNN_%s\s+(\d+)' % part, text)
                 for part in ('MAJOR', 'MINOR', 'PATCHLEVEL')]
        if all(parts):
            return tuple(int(part.group(1)) for part in parts)
    return None


def cudnn_header(library, folders):
    """The folder of the header and its version, those of `library` if any.

    Returns
    -------
    (str, tuple) or None
        None without a library, or without any header.
    """
    if library is None:
        return None
    found = []
    for folder in include_folders([library.folder] + folders):
        version = header_version(folder)
        if version and os.path.exists(os.path.join(folder, 'cudnn.h')):
            found.append((folder, version))
    return next((pair for pair in found if pair[1] == library.version),
                found[0] if found else None)


def cuda_headers(chosen, folders):
    """Folders with CUDA's headers, which those of cuDNN include.

    One, or two of the wheels; none where a part is missing.
    """
    own = [library.folder for library in chosen.values() if library]
    includes = include_folders(own + folders)
    parts = [[folder for folder in includes
              if os.path.exists(os.path.join(folder, name))]
             for name in ('cuda_runtime_api.h', 'crt/host_defines.h')]
    if not all(parts):
        return []
    whole = [folder for folder in parts[0] if folder in parts[1]]
    return whole[:1] or [part[0] for part in parts]


# --- pygpu ----------------------------------------------------------------

def pygpu_folder():
    """Where pygpu lies: what gpu-setup unpacked, else what Python finds."""
    for folder in [os.path.join(home(), 'python')] + sys.path:
        path = os.path.join(folder, 'pygpu')
        if folder and os.path.isdir(path):
            return path
    return None


def pygpu_fits(folder):
    """Whether the pygpu in `folder` was compiled for this Python."""
    return os.path.exists(os.path.join(
        folder, 'gpuarray' + sysconfig.get_config_var('EXT_SUFFIX')))


def pygpu_version(folder):
    """Its version, read without importing it, or '?'."""
    try:
        with open(os.path.join(folder, '_version.py')) as file:
            found = re.search(r"[\"']version[\"']:\s*[\"']([^\"']+)|"
                              r"version\s*=\s*[\"']([^\"']+)", file.read())
    except OSError:
        found = None
    return (found.group(1) or found.group(2)) if found else '?'


def gpuarray_library():
    """The file of libgpuarray that pygpu loads, or None."""
    return first('libgpuarray.so', [os.path.join(home(), 'lib')] +
                 from_environment() + SYSTEM + [
                     os.path.join(sys.prefix, 'lib')])


def gpuarray_headers():
    """The folder with libgpuarray's headers, which Theano compiles against.

    Where pygpu keeps them too, Theano looks by itself.
    """
    header = first(os.path.join('gpuarray', 'array.h'), [
        os.path.join(home(), 'include'), os.path.join(sys.prefix, 'include')
    ] + SYSTEM_HEADERS)
    return header and os.path.dirname(os.path.dirname(header))


def first(name, patterns):
    """The path of a file in the first of some folders that has it, or None."""
    return next((os.path.join(folder, name) for folder in expand(patterns)
                 if os.path.exists(os.path.join(folder, name))), None)
