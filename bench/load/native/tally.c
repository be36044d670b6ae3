#include "tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "target.h"

/* More reasons than a load has met; the last place takes the rest. */
#define REASONS 16
#define REASON_LENGTH 80

struct failure {
    char reason[REASON_LENGTH];
    size_t count;
};

static struct {
    uint64_t *latencies;
    size_t units, room;
    size_t lost;
    struct failure failures[REASONS];
} tally;

static void grow(void)
{
    size_t room = tally.room ? 2 * tally.room : 65536;
    uint64_t *latencies = realloc(tally.latencies, room * sizeof *latencies);
    if (latencies == NULL)
        give_up_for_errno();
    tally.latencies = latencies;
    tally.room = room;
}

void count_unit(uint64_t nanoseconds)
{
    if (tally.units == tally.room)
        grow();
    tally.latencies[tally.units++] = nanoseconds;
}

void count_lost(void)
{
    tally.lost++;
}

void count_failures(const char *reason, size_t count)
{
    struct failure *failure = tally.failures, *last = tally.failures + REASONS - 1;
    while (failure < last && failure->count > 0 && strncmp(failure->reason, reason, REASON_LENGTH - 1) != 0)
        failure++;
    snprintf(failure->reason, REASON_LENGTH, "%s", reason);
    failure->count += count;
}

void count_timeout(uint64_t nanoseconds)
{
    char reason[REASON_LENGTH];
    snprintf(reason, sizeof reason, "no answer within %g s", (double)nanoseconds / SECOND);
    count_failures(reason, 1);
}

size_t units_counted(void)
{
    return tally.units;
}

void forget(void)
{
    tally.units = tally.lost = 0;
    memset(tally.failures, 0, sizeof tally.failures);
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

/* Give the smallest latency, in microseconds, that so many of 1,000 units did not exceed; they are in order. */
static double quantile(size_t per_mille)
{
    if (tally.units == 0)
        return 0;
    return (double)tally.latencies[(tally.units * per_mille + 999) / 1000 - 1] / 1000;
}

void print_result(double seconds)
{
    struct failure most = {.count = 0};
    size_t failed = 0;
    for (size_t i = 0; i < REASONS; i++) {
        failed += tally.failures[i].count;
        if (tally.failures[i].count > most.count)
            most = tally.failures[i];
    }
    if (tally.units > 0)
        qsort(tally.latencies, tally.units, sizeof *tally.latencies, compare);
    printf("{\"units\": %zu, \"seconds\": %.9f, \"failed\": %zu, ", tally.units, seconds, failed);
    printf("\"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, ", quantile(500), quantile(990), quantile(999));
    /* Reasons are libc's words and our own: nothing in them needs escaping. */
    printf("\"lost\": %zu, \"error\": \"%s\", \"extra\": {}}\n", tally.lost, most.reason);
}
