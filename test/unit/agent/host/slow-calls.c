/*
 * Preloaded into a process: makes two moments long enough to be tested. The child of a host call waits until its parent is gone before it says
 * that it is to die with it, and a notification of 4,097 bytes takes 300 ms to be written.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms) {
  struct timespec time = { ms / 1000, ms % 1000 * 1000000L };
  nanosleep(&time, NULL);
}

int prctl(int option, ...) {
  va_list list;
  va_start(list, option);
  unsigned long values[4];
  for (int i = 0; i < 4; i++) values[i] = va_arg(list, unsigned long);
  va_end(list);
  pid_t parent = getppid();
  for (int i = 0; option == PR_SET_PDEATHSIG && getppid() == parent && i < 10000; i++) pause_ms(1);
  return (int)syscall(SYS_prctl, option, values[0], values[1], values[2], values[3]);
}

ssize_t write(int fd, const void *data, size_t size) {
  if (size == 4097) pause_ms(300);
  return syscall(SYS_write, fd, data, size);
}
