/* See loop_part.h. */
#include "loop_part.h"

static void on_closed(uv_handle_t *handle) {
  struct loop_part *part = handle->data;
  if (--part->open > 0) return;
  napi_async_cleanup_hook_handle cleanup = part->cleanup;
  part->release(part);
  napi_remove_async_cleanup_hook(cleanup);
}

static void on_environment_ends(napi_async_cleanup_hook_handle cleanup, void *data) {
  struct loop_part *part = data;
  for (int i = 0; i < 2; i++) uv_close(part->handles[i], on_closed);
}

bool tie_loop_part(napi_env env, struct loop_part *part, napi_value shared) {
  if (napi_create_reference(env, shared, 1, &part->shared) != napi_ok) return false;
  if (napi_add_async_cleanup_hook(env, on_environment_ends, part, &part->cleanup) != napi_ok) {
    napi_delete_reference(env, part->shared);
    return false;
  }
  part->open = 2;
  for (int i = 0; i < 2; i++) part->handles[i]->data = part;
  return true;
}
