/*
 * /dev/fuse for JavaScript: many requests in per wake, replies out by one write(2) each, notifications from a thread.
 *
 * Owns the descriptor, its uv_poll handle and the notification thread. Knows the length field of a message and nothing else of the
 * protocol. Facts used (kernel fs/fuse/dev.c): read(2) gives exactly one request and refuses a buffer smaller than the largest one;
 * every reply is one write(2); ENOENT on read means "the request vanished while it was copied", on write "nobody waits any more".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include "addon.h"

enum {
  /* One JavaScript callback sees at most this many requests. */
  requests_max = 64,
  /* Callbacks per wake, then sockets get their turn. The poll is level triggered: what is left wakes the loop again. */
  rounds_max = 4,
  /* Parts of one reply: UIO_MAXIOV is 1024, one is the header. */
  parts_max = 1000,
  /* Notifications waiting for the thread; the sender keeps the rest. */
  notices_max = 1024,
  /* A fuse_out_header: len, error, unique. */
  reply_header_bytes = 16
};

enum event { EVENT_REQUESTS = 0, EVENT_ENDED = 1, EVENT_NOTIFIED = 2 };

struct notice {
  uint32_t bytes;
  char data[];
};

/*
 * Written to by the JavaScript thread, drained by one thread: the kernel may wait for page or inode locks held by a request that
 * this process has not answered yet (fuse_reverse_inval_inode), so the JavaScript thread must never make these calls.
 * Lives as long as the thread: a thread stuck in such a wait outlives the device and even the environment.
 */
struct notifier {
  int fd;
  uv_thread_t thread;
  uv_mutex_t mutex;
  uv_cond_t wake;
  bool closing;
  uint32_t head, count;
  struct notice *queue[notices_max];
  /* Results in order of submission, not yet fetched by JavaScript. At most notices_max + 1 are under way at once. */
  uint32_t results_head, results_count;
  int32_t results[2 * notices_max];
  napi_threadsafe_function report;
  bool report_is_gone; /* the thread's: the environment is ending and has taken the function back */
  _Atomic bool exited;
  struct device *device; /* NULL once the device is closed. JavaScript thread only. */
};

struct device {
  napi_env env;
  int fd;
  uv_poll_t poll;
  bool poll_open, closed, ended;
  int references; /* the JavaScript object, the poll handle */
  napi_async_context async_context;
  napi_ref self, options, callback;
  napi_async_cleanup_hook_handle cleanup;
  char *requests;
  size_t requests_bytes, request_bytes_max;
  char *replies;
  size_t replies_bytes;
  int32_t *table, *results, *notified;
  size_t results_count, notified_count;
  struct notifier *notifier;
};

static void release_device(struct device *device) {
  if (--device->references == 0) free(device);
}

static napi_value throw_errno(napi_env env, const char *call, int error) {
  char name[32], message[160];
  uv_err_name_r(-error, name, sizeof name);
  snprintf(message, sizeof message, "%s: %s", call, name);
  napi_throw_error(env, name, message);
  return NULL;
}

static napi_value throw_usage(napi_env env, const char *message) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) napi_throw_type_error(env, "ERR_INVALID_ARG", message);
  return NULL;
}

static napi_value int_value(napi_env env, int32_t number) {
  napi_value value = NULL;
  napi_create_int32(env, number, &value);
  return value;
}

