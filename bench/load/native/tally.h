/* What the measurement of this process has counted. */

#ifndef TALLY_H
#define TALLY_H

#include <stddef.h>
#include <stdint.h>

/* Count a unit and how long it took, a datagram that was lost, failures by their reason, which is copied. */
void count_unit(uint64_t nanoseconds);
void count_lost(void);
void count_failures(const char *reason, size_t count);

/* Count a failure whose reason is that nothing came within these nanoseconds. */
void count_timeout(uint64_t nanoseconds);

/* How many units have been counted. */
size_t units_counted(void);

/* Forget everything: the warm-up is over. */
void forget(void);

/* Write the result as one line of JSON with the fields of generator.py's Result. */
void print_result(double seconds);

#endif
