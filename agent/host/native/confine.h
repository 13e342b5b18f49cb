/* See confine.c. */
#ifndef VOLBRIDGE_CONFINE_H
#define VOLBRIDGE_CONFINE_H

/*
 * For a child before exec, which has no new privileges: io_uring_setup(2) answers ENOSYS. Rings make calls that no filter sees, and libuv
 * makes one as soon as it starts. 0 or the errno; async-signal-safe.
 */
int forbid_rings(void);

#endif
