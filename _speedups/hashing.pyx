# cython: language_level=3, boundscheck=False, wraparound=False
"""Walk a file with a bounded buffer and without the GIL: feed a hash, find a marker.

The pure twin is ``pypatcher/artifact/_hashing_py.py``: same functions, same answers. The hash itself is OpenSSL's, by
hashlib, whose ``update`` releases the GIL too: it is faster than any C that we could bring along.
"""

from cpython.bytearray cimport PyByteArray_AsString
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EINTR, errno
from libc.string cimport memmove
from posix.types cimport off_t

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buffer, size_t size, off_t offset)

cdef extern from "string.h" nogil:
    void *memmem(const void *hay, size_t hay_size, const void *needle, size_t needle_size)

cdef Py_ssize_t CHUNK = 256 * 1024


cdef ssize_t read_at(int fd, char *buffer, size_t size, long long offset) except -1:
    cdef ssize_t count
    while True:
        with nogil:
            count = pread(fd, buffer, size, <off_t>offset)
        if count >= 0:
            return count
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
        PyErr_CheckSignals()


def feed(update, int fd, long long start, long long stop):
    """As ``_hashing_py.feed``."""
    if start < 0 or stop < start:
        raise ValueError("feed needs 0 <= start <= stop")
    holder = bytearray(CHUNK)
    view = memoryview(holder)
    cdef char *buffer = PyByteArray_AsString(holder)
    cdef long long offset = start
    cdef ssize_t count
    while offset < stop:
        count = read_at(fd, buffer, <size_t>min(<long long>CHUNK, stop - offset), offset)
        if count == 0:
            break
        update(view if count == CHUNK else view[:count])
        offset += count
    return offset - start


def find_all(int fd, bytes needle, Py_ssize_t limit):
    """As ``_hashing_py.find_all``."""
    cdef Py_ssize_t size = len(needle)
    if not 1 <= size <= 4096:
        raise ValueError("find_all needs a needle of 1 to 4096 bytes")
    holder = bytearray(CHUNK + size - 1)
    cdef char *buffer = PyByteArray_AsString(holder)
    cdef const char *wanted = needle
    cdef const char *hit
    cdef const char *search
    cdef long long base = 0
    cdef Py_ssize_t filled = 0
    cdef Py_ssize_t kept
    cdef ssize_t count
    found = []
    while len(found) < limit:
        count = read_at(fd, buffer + filled, CHUNK, base + filled)
        if count == 0:
            break
        filled += count
        search = buffer
        while len(found) < limit:
            with nogil:
                hit = <const char *>memmem(search, <size_t>(buffer + filled - search), wanted, <size_t>size)
            if hit == NULL:
                break
            found.append(base + (hit - buffer))
            search = hit + 1
        kept = min(size - 1, filled)
        memmove(buffer, buffer + filled - kept, kept)
        base += filled - kept
        filled = kept
    return found
