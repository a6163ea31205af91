/* Preloaded into a program, it has a wall clock that is AHEAD seconds fast, and sleeps as long as it wants to: libfaketime
 * changes the clock that Python's sleeps and timeouts are measured by, or what a sleep asks for. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*genuine)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = genuine(clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += AHEAD;
    return failed;
}
