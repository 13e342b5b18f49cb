/*
 * A small interpreter of system calls: one command a line on stdin, one answer a line on stdout.
 *
 * Owns nothing but the calls: what should come out is known to the tables that drive it. Started as "caller UID GID [GROUP...]" it
 * becomes that user for good. Arguments are separated by spaces; %XX is one byte; "-" is an empty argument. An answer is "ok", "ok VALUE"
 * or the name of an errno.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ANSWER_MAX (8 << 20)
#define ARGS_MAX 16
#define LISTED_MAX 200000

static char *args[ARGS_MAX];
static int argCount;
static char *answer;
static size_t answerLength;

static const char *errnoName (int number) {
  const char *name = strerrorname_np(number);
  return name == NULL ? "EUNKNOWN" : name;
}

static void fail (void) { answerLength = snprintf(answer, ANSWER_MAX, "%s", errnoName(errno)); }
static void ok (void) { answerLength = snprintf(answer, ANSWER_MAX, "ok"); }
static void okNumber (long long value) { answerLength = snprintf(answer, ANSWER_MAX, "ok %lld", value); }
static void okOrFail (int result) { if (result < 0) fail(); else ok(); }
static void okNumberOrFail (long long result) { if (result < 0) fail(); else okNumber(result); }
static const char *arg (int index) { return index < argCount ? args[index] : ""; }
static int has (int index) { return index < argCount; }
static long long number (int index) { return strtoll(arg(index), NULL, 0); }
static mode_t octal (int index) { return (mode_t)strtol(arg(index), NULL, 8); }
static int isPlain (unsigned char byte) { return byte > ' ' && byte < 127 && byte != '%'; }

static void addEscaped (const char *bytes, size_t length) {
  for (size_t at = 0; at < length && answerLength < ANSWER_MAX - 8; at++) {
    unsigned char byte = (unsigned char)bytes[at];
    if (isPlain(byte)) answer[answerLength++] = (char)byte;
    else answerLength += (size_t)sprintf(answer + answerLength, "%%%02x", byte);
  }
  answer[answerLength] = 0;
}

/* Runs of one byte are written as {COUNT*BYTE}, so that holes and long fillings stay readable. */
static void addData (const char *bytes, size_t length) {
  for (size_t at = 0; at < length;) {
    size_t same = 1;
    while (at + same < length && bytes[at + same] == bytes[at]) same++;
    if (same >= 8) {
      answerLength += (size_t)sprintf(answer + answerLength, "{%zu*", same);
      addEscaped(bytes + at, 1);
      answer[answerLength++] = '}';
    } else {
      addEscaped(bytes + at, same);
    }
    at += same;
  }
  answer[answerLength] = 0;
}

/* The bytes of a data argument, {COUNT*BYTE} expanded. */
static char *dataOf (int index, size_t *length) {
  const char *text = arg(index);
  unsigned long long count;
  char byte;
  if (sscanf(text, "{%llu*%c}", &count, &byte) == 2) {
    char *bytes = malloc(count);
    memset(bytes, byte, count);
    *length = count;
    return bytes;
  }
  *length = strlen(text);
  return strdup(text);
}

static int flagsOf (const char *text) {
  static const struct { const char *name; int value; } known[] = {
    { "RDONLY", O_RDONLY }, { "WRONLY", O_WRONLY }, { "RDWR", O_RDWR }, { "CREAT", O_CREAT }, { "EXCL", O_EXCL }, { "TRUNC", O_TRUNC },
    { "APPEND", O_APPEND }, { "NOFOLLOW", O_NOFOLLOW }, { "DIRECTORY", O_DIRECTORY }, { "DIRECT", O_DIRECT }, { "SYNC", O_SYNC },
    { "NONBLOCK", O_NONBLOCK }, { "PATH", O_PATH }, { "TMPFILE", O_TMPFILE }, { "DSYNC", O_DSYNC }, { "NOATIME", O_NOATIME }
  };
  char copy[256];
  int flags = 0;
  snprintf(copy, sizeof copy, "%s", text);
  for (char *rest = copy, *word; (word = strsep(&rest, "|")) != NULL;) {
    for (size_t index = 0; index < sizeof known / sizeof *known; index++) if (strcmp(word, known[index].name) == 0) flags |= known[index].value;
  }
  return flags;
}

