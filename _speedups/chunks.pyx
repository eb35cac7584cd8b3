# cython: language_level=3, boundscheck=False, wraparound=False
"""Find the cuts of content-defined chunks in a buffer, without the GIL.

The pure twin is ``pypatcher/artifact/_chunks_py.py``: same function, same answers.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t


cdef Py_ssize_t scan(const unsigned char *data, Py_ssize_t at, Py_ssize_t turn, Py_ssize_t end, const uint64_t *gear,
                     int early, int late) noexcept nogil:
    """The offset behind the first cut at or after ``at``; ``end`` if there is none."""
    cdef uint64_t digest = 0
    while at < turn:
        digest = (digest << 1) + gear[data[at]]
        at += 1
        if digest >> early == 0:
            return at
    while at < end:
        digest = (digest << 1) + gear[data[at]]
        at += 1
        if digest >> late == 0:
            return at
    return end


def find_cut(data, Py_ssize_t start, gear, tuple limits):
    """As ``_chunks_py.find_cut``."""
    cdef Py_ssize_t minimum
    cdef Py_ssize_t normal
    cdef Py_ssize_t maximum
    cdef int early
    cdef int late
    minimum, normal, maximum, early, late = limits
    cdef Py_buffer content
    cdef Py_buffer numbers
    cdef Py_ssize_t end
    cdef Py_ssize_t cut
    PyObject_GetBuffer(data, &content, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(gear, &numbers, PyBUF_SIMPLE)
        try:
            end = content.len
            if not (0 <= start <= end and 0 < minimum <= normal <= maximum and 0 < early < 64 and 0 < late < 64
                    and numbers.len == 256 * 8):
                raise ValueError("find_cut needs a start in the data, growing sizes and shifts below 64")
            end = min(end, start + min(maximum, end - start))
            with nogil:
                cut = scan(<const unsigned char *>content.buf, start + min(minimum, end - start),
                           start + min(normal - 1, end - start), end, <const uint64_t *>numbers.buf, early, late)
            return cut - start
        finally:
            PyBuffer_Release(&numbers)
    finally:
        PyBuffer_Release(&content)
