"""The workers of a test run do not wait for one another."""
import os

import pytest
import theano


def test_a_compile_folder_for_each():
    if 'base_compiledir=' in os.environ['WNORM_TESTS_THEANO_FLAGS']:
        pytest.skip('the user has named a folder')
    assert os.path.basename(theano.config.base_compiledir) == (
        os.environ.get('PYTEST_XDIST_WORKER', 'main'))
