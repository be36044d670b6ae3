/* The kinds of traffic. Each is a closed loop: a connection or flow has one thing under way at a time, so that a load never
   sends more than is answered. */

#ifndef GENERATORS_H
#define GENERATORS_H

#include <stdint.h>

#include "target.h"

/* What takes longer than this is not slow, it is stuck. */
#define STUCK SECOND

/* How to make one kind of traffic, in this order: run is called twice, first to warm up. */
struct generator {
    void (*open)(const struct load *load);
    void (*run)(uint64_t until);
    /* Count what is under way and will not come to an end. */
    void (*conclude)(void);
};

extern const struct generator requests;
extern const struct generator connections;
extern const struct generator closed_connections;
extern const struct generator datagrams;
extern const struct generator queries;

#endif
