"""Debian's packages, unpacked into a folder without root."""
import glob
import os
import shutil
import subprocess

#: How long apt may try to reach its servers.
APT = ['apt-get', '-o', 'Acquire::Retries=2', '-o', 'Acquire::http::Timeout=60']


def available():
    """Whether this system has Debian's tools."""
    return bool(shutil.which('apt-get') and shutil.which('dpkg-deb'))


def unpack(packages, folder):
    """Download packages and unpack them into `folder`.

    Parameters
    ----------
    packages : list of str
    folder : str
        Must exist.

    Raises
    ------
    OSError
        With what apt says, if a package is not to be had.
    """
    archives = os.path.join(folder, 'archives')
    os.makedirs(archives)
    download = APT + ['download'] + packages
    done = call(download, archives)
    if done.returncode:
        # the system has no lists of packages, or old ones
        state = apt_state(os.path.join(folder, 'apt'))
        update = call(APT[:1] + state + APT[1:] + ['update'], archives)
        done = call(APT[:1] + state + APT[1:] + download[len(APT):], archives)
        if done.returncode:
            raise OSError('apt-get cannot download %s: %s' % (
                ', '.join(packages), last_words(done) or last_words(update)))
        shutil.rmtree(os.path.join(folder, 'apt'))
    for archive in sorted(glob.glob(os.path.join(archives, '*.deb'))):
        subprocess.run(['dpkg-deb', '-x', archive, folder], check=True)
    shutil.rmtree(archives)


def apt_state(folder):
    """Options with which apt keeps its lists in a folder of ours."""
    for part in ('lists/partial', 'cache/archives/partial'):
        os.makedirs(os.path.join(folder, part))
    options = {'Dir::State': folder,
               'Dir::State::Lists': os.path.join(folder, 'lists'),
               'Dir::State::Status': '/var/lib/dpkg/status',
               'Dir::Cache': os.path.join(folder, 'cache'),
               # what it downloads as, if started by root, may not write here
               'APT::Sandbox::User': 'root'}
    return [text for option in options.items()
            for text in ('-o', '%s=%s' % option)]


def call(command, folder):
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def last_words(done):
    lines = [line for line in done.stdout.decode(errors='replace').splitlines()
             if line.startswith('E:')]
    return ' '.join(lines[-2:])
