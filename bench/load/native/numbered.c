#include "numbered.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void set_size(struct numbered *datagrams, size_t size)
{
    datagrams->size = size < sizeof(uint64_t) ? sizeof(uint64_t) : size > LONGEST ? LONGEST : size;
}

bool send_numbered(struct numbered *datagrams, int descriptor, uint64_t number)
{
    uint64_t written = htobe64(number);
    memcpy(datagrams->sent, &written, sizeof written);
    return send(descriptor, datagrams->sent, datagrams->size, 0) >= 0;
}

enum arrival receive_numbered(struct numbered *datagrams, int descriptor, uint64_t number)
{
    uint64_t written = htobe64(number);
    ssize_t size = recv(descriptor, datagrams->received, LONGEST, 0);
    if (size < 0)
        return errno == EAGAIN ? SOMETHING_ELSE : BROKEN;
    if ((size_t)size != datagrams->size || memcmp(datagrams->received, &written, sizeof written) != 0)
        return SOMETHING_ELSE;
    return ANSWERED;
}
