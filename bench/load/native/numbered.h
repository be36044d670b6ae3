/* Datagrams that begin with a number, which tells the answer to one from an answer that comes too late, and when they are lost. */

#ifndef NUMBERED_H
#define NUMBERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

/* A datagram without an answer by then is lost. */
#define LOST (200 * MILLISECOND)

/* How often lost ones are looked for. */
#define CHECK (50 * MILLISECOND)

/* The most that UDP carries. */
#define LONGEST 65536

/* What datagrams of this measurement are made and received in: all have one size. */
struct numbered {
    size_t size;
    char sent[LONGEST];
    char received[LONGEST];
};

/* Set their size, which is 8 at least and LONGEST at most. */
void set_size(struct numbered *datagrams, size_t size);

/* Send one with this number; false with errno if it could not be sent. */
bool send_numbered(struct numbered *datagrams, int descriptor, uint64_t number);

/* What has arrived: the answer with this number, another datagram or none at all, or an error that errno tells. */
enum arrival { ANSWERED, SOMETHING_ELSE, BROKEN };
enum arrival receive_numbered(struct numbered *datagrams, int descriptor, uint64_t number);

#endif