static struct timespec timeOf (const char *text) {
  struct timespec time = { 0, 0 };
  if (strcmp(text, "now") == 0) time.tv_nsec = UTIME_NOW;
  else if (strcmp(text, "omit") == 0) time.tv_nsec = UTIME_OMIT;
  else {
    char *rest;
    time.tv_sec = strtoll(text, &rest, 10);
    if (*rest == '.') time.tv_nsec = strtol(rest + 1, NULL, 10);
  }
  return time;
}

static const char *typeOf (mode_t mode) {
  return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "folder" : S_ISLNK(mode) ? "symlink" : S_ISFIFO(mode) ? "fifo" : S_ISSOCK(mode) ? "socket" : S_ISCHR(mode) ? "character" : "block";
}

static void addStat (const struct stat *found) {
  answerLength = snprintf(answer, ANSWER_MAX, "ok type=%s mode=%04o nlink=%llu uid=%u gid=%u size=%lld blocks=%lld rdev=%u,%u ino=%llu dev=%llu atime=%lld.%09ld mtime=%lld.%09ld ctime=%lld.%09ld",
    typeOf(found->st_mode), found->st_mode & 07777, (unsigned long long)found->st_nlink, found->st_uid, found->st_gid, (long long)found->st_size, (long long)found->st_blocks,
    major(found->st_rdev), minor(found->st_rdev), (unsigned long long)found->st_ino, (unsigned long long)found->st_dev,
    (long long)found->st_atim.tv_sec, found->st_atim.tv_nsec, (long long)found->st_mtim.tv_sec, found->st_mtim.tv_nsec, (long long)found->st_ctim.tv_sec, found->st_ctim.tv_nsec);
}

static int byName (const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void listFolder (int isCounted) {
  DIR *folder = opendir(arg(1));
  if (folder == NULL) { fail(); return; }
  static char *names[LISTED_MAX];
  size_t count = 0, repeats = 0;
  errno = 0;
  for (struct dirent *entry; count < LISTED_MAX && (entry = readdir(folder)) != NULL;) names[count++] = strdup(entry->d_name);
  if (errno != 0) { fail(); closedir(folder); return; }
  closedir(folder);
  qsort(names, count, sizeof *names, byName);
  for (size_t at = 1; at < count; at++) repeats += strcmp(names[at], names[at - 1]) == 0;
  ok();
  if (isCounted) answerLength += (size_t)sprintf(answer + answerLength, " %zu repeated %zu", count, repeats);
  for (size_t at = 0; at < count; at++) {
    if (!isCounted && strcmp(names[at], ".") != 0 && strcmp(names[at], "..") != 0) {
      answer[answerLength++] = ' ';
      addEscaped(names[at], strlen(names[at]));
    }
    free(names[at]);
  }
}

/* Reads half, notes the place, reads on, goes back there: the second half must be the same again. */
static void seekFolder (void) {
  DIR *folder = opendir(arg(1));
  if (folder == NULL) { fail(); return; }
  static char *first[LISTED_MAX];
  size_t count = 0, same = 0, again = 0;
  for (long long left = number(2); left > 0 && readdir(folder) != NULL; left--);
  long place = telldir(folder);
  for (struct dirent *entry; count < LISTED_MAX && (entry = readdir(folder)) != NULL;) first[count++] = strdup(entry->d_name);
  seekdir(folder, place);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL; again++) same += again < count && strcmp(entry->d_name, first[again]) == 0;
  rewinddir(folder);
  size_t all = 0;
  while (readdir(folder) != NULL) all++;
  closedir(folder);
  for (size_t at = 0; at < count; at++) free(first[at]);
  answerLength = snprintf(answer, ANSWER_MAX, "ok %zu %zu %zu", count, same, all);
  if (same == count && again == count) answerLength = snprintf(answer, ANSWER_MAX, "ok %zu", all);
}

/* unlinks every entry while the listing goes on, as rm -r does; answers how many. */
static void emptyFolder (void) {
  DIR *folder = opendir(arg(1));
  if (folder == NULL) { fail(); return; }
  long long removed = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (unlinkat(dirfd(folder), entry->d_name, 0) < 0) { fail(); closedir(folder); return; }
    removed++;
  }
  closedir(folder);
  okNumber(removed);
}

static void readSome (int fd, long long count, long long offset) {
  char *bytes = NULL;
  if (posix_memalign((void **)&bytes, 4096, (size_t)count + 4096) != 0) { fail(); return; }
  ssize_t got = offset < 0 ? read(fd, bytes, (size_t)count) : pread(fd, bytes, (size_t)count, offset);
  if (got < 0) fail();
  else {
    answerLength = snprintf(answer, ANSWER_MAX, "ok %s", got == 0 ? "-" : "");
    addData(bytes, (size_t)got);
  }
  free(bytes);
}

