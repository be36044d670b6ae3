/* The server and what it does on its ports. */

#ifndef SERVER_H
#define SERVER_H

#include <stddef.h>

#include "loop.h"

/* One accepted connection, which does not block. What an echo could not send waits: rest bytes from unsent on, in memory of
   its own, NULL if there is none. */
struct connection {
    struct watch watch;
    char *waiting;
    char *unsent;
    size_t rest;
};

/* What happens to a connection that was just accepted: they own it from then on. */
void echo_stream(struct connection *connection);
void discard_stream(struct connection *connection);
void stream_endlessly(struct connection *connection);
void answer_once(struct connection *connection);
void tell_names(struct connection *connection);
void tell_counts(struct connection *connection);

/* Close a connection and forget it. */
void end(struct connection *connection);

/* Handlers of a socket on which datagrams arrive. */
void echo_datagrams(struct watch *socket, uint32_t events);
void discard_datagrams(struct watch *socket, uint32_t events);

/* How many datagrams have been discarded since the server started. */
uint64_t datagrams_discarded(void);

/* Serve on one address, or on all if it is NULL, until the process is killed; returns 1 when it cannot listen. */
int serve(const char *host);

#endif
