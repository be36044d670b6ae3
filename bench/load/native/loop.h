/* The clock, and the one epoll of this process. */

#ifndef LOOP_H
#define LOOP_H

#include <stdint.h>

#define SECOND UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)

/* A descriptor and who handles its events. It is the first member of what it belongs to, so that the handler can
   cast it back, and stays where it is until the descriptor is closed, which takes it out of the epoll. */
struct watch {
    void (*ready)(struct watch *self, uint32_t events);
    int descriptor;
};

/* Nanoseconds of a clock that nobody sets. */
uint64_t now(void);

/* Call the watch's handler at each of these events. Both end the process when the kernel has no memory for it. */
void loop_add(struct watch *watch, uint32_t events);
void loop_change(struct watch *watch, uint32_t events);

/* Wait at most that long, -1: for ever, and handle what has happened. */
void loop_turn(int milliseconds);

/* Handle events until now() says so. */
void loop_run(uint64_t until);

#endif