static void writeSome (int fd, int index, long long offset) {
  size_t length;
  char *data = dataOf(index, &length), *bytes = NULL;
  if (posix_memalign((void **)&bytes, 4096, length + 4096) != 0) { fail(); return; }
  memcpy(bytes, data, length);
  okNumberOrFail(offset < 0 ? write(fd, bytes, length) : pwrite(fd, bytes, length, offset));
  free(bytes);
  free(data);
}

static void mapSome (int fd, long long offset, int index) {
  size_t length;
  char *data = dataOf(index, &length);
  long long start = offset & ~4095LL;
  size_t span = (size_t)(offset - start) + length;
  char *map = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_SHARED, fd, start);
  if (map == MAP_FAILED) { fail(); free(data); return; }
  memcpy(map + (offset - start), data, length);
  int result = strcmp(arg(4), "sync") == 0 ? msync(map, span, MS_SYNC) : 0;
  if (result == 0) result = munmap(map, span);
  okOrFail(result);
  free(data);
}

static void readMap (int fd, long long offset, size_t length) {
  long long start = offset & ~4095LL;
  size_t span = (size_t)(offset - start) + length;
  char *map = mmap(NULL, span, PROT_READ, MAP_SHARED, fd, start);
  if (map == MAP_FAILED) { fail(); return; }
  answerLength = snprintf(answer, ANSWER_MAX, "ok ");
  addData(map + (offset - start), length);
  munmap(map, span);
}

/* A folder so deep that its path is longer than PATH_MAX, made, walked and removed step by step. */
static void deepFolder (void) {
  int depth = (int)number(2), start = open(".", O_RDONLY | O_DIRECTORY), made = 0, result = 0;
  for (; made < depth && result == 0; made++) {
    result = mkdir(arg(1), 0755);
    if (result == 0) result = chdir(arg(1));
  }
  if (result < 0) { fail(); return; }
  char buffer[8192];
  errno = 0;
  const char *where = getcwd(buffer, sizeof buffer);
  size_t length = where == NULL ? 0 : strlen(where);
  const char *why = where == NULL ? errnoName(errno) : "longer";
  for (; made > 0 && result == 0; made--) {
    result = chdir("..");
    if (result == 0) result = rmdir(arg(1));
  }
  if (result < 0) fail();
  else answerLength = snprintf(answer, ANSWER_MAX, "ok %s", length > 4096 ? "longer" : why);
  if (fchdir(start) < 0) fail();
  close(start);
}

/* Several processes append lines to one file at once. */
static void appendAtOnce (void) {
  int writers = (int)number(2), lines = (int)number(3), failed = 0;
  for (int writer = 0; writer < writers; writer++) {
    if (fork() != 0) continue;
    int fd = open(arg(1), O_WRONLY | O_APPEND | O_CREAT, 0644);
    for (int line = 0; line < lines; line++) {
      char text[32];
      int length = snprintf(text, sizeof text, "%04d %06d........\n", writer, line);
      if (write(fd, text, (size_t)length) != length) _exit(1);
    }
    _exit(close(fd) == 0 ? 0 : 1);
  }
  for (int status; wait(&status) > 0;) failed += status != 0;
  if (failed == 0) ok(); else { errno = EIO; fail(); }
}

static void makeMany (void) {
  char name[64];
  for (long long index = 0; index < number(2); index++) {
    snprintf(name, sizeof name, "%s/entry-%07lld", arg(1), index);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || close(fd) < 0) { fail(); return; }
  }
  ok();
}