/* Calls JavaScript from the loop. An exception becomes an uncaught exception: nothing thrown there is lost. */
static void emit(struct device *device, enum event event, int32_t value) {
  napi_env env = device->env;
  napi_handle_scope scope;
  if (device->callback == NULL || napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value callback, receiver, arguments[2];
  if (napi_get_reference_value(env, device->callback, &callback) == napi_ok && napi_get_global(env, &receiver) == napi_ok &&
      napi_create_int32(env, event, &arguments[0]) == napi_ok && napi_create_int32(env, value, &arguments[1]) == napi_ok) {
    napi_status status = napi_make_callback(env, device->async_context, receiver, callback, 2, arguments, NULL);
    if (status == napi_pending_exception) {
      napi_value exception;
      if (napi_get_and_clear_last_exception(env, &exception) == napi_ok) napi_fatal_exception(env, exception);
    }
  }
  napi_close_handle_scope(env, scope);
}

/* ---- requests ---- */

/*
 * Reads requests one behind the other, 8-aligned, until none is left, the table is full or the largest request might not fit.
 * *again: there may be more. *reason: errno that ended the connection, or 0.
 */
static int read_requests(struct device *device, bool *again, int *reason) {
  size_t at = 0;
  int count = 0;
  *again = true;
  *reason = 0;
  while (count < requests_max && at + device->request_bytes_max <= device->requests_bytes) {
    ssize_t bytes = read(device->fd, device->requests + at, device->request_bytes_max);
    if (bytes < 0) {
      if (errno == EINTR || errno == ENOENT) continue;
      *again = false;
      if (errno != EAGAIN) *reason = errno;
      break;
    }
    device->table[2 * count] = (int32_t)at;
    device->table[2 * count + 1] = (int32_t)bytes;
    count++;
    at = (at + (size_t)bytes + 7) & ~(size_t)7;
  }
  return count;
}

static void on_poll(uv_poll_t *handle, int status, int events) {
  struct device *device = handle->data;
  /* A negative status is POLLERR, the end of the connection; the reason is what read(2) says. */
  for (int round = 0; round < rounds_max && !device->closed && !device->ended; round++) {
    bool again;
    int reason;
    int count = read_requests(device, &again, &reason);
    if (count > 0) emit(device, EVENT_REQUESTS, count);
    if (device->closed) return;
    if (reason == 0 && status < 0 && count == 0) reason = ENODEV;
    if (reason != 0) {
      device->ended = true;
      uv_poll_stop(&device->poll);
      emit(device, EVENT_ENDED, reason);
      return;
    }
    if (!again) return;
  }
}

/* ---- notifications ---- */

static void notifier_write(struct notifier *notifier) {
  uv_mutex_lock(&notifier->mutex);
  for (;;) {
    while (notifier->count == 0 && !notifier->closing) uv_cond_wait(&notifier->wake, &notifier->mutex);
    if (notifier->closing) break;
    struct notice *notice = notifier->queue[notifier->head];
    notifier->head = (notifier->head + 1) % notices_max;
    notifier->count--;
    uv_mutex_unlock(&notifier->mutex);

    ssize_t written;
    do written = write(notifier->fd, notice->data, notice->bytes);
    while (written < 0 && errno == EINTR);
    int32_t result = written < 0 ? errno : 0;
    free(notice);

    uv_mutex_lock(&notifier->mutex);
    notifier->results[(notifier->results_head + notifier->results_count++) % (2 * notices_max)] = result;
    bool first = notifier->results_count == 1;
    uv_mutex_unlock(&notifier->mutex);
    if (first && !notifier->report_is_gone) {
      /* After this answer the function must not be touched again, not even to release it. */
      notifier->report_is_gone = napi_call_threadsafe_function(notifier->report, NULL, napi_tsfn_nonblocking) == napi_closing;
    }
    uv_mutex_lock(&notifier->mutex);
  }
  while (notifier->count > 0) {
    free(notifier->queue[notifier->head]);
    notifier->head = (notifier->head + 1) % notices_max;
    notifier->count--;
  }
  uv_mutex_unlock(&notifier->mutex);
}

static void notifier_thread(void *data) {
  struct notifier *notifier = data;
  notifier_write(notifier);
  close(notifier->fd);
  /* From here on the finalizer, which runs in the JavaScript thread, may join this thread and free the notifier. */
  napi_threadsafe_function report = notifier->report;
  bool is_gone = notifier->report_is_gone;
  atomic_store(&notifier->exited, true);
  if (!is_gone) napi_release_threadsafe_function(report, napi_tsfn_release);
}

/* In the JavaScript thread: hands the results over, in order of submission. */
static void on_notified(napi_env env, napi_value unused, void *context, void *data) {
  struct notifier *notifier = context;
  if (env == NULL) return;
  for (;;) {
    struct device *device = notifier->device;
    uint32_t count = 0;
    uv_mutex_lock(&notifier->mutex);
    while (notifier->results_count > 0 && (device == NULL || count < device->notified_count)) {
      if (device != NULL) device->notified[count] = notifier->results[notifier->results_head];
      count++;
      notifier->results_head = (notifier->results_head + 1) % (2 * notices_max);
      notifier->results_count--;
    }
    uv_mutex_unlock(&notifier->mutex);
    if (count == 0 || device == NULL) return;
    emit(device, EVENT_NOTIFIED, (int32_t)count);
  }
}

static void on_notifier_finalized(napi_env env, void *data, void *hint) {
  struct notifier *notifier = data;
  /* A thread still inside the kernel keeps its memory: freeing it would be worse than the leak of one process's last breath. */
  if (!atomic_load(&notifier->exited)) return;
  uv_thread_join(&notifier->thread);
  uv_cond_destroy(&notifier->wake);
  uv_mutex_destroy(&notifier->mutex);
  free(notifier);
}

/* Made at the first notification: most sessions of a quiet volume never need the thread. Returns an errno. */
static int start_notifier(struct device *device) {
  napi_env env = device->env;
  struct notifier *notifier = calloc(1, sizeof *notifier);
  if (notifier == NULL) return ENOMEM;
  notifier->device = device;
  notifier->fd = fcntl(device->fd, F_DUPFD_CLOEXEC, 3);
  if (notifier->fd < 0) {
    int error = errno;
    free(notifier);
    return error;
  }
  if (uv_mutex_init(&notifier->mutex) != 0) goto no_mutex;
  if (uv_cond_init(&notifier->wake) != 0) goto no_cond;
  napi_value name;
  if (napi_create_string_utf8(env, "volbridge:notify", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, notifier, on_notifier_finalized, notifier, on_notified,
                                      &notifier->report) != napi_ok) {
    goto no_report;
  }
  /* Waiting for a notification must not keep the process alive. */
  napi_unref_threadsafe_function(env, notifier->report);
  if (uv_thread_create(&notifier->thread, notifier_thread, notifier) != 0) {
    /* The finalizer leaves what has not exited alone, so the memory is given up here by design: it runs later. */
    notifier->device = NULL;
    close(notifier->fd);
    napi_release_threadsafe_function(notifier->report, napi_tsfn_abort);
    return EAGAIN;
  }
  device->notifier = notifier;
  return 0;

no_report:
  uv_cond_destroy(&notifier->wake);
no_cond:
  uv_mutex_destroy(&notifier->mutex);
no_mutex:
  close(notifier->fd);
  free(notifier);
  return ENOMEM;
}

static void stop_notifier(struct device *device) {
  struct notifier *notifier = device->notifier;
  if (notifier == NULL) return;
  device->notifier = NULL;
  notifier->device = NULL;
  uv_mutex_lock(&notifier->mutex);
  notifier->closing = true;
  uv_cond_signal(&notifier->wake);
  uv_mutex_unlock(&notifier->mutex);
}

/* ---- life of a device ---- */

static void on_poll_closed(uv_handle_t *handle) {
  struct device *device = handle->data;
  napi_async_cleanup_hook_handle cleanup = device->cleanup;
  device->cleanup = NULL;
  release_device(device);
  if (cleanup != NULL) napi_remove_async_cleanup_hook(cleanup);
}

static void close_device(struct device *device) {
  if (device->closed) return;
  device->closed = true;
  stop_notifier(device);
  if (device->poll_open) {
    device->poll_open = false;
    uv_poll_stop(&device->poll);
    uv_close((uv_handle_t *)&device->poll, on_poll_closed);
  }
  close(device->fd);
  device->fd = -1;
  napi_env env = device->env;
  if (device->async_context != NULL) napi_async_destroy(env, device->async_context);
  if (device->callback != NULL) napi_delete_reference(env, device->callback);
  if (device->options != NULL) napi_delete_reference(env, device->options);
  if (device->self != NULL) napi_delete_reference(env, device->self);
  device->async_context = NULL;
  device->callback = device->options = device->self = NULL;
}

static void on_environment_ends(napi_async_cleanup_hook_handle handle, void *data) {
  struct device *device = data;
  if (device->closed) return; /* on_poll_closed is on its way and removes the hook. */
  close_device(device);
}

static void on_object_collected(napi_env env, void *data, void *hint) {
  struct device *device = data;
  close_device(device);
  release_device(device);
}

static struct device *device_of(napi_env env, napi_callback_info info, size_t *count, napi_value *arguments) {
  napi_value receiver;
  void *data = NULL;
  if (napi_get_cb_info(env, info, count, arguments, &receiver, NULL) != napi_ok || napi_unwrap(env, receiver, &data) != napi_ok) {
    throw_usage(env, "not a FuseDevice");
    return NULL;
  }
  return data;
}

static napi_status get_buffer(napi_env env, napi_value options, const char *name, char **data, size_t *bytes) {
  napi_value value;
  void *pointer = NULL;
  RETURN_IF_FAILED(napi_get_named_property(env, options, name, &value));
  RETURN_IF_FAILED(napi_get_buffer_info(env, value, &pointer, bytes));
  *data = pointer;
  return napi_ok;
}

static napi_status get_int32_array(napi_env env, napi_value options, const char *name, int32_t **data, size_t *count) {
  napi_value value, buffer;
  napi_typedarray_type type;
  void *pointer = NULL;
  size_t offset;
  RETURN_IF_FAILED(napi_get_named_property(env, options, name, &value));
  RETURN_IF_FAILED(napi_get_typedarray_info(env, value, &type, count, &pointer, &buffer, &offset));
  *data = pointer;
  return type == napi_int32_array ? napi_ok : napi_invalid_arg;
}

static napi_status read_options(napi_env env, struct device *device, napi_value options) {
  napi_value value, name;
  napi_valuetype type;
  int64_t request_bytes_max;
  size_t table_count;
  RETURN_IF_FAILED(napi_typeof(env, options, &type));
  if (type != napi_object) return napi_object_expected;
  RETURN_IF_FAILED(get_buffer(env, options, "requests", &device->requests, &device->requests_bytes));
  RETURN_IF_FAILED(get_buffer(env, options, "replies", &device->replies, &device->replies_bytes));
  RETURN_IF_FAILED(get_int32_array(env, options, "table", &device->table, &table_count));
  RETURN_IF_FAILED(get_int32_array(env, options, "results", &device->results, &device->results_count));
  RETURN_IF_FAILED(get_int32_array(env, options, "notified", &device->notified, &device->notified_count));
  RETURN_IF_FAILED(napi_get_named_property(env, options, "requestBytesMax", &value));
  RETURN_IF_FAILED(napi_get_value_int64(env, value, &request_bytes_max));
  if (request_bytes_max < 8192 || (size_t)request_bytes_max > device->requests_bytes || device->requests_bytes > INT32_MAX ||
      table_count < 2 * requests_max || device->notified_count == 0) {
    return napi_invalid_arg;
  }
  device->request_bytes_max = (size_t)request_bytes_max;
  RETURN_IF_FAILED(napi_get_named_property(env, options, "onEvent", &value));
  RETURN_IF_FAILED(napi_create_reference(env, value, 1, &device->callback));
  RETURN_IF_FAILED(napi_create_reference(env, options, 1, &device->options));
  RETURN_IF_FAILED(napi_create_string_utf8(env, "volbridge:fuse", NAPI_AUTO_LENGTH, &name));
  return napi_async_init(env, options, name, &device->async_context);
}

/* new FuseDevice(fd, options): from now on the descriptor is ours, also when this throws. */
static napi_value construct(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2], receiver;
  int32_t fd;
  uv_loop_t *loop;
  if (napi_get_cb_info(env, info, &count, arguments, &receiver, NULL) != napi_ok || count < 1 ||
      napi_get_value_int32(env, arguments[0], &fd) != napi_ok || fd < 0) {
    return throw_usage(env, "FuseDevice(fd, options)");
  }
  struct device *device = calloc(1, sizeof *device);
  if (device == NULL) {
    close(fd);
    return throw_errno(env, "calloc", ENOMEM);
  }
  device->env = env;
  device->fd = fd;
  device->references = 1;
  if (napi_wrap(env, receiver, device, on_object_collected, NULL, NULL) != napi_ok) {
    close(fd);
    free(device);
    return throw_usage(env, "FuseDevice could not be made");
  }
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
    int error = errno;
    close_device(device);
    return throw_errno(env, "fcntl", error);
  }
  if (napi_create_reference(env, receiver, 1, &device->self) != napi_ok || read_options(env, device, arguments[1]) != napi_ok ||
      napi_get_uv_event_loop(env, &loop) != napi_ok) {
    close_device(device);
    return throw_usage(env, "FuseDevice: requests, replies, table, results, notified, requestBytesMax and onEvent are needed");
  }
  int error = uv_poll_init(loop, &device->poll, fd);
  if (error != 0) {
    close_device(device);
    return throw_errno(env, "uv_poll_init", -error);
  }
  device->poll.data = device;
  device->poll_open = true;
  device->references++;
  if (napi_add_async_cleanup_hook(env, on_environment_ends, device, &device->cleanup) != napi_ok) {
    close_device(device);
    return throw_usage(env, "FuseDevice could not be registered for cleanup");
  }
  return receiver;
}

