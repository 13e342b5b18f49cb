/*
 * A part of the addon that works on the event loop for as long as the environment lives.
 *
 * Owns its end: both handles are closed, then it is freed, then the environment may go on ending. Does not know what the handles do.
 */
#ifndef VOLBRIDGE_LOOP_PART_H
#define VOLBRIDGE_LOOP_PART_H

#include <stdbool.h>
#include <uv.h>

#include "addon.h"

/* First member of the part's own struct, and `data` of both handles. */
struct loop_part {
  uv_handle_t *handles[2];
  int open;
  void (*release)(struct loop_part *part); /* frees the part's own struct and what belongs to it */
  napi_ref shared;
  napi_async_cleanup_hook_handle cleanup;
};

/*
 * Ties the part to the environment and keeps `shared`, an array whose memory it uses, alive. False when there is no memory for that: then nothing is
 * tied. The handles have to be initialised right after it, none of which can fail.
 */
bool tie_loop_part(napi_env env, struct loop_part *part, napi_value shared);

#endif
