/* The native part of the measurements' load: `load KIND HOST PORT SECONDS WARM_UP CONNECTIONS SIZE`, or `load server [HOST]`.

   One generator, a warm-up, a measurement; JSON lines on stdout: {"measuring": true} when the warm-up is over, and the result.
   __main__.py and server.py say what each kind does and check the command line before they start this program. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "generators.h"
#include "loop.h"
#include "server.h"
#include "tally.h"

#define ARGUMENTS 8

static const struct {
    const char *name;
    const struct generator *generator;
} kinds[] = {
    {"requests", &requests},
    {"connections", &connections},
    {"connections-until-end", &closed_connections},
    {"datagrams", &datagrams},
    {"queries", &queries},
};

static const struct generator *find_generator(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return kinds[i].generator;
    return NULL;
}

/* A descriptor for each connection, as many as the system lets this user have. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* From seconds: nothing below 0, a year at most. */
static uint64_t nanoseconds(double seconds)
{
    const double year = 365.0 * 24 * 3600;
    return seconds > 0 ? (uint64_t)((seconds < year ? seconds : year) * (double)SECOND) : 0;
}

static void measure(const struct generator *generator, const struct load *load, double seconds, double warm_up)
{
    generator->open(load);
    generator->run(now() + nanoseconds(warm_up));
    forget();
    puts("{\"measuring\": true}");
    fflush(stdout);
    uint64_t start = now();
    generator->run(start + nanoseconds(seconds));
    uint64_t end = now();
    generator->conclude();
    print_result((double)(end - start) / (double)SECOND);
}

int main(int count, char **arguments)
{
    raise_descriptor_limit();
    if (count >= 2 && strcmp(arguments[1], "server") == 0)
        return serve(arguments[2]);
    const struct generator *generator = count == ARGUMENTS ? find_generator(arguments[1]) : NULL;
    if (generator == NULL) {
        fputs("load KIND HOST PORT SECONDS WARM_UP CONNECTIONS SIZE | load server [HOST]\n", stderr);
        return 2;
    }
    struct load load = {
        .target = find_target(arguments[1], arguments[2], arguments[3]),
        .connections = strtoul(arguments[6], NULL, 10),
        .size = strtoul(arguments[7], NULL, 10),
    };
    measure(generator, &load, strtod(arguments[4], NULL), strtod(arguments[5], NULL));
    return 0;
}