/* start(): requests are read from now on. The file system must be mounted: before that read(2) gives EPERM. */
static napi_value start(napi_env env, napi_callback_info info) {
  size_t count = 0;
  struct device *device = device_of(env, info, &count, NULL);
  if (device == NULL) return NULL;
  if (device->closed || device->ended) return throw_errno(env, "start", ENODEV);
  int error = uv_poll_start(&device->poll, UV_READABLE, on_poll);
  return error == 0 ? NULL : throw_errno(env, "uv_poll_start", -error);
}

/* pause(): requests stay in the kernel until start(). */
static napi_value pause_reading(napi_env env, napi_callback_info info) {
  size_t count = 0;
  struct device *device = device_of(env, info, &count, NULL);
  if (device != NULL && device->poll_open) uv_poll_stop(&device->poll);
  return NULL;
}

static int write_reply(struct device *device, const struct iovec *vector, int count) {
  ssize_t written;
  do written = count == 1 ? write(device->fd, vector->iov_base, vector->iov_len) : writev(device->fd, vector, count);
  while (written < 0 && errno == EINTR);
  return written < 0 ? errno : 0;
}

/*
 * flush(bytes): writes the replies packed at the start of `replies`, each 8-aligned and beginning with its length, one write(2) each.
 * results[i] is 0 or an errno; answers how many were not accepted.
 */