static void answerOf (const char *call) {
#define IS(name) (strcmp(call, name) == 0)
  struct stat found;
  struct statvfs volume;
  if (IS("umask")) okNumber((long long)umask(octal(1)));
  else if (IS("cd")) okOrFail(chdir(arg(1)));
  else if (IS("mkdir")) okOrFail(mkdir(arg(1), octal(2)));
  else if (IS("rmdir")) okOrFail(rmdir(arg(1)));
  else if (IS("unlinkdir")) okOrFail(unlinkat(AT_FDCWD, arg(1), AT_REMOVEDIR));
  else if (IS("open")) okNumberOrFail(open(arg(1), flagsOf(arg(2)), octal(3)));
  else if (IS("close")) okOrFail(close((int)number(1)));
  else if (IS("touch")) { int fd = open(arg(1), O_WRONLY | O_CREAT | O_EXCL, octal(2)); okOrFail(fd < 0 ? fd : close(fd)); }
  else if (IS("put")) {
    int fd = open(arg(1), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) { fail(); return; }
    writeSome(fd, 2, -1);
    if (close(fd) < 0) fail();
  }
  else if (IS("get")) {
    int fd = open(arg(1), O_RDONLY);
    if (fd < 0) { fail(); return; }
    readSome(fd, 1 << 20, -1);
    close(fd);
  }
  else if (IS("sized")) {
    /* As programs do that ask for the size first and read so much. */
    int fd = open(arg(1), O_RDONLY);
    if (fd < 0 || fstat(fd, &found) < 0) { fail(); return; }
    readSome(fd, found.st_size, -1);
    close(fd);
  }
  else if (IS("mapped")) {
    int fd = open(arg(1), O_RDONLY);
    if (fd < 0 || fstat(fd, &found) < 0) { fail(); return; }
    readMap(fd, 0, (size_t)found.st_size);
    close(fd);
  }
  else if (IS("add")) {
    int fd = open(arg(1), O_WRONLY | O_APPEND);
    if (fd < 0) { fail(); return; }
    writeSome(fd, 2, -1);
    if (close(fd) < 0) fail();
  }
  else if (IS("read")) readSome((int)number(1), number(2), -1);
  else if (IS("pread")) readSome((int)number(1), number(2), number(3));
  else if (IS("write")) writeSome((int)number(1), 2, -1);
  else if (IS("pwrite")) writeSome((int)number(1), 2, number(3));
  else if (IS("lseek")) okNumberOrFail(lseek((int)number(1), number(2), strcmp(arg(3), "end") == 0 ? SEEK_END : strcmp(arg(3), "cur") == 0 ? SEEK_CUR : SEEK_SET));
  else if (IS("fsync")) okOrFail(fsync((int)number(1)));
  else if (IS("fdatasync")) okOrFail(fdatasync((int)number(1)));
  else if (IS("link")) okOrFail(link(arg(1), arg(2)));
  else if (IS("linkfollow")) okOrFail(linkat(AT_FDCWD, arg(1), AT_FDCWD, arg(2), AT_SYMLINK_FOLLOW));
  else if (IS("unlink")) okOrFail(unlink(arg(1)));
  else if (IS("rename")) okOrFail(rename(arg(1), arg(2)));
  else if (IS("renameflags")) okOrFail(renameat2(AT_FDCWD, arg(1), AT_FDCWD, arg(2), (unsigned)number(3)));
  else if (IS("symlink")) okOrFail(symlink(arg(1), arg(2)));
  else if (IS("readlink")) {
    char target[8192];
    ssize_t length = readlink(arg(1), target, sizeof target);
    if (length < 0) fail();
    else { answerLength = snprintf(answer, ANSWER_MAX, "ok "); addData(target, (size_t)length); }
  }
  else if (IS("mkfifo")) okOrFail(mkfifo(arg(1), octal(2)));
  else if (IS("mknod")) {
    mode_t type = strcmp(arg(2), "character") == 0 ? S_IFCHR : strcmp(arg(2), "block") == 0 ? S_IFBLK : strcmp(arg(2), "socket") == 0 ? S_IFSOCK : strcmp(arg(2), "file") == 0 ? S_IFREG : S_IFIFO;
    okOrFail(mknod(arg(1), type | octal(3), makedev((unsigned)number(4), (unsigned)number(5))));
  }
  else if (IS("chmod")) okOrFail(chmod(arg(1), octal(2)));
  else if (IS("fchmod")) okOrFail(fchmod((int)number(1), octal(2)));
  else if (IS("chown")) okOrFail(chown(arg(1), (uid_t)number(2), (gid_t)number(3)));
  else if (IS("lchown")) okOrFail(lchown(arg(1), (uid_t)number(2), (gid_t)number(3)));
  else if (IS("fchown")) okOrFail(fchown((int)number(1), (uid_t)number(2), (gid_t)number(3)));
  else if (IS("truncate")) okOrFail(truncate(arg(1), number(2)));
  else if (IS("ftruncate")) okOrFail(ftruncate((int)number(1), number(2)));
  else if (IS("utimens") || IS("lutimens")) {
    struct timespec times[2] = { timeOf(arg(2)), timeOf(arg(3)) };
    okOrFail(utimensat(AT_FDCWD, arg(1), times, IS("lutimens") ? AT_SYMLINK_NOFOLLOW : 0));
  }
  else if (IS("futimens")) { struct timespec times[2] = { timeOf(arg(2)), timeOf(arg(3)) }; okOrFail(futimens((int)number(1), times)); }
  else if (IS("utimesnull")) okOrFail(utimensat(AT_FDCWD, arg(1), NULL, 0));
  else if (IS("access")) {
    int mode = (strchr(arg(2), 'r') ? R_OK : 0) | (strchr(arg(2), 'w') ? W_OK : 0) | (strchr(arg(2), 'x') ? X_OK : 0);
    okOrFail(access(arg(1), mode));
  }
  else if (IS("stat")) { if (stat(arg(1), &found) < 0) fail(); else addStat(&found); }
  else if (IS("lstat")) { if (lstat(arg(1), &found) < 0) fail(); else addStat(&found); }
  else if (IS("fstat")) { if (fstat((int)number(1), &found) < 0) fail(); else addStat(&found); }
  else if (IS("statfs")) {
    if (statvfs(arg(1), &volume) < 0) fail();
    else answerLength = snprintf(answer, ANSWER_MAX, "ok namemax=%lu total=%llu files=%llu", volume.f_namemax, (unsigned long long)volume.f_blocks * volume.f_frsize, (unsigned long long)volume.f_files);
  }
  else if (IS("list")) listFolder(0);
  else if (IS("count")) listFolder(1);
  else if (IS("seekdir")) seekFolder();
  else if (IS("empty")) emptyFolder();
  else if (IS("many")) makeMany();
  else if (IS("deep")) deepFolder();
  else if (IS("append")) appendAtOnce();
  else if (IS("mapwrite")) mapSome((int)number(1), number(2), 3);
  else if (IS("mapread")) readMap((int)number(1), number(2), (size_t)number(3));
  else if (IS("fallocate")) okOrFail(fallocate((int)number(1), (int)number(2), number(3), number(4)));
  else if (IS("seekdata")) okNumberOrFail(lseek((int)number(1), number(2), strcmp(arg(3), "hole") == 0 ? SEEK_HOLE : SEEK_DATA));
  else if (IS("copyrange")) {
    off_t from = number(2), to = number(4);
    okNumberOrFail(copy_file_range((int)number(1), &from, (int)number(3), &to, (size_t)number(5), 0));
  }
  else if (IS("setxattr")) okOrFail(setxattr(arg(1), arg(2), "value", 5, 0));
  else if (IS("getxattr")) { char value[64]; okNumberOrFail(getxattr(arg(1), arg(2), value, sizeof value)); }
  else if (IS("listxattr")) { char names[4096]; okNumberOrFail(listxattr(arg(1), names, sizeof names)); }
  else if (IS("reopen")) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%lld", number(1));
    okNumberOrFail(open(link, flagsOf(arg(2))));
  }
  else if (IS("flock")) okOrFail(flock((int)number(1), LOCK_NB | (strcmp(arg(2), "un") == 0 ? LOCK_UN : LOCK_EX)));
  else if (IS("sleep")) { usleep((useconds_t)number(1) * 1000); ok(); }
  else answerLength = snprintf(answer, ANSWER_MAX, "EWHAT");
