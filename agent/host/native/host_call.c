/*
 * Blocking system calls in a child of our own.
 *
 * Owns: fork, the interpreter of a small program of file-system calls that runs in the child, and reaping of exactly that child.
 * Does not know deadlines or limits: agent/host/host-calls.ts reads the pipe, kills late children and counts those stuck in D state.
 *
 * After fork() only async-signal-safe calls are made (no malloc, no stdio): other threads of the agent may have held any lock.
 * vfork is refused because it would stop the event loop for as long as the call blocks. The child closes every descriptor but its
 * pipe and the ones the caller names: a child stuck in D state must not keep a FUSE connection, a lock or a socket alive.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
/* uapi/linux/mount.h, uapi/linux/openat2.h: newer than the headers we build with have to be. */
enum { TREE_CLONE = 1, TREE_EMPTY_PATH = 0x1000, MOVE_FROM_FD = 0x4, MOVE_TO_FD = 0x40 };
enum { NO_MAGICLINKS = 0x02, NO_SYMLINKS = 0x04, BENEATH = 0x08 };
enum { BENEATH_BIND = 1, BENEATH_ANY = 2 };

enum opcode {
  OP_MOUNT = 1, OP_UMOUNT = 2, OP_MKDIR = 3, OP_RMDIR = 4, OP_STATFS = 5, OP_STAT = 6, OP_CHMOD = 7, OP_SETNS = 8,
  OP_EMPTY = 9, OP_INSPECT = 10, OP_MOUNT_AT = 11, OP_PAUSE = 12, OP_WRITE = 13, OP_ISOLATE = 14, OP_BENEATH = 15,
  OP_ATTACH = 16, OP_SYNCFS = 17, OP_CHGRP = 18, OP_ABORT = 19, OP_IMMUTABLE = 20, OP_LAST = OP_IMMUTABLE
};

/* As many links as the kernel follows (MAXSYMLINKS). */
enum { STRINGS_MAX = 4, KEEP_MAX = 8, LINKS_MAX = 40, PATH_BYTES = 4096, OPS_MAX = 32, PROGRAM_BYTES_MAX = 64 * 1024 };

struct op {
  uint32_t code, flags, mode, count;
  const char *text[STRINGS_MAX];
};

/* Every record the child writes: `size` bytes of data follow. The last one has step == number of operations, or error != 0. */
struct record {
  int32_t step, error;
  uint32_t size;
};

static uint32_t load32 (const uint8_t *at) {
  uint32_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

/* Reads one operation at `*at`; 0 when the program is malformed. Strings are NUL-terminated inside the program. */
static int read_op (const uint8_t *program, size_t size, size_t *at, struct op *op) {
  memset(op, 0, sizeof *op);
  if (size - *at < 16) return 0;
  op->code = load32(program + *at);
  op->flags = load32(program + *at + 4);
  op->mode = load32(program + *at + 8);
  op->count = load32(program + *at + 12);
  *at += 16;
  if (op->count > STRINGS_MAX) return 0;
  for (uint32_t i = 0; i < op->count; i++) {
    if (size - *at < 4) return 0;
    uint32_t length = load32(program + *at);
    *at += 4;
    if (length == 0 || length > size - *at || program[*at + length - 1] != 0) return 0;
    op->text[i] = (const char *)program + *at;
    *at += length;
  }
  return 1;
}

static int strings_of (uint32_t code) {
  switch (code) {
    case OP_MOUNT: case OP_MOUNT_AT: return 4;
    case OP_BENEATH: return 2;
    case OP_PAUSE: return 0;
    case OP_WRITE: return 2;
    default: return 1;
  }
}

static int valid_program (const uint8_t *program, size_t size) {
  size_t at = 0;
  int count = 0;
  struct op op;
  while (at < size) {
    if (++count > OPS_MAX || !read_op(program, size, &at, &op)) return 0;
    if (op.code < OP_MOUNT || op.code > OP_LAST || (int)op.count != strings_of(op.code)) return 0;
  }
  return count > 0;
}

/* ---- child side: async-signal-safe only ---- */

static void write_all (int fd, const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t done = write(fd, at, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return;
    at += done;
    size -= (size_t)done;
  }
}

static void send_data (int fd, int step, const void *data, size_t size) {
  struct record record = { step, 0, (uint32_t)size };
  write_all(fd, &record, sizeof record);
  write_all(fd, data, size);
}

/* /proc/self/fd/N without snprintf, which is not async-signal-safe. */
static void fd_path (char *out, int fd) {
  static const char prefix[] = "/proc/self/fd/";
  memcpy(out, prefix, sizeof prefix - 1);
  char digits[16];
  int length = 0;
  do { digits[length++] = (char)('0' + fd % 10); fd /= 10; } while (fd > 0);
  char *at = out + sizeof prefix - 1;
  while (length > 0) *at++ = digits[--length];
  *at = 0;
}

/* Mode bits without asking a remote server: a dead mount must not hold us. */
static int mode_of (int fd, uint32_t *mode) {
  struct statx facts;
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MODE, &facts) != 0) return errno;
  *mode = facts.stx_mode;
  return 0;
}

