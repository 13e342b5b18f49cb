/*
 * The same loads as client.ts, by libnfs' raw asynchronous calls: GETATTR and READ of one file, N in flight, for a given time.
 * Prints one line: calls per second. Usage: libnfs-peer SERVER PORT MOUNTPORT SHARE FILE getattr|read COUNT DEPTH SECONDS
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

/* Handed out by nfs_get_fh, but declared only in the library's private header. */
struct nfs_fh { int len; char *val; };

static struct rpc_context *rpc;
static struct nfs_fh3 handle;
static long done_calls;
static int in_flight, stopping, is_read;
static uint64_t offset_bytes, file_bytes;
static uint32_t count_bytes;

static void issue(void);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void answered(struct rpc_context *context, int status, void *data, void *unused) {
  (void)context; (void)unused;
  if (status != RPC_STATUS_SUCCESS || *(int *)data != NFS3_OK) { fprintf(stderr, "a call failed\n"); exit(1); }
  in_flight--;
  done_calls++;
  if (!stopping) issue();
}

static void issue(void) {
  int failed;
  if (is_read) {
    READ3args args = { handle, offset_bytes, count_bytes };
    offset_bytes = offset_bytes + 2 * (uint64_t)count_bytes > file_bytes ? 0 : offset_bytes + count_bytes;
    failed = rpc_nfs3_read_async(rpc, answered, &args, NULL);
  } else {
    GETATTR3args args = { handle };
    failed = rpc_nfs3_getattr_async(rpc, answered, &args, NULL);
  }
  if (failed) { fprintf(stderr, "cannot queue\n"); exit(1); }
  in_flight++;
}

static void serve(void) {
  struct pollfd p = { .fd = rpc_get_fd(rpc), .events = (short)rpc_which_events(rpc) };
  if (poll(&p, 1, 1000) < 0 || rpc_service(rpc, p.revents) < 0) { fprintf(stderr, "%s\n", rpc_get_error(rpc)); exit(1); }
}

int main(int argc, char **argv) {
  if (argc != 10) return 2;
  struct nfs_context *nfs = nfs_init_context();
  struct nfsfh *file;
  struct nfs_stat_64 st;
  char url[4096];
  snprintf(url, sizeof url, "nfs://%s%s/?version=3&nfsport=%s&mountport=%s", argv[1], argv[4], argv[2], argv[3]);
  struct nfs_url *parsed = nfs_parse_url_dir(nfs, url);
  if (!parsed || nfs_mount(nfs, argv[1], argv[4]) || nfs_stat64(nfs, argv[5], &st) || nfs_open(nfs, argv[5], 0, &file)) {
    fprintf(stderr, "%s\n", nfs_get_error(nfs));
    return 1;
  }
  struct nfs_fh *raw = nfs_get_fh(file);
  handle.data.data_len = (unsigned)raw->len;
  handle.data.data_val = raw->val;
  rpc = nfs_get_rpc_context(nfs);
  is_read = strcmp(argv[6], "read") == 0;
  count_bytes = (uint32_t)atoi(argv[7]);
  file_bytes = st.nfs_size;
  double start = now(), end = start + atof(argv[9]);
  for (int i = 0; i < atoi(argv[8]); i++) issue();
  while (now() < end) serve();
  double took = now() - start;
  long counted = done_calls;
  stopping = 1;
  while (in_flight > 0) serve();
  printf("%.1f\n", (double)counted / took);
  return 0;
}
