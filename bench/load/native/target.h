/* What a load is made against, and giving up on it. */

#ifndef TARGET_H
#define TARGET_H

#include <stddef.h>
#include <sys/socket.h>

struct target {
    struct sockaddr_storage address;
    socklen_t length;
};

/* A measurement as the command line describes it. connections: or flows, at a time; size: bytes of a request and of its
   answer. */
struct load {
    struct target target;
    size_t connections;
    size_t size;
};

/* Find an address by its text; gives up if there is none. kind, host and port are what giving up names. */
struct target find_target(const char *kind, const char *host, const char *port);

/* Open a TCP connection, waiting up to 5 s, and give its descriptor, which does not block; gives up if that cannot be. */
int connect_to(const struct target *target);

/* End the process with one line on stderr and exit code 1; the second one with what errno says. */
_Noreturn void give_up(const char *reason);
_Noreturn void give_up_for_errno(void);

/* Zeroed memory for so many things of that size; gives up if there is none. */
void *allocate(size_t count, size_t size);

#endif