/* As openat2(2) with RESOLVE_NO_SYMLINKS says it of one component: ELOOP for a link, ENOTDIR for what is no folder. */
static int open_step (int base, const char *name) {
  uint32_t mode;
  int fd = openat(base, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || mode_of(fd, &mode) != 0 || S_ISDIR(mode)) return fd;
  close(fd);
  errno = S_ISLNK(mode) ? ELOOP : ENOTDIR;
  return -1;
}

/* One component after the other: before Linux 5.6, which has no openat2. Neither ".." nor a link gets through. */
static int open_steps (int base, const char *sub) {
  char name[256];
  int fd = dup(base);
  while (fd >= 0 && *sub != 0) {
    const char *end = strchr(sub, '/');
    size_t length = end == NULL ? strlen(sub) : (size_t)(end - sub);
    int next = -1;
    if (length >= sizeof name) {
      errno = ENAMETOOLONG;
    } else {
      memcpy(name, sub, length);
      name[length] = 0;
      if (length == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) errno = EINVAL;
      else next = open_step(fd, name);
    }
    int error = errno;
    close(fd);
    errno = error;
    fd = next;
    sub += length + (end == NULL ? 0 : 1);
  }
  return fd;
}

static int open_how (int base, const char *path, uint64_t flags, uint64_t resolve) {
  struct { uint64_t flags, mode, resolve; } how = { flags | O_CLOEXEC, 0, resolve };
  return (int)syscall(SYS_openat2, base, path, &how, sizeof how);
}

/* A kernel without openat2, or a filter of system calls that does not know it. */
static int is_unknown_call (void) {
  return errno == ENOSYS || errno == EPERM;
}

/* A folder by its absolute path, through no link: paths were resolved when they were judged, and a link that stands there now was put there since. */
static int open_folder (const char *path) {
  int fd = open_how(AT_FDCWD, path, O_PATH | O_DIRECTORY, NO_SYMLINKS | NO_MAGICLINKS);
  if (fd >= 0 || !is_unknown_call()) return fd;
  int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (top < 0) return -1;
  while (*path == '/') path++;
  fd = open_steps(top, path);
  int error = errno;
  close(top);
  errno = error;
  return fd;
}

/* The folder that `path` is a name in, for the calls that end in "at". `name` points into `path`. */
static int open_above (const char *path, const char **name) {
  char above[PATH_BYTES];
  const char *base = strrchr(path, '/');
  if (base == NULL || base[1] == 0) { errno = EINVAL; return -1; }
  size_t length = (size_t)(base - path);
  if (length >= sizeof above) { errno = ENAMETOOLONG; return -1; }
  memcpy(above, path, length);
  above[length] = 0;
  *name = base + 1;
  return open_folder(length == 0 ? "/" : above);
}

