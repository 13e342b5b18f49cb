/*
 * Busy polling of the event loop: a wait that will probably be over in a moment is spent awake.
 *
 * Falling asleep and being woken costs this thread and whoever wakes it more than most requests do, most of all in a virtual machine,
 * where a sleeping CPU is woken by leaving the guest. A program that makes one call after the other pays it twice per call.
 *
 * Owns when it is worth it, by four rules. Only while most of the last waits were short: an idle connection, a distant server or a
 * disk that takes its time are slept for. Never longer than the maximum, and not for 0.1 s after polls in vain have cost more than the good ones
 * spared: files that are made one after the other wait for the server's disk now and then, and shortly in between. And not for
 * 0.3 s after the thread was kept from running for long while it polled: then others want this CPU, or the quota of its cgroup is used up.
 *
 * Between two looks whoever else can run here does: the server on the same machine, the program that was just answered. Without that it is moved
 * to another CPU, which has to be woken for it, or it waits for us (two CPUs, four jobs: 13 % more random reads, 8 % more files opened).
 *
 * With more than a few requests under way nothing is polled for: who sleeps finds several of them, or a megabyte instead of its first
 * packets. Does not know what is waited for.
 *
 * The kernel's haltpoll governor does the same for a whole CPU (drivers/cpuidle/governors/haltpoll.c); it cannot spare us the two
 * switches between tasks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <uv.h>

#include "addon.h"

enum {
  /* A moving average in 1/65536. Three of four waits short: a program that waits for a distant server has a short and a long one in turn. */
  one = 65536,
  needed = 49152,
  /* Of how many waits: programs that wait for the server's disk do so all at once, and short waits follow. */
  waits_weight = 32,
  /* Good polls that spare what one in vain costs: falling asleep and being woken take about a quarter of the longest poll. */
  good_per_vain = 4,
  /* Polls in vain that can be saved up for, and that are free after a pause: a hiccup is no reason to sleep, a server that is always late is. */
  credit_max = 16,
  credit_again = 3,
  microseconds_max = 1000,
  /* Requests under way up to which one that waits for an answer is more likely than a stream. */
  few = 4
};

/* Longer between two looks: others had the CPU for long. Shorter than a time slice, longer than an interrupt or a turn of the server's. */
static const uint64_t stolen_ns = 1000 * 1000;
static const uint64_t respect_ns = 300 * 1000 * 1000;
/* After too many polls in vain: three more of them in each such time cost less than half a percent. */
static const uint64_t doubt_ns = 100 * 1000 * 1000;

struct busy_poll {
  uv_prepare_t prepare; /* before the loop waits */
  uv_check_t check;     /* after it */
  int handles;
  uint64_t longest_ns, short_ns;
  bool waits;             /* the loop waits this time */
  uint64_t polled_ns;     /* of this wait, in vain when gave_up */
  bool gave_up;
  uint64_t idle_ns;       /* what the loop had slept before */
  uint64_t resume_ns;
  int short_waits;        /* average */
  int credit;             /* what good polls have spared and those in vain not yet cost, in good polls */
  const int32_t *under_way; /* kept alive by the reference */
  napi_ref reference;
  napi_async_cleanup_hook_handle cleanup;
};

static void before_wait(uv_prepare_t *handle) {
  struct busy_poll *self = handle->data;
  self->waits = uv_backend_timeout(handle->loop) != 0;
  if (!self->waits) return;
  self->polled_ns = 0;
  self->gave_up = false;
  self->idle_ns = uv_metrics_idle_time(handle->loop);
  if (self->short_waits < needed || *self->under_way > few) return;
  uint64_t began = uv_hrtime();
  if (began < self->resume_ns) return;
  struct pollfd ready = { uv_backend_fd(handle->loop), POLLIN, 0 };
  for (uint64_t last = began;;) {
    int found = poll(&ready, 1, 0); /* An error is the loop's own poll's to report. */
    uint64_t now = uv_hrtime();
    self->polled_ns = now - began;
    if (found != 0) return;
    if (now - last > stolen_ns) {
      self->resume_ns = now + respect_ns;
      return;
    }
    if (self->polled_ns >= self->longest_ns) {
      self->gave_up = true;
      return;
    }
    last = now;
    sched_yield();
  }
}

