"""Asks one library of the machine for its version.

A process of its own, because a library that does not fit the machine can end
the process that loads it::

    python probe.py KIND FILE

prints one JSON object.
"""
import ctypes
import json
import sys

#: What the CUDA driver says of its errors, with what to do.
DRIVER_ERRORS = {
    3: 'the driver is not initialized: is the kernel module loaded?',
    35: 'the driver is older than its own library: reinstall it',
    100: 'the driver sees no GPU: is CUDA_VISIBLE_DEVICES set, or the GPU '
         'handed to another machine or container?',
    803: 'the driver and its library are of different versions: restart the '
         'machine after an update of the driver',
    804: 'the library libcuda.so.1 is newer than the driver, and this card '
         'does not allow that: remove the cuda-compat package',
    999: 'the driver does not answer: look at dmesg, or restart the machine',
}


def ask(library, function, *arguments):
    status = getattr(library, function)(*arguments)
    if status:
        raise OSError('%s answers with error %d%s' % (
            function, status,
            ': ' + DRIVER_ERRORS[status]
            if function.startswith('cu') and status in DRIVER_ERRORS else ''))


def integer(library, function, *arguments):
    """The integer that a function writes where its last argument points."""
    value = ctypes.c_int()
    if function.startswith('cuDevice') and arguments:
        ask(library, function, ctypes.byref(value), *arguments)
    else:
        ask(library, function, *(arguments + (ctypes.byref(value),)))
    return value.value


def driver(library):
    ask(library, 'cuInit', 0)
    version = integer(library, 'cuDriverGetVersion')
    devices = []
    for index in range(integer(library, 'cuDeviceGetCount')):
        device = integer(library, 'cuDeviceGet', index)
        name = ctypes.create_string_buffer(256)
        ask(library, 'cuDeviceGetName', name, 256, device)
        memory = ctypes.c_size_t()
        ask(library, 'cuDeviceTotalMem_v2', ctypes.byref(memory), device)
        devices.append({
            'name': name.value.decode(errors='replace'),
            # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            'capability': [integer(library, 'cuDeviceGetAttribute',
                                   attribute, device)
                           for attribute in (75, 76)],
            'memory': memory.value})
    return {'version': [version // 1000, version % 1000 // 10],
            'devices': devices}


def nvrtc(library):
    major, minor = ctypes.c_int(), ctypes.c_int()
    ask(library, 'nvrtcVersion', ctypes.byref(major), ctypes.byref(minor))
    return {'version': [major.value, minor.value]}


def cublas(library):
    # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL of libraryPropertyType
    return {'version': [integer(library, 'cublasGetProperty', part)
                        for part in range(3)]}


def cudnn(library):
    library.cudnnGetVersion.restype = ctypes.c_size_t
    library.cudnnGetCudartVersion.restype = ctypes.c_size_t
    number = library.cudnnGetVersion()
    return {'version': cudnn_version(number),
            'cuda': library.cudnnGetCudartVersion() // 1000}


def cudnn_version(number):
    """8907 is 8.9.7; since version 9 there are two digits more: 90100."""
    unit = 10000 if number >= 90000 else 1000
    return [number // unit, number % unit // 100, number % 100]


def opencl(library):
    count = ctypes.c_uint()
    status = library.clGetPlatformIDs(0, None, ctypes.byref(count))
    if status or not count.value:  # CL_PLATFORM_NOT_FOUND_KHR and the like
        raise OSError('it finds no platform (error %d): install one, such as '
                      "Debian's pocl-opencl-icd" % status)
    return {}


def clblast(library):
    library.CLBlastClearCache  # what no other library has
    return {}


KINDS = {'driver': driver, 'nvrtc': nvrtc, 'cublas': cublas, 'cudnn': cudnn,
         'opencl': opencl, 'clblast': clblast}


def main(kind, path):
    try:
        answer = KINDS[kind](ctypes.CDLL(path))
    except (OSError, AttributeError) as error:
        answer = {'error': str(error)}
    print(json.dumps(answer))


if __name__ == '__main__':
    main(*sys.argv[1:])
