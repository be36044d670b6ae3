#include "target.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MILLISECONDS 5000

/* What is given up on: the kind of load, host and port. */
static const char *label[3];

void give_up(const char *reason)
{
    fprintf(stderr, "%s %s:%s: %s\n", label[0], label[1], label[2], reason);
    exit(1);
}

/* As Python writes an OSError: both loads say the same. */
void give_up_for_errno(void)
{
    char reason[128];
    int error = errno;
    snprintf(reason, sizeof reason, "[Errno %d] %s", error, strerror(error));
    give_up(reason);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        give_up_for_errno();
    return memory;
}

struct target find_target(const char *kind, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    struct target target = {.length = 0};
    label[0] = kind;
    label[1] = host;
    label[2] = port;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0)
        give_up(gai_strerror(error));
    memcpy(&target.address, found->ai_addr, found->ai_addrlen);
    target.length = found->ai_addrlen;
    freeaddrinfo(found);
    return target;
}

/* Wait until a connection that was begun is there, or is not to be. */
static void wait_for_connection(int descriptor)
{
    struct pollfd writable = {.fd = descriptor, .events = POLLOUT};
    int ready = poll(&writable, 1, CONNECT_MILLISECONDS);
    if (ready == 0)
        give_up("timed out");
    socklen_t length = sizeof errno;
    if (ready < 0 || getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &errno, &length) != 0 || errno != 0)
        give_up_for_errno();
}

int connect_to(const struct target *target)
{
    int descriptor = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        give_up_for_errno();
    if (connect(descriptor, (const struct sockaddr *)&target->address, target->length) != 0) {
        if (errno != EINPROGRESS)
            give_up_for_errno();
        wait_for_connection(descriptor);
    }
    int yes = 1;
    if (setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        give_up_for_errno();
    return descriptor;
}
