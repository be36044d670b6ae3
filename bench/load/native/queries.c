/* One-shot UDP flows, as a resolver makes them: each query from a new port, one answer, no more. The other side must echo. Some at a
   time; one whose answer does not come in time is lost: counted, and replaced by the next one. */

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "generators.h"
#include "numbered.h"
#include "tally.h"

/* One query at a time. descriptor: -1 if there is none; started: when it was sent, 0 if it failed. */
struct query {
    struct watch watch;
    uint64_t number;
    uint64_t started;
};

static struct query *all;
static size_t query_count;
static struct target target;
static struct numbered bytes;
static uint64_t last_number;

/* Closing takes it out of the epoll. */
static void close_query(struct query *query)
{
    if (query->watch.descriptor >= 0)
        close(query->watch.descriptor);
    query->watch.descriptor = -1;
}

/* The next one goes out at the next check. */
static void fail(struct query *query)
{
    count_failures(strerror(errno), 1);
    close_query(query);
    query->started = 0;
}

static void ask(struct query *query)
{
    close_query(query);
    query->number = ++last_number;
    query->started = now();
    int descriptor = socket(target.address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    query->watch.descriptor = descriptor;
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&target.address, target.length) != 0) {
        fail(query);
        return;
    }
    loop_add(&query->watch, EPOLLIN);
    if (!send_numbered(&bytes, descriptor, query->number))
        fail(query);
}

static void ready(struct watch *watch, uint32_t events)
{
    struct query *query = (struct query *)watch;
    (void)events;
    enum arrival arrival = receive_numbered(&bytes, watch->descriptor, query->number);
    if (arrival == BROKEN)
        fail(query);
    if (arrival != ANSWERED)
        return;
    count_unit(now() - query->started);
    ask(query);
}

static void ask_late_ones(uint64_t time)
{
    for (size_t i = 0; i < query_count; i++) {
        if (time - all[i].started <= LOST)
            continue;
        if (all[i].started != 0)
            count_lost();
        ask(&all[i]);
    }
}

static void open_queries(const struct load *load)
{
    target = load->target;
    set_size(&bytes, load->size);
    query_count = load->connections;
    all = allocate(query_count, sizeof *all);
    for (size_t i = 0; i < query_count; i++)
        all[i].watch = (struct watch){ready, -1};
}

static void run(uint64_t until)
{
    for (uint64_t time = now(); time < until; time = now()) {
        ask_late_ones(time);
        loop_run(until - time < CHECK ? until : time + CHECK);
    }
}

static void conclude(void)
{
    if (units_counted() == 0)
        count_failures("no query was answered", query_count);
}

const struct generator queries = {open_queries, run, conclude};
