/* What the server does with TCP connections. Whatever goes wrong with one of them ends it, and only it. */

#include "server.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BROKEN (EPOLLHUP | EPOLLERR)

/* What is read or written at a time. All connections share the buffer: nothing stays in it between two events. */
#define CHUNK 262144
static char buffer[CHUNK];

void end(struct connection *connection)
{
    close(connection->watch.descriptor);
    free(connection->waiting);
    free(connection);
}

static void serve_with(struct connection *connection, uint32_t events, void (*ready)(struct watch *, uint32_t))
{
    connection->watch.ready = ready;
    loop_add(&connection->watch, events);
}

/* Whether receiving nothing, or this error, is the end of a connection. */
static bool is_end(ssize_t received)
{
    return received == 0 || (received < 0 && errno != EAGAIN);
}

/* Send what is taken, which may be nothing: what was sent before may have filled the socket's buffer. -1: the connection broke. */
static ssize_t send_some(int descriptor, const char *bytes, size_t size)
{
    ssize_t sent = send(descriptor, bytes, size, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

/* Keep what the client does not take yet, and read nothing from it until it does. */
static void wait_to_send(struct connection *connection, const char *unsent, size_t rest)
{
    connection->waiting = malloc(rest);
    if (connection->waiting == NULL) {
        end(connection);
        return;
    }
    connection->unsent = memcpy(connection->waiting, unsent, rest);
    connection->rest = rest;
    loop_change(&connection->watch, EPOLLOUT);
}

static void send_waiting(struct connection *connection)
{
    ssize_t sent = send_some(connection->watch.descriptor, connection->unsent, connection->rest);
    if (sent < 0) {
        end(connection);
        return;
    }
    connection->unsent += sent;
    connection->rest -= (size_t)sent;
    if (connection->rest == 0) {
        free(connection->waiting);
        connection->waiting = NULL;
        loop_change(&connection->watch, EPOLLIN);
    }
}

static void echo_ready(struct watch *watch, uint32_t events)
{
    struct connection *connection = (struct connection *)watch;
    if (connection->waiting != NULL) {
        send_waiting(connection);
        return;
    }
    ssize_t size = recv(watch->descriptor, buffer, CHUNK, 0);
    if (is_end(size) || events & BROKEN) {
        end(connection);
        return;
    }
    if (size < 0)
        return;
    ssize_t sent = send_some(watch->descriptor, buffer, (size_t)size);
    if (sent < 0)
        end(connection);
    else if (sent < size)
        wait_to_send(connection, buffer + sent, (size_t)(size - sent));
}

void echo_stream(struct connection *connection)
{
    serve_with(connection, EPOLLIN, echo_ready);
}

/* MSG_TRUNC: the kernel throws the bytes away itself (tcp(7)), so that the load's side copies nothing here. */
static void discard_ready(struct watch *watch, uint32_t events)
{
    if (is_end(recv(watch->descriptor, buffer, CHUNK, MSG_TRUNC)) || events & BROKEN)
        end((struct connection *)watch);
}

void discard_stream(struct connection *connection)
{
    serve_with(connection, EPOLLIN, discard_ready);
}

/* Send without an end, and discard what comes meanwhile: a client that sends as well would block without it. */
static void stream_ready(struct watch *watch, uint32_t events)
{
    int descriptor = watch->descriptor;
    if ((events & EPOLLIN && is_end(recv(descriptor, buffer, CHUNK, MSG_TRUNC))) || events & BROKEN ||
        (events & EPOLLOUT && send_some(descriptor, buffer, CHUNK) < 0))
        end((struct connection *)watch);
}

void stream_endlessly(struct connection *connection)
{
    serve_with(connection, EPOLLIN | EPOLLOUT, stream_ready);
}

/* One request, which fits into one segment, is sent back; then the connection is over, before the client ends it. */
static void answer_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    ssize_t size = recv(watch->descriptor, buffer, CHUNK, 0);
    if (size > 0)
        (void)!send(watch->descriptor, buffer, (size_t)size, MSG_NOSIGNAL);
    end((struct connection *)watch);
}

void answer_once(struct connection *connection)
{
    serve_with(connection, EPOLLIN, answer_ready);
}

static void tell(struct connection *connection, const char *text)
{
    (void)!send(connection->watch.descriptor, text, strlen(text), MSG_NOSIGNAL);
    end(connection);
}

/* Write one end of a connection as an address without its port; an empty text if the connection is gone. */
static void name_of(int descriptor, int (*which)(int, struct sockaddr *, socklen_t *), char name[NI_MAXHOST])
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (which(descriptor, (struct sockaddr *)&address, &length) != 0 ||
        getnameinfo((struct sockaddr *)&address, length, name, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) != 0)
        name[0] = '\0';
}

/* Tell a client both ends of its connection, the server's first. */
void tell_names(struct connection *connection)
{
    char own[NI_MAXHOST], peer[NI_MAXHOST], text[2 * NI_MAXHOST + 3];
    name_of(connection->watch.descriptor, getsockname, own);
    name_of(connection->watch.descriptor, getpeername, peer);
    snprintf(text, sizeof text, "%s %s\n", own, peer);
    tell(connection, text);
}

void tell_counts(struct connection *connection)
{
    char text[32];
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)datagrams_discarded());
    tell(connection, text);
}
