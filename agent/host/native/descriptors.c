/*
 * Descriptors: passing them between processes, asking who is at the other end, and locks and memory behind them.
 *
 * Owns: SCM_RIGHTS, SO_PEERCRED, socketpair, memfd_create, flock and the process bits that a file server needs.
 * Does not know what a descriptor is for. Every call here returns at once; what may block lives in host_call.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* SCM_MAX_FD of the kernel is 253; we pass a connection and its state. */
enum { FDS_MAX = 16, ARGUMENTS_MAX = 4 };

static int arguments (napi_env env, napi_callback_info info, size_t count, napi_value *argv) {
  size_t argc = count;
  return napi_get_cb_info(env, info, &argc, argv, NULL, NULL) == napi_ok && argc == count;
}

static int number_at (napi_env env, napi_value value, int32_t *out) {
  return napi_get_value_int32(env, value, out) == napi_ok;
}

/* sendDescriptors(socket: number, fds: Int32Array, message: Buffer): the message is one byte or more, sent without blocking. */
static napi_value send_descriptors (napi_env env, napi_callback_info info) {
  napi_value argv[ARGUMENTS_MAX], nothing;
  int32_t socket;
  const int32_t *fds;
  void *data;
  size_t size, count;
  if (!arguments(env, info, 3, argv) || !number_at(env, argv[0], &socket) ||
      !int32s(env, argv[1], &fds, &count) ||
      napi_get_buffer_info(env, argv[2], &data, &size) != napi_ok || count > FDS_MAX || size == 0) {
    return fail(env, "sendDescriptors", EINVAL);
  }
  union { struct cmsghdr align; char space[CMSG_SPACE(sizeof(int) * FDS_MAX)]; } control;
  memset(&control, 0, sizeof control);
  struct iovec part = { data, size };
  struct msghdr message = { 0 };
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.space;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
  }
  ssize_t done;
  do done = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL); while (done < 0 && errno == EINTR);
  if (done < 0) return fail(env, "sendmsg", errno);
  if ((size_t)done != size) return fail(env, "sendmsg", EMSGSIZE);
  return napi_get_undefined(env, &nothing) == napi_ok ? nothing : NULL;
}

/* receiveDescriptors(socket: number, into: Buffer) → [bytes, fd, …]; throws EAGAIN when nothing waits. Descriptors are close-on-exec. */
static napi_value receive_descriptors (napi_env env, napi_callback_info info) {
  napi_value argv[ARGUMENTS_MAX];
  int32_t socket;
  void *data;
  size_t size;
  if (!arguments(env, info, 2, argv) || !number_at(env, argv[0], &socket) ||
      napi_get_buffer_info(env, argv[1], &data, &size) != napi_ok || size == 0) return fail(env, "receiveDescriptors", EINVAL);
  union { struct cmsghdr align; char space[CMSG_SPACE(sizeof(int) * FDS_MAX)]; } control;
  struct iovec part = { data, size };
  struct msghdr message = { 0 };
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = sizeof control.space;
  ssize_t done;
  do done = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); while (done < 0 && errno == EINTR);
  if (done < 0) return fail(env, "recvmsg", errno);
  int values[FDS_MAX + 1];
  size_t count = 0;
  values[count++] = (int)done;
  for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL; at = CMSG_NXTHDR(&message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    size_t got = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < got; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof fd);
      if (count <= FDS_MAX) values[count++] = fd; else close(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    for (size_t i = 1; i < count; i++) close(values[i]);
    return fail(env, "recvmsg", EMSGSIZE);
  }
  napi_value result = numbers(env, values, count);
  if (result == NULL) for (size_t i = 1; i < count; i++) close(values[i]);
  return result;
}

/* peerOf(socket) → [pid, uid, gid] of the process that connected. */
static napi_value peer_of (napi_env env, napi_callback_info info) {
  napi_value argv[ARGUMENTS_MAX];
  int32_t socket;
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (!arguments(env, info, 1, argv) || !number_at(env, argv[0], &socket)) return fail(env, "peerOf", EINVAL);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return fail(env, "SO_PEERCRED", errno);
  int values[3] = { peer.pid, (int)peer.uid, (int)peer.gid };
  return numbers(env, values, 3);
}

