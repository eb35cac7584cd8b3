# The second form of pypatcher/established/octets.py, in C: the same answers. Each looks itself at what it is given, so
# that no mistake of a caller reads or writes beyond it.

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

ctypedef unsigned char octet
ctypedef uint64_t u64


cdef inline int put(octet *to, u64 value, int size) noexcept nogil:
    cdef int index
    for index in range(size):
        to[size - 1 - index] = <octet> (value >> 8 * index & 0xFF)
    return 0


cdef inline bytes cut(bytes data, Py_ssize_t start, Py_ssize_t end):
    if start < 0 or end < start or end > len(data):
        raise IndexError(start)
    return PyBytes_FromStringAndSize(PyBytes_AsString(data) + start, end - start)


cdef inline int64_t number_at(bytes data, Py_ssize_t at, Py_ssize_t size) except -1:
    cdef u64 value = 0
    cdef const octet *source = <const octet *> PyBytes_AsString(data)
    cdef Py_ssize_t index
    if at < 0 or size < 0 or size > 8 or at > len(data) - size:
        raise IndexError(at)
    for index in range(at, at + size):
        value = value << 8 | source[index]
    return <int64_t> (value & (<u64> -1 >> 2))


cdef inline bytes varint(int64_t value):
    cdef int size = 1 if value < 0x40 else 2 if value < 0x4000 else 4 if value < 0x40000000 else 8
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size)
    cdef octet *to = <octet *> PyBytes_AsString(made)
    if value < 0 or value >> 62:
        raise OverflowError(value)
    put(to, <u64> value, size)
    to[0] |= 0 if size == 1 else 0x40 if size == 2 else 0x80 if size == 4 else 0xC0
    return made


cdef inline bytes nonce(bytes iv, int64_t number):
    cdef bytes made
    cdef octet *to
    cdef int index
    if len(iv) != 12:
        raise ValueError(len(iv))
    made = PyBytes_FromStringAndSize(PyBytes_AsString(iv), 12)
    to = <octet *> PyBytes_AsString(made)
    for index in range(8):
        to[11 - index] ^= <octet> (number >> 8 * index & 0xFF)
    return made


cdef inline bytes packet_header(bytes prefix, int64_t number):
    cdef Py_ssize_t size = len(prefix)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size + 4)
    cdef octet *to = <octet *> PyBytes_AsString(made)
    memcpy(to, PyBytes_AsString(prefix), size)
    put(to + size, <u64> number, 4)
    return made


cdef inline bytes samples(list packets, Py_ssize_t start):
    cdef Py_ssize_t index, count = len(packets)
    cdef bytes packet, made = PyBytes_FromStringAndSize(NULL, 16 * count)
    cdef octet *to = <octet *> PyBytes_AsString(made)
    for index in range(count):
        packet = packets[index]
        if start < 0 or start > len(packet) - 16:
            raise IndexError(start)
        memcpy(to + 16 * index, PyBytes_AsString(packet) + start, 16)
    return made


cdef inline bytes protect(bytes header, bytes sealed, bytes masks, Py_ssize_t at):
    cdef Py_ssize_t size = len(header), rest = len(sealed)
    cdef bytes made
    cdef octet *to
    cdef const octet *mask
    cdef int index
    if size < 5 or at < 0 or at > len(masks) - 5:
        raise IndexError(at)
    made = PyBytes_FromStringAndSize(NULL, size + rest)
    to = <octet *> PyBytes_AsString(made)
    mask = <const octet *> PyBytes_AsString(masks) + at
    memcpy(to, PyBytes_AsString(header), size)
    to[0] ^= mask[0] & 0x1F
    for index in range(4):
        to[size - 4 + index] ^= mask[1 + index]
    memcpy(to + size, PyBytes_AsString(sealed), rest)
    return made


cdef inline bytes unprotected_header(int first, bytes packet, Py_ssize_t offset, int64_t number, int size):
    cdef bytes made
    cdef octet *to
    if offset < 1 or size < 0 or size > 8 or offset > len(packet) - size:
        raise IndexError(offset)
    made = PyBytes_FromStringAndSize(PyBytes_AsString(packet), offset + size)
    to = <octet *> PyBytes_AsString(made)
    to[0] = <octet> first
    put(to + offset, <u64> number, size)
    return made


cdef inline bytes stream_frame(int kind, bytes name, int64_t start, bytes data, Py_ssize_t at, Py_ssize_t length):
    cdef Py_ssize_t size = len(name)
    cdef bytes made
    cdef octet *to
    if at < 0 or length < 0 or length >= 0x4000 or at > len(data) - length:
        raise IndexError(at)
    made = PyBytes_FromStringAndSize(NULL, 11 + size + length)
    to = <octet *> PyBytes_AsString(made)
    to[0] = <octet> kind
    memcpy(to + 1, PyBytes_AsString(name), size)
    put(to + 1 + size, <u64> start | <u64> 3 << 62, 8)
    put(to + 9 + size, <u64> length | 0x4000, 2)
    memcpy(to + 11 + size, PyBytes_AsString(data) + at, length)
    return made
