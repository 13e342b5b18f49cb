/*
 * The addon's entry. Owns the order of registration and nothing else; it is context aware, so several
 * environments (worker threads) may load it.
 */
#include "addon.h"

NAPI_MODULE_INIT() {
  if (register_fuse_device(env, exports) != napi_ok || register_host_call(env, exports) != napi_ok ||
      register_descriptors(env, exports) != napi_ok || register_launch(env, exports) != napi_ok || register_busy_poll(env, exports) != napi_ok ||
      register_cpu_latency(env, exports) != napi_ok || register_confine(env, exports) != napi_ok) {
    bool pending = false;
    if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) {
      napi_throw_error(env, "ERR_ADDON", "the native addon could not register its functions");
    }
    return NULL;
  }
  return exports;
}
