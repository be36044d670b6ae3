/* The server side of a measurement: its ports, in both families, and accepting. No limits of its own: it belongs behind a
   measurement, not on a network. The ports follow RFC 862 to 867 and 1288 plus 7000, as in server.py. */

#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096

/* Connections that are taken at a time: those that are open already wait meanwhile. */
#define ACCEPTS 64

/* Bytes, as much as Linux gives: what is lost is to be lost before the server, not by it. */
#define DATAGRAM_BUFFER (4 * 1024 * 1024)

struct stream_service {
    uint16_t port;
    void (*welcome)(struct connection *connection);
};

static const struct stream_service stream_services[] = {
    {7007, echo_stream}, {7009, discard_stream}, {7011, tell_counts}, {7013, tell_names}, {7019, stream_endlessly}, {7079, answer_once},
};

static const struct {
    uint16_t port;
    void (*ready)(struct watch *socket, uint32_t events);
} datagram_services[] = {{7007, echo_datagrams}, {7009, discard_datagrams}};

#define COUNT(table) (sizeof(table) / sizeof *(table))

struct listener {
    struct watch watch;
    const struct stream_service *service;
};

/* An address to listen on. */
struct host {
    const char *name;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    socklen_t length;
};

static void accept_some(struct watch *watch, uint32_t events)
{
    const struct listener *listener = (struct listener *)watch;
    (void)events;
    for (int i = 0; i < ACCEPTS; i++) {
        int descriptor = accept4(watch->descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0)
            return;
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL) {
            close(descriptor);
            return;
        }
        connection->watch.descriptor = descriptor;
        listener->service->welcome(connection);
    }
}

static bool read_host(const char *name, struct host *host)
{
    *host = (struct host){.name = name};
    if (inet_pton(AF_INET, name, &host->address.v4.sin_addr) == 1) {
        host->address.v4.sin_family = AF_INET;
        host->length = sizeof host->address.v4;
        return true;
    }
    host->address.v6.sin6_family = AF_INET6;
    host->length = sizeof host->address.v6;
    return inet_pton(AF_INET6, name, &host->address.v6.sin6_addr) == 1;
}

static void set(int descriptor, int level, int option, int value)
{
    (void)setsockopt(descriptor, level, option, &value, sizeof value);
}

/* Open a socket on a port of the host; -1 with errno if that cannot be. */
static int bound(struct host *host, int type, uint16_t port)
{
    int family = host->address.any.sa_family;
    int descriptor = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    if (family == AF_INET)
        host->address.v4.sin_port = htons(port);
    else
        host->address.v6.sin6_port = htons(port);
    if (family == AF_INET6)
        set(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (type == SOCK_STREAM)
        set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
    return bind(descriptor, &host->address.any, host->length) == 0 ? descriptor : -1;
}

static bool listen_for_streams(struct host *host, const struct stream_service *service)
{
    struct listener *listener = calloc(1, sizeof *listener);
    int descriptor = bound(host, SOCK_STREAM, service->port);
    if (listener == NULL || descriptor < 0 || listen(descriptor, BACKLOG) != 0) {
        fprintf(stderr, "server %s:%u: %s\n", host->name, (unsigned)service->port, strerror(errno));
        return false;
    }
    /* Accepted connections inherit it. */
    set(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
    *listener = (struct listener){.watch = {accept_some, descriptor}, .service = service};
    loop_add(&listener->watch, EPOLLIN);
    return true;
}

static bool listen_for_datagrams(struct host *host, uint16_t port, void (*ready)(struct watch *, uint32_t))
{
    struct watch *watch = calloc(1, sizeof *watch);
    int descriptor = bound(host, SOCK_DGRAM, port);
    if (watch == NULL || descriptor < 0) {
        fprintf(stderr, "server %s:%u: %s\n", host->name, (unsigned)port, strerror(errno));
        return false;
    }
    set(descriptor, SOL_SOCKET, SO_RCVBUF, DATAGRAM_BUFFER);
    *watch = (struct watch){ready, descriptor};
    loop_add(watch, EPOLLIN);
    return true;
}

static bool listen_on(const char *name)
{
    struct host host;
    if (!read_host(name, &host)) {
        fprintf(stderr, "server: %s is not an IP address\n", name);
        return false;
    }
    for (size_t i = 0; i < COUNT(stream_services); i++)
        if (!listen_for_streams(&host, &stream_services[i]))
            return false;
    for (size_t i = 0; i < COUNT(datagram_services); i++)
        if (!listen_for_datagrams(&host, datagram_services[i].port, datagram_services[i].ready))
            return false;
    return true;
}

int serve(const char *name)
{
    bool listening = name != NULL ? listen_on(name) : listen_on("0.0.0.0") && listen_on("::");
    if (!listening)
        return 1;
    puts("ready");
    fflush(stdout);
    for (;;)
        loop_turn(-1);
}
