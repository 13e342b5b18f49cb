/*
 * Busy polling of the event loop: a wait that will probably be over in a moment is spent awake.
 *
 * Falling asleep and being woken costs this thread and whoever wakes it more than most requests do, most of all in a virtual machine,
 * where a sleeping CPU is woken by leaving the guest. A program that makes one call after the other pays it twice per call.
 *
 * Owns when it is worth it, by five rules. Only while most of the last waits were short: an idle connection, a distant server or a
 * disk that takes its time are slept for. Never longer than the maximum, and not for 0.1 s after that was in vain too often. Between two
 * looks whoever else can run on this CPU does: it may be who makes the event, or who waits for the one before. And not for a while after
 * the thread was kept from running for long: who computes leaves a sleeper that wakes more of the CPU than one that yields, and the quota
 * of a cgroup may be used up. That while is short the first time, since a compiler's thread or a burst soon ends, and grows when it happens again.
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

#include "loop_part.h"

enum {
  /* Moving averages in 1/256. Three of four waits short: a program that waits for a distant server has a short and a long one in turn. */
  one = 256,
  needed = 192,
  /* Of how many waits, and of how many polls: a hiccup of the server is no reason to sleep, a server that is always late is. */
  waits_weight = 8,
  polls_weight = 16,
  /* Where the second one begins again after a pause. */
  polls_again = 224,
  microseconds_max = 1000,
  /* Good polls that have looked more than once, after which the next theft counts as the first again. */
  undisturbed_enough = 64,
  /* Requests under way up to which one that waits for an answer is more likely than a stream. */
  few = 4
};

/* Longer between two looks: something else had the CPU. Shorter than a time slice, longer than an interrupt or the work for one request. */
static const uint64_t stolen_ns = 1000 * 1000;
static const uint64_t respect_first_ns = 5 * 1000 * 1000;
static const uint64_t respect_max_ns = 320 * 1000 * 1000;
/* After too many polls in vain: three more of them in each such time cost less than half a percent. */
static const uint64_t doubt_ns = 100 * 1000 * 1000;

struct busy_poll {
  struct loop_part part;
  uv_prepare_t prepare; /* before the loop waits */
  uv_check_t check;     /* after it */
  uint64_t longest_ns, short_ns;
  bool waits;             /* the loop waits this time */
  uint64_t polled_ns;     /* of this wait, in vain when gave_up */
  bool gave_up;
  uint64_t idle_ns;       /* what the loop had slept before */
  uint64_t resume_ns;
  uint64_t respect_ns;    /* the pause after the next theft */
  int undisturbed;        /* good polls with more than one look since the last theft */
  int short_waits, good_polls; /* averages */
  const int32_t *under_way; /* kept alive by the part */
};

static void learn(int *average, bool is, int weight) {
  *average += ((is ? one : 0) - *average) / weight;
}

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
    if (now - last > stolen_ns) {
      self->resume_ns = now + self->respect_ns;
      if (self->respect_ns < respect_max_ns) self->respect_ns *= 2;
      self->undisturbed = 0;
      return;
    }
    if (found != 0) {
      if (last != began && ++self->undisturbed >= undisturbed_enough) self->respect_ns = respect_first_ns;
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
 * was wrong, however soon after it the event came. When that has become usual, waits that are short asleep must not begin it at once again.
 */
static void after_wait(uv_check_t *handle) {
  struct busy_poll *self = handle->data;
  if (!self->waits) return;
  uint64_t slept_ns = uv_metrics_idle_time(handle->loop) - self->idle_ns;
  learn(&self->short_waits, !self->gave_up && self->polled_ns + slept_ns <= self->short_ns, waits_weight);
  if (self->polled_ns == 0) return;
  learn(&self->good_polls, !self->gave_up, polls_weight);
  if (self->good_polls >= needed) return;
  self->good_polls = polls_again;
  self->resume_ns = uv_hrtime() + doubt_ns;
}

static void release(struct loop_part *part) {
  free(part);
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
  if (self != NULL) {
    self->part = (struct loop_part){ .handles = { (uv_handle_t *)&self->prepare, (uv_handle_t *)&self->check }, .release = release };
    if (!tie_loop_part(env, &self->part, arguments[1])) {
      free(self);
      self = NULL;
    }
  }
  if (self != NULL) {
    self->longest_ns = (uint64_t)microseconds * 1000;
    /* A wait that was slept through would have been shorter awake: measured, about half. */
    self->short_ns = 2 * self->longest_ns;
    self->under_way = under_way;
    self->good_polls = one;
    self->respect_ns = respect_first_ns;
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
