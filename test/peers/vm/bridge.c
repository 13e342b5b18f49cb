/*
 * Carries connections of a TCP port to a unix socket, one process each: the host's way to a socket in the guest.
 * Usage: bridge PORT SOCKET
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int carry (int from, int to) {
  char space[65536];
  ssize_t size = read(from, space, sizeof space);
  if (size <= 0) { shutdown(to, SHUT_WR); return 0; }
  for (ssize_t at = 0; at < size;) {
    ssize_t done = write(to, space + at, (size_t)(size - at));
    if (done <= 0) return 0;
    at += done;
  }
  return 1;
}

static void serve (int client, const char *path) {
  struct sockaddr_un name = { .sun_family = AF_UNIX };
  strncpy(name.sun_path, path, sizeof name.sun_path - 1);
  int server = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(server, (struct sockaddr *)&name, sizeof name) != 0) _exit(1);
  struct pollfd ends[2] = { { client, POLLIN, 0 }, { server, POLLIN, 0 } };
  for (int open = 2; open > 0;) {
    if (poll(ends, 2, -1) < 0) _exit(1);
    for (int i = 0; i < 2; i++) {
      if (ends[i].fd < 0 || ends[i].revents == 0 || carry(ends[i].fd, i == 0 ? server : client)) continue;
      ends[i].fd = -1;
      open--;
    }
  }
  _exit(0);
}

int main (int argc, char **argv) {
  if (argc != 3) return 2;
  signal(SIGCHLD, SIG_IGN);
  struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])) };
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&name, sizeof name) != 0 || listen(listener, 64) != 0) return 1;
  for (;;) {
    int client = accept(listener, NULL, NULL);
    if (client < 0) continue;
    if (fork() == 0) { close(listener); serve(client, argv[2]); }
    close(client);
  }
}
