/*
 * Programs started in other namespaces than ours, so that they outlive the container we live in.
 *
 * Owns: fork, entering namespaces, what the child prepares for itself there, descriptors from 0 on, exec; and reaping of exactly that child.
 * Does not know which namespaces, preparations or programs: agent/host/launch.ts names them.
 *
 * libuv's spawn cannot do it: setns(2) of a mount namespace fails in a process with threads, so it must happen between fork and exec.
 * There only async-signal-safe calls are made; everything is laid out before. A pid namespace is not entered: setns(2) allows that only
 * downwards, and a container with a pid namespace of its own takes every process in it with it.
 *
 * The child moves itself to its cgroups before exec: what a program touches is charged for as long as it has it to the group it was in then
 * (cgroup v2's memory.rst, "Memory Ownership"), so one that is moved afterwards leaves its first hundred megabytes with its starter.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"
#include "confine.h"
#include "landlock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

enum { NAMESPACES_MAX = 8, FDS_MAX = 16, COUNTS = 5, LIST_MAX = 128, STRINGS_MAX = COUNTS * LIST_MAX, STRING_BYTES_MAX = 64 * 1024, ASIDE = 64 };
/* A parent folder may be removed as empty by another agent before our folder is in it. */
enum { FOLDER_TRIES = 5 };
/* Arguments, and variables, of a process that begins again: a pod has seven for each service of its namespace. */
enum { RESTART_MAX = 64 * 1024 };

struct launch {
  const char *file;
  int namespace_count, fd_count, report;
  const char *namespaces[NAMESPACES_MAX];
  int fds[FDS_MAX];
  char **argv, **envp;
  /* Pairs: a path and what is written there; nothing to write makes a folder. */
  char **preparations;
  int preparation_count;
  /* Pairs of landlock.c: what it can name of the node's files and ports; all that its user may when there are none. */
  char **view;
  int view_count;
  /* Capabilities that are left, with no way to more, and no core file; the starter's when false. */
  bool is_confined;
  uint64_t capabilities;
  unsigned limit;
};

/* Steps that are told of and stop nothing, beside the preparations. */
enum { STEP_CORE = -1001, STEP_CAPABILITIES = -1002, STEP_PRIVILEGES = -1003, STEP_FLUSHER = -1004, STEP_RINGS = -1005, STEP_VIEW = -1006 };

/*
 * What went wrong: `step` counts the namespaces, then the descriptors, then exec; of these nothing is written when exec succeeds.
 * A preparation that failed stops nothing: -1 is the first of them, -2 the second, …
 */
struct failure {
  int32_t step, error;
};

/* ---- child side: async-signal-safe only ---- */

static void tell (int fd, int step) {
  struct failure failure = { step, errno };
  while (write(fd, &failure, sizeof failure) < 0 && errno == EINTR) {}
}

static void give_up (int fd, int step) {
  tell(fd, step);
  _exit(127);
}

static int enter (const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int result = setns(fd, 0), error = errno;
  close(fd);
  errno = error;
  return result;
}

static int write_file (const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -1;
  /* Control files of the kernel take a whole word at a time. */
  ssize_t done;
  do done = write(fd, text, strlen(text)); while (done < 0 && errno == EINTR);
  int error = errno;
  close(fd);
  errno = error;
  return done < 0 ? -1 : 0;
}

static int make_folder (const char *path) {
  return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : -1;
}

static void prepare (struct launch *launch, int report) {
  for (int i = 0, tries = 0; i < launch->preparation_count; i++) {
    char **pair = launch->preparations + 2 * i;
    int is_folder = pair[1][0] == 0;
    if ((is_folder ? make_folder(pair[0]) : write_file(pair[0], pair[1])) == 0) continue;
    if (is_folder && errno == ENOENT && i > 0 && tries++ < FOLDER_TRIES) i -= 2;
    else tell(report, -1 - i);
  }
}

/* The bounding set is what root gets at exec; what else could come through exec are inheritable and ambient ones. */
static int bound_capabilities (uint64_t kept) {
  for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
    if ((kept >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) return -1;
  }
  struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  if (syscall(SYS_capget, &header, data) != 0) return -1;
  data[0].inheritable = data[1].inheritable = 0;
  /* EINVAL: before Linux 4.3 there are no ambient ones. */
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) return -1;
  return (int)syscall(SYS_capset, &header, data);
}

static void confine (struct launch *launch, int report) {
  struct rlimit none = { 0, 0 };
  /* Memory that it needs to write dirty pages back must not wait for dirty pages to be written back; kept over exec, Linux 5.6. */
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0) tell(report, STEP_FLUSHER);
  /* A core file would hold a tenant's data. */
  if (setrlimit(RLIMIT_CORE, &none) != 0) tell(report, STEP_CORE);
  if (bound_capabilities(launch->capabilities) != 0) tell(report, STEP_CAPABILITIES);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) tell(report, STEP_PRIVILEGES);
  if (forbid_rings() != 0) tell(report, STEP_RINGS);
}

