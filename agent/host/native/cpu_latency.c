/*
 * CPU latency requests of the event loop (kernel Documentation/power/pm_qos_interface.rst): while it has something to do at every moment, no
 * idle CPU of the machine may sleep so deeply that it is slow to wake.
 *
 * A program's call ends on one CPU and its answer is made on another. Where an idle CPU halts, each of a call's wake-ups leaves the virtual
 * machine twice, to send the interrupt and to be woken by it: a sixth to a half of what a small request costs, part of it the sender's.
 *
 * Owns when the request is held: from the moment when the loop has turned often within one look until a look in which it has not. Both are
 * milliseconds, so that nothing is asked for on behalf of an idle volume or a slow server. The kernel takes the request back when the
 * descriptor is closed, however this process ends; one that is stopped (SIGSTOP, a frozen cgroup) keeps it. Does not know on which machines it is
 * worth it (../cpu-latency.ts).
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "loop_part.h"

enum {
  look_ms = 5,
  /* Turns of the loop within one look: four thousand a second to begin, two thousand to go on. */
  turns_to_begin = 20,
  turns_to_go_on = 10
};

struct cpu_latency {
  struct loop_part part;
  uv_check_t check; /* a turn of the loop */
  uv_timer_t timer; /* runs while the request is held */
  int fd;
  bool is_held;
  int turns;
  uint64_t since_ms;
  double *held_ms; /* kept alive by the part */
};

/*
 * The device takes microseconds: 0 keeps a CPU out of every state from which it would have to be woken, -1 is no wish
 * (include/linux/pm_qos.h, PM_QOS_DEFAULT_VALUE). It refuses nothing but what
 * is no number; if it does all the same, closing takes the request back and the CPUs sleep as they did.
 */
static void ask(struct cpu_latency *self, bool awake) {
  int32_t microseconds = awake ? 0 : -1;
  self->is_held = awake;
  if (write(self->fd, &microseconds, sizeof microseconds) == sizeof microseconds) return;
  self->is_held = false;
  close(self->fd);
  self->fd = -1;
  uv_check_stop(&self->check);
}

static void on_look(uv_timer_t *timer) {
  struct cpu_latency *self = timer->data;
  uint64_t now_ms = uv_now(timer->loop);
  *self->held_ms += (double)(now_ms - self->since_ms);
  self->since_ms = now_ms;
  if (self->turns < turns_to_go_on) {
    ask(self, false);
    uv_timer_stop(timer);
  }
  self->turns = 0;
}

static void on_turn(uv_check_t *check) {
  struct cpu_latency *self = check->data;
  self->turns++;
  if (self->is_held) return;
  uint64_t now_ms = uv_now(check->loop);
  if (now_ms - self->since_ms >= look_ms) {
    self->since_ms = now_ms;
    self->turns = 1;
  } else if (self->turns == turns_to_begin) {
    ask(self, true);
    if (!self->is_held) return;
    self->since_ms = now_ms;
    self->turns = 0;
    uv_timer_start(&self->timer, on_look, look_ms, look_ms);
  }
}

static void release(struct loop_part *part) {
  struct cpu_latency *self = (struct cpu_latency *)part;
  if (self->fd >= 0) close(self->fd);
  free(self);
}

/*
 * startCpuLatencyRequests(fd, heldMs): for as long as the environment lives. `fd` is /dev/cpu_dma_latency opened for writing and belongs to the
 * addon from now on; heldMs[0], a Float64Array's, grows by how long the request was held. Call it once.
 */
static napi_value start_cpu_latency_requests(napi_env env, napi_callback_info info) {
  size_t count = 2, length = 0;
  napi_value arguments[2], buffer;
  napi_typedarray_type type = napi_uint8_array;
  void *held_ms = NULL;
  int32_t fd;
  uv_loop_t *loop;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok || count < 2 ||
      napi_get_value_int32(env, arguments[0], &fd) != napi_ok || fd < 0 ||
      napi_get_typedarray_info(env, arguments[1], &type, &length, &held_ms, &buffer, NULL) != napi_ok || type != napi_float64_array || length < 1) {
    napi_throw_type_error(env, "ERR_INVALID_ARG", "startCpuLatencyRequests(fd, heldMs), a descriptor and a Float64Array");
    return NULL;
  }
  struct cpu_latency *self = napi_get_uv_event_loop(env, &loop) == napi_ok ? calloc(1, sizeof *self) : NULL;
  if (self != NULL) {
    self->part = (struct loop_part){ .handles = { (uv_handle_t *)&self->check, (uv_handle_t *)&self->timer }, .release = release };
    self->fd = fd;
    self->held_ms = held_ms;
  }
  if (self == NULL || !tie_loop_part(env, &self->part, arguments[1])) {
    free(self);
    napi_throw_error(env, "ERR_ADDON", "startCpuLatencyRequests: no memory");
    return NULL;
  }
  /* None of these calls can fail for a loop that lives. The handles must not keep it alive. */
  uv_check_init(loop, &self->check);
  uv_timer_init(loop, &self->timer);
  uv_check_start(&self->check, on_turn);
  uv_unref((uv_handle_t *)&self->check);
  uv_unref((uv_handle_t *)&self->timer);
  return NULL;
}

napi_status register_cpu_latency(napi_env env, napi_value exports) {
  napi_value function;
  RETURN_IF_FAILED(napi_create_function(env, "startCpuLatencyRequests", NAPI_AUTO_LENGTH, start_cpu_latency_requests, NULL, &function));
  return napi_set_named_property(env, exports, "startCpuLatencyRequests", function);
}