static napi_value flush(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  int64_t bytes;
  struct device *device = device_of(env, info, &count, &argument);
  if (device == NULL) return NULL;
  if (count < 1 || napi_get_value_int64(env, argument, &bytes) != napi_ok || bytes < 0 || (size_t)bytes > device->replies_bytes) {
    return throw_usage(env, "flush(bytes)");
  }
  int32_t refused = 0;
  size_t index = 0;
  for (size_t at = 0; at < (size_t)bytes; index++) {
    uint32_t length;
    if ((size_t)bytes - at < reply_header_bytes || index >= device->results_count) return throw_usage(env, "flush: replies badly packed");
    memcpy(&length, device->replies + at, sizeof length);
    if (length < reply_header_bytes || length > (size_t)bytes - at) return throw_usage(env, "flush: a reply has a wrong length");
    struct iovec vector = { device->replies + at, length };
    int error = device->closed ? ENODEV : write_reply(device, &vector, 1);
    device->results[index] = error;
    if (error != 0) refused++;
    at = (at + length + 7) & ~(size_t)7;
  }
  return int_value(env, refused);
}

/* send(offset, headerBytes, parts): one reply made of a piece of `replies` and the parts, without copying them. Answers 0 or an errno. */
static napi_value send_parts(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  int64_t offset, header_bytes;
  uint32_t parts;
  struct device *device = device_of(env, info, &count, arguments);
  if (device == NULL) return NULL;
  if (count < 3 || napi_get_value_int64(env, arguments[0], &offset) != napi_ok ||
      napi_get_value_int64(env, arguments[1], &header_bytes) != napi_ok || napi_get_array_length(env, arguments[2], &parts) != napi_ok ||
      offset < 0 || header_bytes < reply_header_bytes || (size_t)offset + (size_t)header_bytes > device->replies_bytes || parts > parts_max) {
    return throw_usage(env, "send(offset, headerBytes, parts)");
  }
  if (device->closed) return int_value(env, ENODEV);
  struct iovec vector[1 + parts_max];
  vector[0] = (struct iovec){ device->replies + offset, (size_t)header_bytes };
  for (uint32_t index = 0; index < parts; index++) {
    napi_value part;
    if (napi_get_element(env, arguments[2], index, &part) != napi_ok ||
        napi_get_buffer_info(env, part, &vector[1 + index].iov_base, &vector[1 + index].iov_len) != napi_ok) {
      return throw_usage(env, "send: a part is not a buffer");
    }
  }
  return int_value(env, write_reply(device, vector, 1 + (int)parts));
}