/* What is at `path`, with what is mounted there. A link is not it (ELOOP), also where O_PATH would take it. */
static int open_at (const char *path, int flags) {
  const char *name;
  uint32_t mode;
  int above = open_above(path, &name);
  if (above < 0) return -1;
  int fd = openat(above, name, flags | O_NOFOLLOW | O_CLOEXEC), error = errno;
  if (fd >= 0 && mode_of(fd, &mode) == 0 && S_ISLNK(mode)) {
    close(fd);
    fd = -1;
    error = ELOOP;
  }
  close(above);
  errno = error;
  return fd;
}

static int run_statfs (int pipe, int step, const char *path) {
  struct statfs facts;
  if (statfs(path, &facts) != 0) return errno;
  uint64_t values[8] = {
    (uint64_t)facts.f_type, (uint64_t)facts.f_frsize, (uint64_t)facts.f_blocks, (uint64_t)facts.f_bfree,
    (uint64_t)facts.f_bavail, (uint64_t)facts.f_files, (uint64_t)facts.f_ffree, (uint64_t)facts.f_flags
  };
  send_data(pipe, step, values, sizeof values);
  return 0;
}

/* statx, because fstatat is a GLIBC_2.33 symbol. */
static int run_stat (int pipe, int step, const char *path) {
  struct statx facts;
  if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &facts) != 0) return errno;
  uint64_t values[6] = { facts.stx_mode, facts.stx_uid, facts.stx_gid, facts.stx_size, facts.stx_ino, facts.stx_nlink };
  send_data(pipe, step, values, sizeof values);
  return 0;
}

struct entry64 { uint64_t ino; int64_t next; uint16_t size; uint8_t type; char name[]; };

/* ENOTEMPTY when the folder has any entry. */
static int run_empty (const char *path) {
  int fd = open_at(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0) return errno;
  int result = 0;
  uint64_t space[512];
  for (;;) {
    long size = syscall(SYS_getdents64, fd, space, sizeof space);
    if (size < 0) result = errno;
    if (size <= 0) break;
    for (long at = 0; at < size;) {
      struct entry64 *entry = (struct entry64 *)((char *)space + at);
      const char *name = entry->name;
      if (!(name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)))) { result = ENOTEMPTY; break; }
      at += entry->size;
    }
    if (result != 0) break;
  }
  close(fd);
  return result;
}

/* The text of a link on the way, in front of what is left of the path; the errno when it must not be followed. */
static int follow (int link, char *rest, const char *left) {
  char text[PATH_BYTES];
  struct statx facts;
  if (statx(link, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_UID, &facts) != 0) return errno;
  /* Whoever made it decides where it leads: it is root's, or ours. */
  if (facts.stx_uid != 0 && facts.stx_uid != geteuid()) return EPERM;
  ssize_t size = readlinkat(link, "", text, sizeof text);
  if (size < 0) return errno;
  size_t length = (size_t)size, tail = strlen(left);
  if (length + 1 + tail >= PATH_BYTES) return ENAMETOOLONG;
  memmove(rest + length + 1, left, tail + 1);
  memcpy(rest, text, length);
  rest[length] = '/';
  return 0;
}

/* Takes the first name off `rest`; NULL when none is left. What follows it is at `*left`. */
static const char *first_name (char *rest, char **left) {
  while (*rest == '/') rest++;
  if (*rest == 0) return NULL;
  char *end = strchrnul(rest, '/');
  *left = *end == 0 ? end : end + 1;
  *end = 0;
  return rest;
}

/* One step from the folder `at`: what is there, or `at`'s own top for a link that begins there, with its text in `rest`. */
static int step (int at, char *rest, const char *name, const char *left, int *links) {
  uint32_t mode;
  int fd = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  /* What does not tell its mode is a dead mount, and no link. */
  if (fd < 0 || mode_of(fd, &mode) != 0 || !S_ISLNK(mode)) return fd;
  int error = ++*links > LINKS_MAX ? ELOOP : follow(fd, rest, left);
  close(fd);
  if (error == 0) return *rest == '/' ? open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) : dup(at);
  errno = error;
  return -1;
}

