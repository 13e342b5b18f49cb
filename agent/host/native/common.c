/* See common.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* A process that may open more than that holds few of them; 65,536 calls of close(2) take some milliseconds. */
enum { TRIED_MAX = 65536 };

napi_value fail(napi_env env, const char *call, int error) {
  napi_value message, result, number;
  if (napi_create_string_utf8(env, call, NAPI_AUTO_LENGTH, &message) != napi_ok) return NULL;
  if (napi_create_error(env, NULL, message, &result) != napi_ok) return NULL;
  if (napi_create_int32(env, error, &number) == napi_ok) napi_set_named_property(env, result, "errno", number);
  napi_throw(env, result);
  return NULL;
}

bool int32s(napi_env env, napi_value value, const int32_t **out, size_t *count) {
  napi_typedarray_type type;
  napi_value backing;
  size_t offset;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, count, &data, &backing, &offset) != napi_ok || type != napi_int32_array) return false;
  *out = data;
  return true;
}

napi_value numbers(napi_env env, const int *values, size_t count) {
  napi_value result, value;
  if (napi_create_array_with_length(env, count, &result) != napi_ok) return NULL;
  for (size_t i = 0; i < count; i++) {
    if (napi_create_int32(env, values[i], &value) != napi_ok) return NULL;
    if (napi_set_element(env, result, (uint32_t)i, value) != napi_ok) return NULL;
  }
  return result;
}

unsigned descriptor_limit(void) {
  struct rlimit files;
  return getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < TRIED_MAX ? (unsigned)files.rlim_cur : TRIED_MAX;
}

void close_between(unsigned first, unsigned last, unsigned limit) {
  if (first > last) return;
  if (syscall(SYS_close_range, first, last, 0) == 0) return;
  for (unsigned fd = first; fd <= last && fd < limit; fd++) close((int)fd);
}
