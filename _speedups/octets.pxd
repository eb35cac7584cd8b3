# The second form of pypatcher/established/octets.py, in C: the same answers. Each looks itself at what it is given, so
# that no mistake of a caller reads or writes beyond it.

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

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


cdef inline bint stands_at(bytes data, Py_ssize_t at, bytes what) except -1:
    cdef Py_ssize_t size = len(what)
    if at < 0 or at > len(data) - size:
        return False
    return memcmp(PyBytes_AsString(data) + at, PyBytes_AsString(what), size) == 0


cdef inline bytes samples(list packets):
    cdef Py_ssize_t index, count = len(packets)
    cdef bytes packet, made = PyBytes_FromStringAndSize(NULL, 16 * count)
    cdef octet *to = <octet *> PyBytes_AsString(made)
    for index in range(count):
        packet = packets[index]
        if len(packet) < 16:
            raise IndexError(index)
        memcpy(to + 16 * index, PyBytes_AsString(packet), 16)
    return made


cdef inline bytes samples_of(bytes train, Py_ssize_t size, Py_ssize_t start, Py_ssize_t count):
    cdef Py_ssize_t index
    cdef bytes made
    cdef octet *to
    cdef const octet *source = <const octet *> PyBytes_AsString(train)
    if count < 0 or count > 0xFFFF or size < 0 or size > 0xFFFF or start < 0 or start > 0xFFFF:
        raise IndexError(count)
    if count and start + (count - 1) * size > len(train) - 16:
        raise IndexError(start)
    made = PyBytes_FromStringAndSize(NULL, 16 * count)
    to = <octet *> PyBytes_AsString(made)
    for index in range(count):
        memcpy(to + 16 * index, source + start + index * size, 16)
    return made


cdef inline bytes joined(list headers, list sealed, bytes masks, Py_ssize_t first, Py_ssize_t end):
    cdef Py_ssize_t index, size, total = 0
    cdef bytes header, rest, made
    cdef octet *to
    cdef const octet *mask = <const octet *> PyBytes_AsString(masks)
    cdef int place
    if first < 0 or end < first or end > len(headers) or end > len(sealed) or end > len(masks) // 16:
        raise IndexError(end)
    for index in range(first, end):
        header, rest = headers[index], sealed[index]
        if len(header) < 5:
            raise IndexError(index)
        total += len(header) + len(rest)
    made = PyBytes_FromStringAndSize(NULL, total)
    to = <octet *> PyBytes_AsString(made)
    for index in range(first, end):
        header, rest = headers[index], sealed[index]
        size = len(header)
        memcpy(to, PyBytes_AsString(header), size)
        to[0] ^= mask[16 * index] & 0x1F
        for place in range(4):
            to[size - 4 + place] ^= mask[16 * index + 1 + place]
        to += size
        size = len(rest)
        memcpy(to, PyBytes_AsString(rest), size)
        to += size
    return made


cdef inline bytes unprotected_header(int first, bytes train, Py_ssize_t start, Py_ssize_t number_at, int64_t number,
                                     int size):
    cdef bytes made
    cdef octet *to
    if start < 0 or number_at <= start or size < 0 or size > 8 or number_at > len(train) - size:
        raise IndexError(number_at)
    made = PyBytes_FromStringAndSize(PyBytes_AsString(train) + start, number_at - start + size)
    to = <octet *> PyBytes_AsString(made)
    to[0] = <octet> first
    put(to + number_at - start, <u64> number, size)
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