#undef IS
}

static void splitLine (char *line) {
  argCount = 0;
  for (char *rest = line, *word; argCount < ARGS_MAX && (word = strsep(&rest, " \n")) != NULL;) {
    if (*word == 0) continue;
    char *to = word;
    for (const char *from = word; *from != 0; to++) {
      unsigned byte;
      if (*from == '%' && sscanf(from + 1, "%2x", &byte) == 1) { *to = (char)byte; from += 3; } else *to = *from++;
    }
    *to = 0;
    if (strcmp(word, "-") == 0) *word = 0;
    args[argCount++] = word;
  }
}

int main (int count, char **given) {
  if (count < 3) return 2;
  gid_t groups[64];
  int groupCount = 0;
  for (int index = 3; index < count && groupCount < 64; index++) groups[groupCount++] = (gid_t)atoi(given[index]);
  umask(0);
  if (setgroups((size_t)groupCount, groups) < 0 || setgid((gid_t)atoi(given[2])) < 0 || setuid((uid_t)atoi(given[1])) < 0) return 3;
  answer = malloc(ANSWER_MAX + 64);
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, stdin) > 0) {
    splitLine(line);
    if (!has(0)) continue;
    answerOf(arg(0));
    fwrite(answer, 1, answerLength, stdout);
    fputc('\n', stdout);
    fflush(stdout);
  }
  return 0;
}
