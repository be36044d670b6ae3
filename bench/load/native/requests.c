/* Requests over connections that stay open: each sends the next one when it has the whole answer. The other side must echo. */

#include <errno.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include "generators.h"
#include "loop.h"
#include "tally.h"

#define BUFFER 65536

/* One connection: what is unsent of the request that is under way, what is missing of its answer, and when it began. */
struct pair {
    struct watch watch;
    size_t unsent;
    size_t missing;
    uint64_t started;
};

static struct pair *pairs;
static size_t pair_count;
static char *request;
static size_t request_size;
static char buffer[BUFFER];

/* Send as much as is taken. */
static void send_request(struct pair *pair)
{
    ssize_t sent = send(pair->watch.descriptor, request, pair->unsent, MSG_NOSIGNAL);
    if (sent >= 0)
        pair->unsent -= (size_t)sent;
    else if (errno != EAGAIN)
        give_up_for_errno();
}

static void begin(struct pair *pair, uint64_t time)
{
    pair->unsent = pair->missing = request_size;
    pair->started = time;
    send_request(pair);
    if (pair->unsent > 0)
        loop_change(&pair->watch, EPOLLIN | EPOLLOUT);
}

/* MSG_TRUNC: an answer is only counted, the kernel need not copy it (tcp(7)). */
static void take_answer(struct pair *pair)
{
    size_t most = pair->missing < BUFFER ? pair->missing : BUFFER;
    ssize_t size = recv(pair->watch.descriptor, buffer, most, MSG_TRUNC);
    if (size == 0)
        give_up("the connection ended");
    if (size > 0)
        pair->missing -= (size_t)size;
    else if (errno != EAGAIN)
        give_up_for_errno();
}

/* The answer to a long request is read while it is still being sent: an echo that cannot send does not read either. */
static void ready(struct watch *watch, uint32_t events)
{
    struct pair *pair = (struct pair *)watch;
    if (pair->unsent > 0 && events & EPOLLOUT) {
        send_request(pair);
        if (pair->unsent == 0)
            loop_change(watch, EPOLLIN);
    }
    if (pair->missing > 0 && events & ~(uint32_t)EPOLLOUT)
        take_answer(pair);
    if (pair->missing == 0 && pair->unsent == 0) {
        uint64_t time = now();
        count_unit(time - pair->started);
        begin(pair, time);
    }
}

static void open_pairs(const struct load *load)
{
    request_size = load->size;
    request = allocate(1, request_size);
    pair_count = load->connections;
    pairs = allocate(pair_count, sizeof *pairs);
    for (size_t i = 0; i < pair_count; i++) {
        pairs[i].watch = (struct watch){ready, connect_to(&load->target)};
        loop_add(&pairs[i].watch, EPOLLIN);
    }
    for (size_t i = 0; i < pair_count; i++)
        begin(&pairs[i], now());
}

/* A connection whose answer is not there by now has failed. */
static void conclude(void)
{
    uint64_t time = now();
    for (size_t i = 0; i < pair_count; i++)
        if (time - pairs[i].started > STUCK)
            count_timeout(STUCK);
}

const struct generator requests = {open_pairs, loop_run, conclude};
