/* UDP round trips: each flow has one datagram under way and sends the next one when it is back. The other side must echo. One that
   does not come back in time is lost: counted, and the flow sends again. */

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "generators.h"
#include "numbered.h"
#include "tally.h"

/* One connected socket. started: when its last datagram was sent, 0 if none is under way. */
struct flow {
    struct watch watch;
    uint64_t number;
    uint64_t started;
};

static struct flow *flows;
static size_t flow_count;
static struct numbered bytes;

static bool send_next(struct flow *flow, uint64_t time)
{
    flow->number++;
    flow->started = time;
    return send_numbered(&bytes, flow->watch.descriptor, flow->number);
}

/* Refused, not lost: it is sent again at the next check. */
static void fail(struct flow *flow)
{
    count_failures(strerror(errno), 1);
    flow->started = 0;
}

static void ready(struct watch *watch, uint32_t events)
{
    struct flow *flow = (struct flow *)watch;
    (void)events;
    enum arrival arrival = receive_numbered(&bytes, watch->descriptor, flow->number);
    if (arrival == SOMETHING_ELSE)
        return;
    if (arrival == BROKEN) {
        fail(flow);
        return;
    }
    uint64_t time = now();
    count_unit(time - flow->started);
    if (!send_next(flow, time))
        fail(flow);
}

/* Send the first datagram, or one in the place of a lost one. What cannot be sent is lost at the next check. */
static void send_late_ones(uint64_t time)
{
    for (size_t i = 0; i < flow_count; i++) {
        if (time - flows[i].started <= LOST)
            continue;
        if (flows[i].started != 0)
            count_lost();
        (void)send_next(&flows[i], time);
    }
}

static void open_flows(const struct load *load)
{
    set_size(&bytes, load->size);
    flow_count = load->connections;
    flows = allocate(flow_count, sizeof *flows);
    for (size_t i = 0; i < flow_count; i++) {
        int descriptor = socket(load->target.address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (descriptor < 0 || connect(descriptor, (const struct sockaddr *)&load->target.address, load->target.length) != 0)
            give_up_for_errno();
        flows[i].watch = (struct watch){ready, descriptor};
        loop_add(&flows[i].watch, EPOLLIN);
    }
}

static void run(uint64_t until)
{
    for (uint64_t time = now(); time < until; time = now()) {
        send_late_ones(time);
        loop_run(until - time < CHECK ? until : time + CHECK);
    }
}

static void conclude(void)
{
    if (units_counted() == 0)
        count_failures("no datagram came back", flow_count);
}

const struct generator datagrams = {open_flows, run, conclude};
