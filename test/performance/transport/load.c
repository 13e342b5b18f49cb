/*
 * Load for the transport benchmark, in C so that the client costs as little as a client can.
 *   load lookup FOLDER CLIENTS SECONDS    names that do not exist, asked by so many processes; prints lookups per second
 *   load read FILE                        the whole file through a 1 MiB buffer; prints bytes per second
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static long lookups(const char *folder, double seconds) {
  char path[4096];
  struct stat facts;
  snprintf(path, sizeof path, "%s/missing-%d", folder, getpid());
  long count = 0;
  for (double end = now() + seconds; now() < end;) {
    for (int step = 0; step < 32; step++, count++) {
      if (stat(path, &facts) == 0 || errno != ENOENT) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
      }
    }
  }
  return count;
}

static int lookup(const char *folder, int clients, double seconds) {
  int pipes[2];
  if (pipe(pipes) != 0) return 1;
  double start = now();
  for (int client = 0; client < clients; client++) {
    if (fork() == 0) {
      long count = lookups(folder, seconds);
      exit(write(pipes[1], &count, sizeof count) == sizeof count ? 0 : 1);
    }
  }
  long total = 0;
  for (int client = 0, status; client < clients; client++) {
    long count;
    if (wait(&status) < 0 || status != 0 || read(pipes[0], &count, sizeof count) != sizeof count) return 1;
    total += count;
  }
  printf("%.0f\n", (double)total / (now() - start));
  return 0;
}

static int read_file(const char *path) {
  enum { piece = 1024 * 1024 };
  char *buffer = aligned_alloc(4096, piece);
  int fd = open(path, O_RDONLY);
  if (fd < 0 || buffer == NULL) {
    perror(path);
    return 1;
  }
  double start = now();
  double total = 0;
  ssize_t bytes;
  while ((bytes = read(fd, buffer, piece)) > 0) total += (double)bytes;
  if (bytes < 0 || total == 0) {
    perror(path);
    return 1;
  }
  printf("%.0f\n", total / (now() - start));
  /* The next run gets the same pages: memory a virtual machine has never touched costs its host a fault each. */
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return 0;
}

int main(int count, char **arguments) {
  if (count == 5 && strcmp(arguments[1], "lookup") == 0) return lookup(arguments[2], atoi(arguments[3]), atof(arguments[4]));
  if (count == 3 && strcmp(arguments[1], "read") == 0) return read_file(arguments[2]);
  fprintf(stderr, "usage: load lookup FOLDER CLIENTS SECONDS | load read FILE\n");
  return 2;
}
