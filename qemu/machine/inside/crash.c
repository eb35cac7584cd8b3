/* A release that never works: it ends before anything of it could count a start. */
#include <pypatcher.h>
#include <stdlib.h>

int main(void) {
    abort();
}
