/*
 * Power given away, by a process that needs little of it and for as long as it lives.
 *
 * Owns: another user with few capabilities, no dumps, and which system calls are left. Does not know which user, and what for.
 *
 * What a thread may do is its own (credentials(7), capabilities(7)), and Node has threads before any of our code runs: setresuid(2) goes
 * through glibc, which makes every thread do it, and the filter is put on all of them (SECCOMP_FILTER_FLAG_TSYNC). Capabilities are kept
 * by the calling thread alone, the others lose theirs with the user.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"
#include "confine.h"
#include "landlock.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { ARCHITECTURE = AUDIT_ARCH_X86_64 };
#elif defined(__aarch64__)
enum { ARCHITECTURE = AUDIT_ARCH_AARCH64 };
#else
#error "confine.c does not know this processor's system calls"
#endif

#ifndef SYS_rseq
#ifdef __x86_64__
#define SYS_rseq 334
#else
#define SYS_rseq 293
#endif
#endif
/* The same number on every processor, as all since Linux 5.1. */
enum { NUMBER_io_uring_setup = 425, NUMBER_clone3 = 435, NUMBER_openat2 = 437, NUMBER_faccessat2 = 439, NUMBER_epoll_pwait2 = 441, NUMBER_newest = 450 };
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

/* ---- which system calls ---- */

/*
 * What a serving session was seen to do (scripts/session-calls), and what libuv, V8 and glibc do beside that on other machines or when
 * something goes wrong. The most frequent first: before Linux 5.11, which remembers the answer for each number, every call walks the list.
 */
static const int allowed[] = {
  SYS_read, SYS_epoll_pwait, SYS_write,
#ifdef __x86_64__
  SYS_poll, SYS_epoll_wait,
#endif
  SYS_writev,
  SYS_sched_yield, SYS_futex, SYS_openat, SYS_close, SYS_getrusage, SYS_clock_gettime, SYS_epoll_ctl, SYS_pread64, SYS_readv, SYS_pwrite64,
  SYS_recvfrom, SYS_recvmsg, SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_recvmmsg, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4,
  SYS_shutdown, SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername, SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_eventfd2,
  SYS_pipe2, SYS_dup, SYS_dup3, SYS_fcntl, SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_getdents64,
  SYS_readlinkat, SYS_faccessat, SYS_unlinkat, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_getcwd, SYS_umask,
  SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_brk, SYS_mincore, SYS_membarrier,
#ifdef SYS_pkey_mprotect
  SYS_pkey_mprotect, SYS_pkey_alloc, SYS_pkey_free,
#endif
  SYS_exit, SYS_exit_group, SYS_set_robust_list, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait,
  SYS_sigaltstack, SYS_restart_syscall, SYS_getpid, SYS_getppid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_gettimeofday,
  SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_times, SYS_sysinfo, SYS_uname, SYS_getrandom, SYS_getcpu, SYS_sched_getaffinity,
  SYS_sched_getparam, SYS_sched_getscheduler, SYS_getpriority, SYS_getrlimit, SYS_timerfd_create, SYS_timerfd_settime, SYS_capget,
#ifdef __x86_64__
  SYS_select, SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_unlink, SYS_pipe, SYS_dup2, SYS_getdents, SYS_time,
  SYS_arch_prctl
#endif
};

