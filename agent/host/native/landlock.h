/* See landlock.c. */
#ifndef VOLBRIDGE_LANDLOCK_H
#define VOLBRIDGE_LANDLOCK_H

/*
 * For a child before exec, which has no new privileges: of the node's files and ports only what `rules` name is left, `count` pairs of a kind
 * and a path or ports (landlock.c lists the kinds). A path that is not there is left out. 0, or -1 with errno: ENOSYS and EOPNOTSUPP where
 * the kernel has no Landlock (5.13), or has it switched off. Async-signal-safe.
 */
int limit_view(char **rules, int count);

/* The kernel's version of Landlock, from 1; -1 with errno. */
int view_abi(void);

#endif