/* notify(message): queues a copy for the thread; answers 0, EAGAIN when the queue is full, or the errno that keeps it from starting. */
static napi_value notify(napi_env env, napi_callback_info info) {
  size_t count = 1, bytes;
  napi_value argument;
  void *data;
  struct device *device = device_of(env, info, &count, &argument);
  if (device == NULL) return NULL;
  if (count < 1 || napi_get_buffer_info(env, argument, &data, &bytes) != napi_ok || bytes < reply_header_bytes || bytes > 65536) {
    return throw_usage(env, "notify(message)");
  }
  if (device->closed || device->ended) return int_value(env, ENODEV);
  if (device->notifier == NULL) {
    int error = start_notifier(device);
    if (error != 0) return int_value(env, error);
  }
  struct notice *notice = malloc(sizeof *notice + bytes);
  if (notice == NULL) return int_value(env, ENOMEM);
  notice->bytes = (uint32_t)bytes;
  memcpy(notice->data, data, bytes);
  struct notifier *notifier = device->notifier;
  uv_mutex_lock(&notifier->mutex);
  /* Results not fetched count too: their ring must never overflow. */
  bool full = notifier->count == notices_max || notifier->count + notifier->results_count + 1 >= 2 * notices_max;
  if (!full) {
    notifier->queue[(notifier->head + notifier->count++) % notices_max] = notice;
    uv_cond_signal(&notifier->wake);
  }
  uv_mutex_unlock(&notifier->mutex);
  if (full) free(notice);
  return int_value(env, full ? EAGAIN : 0);
}

static napi_value close_method(napi_env env, napi_callback_info info) {
  size_t count = 0;
  struct device *device = device_of(env, info, &count, NULL);
  if (device != NULL) close_device(device);
  return NULL;
}

napi_status register_fuse_device(napi_env env, napi_value exports) {
  napi_property_descriptor methods[] = {
    { "start", NULL, start, NULL, NULL, NULL, napi_default_method, NULL },
    { "pause", NULL, pause_reading, NULL, NULL, NULL, napi_default_method, NULL },
    { "flush", NULL, flush, NULL, NULL, NULL, napi_default_method, NULL },
    { "send", NULL, send_parts, NULL, NULL, NULL, napi_default_method, NULL },
    { "notify", NULL, notify, NULL, NULL, NULL, napi_default_method, NULL },
    { "close", NULL, close_method, NULL, NULL, NULL, napi_default_method, NULL },
  };
  napi_value class;
  RETURN_IF_FAILED(napi_define_class(env, "FuseDevice", NAPI_AUTO_LENGTH, construct, NULL, sizeof methods / sizeof *methods, methods, &class));
  return napi_set_named_property(env, exports, "FuseDevice", class);
}