/* socketPair(): two connected unix stream sockets, close-on-exec. */
static napi_value socket_pair (napi_env env, napi_callback_info info) {
  (void)info;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return fail(env, "socketpair", errno);
  return numbers(env, ends, 2);
}

/* memoryFile(name, bytes) → fd */
static napi_value memory_file (napi_env env, napi_callback_info info) {
  napi_value argv[ARGUMENTS_MAX], result;
  char name[64];
  size_t length;
  int64_t bytes;
  if (!arguments(env, info, 2, argv) || napi_get_value_string_utf8(env, argv[0], name, sizeof name, &length) != napi_ok ||
      napi_get_value_int64(env, argv[1], &bytes) != napi_ok || bytes < 0) return fail(env, "memoryFile", EINVAL);
  int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) return fail(env, "memfd_create", errno);
  if (ftruncate(fd, bytes) != 0) {
    int error = errno;
    close(fd);
    return fail(env, "ftruncate", error);
  }
  if (napi_create_int32(env, fd, &result) == napi_ok) return result;
  close(fd);
  return NULL;
}

/* lockFile(fd) → true when the exclusive lock is ours, false when another process holds it. */
static napi_value lock_file (napi_env env, napi_callback_info info) {
  napi_value argv[ARGUMENTS_MAX], result;
  int32_t fd;
  if (!arguments(env, info, 1, argv) || !number_at(env, argv[0], &fd)) return fail(env, "lockFile", EINVAL);
  int done;
  do done = flock(fd, LOCK_EX | LOCK_NB); while (done < 0 && errno == EINTR);
  if (done < 0 && errno != EWOULDBLOCK) return fail(env, "flock", errno);
  return napi_get_boolean(env, done == 0, &result) == napi_ok ? result : NULL;
}

/*
 * closeInherited() → how many descriptors from 3 on it closed: those that are not close-on-exec. Ours all are, so they are our starter's, and
 * everything that we start would have them too. Regular files are made close-on-exec instead.
 */
static napi_value close_inherited (napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result;
  DIR *folder = opendir("/proc/self/fd");
  if (folder == NULL) return fail(env, "opendir", errno);
  uint32_t closed = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    int fd = 0;
    for (const char *digit = entry->d_name; *digit >= '0' && *digit <= '9'; digit++) fd = fd * 10 + (*digit - '0');
    /* "." and ".." are 0. */
    if (fd < 3 || fd == dirfd(folder)) continue;
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC) != 0) continue;
    struct statx facts;
    /* A thread of Node's may be reading this very file (NODE_EXTRA_CA_CERTS, which OpenSSL opens without the flag): closed under it, the
     * number would be somebody else's. */
    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &facts) == 0 && S_ISREG(facts.stx_mode)) fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    else if (close(fd) == 0) closed++;
  }
  closedir(folder);
  return napi_create_uint32(env, closed, &result) == napi_ok ? result : NULL;
}

/* trimMemory(): gives what malloc holds free back to the system (malloc_trim(3)). A few milliseconds at most; only for idle moments. */
static napi_value trim_memory (napi_env env, napi_callback_info info) {
  (void)info;
  napi_value nothing;
  malloc_trim(0);
  return napi_get_undefined(env, &nothing) == napi_ok ? nothing : NULL;
}

napi_status register_descriptors (napi_env env, napi_value exports) {
  napi_property_descriptor list[] = {
    { "sendDescriptors", NULL, send_descriptors, NULL, NULL, NULL, napi_enumerable, NULL },
    { "receiveDescriptors", NULL, receive_descriptors, NULL, NULL, NULL, napi_enumerable, NULL },
    { "peerOf", NULL, peer_of, NULL, NULL, NULL, napi_enumerable, NULL },
    { "socketPair", NULL, socket_pair, NULL, NULL, NULL, napi_enumerable, NULL },
    { "memoryFile", NULL, memory_file, NULL, NULL, NULL, napi_enumerable, NULL },
    { "lockFile", NULL, lock_file, NULL, NULL, NULL, napi_enumerable, NULL },
    { "closeInherited", NULL, close_inherited, NULL, NULL, NULL, napi_enumerable, NULL },
    { "trimMemory", NULL, trim_memory, NULL, NULL, NULL, napi_enumerable, NULL }
  };
  return napi_define_properties(env, exports, sizeof list / sizeof list[0], list);
}
