/* What the server does with datagrams. */

#include "server.h"

#include <sys/socket.h>

/* Datagrams that are taken at a time: other sockets wait meanwhile. */
#define AT_ONCE 64

static char buffer[65536];
static uint64_t discarded;

void echo_datagrams(struct watch *socket, uint32_t events)
{
    (void)events;
    for (int i = 0; i < AT_ONCE; i++) {
        struct sockaddr_storage address;
        socklen_t length = sizeof address;
        ssize_t size = recvfrom(socket->descriptor, buffer, sizeof buffer, 0, (struct sockaddr *)&address, &length);
        if (size < 0)
            return;
        /* An answer that cannot be sent is a lost one: whoever waits for it counts it. */
        (void)!sendto(socket->descriptor, buffer, (size_t)size, 0, (struct sockaddr *)&address, length);
    }
}

/* The kernel need not copy more than the first byte. */
void discard_datagrams(struct watch *socket, uint32_t events)
{
    (void)events;
    for (int i = 0; i < AT_ONCE && recv(socket->descriptor, buffer, 1, 0) >= 0; i++)
        discarded++;
}

uint64_t datagrams_discarded(void)
{
    return discarded;
}