/* Allowed with some values of an argument; what else is asked for gets the errno. Enough bits of each to tell: these arguments are ints. */
enum { VALUES_MAX = 8 };
#define OWN_PID 0xffffffffU
struct conditional {
  int number, argument, error, count;
  /* 0: one of the values. Else those bits have to be set. */
  uint32_t bits;
  uint32_t values[VALUES_MAX];
};
static const struct conditional conditionals[] = {
  /* Threads, never processes. */
  { SYS_clone, 0, EPERM, 0, CLONE_THREAD, { 0 } },
  /* getaddrinfo(3) asks netlink for the node's addresses. */
  { SYS_socket, 0, EAFNOSUPPORT, 4, 0, { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK } },
  { SYS_socketpair, 0, EAFNOSUPPORT, 1, 0, { AF_UNIX } },
  /* The last two: a server's link-local address is one together with an interface (if_nametoindex(3)), at each new connection. */
  { SYS_ioctl, 1, ENOTTY, 8, 0, { FIONBIO, FIONREAD, FIOCLEX, FIONCLEX, TCGETS, TIOCGWINSZ, SIOCGIFINDEX, SIOCGIFNAME } },
  { SYS_prctl, 0, EPERM, 3, 0, { PR_SET_NAME, PR_GET_NAME, PR_SET_VMA } },
  { SYS_prlimit64, 0, EPERM, 1, 0, { 0 } },
  /* abort(3). */
  { SYS_tgkill, 0, EPERM, 1, 0, { OWN_PID } }
};

/* Whoever makes one of these here has no business of ours: the process ends at once. */
static const int deadly[] = {
  SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_init_module, SYS_finit_module, SYS_delete_module,
  SYS_kexec_load, SYS_bpf, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare, SYS_perf_event_open, SYS_userfaultfd,
  SYS_keyctl, SYS_add_key, SYS_request_key, SYS_open_by_handle_at, SYS_reboot, SYS_swapon
};

/* Younger ways to do what has an older one: glibc, libuv and V8 take that when they are told that there is no such call. */
static const int absent[] = { NUMBER_clone3, NUMBER_openat2, NUMBER_faccessat2, NUMBER_epoll_pwait2, NUMBER_io_uring_setup };

/* ---- the filter ---- */

enum { PROGRAM_MAX = 512 };
struct program {
  struct sock_filter steps[PROGRAM_MAX];
  unsigned short length;
};

#define COUNT(list) (sizeof (list) / sizeof *(list))
static const uint32_t argument_offset = offsetof(struct seccomp_data, args);

static void add (struct program *program, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false) {
  program->steps[program->length++] = (struct sock_filter){ code, if_true, if_false, k };
}

static void answer (struct program *program, uint32_t action) { add(program, BPF_RET | BPF_K, action, 0, 0); }

static void when (struct program *program, int number, uint32_t action) {
  add(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1);
  answer(program, action);
}

