/* The program of the power cuts: says its version, and fails where its release was made to. */
#include <pypatcher.h>
#include <stdio.h>

/* Other bytes in each release, so that no two have a block in common. The first one tells whether it works. */
__attribute__((used)) const volatile char filling[1 << 19] = "FILLING";

int main(void) {
    printf("version %.16s\n", pypatcher_version());
    return filling[0] == '!';
}
