"""Every kernel of the set in use against its twin in float64, in both dtypes, on 1, 2 and 3 threads."""

import pytest

from fastnn import backend, verify

if backend.kernel_set == "reference":
    pytest.skip("the NumPy twins are in use", allow_module_level=True)


@pytest.mark.parametrize("kernel", verify.kernels())
def test_kernel_equals_its_twin(kernel):
    rows = verify.run([kernel], [backend.isa])
    assert len(rows) == 2
    assert all(row.ok for row in rows), "\n".join(map(str, rows))