/* Descriptors are first moved out of the way: one of them may be a number that another is to get. */
static int arrange (struct launch *launch) {
  for (int i = 0; i < launch->fd_count; i++) {
    int from = launch->fds[i] >= 0 ? fcntl(launch->fds[i], F_DUPFD_CLOEXEC, ASIDE) : open("/dev/null", O_RDWR | O_CLOEXEC);
    if (from >= 0 && from < ASIDE) {
      int moved = fcntl(from, F_DUPFD_CLOEXEC, ASIDE);
      close(from);
      from = moved;
    }
    if (from < 0) return -1;
    launch->fds[i] = from;
  }
  for (int i = 0; i < launch->fd_count; i++) if (dup2(launch->fds[i], i) < 0) return -1;
  return 0;
}

static void run_child (struct launch *launch) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  for (int sig = 1; sig < 65; sig++) sigaction(sig, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  int report = fcntl(launch->report, F_DUPFD_CLOEXEC, ASIDE), step = 0;
  if (report < 0) give_up(launch->report, launch->namespace_count);
  for (; step < launch->namespace_count; step++) if (enter(launch->namespaces[step]) != 0) give_up(report, step);
  prepare(launch, report);
  if (launch->is_confined) confine(launch, report);
  /* A mount namespace brings its own root and working folder. */
  if (chdir("/") != 0 || arrange(launch) != 0) give_up(report, step);
  close_between((unsigned)launch->fd_count, (unsigned)report - 1, launch->limit);
  close_between((unsigned)report + 1, ~0U, launch->limit);
  if (launch->view_count > 0 && limit_view(launch->view, launch->view_count) != 0) tell(report, STEP_VIEW);
  execve(launch->file, launch->argv, launch->envp);
  give_up(report, step + 1);
}

/* ---- parent side ---- */

/* Splits NUL-terminated strings; 0 when there are not exactly `count`. */
static int split (char *text, size_t size, char **out, size_t count) {
  size_t found = 0;
  for (size_t at = 0; at < size; found++) {
    char *end = memchr(text + at, 0, size - at);
    if (end == NULL || found == count) return 0;
    out[found] = text + at;
    at = (size_t)(end - text) + 1;
  }
  return found == count;
}

static pid_t fork_child (struct launch *launch, int *error) {
  launch->limit = descriptor_limit();
  /* No signal may run libuv's handler in the child: it would write into the parent's signal pipe. */
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t pid = fork();
  if (pid == 0) run_child(launch);
  *error = errno;
  sigprocmask(SIG_SETMASK, &before, NULL);
  return pid;
}

/*
 * startProgram(strings: Buffer, counts: Int32Array, fds: Int32Array, capabilities: Int32Array) → [pid, readFd]
 *   strings: NUL-terminated: file, namespaces, arguments (with argv[0]), environment, preparations (each a path and a text),
 *            what it can name (each a kind and a path or ports)
 *   counts:  [namespaces, arguments, environment, preparations, names]
 *   fds:     become 0, 1, 2, …; -1 is /dev/null
 *   capabilities: [bits 0 to 31, bits 32 to 63] of those that are left; none are taken when it is empty
 * readFd ends when the program runs or has failed to; { step, errno } of whatever failed came first.
 */
static napi_value start (napi_env env, napi_callback_info info) {
  size_t argc = 4, size, count_count, fd_count, capability_count;
  napi_value argv[4];
  void *data;
  const int32_t *counts, *fds, *capabilities;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 4 || napi_get_buffer_info(env, argv[0], &data, &size) != napi_ok ||
      !int32s(env, argv[1], &counts, &count_count) || !int32s(env, argv[2], &fds, &fd_count) || count_count != COUNTS ||
      !int32s(env, argv[3], &capabilities, &capability_count) || (capability_count != 0 && capability_count != 2) ||
      size == 0 || size > STRING_BYTES_MAX || fd_count < 3 || fd_count > FDS_MAX) return fail(env, "startProgram", EINVAL);
  for (int i = 0; i < COUNTS; i++) if (counts[i] < 0 || counts[i] > LIST_MAX) return fail(env, "startProgram", EINVAL);
  if (counts[0] > NAMESPACES_MAX || counts[1] == 0) return fail(env, "startProgram", EINVAL);
  char *strings[2 * STRINGS_MAX + 1], *arguments[LIST_MAX + 1], *environment[LIST_MAX + 1];
  size_t string_count = 1 + (size_t)counts[0] + (size_t)counts[1] + (size_t)counts[2] + 2 * ((size_t)counts[3] + (size_t)counts[4]);
  if (!split(data, size, strings, string_count)) return fail(env, "startProgram", EINVAL);
  char **at = strings + 1 + counts[0];
  memcpy(arguments, at, sizeof *at * (size_t)counts[1]);
  arguments[counts[1]] = NULL;
  memcpy(environment, at + counts[1], sizeof *at * (size_t)counts[2]);
  environment[counts[2]] = NULL;
  struct launch launch = {
    .file = strings[0], .namespace_count = counts[0], .fd_count = (int)fd_count, .argv = arguments, .envp = environment,
    .is_confined = capability_count == 2,
    .capabilities = capability_count == 2 ? (uint64_t)(uint32_t)capabilities[1] << 32 | (uint32_t)capabilities[0] : 0,
    .preparations = at + counts[1] + counts[2], .preparation_count = counts[3],
    .view = at + counts[1] + counts[2] + 2 * counts[3], .view_count = counts[4]
  };
  for (int i = 0; i < counts[0]; i++) launch.namespaces[i] = strings[1 + i];
  for (size_t i = 0; i < fd_count; i++) launch.fds[i] = fds[i];
  int ends[2], error;
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(env, "pipe2", errno);
  launch.report = ends[1];
  pid_t pid = fork_child(&launch, &error);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return fail(env, "fork", error);
  }
  return numbers(env, (int[]){ pid, ends[0] }, 2);
}

