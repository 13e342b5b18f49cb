/*
 * What several parts of the addon do in the same way. Owns how an errno is thrown, how arrays of numbers come in and go out, and how a
 * forked child closes what is not its own.
 */
#ifndef VOLBRIDGE_COMMON_H
#define VOLBRIDGE_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addon.h"

/* Throws `call`, with the errno as a number: its name is given in TypeScript (strerrorname_np needs glibc 2.32). Answers NULL. */
napi_value fail(napi_env env, const char *call, int error);

/* The memory of an Int32Array, good while the value lives; false when it is none. */
bool int32s(napi_env env, napi_value value, const int32_t **out, size_t *count);

/* An array of numbers, or NULL with an exception pending. */
napi_value numbers(napi_env env, const int *values, size_t count);

/* How many descriptors `close_between` tries one by one. To be asked before fork: getrlimit(2) is not on the list of async-signal-safe calls. */
unsigned descriptor_limit(void);

/* Closes first..last; async-signal-safe. close_range is Linux 5.9; before it one close per possible descriptor below `limit`. */
void close_between(unsigned first, unsigned last, unsigned limit);

#endif
