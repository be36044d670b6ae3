#include "loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#define EVENTS 256

/* Milliseconds after which a quiet loop looks at the clock. */
#define PAUSE UINT64_C(50)

static int epoll = -1;

uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void control(int operation, struct watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll < 0)
        epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(epoll, operation, watch->descriptor, &event) != 0) {
        perror("epoll");
        exit(1);
    }
}

void loop_add(struct watch *watch, uint32_t events)
{
    control(EPOLL_CTL_ADD, watch, events);
}

void loop_change(struct watch *watch, uint32_t events)
{
    control(EPOLL_CTL_MOD, watch, events);
}

/* A handler may close its own descriptor and free its own watch, nobody else's: each has one event in a batch. */
void loop_turn(int milliseconds)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, milliseconds);
    if (count < 0 && errno != EINTR) {
        perror("epoll_wait");
        exit(1);
    }
    for (int i = 0; i < count; i++) {
        struct watch *watch = events[i].data.ptr;
        watch->ready(watch, events[i].events);
    }
}

void loop_run(uint64_t until)
{
    for (uint64_t time = now(); time < until; time = now()) {
        uint64_t left = (until - time + MILLISECOND - 1) / MILLISECOND;
        loop_turn((int)(left < PAUSE ? left : PAUSE));
    }
}