/* reapProgram(pid) → undefined while it runs, [code, signal] once it is gone; -1 for what is not known. Waits for no other process. */
static napi_value reap (napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1], result;
  int32_t pid;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 1 ||
      napi_get_value_int32(env, argv[0], &pid) != napi_ok || pid <= 0) return fail(env, "reapProgram", EINVAL);
  int status = 0;
  pid_t done;
  do done = waitpid(pid, &status, WNOHANG); while (done < 0 && errno == EINTR);
  if (done == 0) return napi_get_undefined(env, &result) == napi_ok ? result : NULL;
  int ended[2] = { done == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1, done == pid && WIFSIGNALED(status) ? WTERMSIG(status) : -1 };
  return numbers(env, ended, 2);
}

/* ---- the same process, begun again ---- */

/* What our starter left open ends with this program: nothing of ours is needed in the next but stdio. */
static void end_descriptors_with_exec (void) {
  DIR *folder = opendir("/proc/self/fd");
  if (folder == NULL) return;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    int fd = atoi(entry->d_name);
    if (fd > 2) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  closedir(folder);
}

static int restart_with (const char *file, char **argv, char **envp, uint64_t kept) {
  /* Where root is a user like others exec would leave it nothing (capabilities(7), SECBIT_NOROOT). */
  int bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
  if (bits < 0 || (bits & SECBIT_NOROOT) != 0) return bits < 0 ? errno : EPERM;
  if (bound_capabilities(kept) != 0) return errno;
  for (int fd = 0; fd < 3; fd++) fcntl(fd, F_SETFD, 0);
  end_descriptors_with_exec();
  sigset_t none, before;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, &before);
  execve(file, argv, envp);
  int error = errno;
  sigprocmask(SIG_SETMASK, &before, NULL);
  return error;
}

/*
 * restart(strings: Buffer, counts: Int32Array, capabilities: Int32Array) → errno of what was refused; else it does not return
 *   strings: NUL-terminated: file, arguments (with argv[0]), environment; counts: [arguments, environment]
 *   capabilities: as in startProgram
 * For the main thread, whose bounding set is the process's after exec.
 */
static napi_value restart (napi_env env, napi_callback_info info) {
  size_t argc = 3, size, count_count, capability_count;
  napi_value argv[3], result;
  void *data;
  const int32_t *counts, *capabilities;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 3 || napi_get_buffer_info(env, argv[0], &data, &size) != napi_ok ||
      !int32s(env, argv[1], &counts, &count_count) || count_count != 2 || !int32s(env, argv[2], &capabilities, &capability_count) ||
      capability_count != 2 || counts[0] < 1 || counts[1] < 0 || counts[0] > RESTART_MAX || counts[1] > RESTART_MAX) return fail(env, "restart", EINVAL);
  size_t arguments = (size_t)counts[0], variables = (size_t)counts[1];
  char **strings = calloc(arguments + variables + 1, sizeof *strings), **lists = calloc(arguments + variables + 2, sizeof *lists);
  int error = strings == NULL || lists == NULL ? ENOMEM : EINVAL;
  if (error == EINVAL && split(data, size, strings, arguments + variables + 1)) {
    memcpy(lists, strings + 1, sizeof *lists * arguments);
    memcpy(lists + arguments + 1, strings + 1 + arguments, sizeof *lists * variables);
    error = restart_with(strings[0], lists, lists + arguments + 1, (uint64_t)(uint32_t)capabilities[1] << 32 | (uint32_t)capabilities[0]);
  }
  free(strings);
  free(lists);
  return napi_create_int32(env, error, &result) == napi_ok ? result : NULL;
}

napi_status register_launch (napi_env env, napi_value exports) {
  napi_property_descriptor list[] = {
    { "startProgram", NULL, start, NULL, NULL, NULL, napi_enumerable, NULL },
    { "reapProgram", NULL, reap, NULL, NULL, NULL, napi_enumerable, NULL },
    { "restart", NULL, restart, NULL, NULL, NULL, napi_enumerable, NULL }
  };
  return napi_define_properties(env, exports, sizeof list / sizeof list[0], list);
}
