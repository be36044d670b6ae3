/* New connections, some at a time: connect, one request, its answer, close by the client or first by the server. The other side
   must echo, and close after its first answer where it is to be the first. */

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "generators.h"
#include "loop.h"
#include "tally.h"

#define BUFFER 65536

/* One registration for all that a connection goes through. */
#define EDGE (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* A connection that takes longer is counted as failed and replaced: the kernel has repeated its SYN twice by then. */
#define REPLACED (5 * SECOND)

/* How often connections that could not even be tried, or are stuck, are replaced. */
#define RENEW (50 * MILLISECOND)

/* One connection at a time, replaced by the next one when it has its answer. descriptor: -1 if there is none; missing: bytes of
   the answer, once the request is sent; ending: it has the answer and waits for the server to close. */
struct exchange {
    struct watch watch;
    size_t missing;
    bool ending;
    uint64_t started;
};

static struct exchange *exchanges;
static size_t exchange_count;
static struct target target;
static char *request;
static size_t request_size;
static bool until_end;
static char buffer[BUFFER];

/* Closing takes it out of the epoll. */
static void close_exchange(struct exchange *exchange)
{
    close(exchange->watch.descriptor);
    exchange->watch.descriptor = -1;
}

/* It is replaced at the next look at all of them, not at once: a refusal is no reason to try as fast as possible. */
static void fail(struct exchange *exchange, const char *reason)
{
    count_failures(reason, 1);
    if (exchange->watch.descriptor >= 0)
        close_exchange(exchange);
}

static void begin(struct exchange *exchange)
{
    exchange->missing = 0;
    exchange->ending = false;
    exchange->started = now();
    exchange->watch.descriptor = socket(target.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (exchange->watch.descriptor < 0 ||
        (connect(exchange->watch.descriptor, (struct sockaddr *)&target.address, target.length) != 0 && errno != EINPROGRESS))
        fail(exchange, strerror(errno));
    else
        loop_add(&exchange->watch, EDGE);
}

static void served(struct exchange *exchange)
{
    count_unit(now() - exchange->started);
    close_exchange(exchange);
    begin(exchange);
}

/* What the kernel takes at once is the request. */
static void send_request(struct exchange *exchange)
{
    ssize_t sent = send(exchange->watch.descriptor, request, request_size, MSG_NOSIGNAL);
    if (sent >= 0)
        exchange->missing = (size_t)sent;
    else if (errno != EAGAIN)
        fail(exchange, strerror(errno));
}

/* Take all that is there, the end too if it is waited for: what came along with an event is not told again. MSG_TRUNC: an
   answer is only counted, the kernel need not copy it (tcp(7)). */
static void take_answer(struct exchange *exchange)
{
    while (exchange->missing > 0 || exchange->ending) {
        ssize_t size = recv(exchange->watch.descriptor, buffer, BUFFER, MSG_TRUNC);
        if (size < 0) {
            if (errno != EAGAIN)
                fail(exchange, strerror(errno));
            return;
        }
        if (size == 0 && exchange->missing > 0) {
            fail(exchange, "ended without an answer");
            return;
        }
        if ((size_t)size > exchange->missing) {
            fail(exchange, "more than the answer came");
            return;
        }
        exchange->missing -= (size_t)size;
        if (exchange->missing == 0 && (!until_end || exchange->ending)) {
            served(exchange);
            return;
        }
        exchange->ending = exchange->missing == 0;
    }
}

static void ready(struct watch *watch, uint32_t events)
{
    struct exchange *exchange = (struct exchange *)watch;
    (void)events;
    if (exchange->missing > 0 || exchange->ending)
        take_answer(exchange);
    else
        send_request(exchange);
}

static void fail_older_than(uint64_t age)
{
    uint64_t time = now();
    for (size_t i = 0; i < exchange_count; i++)
        if (exchanges[i].watch.descriptor >= 0 && time - exchanges[i].started > age) {
            count_timeout(age);
            close_exchange(&exchanges[i]);
        }
}

static void open_exchanges(const struct load *load)
{
    target = load->target;
    request_size = load->size;
    request = allocate(1, request_size);
    exchange_count = load->connections;
    exchanges = allocate(exchange_count, sizeof *exchanges);
    for (size_t i = 0; i < exchange_count; i++)
        exchanges[i].watch = (struct watch){ready, -1};
}

static void open_exchanges_until_end(const struct load *load)
{
    until_end = true;
    open_exchanges(load);
}

static void run(uint64_t until)
{
    for (uint64_t time = now(); time < until; time = now()) {
        fail_older_than(REPLACED);
        for (size_t i = 0; i < exchange_count; i++)
            if (exchanges[i].watch.descriptor < 0)
                begin(&exchanges[i]);
        loop_run(until - time < RENEW ? until : time + RENEW);
    }
}

static void conclude(void)
{
    fail_older_than(STUCK);
}

const struct generator connections = {open_exchanges, run, conclude};
const struct generator closed_connections = {open_exchanges_until_end, run, conclude};