/* The folder at a path that somebody gave us: links on the way are followed if they are root's. EPERM: one is another user's. */
static int open_given (const char *path) {
  char rest[PATH_BYTES], *left = rest;
  int links = 0, at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  size_t length = strlen(path);
  if (length >= sizeof rest) { errno = ENAMETOOLONG; length = 0; close(at); at = -1; }
  memcpy(rest, path, length);
  rest[length] = 0;
  for (const char *name; at >= 0 && (name = first_name(rest, &left)) != NULL;) {
    int before = links, next = step(at, rest, name, left, &links), error = errno;
    if (next >= 0 && links == before) memmove(rest, left, strlen(left) + 1);
    close(at);
    errno = error;
    at = next;
  }
  return at;
}

/*
 * What stands at a path: { exists, mode, statError } and the path as the kernel and mountinfo spell it (links in parents resolved).
 * A missing last component is an answer, a missing parent is ENOENT. Opening with O_PATH asks no file system on top of the path.
 */
static int run_inspect (int pipe, int step, const char *path) {
  struct { uint32_t exists, mode, error; char text[PATH_BYTES]; } out;
  memset(&out, 0, 16);
  char link[32];
  const char *base = strrchr(path, '/');
  size_t length = base == NULL ? 0 : (size_t)(base - path);
  if (base == NULL || (base[1] == 0 && length > 0)) return EINVAL;
  if (length >= sizeof out.text) return ENAMETOOLONG;
  memcpy(out.text, path, length);
  out.text[length] = 0;
  int above = open_given(out.text);
  if (above < 0) return errno;
  int fd = openat(above, base[1] == 0 ? "." : base + 1, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) return errno;
  out.exists = fd >= 0;
  if (fd >= 0) out.error = (uint32_t)mode_of(fd, &out.mode);
  fd_path(link, fd >= 0 ? fd : above);
  size_t extra = fd >= 0 ? 0 : strlen(base);
  ssize_t size = readlink(link, out.text, sizeof out.text - 1);
  if (size < 0) return errno;
  if (size == 1 && extra > 0) size = 0;
  if ((size_t)size + extra >= sizeof out.text) return ENAMETOOLONG;
  if (extra > 0) memcpy(out.text + size, base, extra);
  send_data(pipe, step, &out, 12 + (size_t)size + extra);
  close(above);
  if (fd >= 0) close(fd);
  return 0;
}

static const char *or_null (const char *text) {
  return text[0] == 0 ? NULL : text;
}

/* mount(2) on a folder that is no symlink: the folder is opened first and mounted upon through its descriptor. */
static int run_mount_at (const struct op *op) {
  char link[32];
  int fd = open_at(op->text[1], O_PATH | O_DIRECTORY);
  if (fd < 0) return errno;
  fd_path(link, fd);
  int result = mount(or_null(op->text[0]), link, or_null(op->text[2]), op->flags, or_null(op->text[3])) == 0 ? 0 : errno;
  close(fd);
  return result;
}

static int run_setns (const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int result = setns(fd, 0) == 0 ? 0 : errno;
  close(fd);
  return result;
}

/* One write to a file that is there: the control files of sysfs, fusectl and cgroups take a whole word at a time. */
static int run_write (const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return errno;
  int result = write(fd, text, strlen(text)) < 0 ? errno : 0;
  close(fd);
  return result;
}

/* What the steps of one program hand to each other; a child runs one program. */
static struct { int home, target, tree; } held = { -1, -1, -1 };

/* A mount namespace of the child's own, in which nothing that is mounted is seen by others. The target is kept from the old one. */
static int run_isolate (const char *target) {
  held.target = open_at(target, O_PATH);
  held.home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (held.target < 0 || held.home < 0) return errno;
  if (unshare(CLONE_NEWNS) != 0) return errno;
  return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 ? 0 : errno;
}

static int open_beneath (int base, const char *sub) {
  if (*sub == 0) return dup(base);
  int fd = open_how(base, sub, O_PATH | O_DIRECTORY, BENEATH | NO_SYMLINKS | NO_MAGICLINKS);
  return fd < 0 && is_unknown_call() ? open_steps(base, sub) : fd;
}

