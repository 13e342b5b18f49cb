/*
 * What the parts of the addon share. Owns the names of the register functions and two macros.
 *
 * The addon must load on glibc 2.28: threads, mutexes and conditions come from libuv (which node exports), because
 * pthread_create and friends moved to the symbol version GLIBC_2.34.
 */
#ifndef VOLBRIDGE_ADDON_H
#define VOLBRIDGE_ADDON_H

#include <node_api.h>

/* Each adds its functions to exports; anything but napi_ok leaves an exception pending. */
napi_status register_fuse_device(napi_env env, napi_value exports);
napi_status register_host_call(napi_env env, napi_value exports);
napi_status register_descriptors(napi_env env, napi_value exports);
napi_status register_launch(napi_env env, napi_value exports);
napi_status register_busy_poll(napi_env env, napi_value exports);
napi_status register_cpu_latency(napi_env env, napi_value exports);
napi_status register_confine(napi_env env, napi_value exports);

/* Leaves the current function with the status of a failed N-API call. */
#define RETURN_IF_FAILED(expression)            \
  do {                                          \
    napi_status status_ = (expression);         \
    if (status_ != napi_ok) return status_;     \
  } while (0)

#endif
