/*
 * Load for the end-to-end benchmark: T threads work on the files f0 … f(N-1) of a folder, each on its share, once.
 *   load stat|create|exclusive|durable|read FOLDER THREADS FILES [own]    → operations per second and latency percentiles in microseconds, one line
 * stat: stat(2). create: open(O_CREAT|O_TRUNC), write 4 KiB, close. exclusive: the same with O_EXCL. durable: with fsync before
 * the close, which is what close means on a network file system. read: open, read 4 KiB, close. own: thread T works in FOLDER/T, which exists.
 * Ends with 1 at the first error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *mode, *folder;
static int threads, files, own;
static float *taken;

static double now (void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int one (const char *path) {
  char block[4096];
  if (mode[0] == 's') {
    struct stat facts;
    return stat(path, &facts);
  }
  int creates = mode[0] != 'r';
  int how = mode[0] == 'e' ? O_CREAT | O_EXCL | O_WRONLY : O_CREAT | O_TRUNC | O_WRONLY;
  int fd = open(path, creates ? how : O_RDONLY, 0644);
  if (fd < 0) return -1;
  memset(block, 'x', sizeof block);
  ssize_t bytes = creates ? write(fd, block, sizeof block) : read(fd, block, sizeof block);
  if (mode[0] == 'd' && fsync(fd) != 0) return -1;
  if (close(fd) != 0) return -1;
  return bytes == sizeof block ? 0 : -1;
}

static void *work (void *argument) {
  long self = (long)argument;
  char path[4096];
  for (int i = (int)self; i < files; i += threads) {
    if (own) snprintf(path, sizeof path, "%s/%ld/f%d", folder, self, i);
    else snprintf(path, sizeof path, "%s/f%d", folder, i);
    double from = now();
    if (one(path) != 0) {
      fprintf(stderr, "%s %s: %s\n", mode, path, strerror(errno));
      exit(1);
    }
    taken[i] = (float)((now() - from) * 1e6);
  }
  return NULL;
}

static int ascending (const void *left, const void *right) {
  float a = *(const float *)left, b = *(const float *)right;
  return (a > b) - (a < b);
}

int main (int argc, char **argv) {
  if (argc != 5 && argc != 6) return 2;
  own = argc == 6;
  mode = argv[1];
  folder = argv[2];
  threads = atoi(argv[3]);
  files = atoi(argv[4]);
  taken = calloc((size_t)files, sizeof *taken);
  pthread_t ids[64];
  if (taken == NULL || threads < 1 || threads > 64 || files < threads) return 2;
  double from = now();
  for (long i = 0; i < threads; i++) if (pthread_create(&ids[i], NULL, work, (void *)i) != 0) return 1;
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  double seconds = now() - from;
  qsort(taken, (size_t)files, sizeof *taken, ascending);
  printf("%.0f %.0f %.0f\n", files / seconds, taken[files / 2], taken[files * 99 / 100]);
  return 0;
}