/*
 * Callbacks have run since the wait ended, so the clock does not tell how long it was: the loop's own account of its sleep does. A poll in vain
 * was wrong, however soon after it the event came. When such polls cost more than the others spare, waits that are short asleep must not begin it
 * at once again.
 */
static void after_wait(uv_check_t *handle) {
  struct busy_poll *self = handle->data;
  if (!self->waits) return;
  uint64_t slept_ns = uv_metrics_idle_time(handle->loop) - self->idle_ns;
  bool is_short = !self->gave_up && self->polled_ns + slept_ns <= self->short_ns;
  self->short_waits += ((is_short ? one : 0) - self->short_waits) / waits_weight;
  if (self->polled_ns == 0) return;
  self->credit += self->gave_up ? -good_per_vain : 1;
  if (self->credit > credit_max * good_per_vain) self->credit = credit_max * good_per_vain;
  if (self->credit > 0) return;
  self->credit = credit_again * good_per_vain;
  self->resume_ns = uv_hrtime() + doubt_ns;
}

static void on_closed(uv_handle_t *handle) {
  struct busy_poll *self = handle->data;
  if (--self->handles > 0) return;
  napi_async_cleanup_hook_handle cleanup = self->cleanup;
  free(self);
  napi_remove_async_cleanup_hook(cleanup);
}

static void on_environment_ends(napi_async_cleanup_hook_handle handle, void *data) {
  struct busy_poll *self = data;
  uv_close((uv_handle_t *)&self->prepare, on_closed);
  uv_close((uv_handle_t *)&self->check, on_closed);
}

/*
 * startBusyPoll(microsecondsMax, underWay): for as long as the environment lives. underWay[0], an Int32Array's, is how many requests are under way.
 * Answers whether it does; call it once.
 */
static napi_value start_busy_poll(napi_env env, napi_callback_info info) {
  size_t count = 2, length = 0;
  napi_value arguments[2], buffer, answer = NULL;
  napi_typedarray_type type = napi_uint8_array;
  void *under_way = NULL;
  int64_t microseconds;
  uv_loop_t *loop;
  if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok || count < 2 ||
      napi_get_value_int64(env, arguments[0], &microseconds) != napi_ok || microseconds < 1 || microseconds > microseconds_max ||
      napi_get_typedarray_info(env, arguments[1], &type, &length, &under_way, &buffer, NULL) != napi_ok || type != napi_int32_array || length < 1) {
    napi_throw_type_error(env, "ERR_INVALID_ARG", "startBusyPoll(microseconds, underWay), 1 to 1000 and an Int32Array");
    return NULL;
  }
  struct busy_poll *self = NULL;
  /* With one CPU whoever is to make the event would have to wait for us. */
  if (uv_available_parallelism() > 1 && napi_get_uv_event_loop(env, &loop) == napi_ok) self = calloc(1, sizeof *self);
  if (self != NULL && napi_create_reference(env, arguments[1], 1, &self->reference) != napi_ok) {
    free(self);
    self = NULL;
  }
  if (self != NULL && napi_add_async_cleanup_hook(env, on_environment_ends, self, &self->cleanup) != napi_ok) {
    free(self);
    self = NULL;
  }
  if (self != NULL) {
    self->longest_ns = (uint64_t)microseconds * 1000;
    /* A wait that was slept through would have been shorter awake: measured, about half. */
    self->short_ns = 2 * self->longest_ns;
    self->under_way = under_way;
    self->credit = credit_again * good_per_vain;
    self->handles = 2;
    self->prepare.data = self->check.data = self;
    /* Node does this too. None of these calls can fail for a loop that lives. The handles must not keep it alive. */
    uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
    uv_prepare_init(loop, &self->prepare);
    uv_check_init(loop, &self->check);
    uv_prepare_start(&self->prepare, before_wait);
    uv_check_start(&self->check, after_wait);
    uv_unref((uv_handle_t *)&self->prepare);
    uv_unref((uv_handle_t *)&self->check);
  }
  napi_get_boolean(env, self != NULL, &answer);
  return answer;
}

napi_status register_busy_poll(napi_env env, napi_value exports) {
  napi_value function;
  RETURN_IF_FAILED(napi_create_function(env, "startBusyPoll", NAPI_AUTO_LENGTH, start_busy_poll, NULL, &function));
  return napi_set_named_property(env, exports, "startBusyPoll", function);
}
