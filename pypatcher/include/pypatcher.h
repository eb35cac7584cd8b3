/*
 * Gives a program its signature region at link time: section .embedded_signature, 176 bytes, unsigned.
 *
 * In ONE source file of the program (gcc or clang; C99, C++11 or newer):
 *
 *     #define PYPATCHER_VERSION "1.4.0"
 *     #include <pypatcher.h>
 *
 * Built with:  cc $(pypatcher include --cflags) -o app app.c
 * Then:        pypatcher sign app --key-file owner.key
 *
 * The region survives -Os, -flto, -Wl,--gc-sections and strip. Sign AFTER strip: whatever changes the file breaks its
 * signature. PYPATCHER_VERSION is MAJOR.MINOR.PATCH, at most 15 characters; without it, the version is given to
 * `pypatcher sign --version`. The program reads the version that it was signed with as
 *
 *     printf("%.16s\n", pypatcher_version());
 *
 * Layout: docs/protocol.md, "The signed file"; byte-compatible with the Rust program rustpatcher 0.2.
 */
#ifndef PYPATCHER_H
#define PYPATCHER_H

#ifndef PYPATCHER_VERSION
#define PYPATCHER_VERSION ""
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The bounds marker in pieces: its 28 bytes stand together in the finished region only. */
struct pypatcher_bounds {
    char opening[2], name[11], first[1], embed[5], second[1], bounds[6], closing[2];
};

struct pypatcher_region {
    struct pypatcher_bounds begin;
    unsigned char hash[32], size[8], signature[64];
    char version[16];
    struct pypatcher_bounds end;
};

typedef char pypatcher_region_has_176_bytes[sizeof(struct pypatcher_region) == 176 ? 1 : -1];
typedef char pypatcher_version_has_at_most_15_characters[sizeof(PYPATCHER_VERSION) <= 16 ? 1 : -1];

#define PYPATCHER_BOUNDS_                                                                                  \
    {                                                                                                      \
        {0x17, 'B'}, {'R', 'U', 'S', 'T', 'P', 'A', 'T', 'C', 'H', 'E', 'R'}, {'B'},                       \
            {'E', 'M', 'B', 'E', 'D'}, {'B'}, {'B', 'O', 'U', 'N', 'D', 'S'}, {                            \
            'B', 0x17                                                                                      \
        }                                                                                                  \
    }

#if defined(__has_attribute)
#if __has_attribute(retain)
#define PYPATCHER_RETAIN_ , retain
#endif
#endif
#ifndef PYPATCHER_RETAIN_
#define PYPATCHER_RETAIN_
#endif

extern const struct pypatcher_region pypatcher_region;

/* A const object without `extern` would be private to its file in C++: two of them must be an error of the linker. */
const struct pypatcher_region pypatcher_region
    __attribute__((section(".embedded_signature"), used PYPATCHER_RETAIN_)) = {
        PYPATCHER_BOUNDS_, {0}, {0}, {0}, PYPATCHER_VERSION, PYPATCHER_BOUNDS_};

/* The version that the file was signed with, 16 bytes padded with NUL. The compiler must not know what is in them. */
static inline const char *pypatcher_version(void)
{
    const char *version = pypatcher_region.version;
    __asm__("" : "+r"(version));
    return version;
}

/* Linkers before 2.36 know no `retain`: what a constructor refers to is never collected. */
__attribute__((constructor, used)) static void pypatcher_keep_region(void)
{
    const void *region = &pypatcher_region;
    __asm__ volatile("" : : "r"(region));
}

#ifdef __cplusplus
}
#endif

#endif