/* The lower half of an argument: both processors are little endian. */
static void when_fits (struct program *program, const struct conditional *rule) {
  unsigned checks = rule->bits != 0 ? 1 : (unsigned)rule->count;
  add(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rule->number, 0, (uint8_t)(2 + 2 * checks));
  add(program, BPF_LD | BPF_W | BPF_ABS, argument_offset + (uint32_t)rule->argument * (uint32_t)sizeof (uint64_t), 0, 0);
  for (unsigned i = 0; i < checks; i++) {
    uint32_t value = rule->values[i] == OWN_PID ? (uint32_t)getpid() : rule->values[i];
    if (rule->bits != 0) add(program, BPF_JMP | BPF_JSET | BPF_K, rule->bits, 0, 1);
    else add(program, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(program, SECCOMP_RET_ALLOW);
  }
  answer(program, SECCOMP_RET_ERRNO | (uint32_t)rule->error);
}

static void write_program (struct program *program) {
  program->length = 0;
  add(program, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
  add(program, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
  answer(program, SECCOMP_RET_KILL_PROCESS);
  add(program, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
  for (size_t i = 0; i < COUNT(allowed); i++) when(program, allowed[i], SECCOMP_RET_ALLOW);
  for (size_t i = 0; i < COUNT(conditionals); i++) when_fits(program, &conditionals[i]);
  for (size_t i = 0; i < COUNT(deadly); i++) when(program, deadly[i], SECCOMP_RET_KILL_PROCESS);
  for (size_t i = 0; i < COUNT(absent); i++) when(program, absent[i], SECCOMP_RET_ERRNO | ENOSYS);
  /* Numbers of calls that we cannot know, and those of the x32 ABI. */
  add(program, BPF_JMP | BPF_JGT | BPF_K, NUMBER_newest, 0, 1);
  answer(program, SECCOMP_RET_ERRNO | ENOSYS);
  answer(program, SECCOMP_RET_ERRNO | EPERM);
}

int forbid_rings (void) {
  struct sock_filter steps[] = {
    { BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr) },
    { BPF_JMP | BPF_JEQ | BPF_K, 0, 1, NUMBER_io_uring_setup },
    { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS },
    { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW }
  };
  struct sock_fprog filter = { COUNT(steps), steps };
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0 ? 0 : errno;
}

/* filterSystemCalls() → 0 or the errno: ENOSYS or EINVAL without seccomp filters (Linux 3.17), ESRCH when a thread cannot be brought along. */
static napi_value filter_system_calls (napi_env env, napi_callback_info info) {
  (void)info;
  static struct program program;
  _Static_assert(4 + 2 * (COUNT(allowed) + COUNT(deadly) + COUNT(absent)) + (3 + 2 * VALUES_MAX) * COUNT(conditionals) + 3 <= PROGRAM_MAX, "the filter fits");
  write_program(&program);
  struct sock_fprog filter = { program.length, program.steps };
  napi_value result;
  int error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno;
  if (error == 0) {
    long done = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    /* A thread's id: that one has a filter of its own. */
    error = done == 0 ? 0 : done < 0 ? errno : ESRCH;
  }
  return napi_create_int32(env, error, &result) == napi_ok ? result : NULL;
}

/* ---- another user ---- */

static int keep_capabilities (uint32_t kept) {
  struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
  memset(data, 0, sizeof data);
  data[0].effective = data[0].permitted = kept;
  return (int)syscall(SYS_capset, &header, data);
}

static int become (uint32_t user, uint32_t kept) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return errno;
  int error = 0;
  if (setgroups(0, NULL) != 0 || setresgid(user, user, user) != 0 || setresuid(user, user, user) != 0) error = errno;
  prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
  if (error == 0 && keep_capabilities(kept) != 0) error = errno;
  return error;
}

/*
 * becomeUser(id, capabilities) → 0 or the errno. Every thread gets that user and group and no other groups; the capabilities, bits below 32,
 * stay with the calling thread.
 */
static napi_value become_user (napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2], result;
  uint32_t user, kept;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 2 || napi_get_value_uint32(env, argv[0], &user) != napi_ok ||
      napi_get_value_uint32(env, argv[1], &kept) != napi_ok || user == 0 || user > INT32_MAX) return fail(env, "becomeUser", EINVAL);
  return napi_create_int32(env, become(user, kept), &result) == napi_ok ? result : NULL;
}

/* forbidDumps() → 0 or the errno: no core file, and nobody without CAP_SYS_PTRACE looks into this process. */
static napi_value forbid_dumps (napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result;
  int error = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : errno;
  return napi_create_int32(env, error, &result) == napi_ok ? result : NULL;
}

/* viewAbi() → the kernel's version of Landlock, or 0 where there is none. */
static napi_value answer_view_abi (napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result;
  int abi = view_abi();
  return napi_create_int32(env, abi < 0 ? 0 : abi, &result) == napi_ok ? result : NULL;
}

napi_status register_confine (napi_env env, napi_value exports) {
  napi_property_descriptor list[] = {
    { "becomeUser", NULL, become_user, NULL, NULL, NULL, napi_enumerable, NULL },
    { "forbidDumps", NULL, forbid_dumps, NULL, NULL, NULL, napi_enumerable, NULL },
    { "filterSystemCalls", NULL, filter_system_calls, NULL, NULL, NULL, napi_enumerable, NULL },
    { "viewAbi", NULL, answer_view_abi, NULL, NULL, NULL, napi_enumerable, NULL }
  };
  return napi_define_properties(env, exports, sizeof list / sizeof list[0], list);
}
