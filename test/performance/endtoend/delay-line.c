/*
 * A long cable: TCP from a port of its own to a server on this machine, with a round trip added.
 *   delay-line PORT MILLISECONDS    → prints its own port; ends when its standard input does
 * All of the delay is on the way to the server; for whoever waits for an answer that is the same. What comes back is passed on by reference
 * (splice(2)), so that the line takes as little as possible of the processors on which both ends are measured. Each connection has a thread
 * per direction. Ends with 1 when it cannot begin; a connection that breaks takes only its other half with it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ring_bytes = 64 << 20, chunks_max = 1 << 16, piece_bytes = 1 << 20 };

static int server_port;
static int64_t delay_ns;

struct line { int client, server, left; };
struct chunk { int64_t due_ns; size_t bytes; };

static int64_t now_ns (void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

/* The second thread that ends closes both. */
static void leave (struct line *line) {
  shutdown(line->client, SHUT_RDWR);
  shutdown(line->server, SHUT_RDWR);
  if (__atomic_sub_fetch(&line->left, 1, __ATOMIC_SEQ_CST) > 0) return;
  close(line->client);
  close(line->server);
  free(line);
}

/* What has been received lies in the ring from `tail` to `head`; each chunk leaves when it is due. */
static void *requests (void *argument) {
  struct line *line = argument;
  char *ring = malloc(ring_bytes);
  struct chunk *chunks = malloc(chunks_max * sizeof *chunks);
  uint64_t head = 0, tail = 0, first = 0, last = 0;
  int open = 1;
  while (ring != NULL && chunks != NULL && (open || last > first)) {
    int64_t wait_ns = last > first ? chunks[first % chunks_max].due_ns - now_ns() : -1;
    if (last > first && wait_ns <= 0) {
      struct chunk *due = &chunks[first % chunks_max];
      size_t at = tail % ring_bytes, run = due->bytes < ring_bytes - at ? due->bytes : ring_bytes - at;
      ssize_t sent = send(line->server, ring + at, run, MSG_NOSIGNAL);
      if (sent <= 0) break;
      tail += (uint64_t)sent;
      if ((due->bytes -= (size_t)sent) == 0) first++;
      continue;
    }
    int readable = open && head - tail < ring_bytes && last - first < chunks_max;
    struct pollfd ready = { line->client, (short)(readable ? POLLIN : 0), 0 };
    struct timespec wait = { wait_ns / 1000000000, wait_ns % 1000000000 };
    if (ppoll(&ready, 1, wait_ns < 0 ? NULL : &wait, NULL) <= 0) continue;
    size_t at = head % ring_bytes, room = ring_bytes - (head - tail);
    ssize_t got = recv(line->client, ring + at, room < ring_bytes - at ? room : ring_bytes - at, 0);
    if (got <= 0) {
      open = 0;
      continue;
    }
    chunks[last++ % chunks_max] = (struct chunk){ now_ns() + delay_ns, (size_t)got };
    head += (uint64_t)got;
  }
  free(ring);
  free(chunks);
  leave(line);
  return NULL;
}

static void *replies (void *argument) {
  struct line *line = argument;
  int ends[2];
  ssize_t got = -1;
  if (pipe(ends) == 0) {
    fcntl(ends[1], F_SETPIPE_SZ, piece_bytes);
    while ((got = splice(line->server, NULL, ends[1], NULL, piece_bytes, SPLICE_F_MOVE)) > 0) {
      for (ssize_t moved; got > 0; got -= moved) {
        moved = splice(ends[0], NULL, line->client, NULL, (size_t)got, SPLICE_F_MOVE);
        if (moved <= 0) goto done;
      }
    }
done:
    close(ends[0]);
    close(ends[1]);
  }
  leave(line);
  return NULL;
}

static int set (int socket) {
  int one = 1;
  return setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void *listening (void *argument) {
  int listener = *(int *)argument;
  for (;;) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)server_port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct line *line = malloc(sizeof *line);
    pthread_t ids[2];
    if (line == NULL) exit(1);
    *line = (struct line){ accept4(listener, NULL, NULL, SOCK_CLOEXEC), socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 2 };
    if (line->client < 0 || line->server < 0) exit(1);
    if (connect(line->server, (struct sockaddr *)&to, sizeof to) != 0 || set(line->client) != 0 || set(line->server) != 0) {
      close(line->client);
      close(line->server);
      free(line);
      continue;
    }
    if (pthread_create(&ids[0], NULL, requests, line) != 0 || pthread_create(&ids[1], NULL, replies, line) != 0) exit(1);
    pthread_detach(ids[0]);
    pthread_detach(ids[1]);
  }
}

int main (int argc, char **argv) {
  if (argc != 3) return 2;
  server_port = atoi(argv[1]);
  delay_ns = (int64_t)(atof(argv[2]) * 1e6);
  struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
  socklen_t bytes = sizeof own;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server_port <= 0 || delay_ns <= 0 || listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(listener, 16) != 0 ||
      getsockname(listener, (struct sockaddr *)&own, &bytes) != 0) {
    perror("delay-line");
    return 1;
  }
  printf("%d\n", ntohs(own.sin_port));
  fflush(stdout);
  pthread_t id;
  if (pthread_create(&id, NULL, listening, &listener) != 0) return 1;
  char unused[64];
  while (read(0, unused, sizeof unused) > 0) {}
  return 0;
}