/* The same for a file as well: the last component may be anything but a link. */
static int open_any_beneath (int base, const char *sub) {
  char folder[4096];
  const char *slash = strrchr(sub, '/');
  size_t length = slash == NULL ? 0 : (size_t)(slash - sub);
  const char *name = slash == NULL ? sub : slash + 1;
  if (*sub == 0) return dup(base);
  if (length >= sizeof folder) return errno = ENAMETOOLONG, -1;
  if (*name == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return errno = EINVAL, -1;
  memcpy(folder, sub, length);
  folder[length] = 0;
  int above = open_beneath(base, folder);
  if (above < 0) return -1;
  int fd = openat(above, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct statx found;
  int error = fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &found) != 0 ? errno : 0;
  if (error == 0 && S_ISLNK(found.stx_mode)) error = ELOOP;
  close(above);
  if (error != 0 && fd >= 0) close(fd);
  errno = error;
  return error == 0 ? fd : -1;
}

/* A folder of the file system at `base`, reached through no link (or `base` itself): kept as a mount of its own, or bound over `base`. */
static int run_beneath (const char *base, const char *sub, uint32_t flags) {
  int root = open_at(base, O_PATH | O_DIRECTORY);
  if (root < 0) return errno;
  int fd = flags == BENEATH_ANY ? open_any_beneath(root, sub) : open_beneath(root, sub);
  int result = fd < 0 ? errno : 0;
  if (result == 0 && flags != BENEATH_BIND) {
    held.tree = (int)syscall(SYS_open_tree, fd, "", TREE_CLONE | TREE_EMPTY_PATH | O_CLOEXEC);
    if (held.tree < 0) result = errno;
  } else if (result == 0) {
    char from[32], to[32];
    fd_path(from, fd);
    fd_path(to, root);
    if (mount(from, to, NULL, MS_BIND, NULL) != 0) result = errno;
  }
  if (fd >= 0) close(fd);
  close(root);
  return result;
}

/* Back to where we came from, with the folder that was found. What else was mounted in between goes with the child. */
static int run_attach (void) {
  if (setns(held.home, CLONE_NEWNS) != 0) return errno;
  int result = syscall(SYS_move_mount, held.tree, "", held.target, "", MOVE_FROM_FD | MOVE_TO_FD) == 0 ? 0 : errno;
  /* Our answer may arrive before we are gone: an unmount right after it must not find the mount busy. */
  close(held.tree);
  close(held.target);
  close(held.home);
  return result;
}

static int run_syncfs (const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int result = syncfs(fd) == 0 ? 0 : errno;
  close(fd);
  return result;
}

static int run_mkdir (const char *path, mode_t mode) {
  const char *name;
  int above = open_above(path, &name);
  if (above < 0) return errno;
  int result = mkdirat(above, name, mode) == 0 ? 0 : errno;
  close(above);
  return result;
}

static int run_rmdir (const char *path) {
  const char *name;
  int above = open_above(path, &name);
  if (above < 0) return errno;
  int result = unlinkat(above, name, AT_REMOVEDIR) == 0 ? 0 : errno;
  close(above);
  return result;
}

/* umount2(2) has no form for descriptors, and one of what is mounted would keep it busy: the folder above is stood in. */
static int run_umount (const char *path, int flags) {
  const char *name;
  int above = open_above(path, &name);
  if (above < 0) return errno;
  int result = fchdir(above) == 0 && umount2(name, flags | UMOUNT_NOFOLLOW) == 0 ? 0 : errno;
  if (chdir("/") != 0 && result == 0) result = errno;
  close(above);
  return result;
}

/* Of what is mounted at the path, or of the bare folder. chmod(2) and chown(2) through a descriptor that only names it. */
static int run_change (const struct op *op) {
  char link[32];
  int fd = open_at(op->text[0], O_PATH);
  if (fd < 0) return errno;
  fd_path(link, fd);
  int done = op->code == OP_CHMOD ? chmod(link, op->mode) : chown(link, (uid_t)-1, op->mode);
  int result = done == 0 ? 0 : errno;
  close(fd);
  return result;
}

/* Fails what a file system waits for and leaves it mounted: our descriptor keeps it busy. */
static int run_abort (const char *path) {
  int fd = open_at(path, O_PATH | O_DIRECTORY);
  if (fd < 0) return errno;
  int result = run_umount(path, MNT_FORCE);
  close(fd);
  return result == EBUSY ? 0 : result;
}

/* uapi/linux/fs.h, which cannot be included beside sys/mount.h. */
enum { IMMUTABLE_FLAG = 0x10 };
#define GET_FLAGS _IOR('f', 1, long)
#define SET_FLAGS _IOW('f', 2, long)

/*
 * The folder itself and not what is mounted on it: looked up in a copy of its parent's mount, which carries no mounts of others.
 * Before Linux 5.2 (ENOSYS) it is opened plainly, and is another device than its parent when something is mounted on it.
 */
static int open_under (int parent, const char *name) {
  int tree = (int)syscall(SYS_open_tree, parent, "", TREE_CLONE | O_CLOEXEC | TREE_EMPTY_PATH);
  if (tree >= 0) {
    int fd = openat(tree, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), error = errno;
    close(tree);
    errno = error;
    return fd;
  }
  if (errno != ENOSYS) return -1;
  struct statx above, at;
  if (statx(parent, "", AT_EMPTY_PATH, STATX_TYPE, &above) != 0) return -1;
  if (statx(parent, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE, &at) != 0) return -1;
  if (above.stx_dev_major != at.stx_dev_major || above.stx_dev_minor != at.stx_dev_minor) {
    errno = EBUSY;
    return -1;
  }
  return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int run_immutable (const char *path, int immutable) {
  const char *name;
  int parent = open_above(path, &name);
  if (parent < 0) return errno;
  int fd = open_under(parent, name);
  int result = fd < 0 ? errno : 0;
  close(parent);
  if (fd < 0) return result;
  /* The kernel reads and writes an int, whatever the number of the call says. */
  int flags = 0;
  if (ioctl(fd, GET_FLAGS, &flags) != 0) {
    result = errno;
  } else {
    int wanted = immutable ? flags | IMMUTABLE_FLAG : flags & ~IMMUTABLE_FLAG;
    if (wanted != flags && ioctl(fd, SET_FLAGS, &wanted) != 0) result = errno;
  }
  close(fd);
  return result;
}

static int run_op (int pipe, int step, const struct op *op) {
  switch (op->code) {
    case OP_MOUNT:
      return mount(or_null(op->text[0]), op->text[1], or_null(op->text[2]), op->flags, or_null(op->text[3])) == 0 ? 0 : errno;
    case OP_MOUNT_AT: return run_mount_at(op);
    case OP_UMOUNT: return run_umount(op->text[0], (int)op->flags);
    case OP_MKDIR: return run_mkdir(op->text[0], op->mode);
    case OP_RMDIR: return run_rmdir(op->text[0]);
    case OP_STATFS: return run_statfs(pipe, step, op->text[0]);
    case OP_STAT: return run_stat(pipe, step, op->text[0]);
    case OP_CHMOD: case OP_CHGRP: return run_change(op);
    case OP_SETNS: return run_setns(op->text[0]);
    case OP_EMPTY: return run_empty(op->text[0]);
    case OP_INSPECT: return run_inspect(pipe, step, op->text[0]);
    case OP_IMMUTABLE: return run_immutable(op->text[0], op->mode != 0);
    case OP_WRITE: return run_write(op->text[0], op->text[1]);
    case OP_ISOLATE: return run_isolate(op->text[0]);
    case OP_BENEATH: return run_beneath(op->text[0], op->text[1], op->flags);
    case OP_ATTACH: return run_attach();
    case OP_SYNCFS: return run_syncfs(op->text[0]);
    case OP_ABORT: return run_abort(op->text[0]);
    case OP_PAUSE: {
      struct timespec time = { (time_t)(op->mode / 1000), (long)(op->mode % 1000) * 1000000L };
      return nanosleep(&time, NULL) == 0 ? 0 : errno;
    }
    default: return ENOSYS;
  }
}

/* `keep` is sorted. */
static void close_others (const int *keep, int count, unsigned limit) {
  unsigned from = 0;
  for (int i = 0; i < count; i++) {
    if (keep[i] > 0) close_between(from, (unsigned)keep[i] - 1, limit);
    from = (unsigned)keep[i] + 1;
  }
  close_between(from, ~0U, limit);
}

static void run_child (pid_t parent, int pipe, const int *keep, int keep_count, unsigned limit, const uint8_t *program, size_t size) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  for (int sig = 1; sig < 65; sig++) sigaction(sig, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  /* An agent that dies must not have its half-done call finish after its successor has read mountinfo. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  /* It may have died before that was said. */
  if (getppid() != parent) _exit(1);
  umask(0);
  close_others(keep, keep_count, limit);
  struct record last = { 0, 0, 0 };
  size_t at = 0;
  struct op op;
  while (at < size && read_op(program, size, &at, &op)) {
    last.error = run_op(pipe, last.step, &op);
    if (last.error != 0) break;
    last.step++;
  }
  write_all(pipe, &last, sizeof last);
  _exit(0);
}

/* ---- parent side ---- */

static int compare_int (const void *a, const void *b) {
  return *(const int *)a - *(const int *)b;
}

/* startHostCall(program: Buffer, keep: Int32Array) → [pid, readFd] */
static napi_value start (napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  void *program;
  const int32_t *kept;
  size_t size, keep_count;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 2) return fail(env, "startHostCall", EINVAL);
  if (napi_get_buffer_info(env, argv[0], &program, &size) != napi_ok) return fail(env, "startHostCall", EINVAL);
  if (!int32s(env, argv[1], &kept, &keep_count)) return fail(env, "startHostCall", EINVAL);
  if (size > PROGRAM_BYTES_MAX || keep_count >= KEEP_MAX || !valid_program(program, size)) return fail(env, "startHostCall", EINVAL);
  int keep[KEEP_MAX], ends[2];
  for (size_t i = 0; i < keep_count; i++) {
    if (kept[i] < 0) return fail(env, "startHostCall", EINVAL);
    keep[i] = kept[i];
  }
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(env, "pipe2", errno);
  keep[keep_count] = ends[1];
  qsort(keep, keep_count + 1, sizeof keep[0], compare_int);
  unsigned limit = descriptor_limit();
  /* sigprocmask acts on the calling thread on Linux; pthread_sigmask would need glibc 2.32. No signal may run libuv's handler in the child: it would write into the parent's signal pipe. */
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) run_child(parent, ends[1], keep, (int)keep_count + 1, limit, program, size);
  int error = errno;
  sigprocmask(SIG_SETMASK, &before, NULL);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return fail(env, "fork", error);
  }
  return numbers(env, (int[]){ pid, ends[0] }, 2);
}

/* reapHostCall(pid) → true once the child is gone. Waits for no other process: libuv's children stay libuv's. */
static napi_value reap (napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1], result;
  int32_t pid;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 1 ||
      napi_get_value_int32(env, argv[0], &pid) != napi_ok || pid <= 0) return fail(env, "reapHostCall", EINVAL);
  int status;
  pid_t done;
  do done = waitpid(pid, &status, WNOHANG); while (done < 0 && errno == EINTR);
  return napi_get_boolean(env, done == pid || (done < 0 && errno == ECHILD), &result) == napi_ok ? result : NULL;
}

napi_status register_host_call (napi_env env, napi_value exports) {
  napi_property_descriptor list[] = {
    { "startHostCall", NULL, start, NULL, NULL, NULL, napi_enumerable, NULL },
    { "reapHostCall", NULL, reap, NULL, NULL, NULL, napi_enumerable, NULL }
  };
  return napi_define_properties(env, exports, sizeof list / sizeof list[0], list);
}
