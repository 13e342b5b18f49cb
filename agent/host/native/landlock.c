/*
 * Which files and ports a program can still name: Landlock (Documentation/userspace-api/landlock.rst), for a child before exec, so that every
 * thread of the program has it.
 *
 * Owns what each kind of rule means, and what of it a kernel's version of Landlock (its ABI) can hold. Does not know which files and ports:
 * agent/host/view.ts names them. The numbers are the kernel's, include/uapi/linux/landlock.h: the header of the machine that builds may be older
 * than the node's kernel.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same on every processor. */
enum { NUMBER_create_ruleset = 444, NUMBER_add_rule = 445, NUMBER_restrict_self = 446 };
enum { ASK_VERSION = 1, RULE_PATH = 1, RULE_PORT = 2 };
enum { EXECUTE = 1, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3, REMOVE_DIR = 1 << 4, REMOVE_FILE = 1 << 5, MAKE_DIR = 1 << 7,
  MAKE_REG = 1 << 8, MAKE_SOCK = 1 << 9, TRUNCATE = 1 << 14 };
/* Those that a rule about a file, not a folder, may have. */
enum { OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE };
enum { BIND_PORT = 1, CONNECT_PORT = 2 };
/* All rights that an ABI knows, the first below index 1: REFER came with 2, TRUNCATE with 3, ioctl of devices with 5. */
static const uint64_t file_rights[] = { 0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff };
enum { ABI_PORTS = 4, ABI_SCOPES = 6, ABI_FILES = 5 };
/* Abstract unix sockets and signals of processes outside. */
enum { SCOPES = 3 };

struct ruleset { uint64_t files, ports, scopes; };
struct path_rule { uint64_t allowed; int32_t parent; } __attribute__((packed));
struct port_rule { uint64_t allowed, port; };

/* The kinds of rules. */
static const struct { char kind; uint64_t files, ports; } kinds[] = {
  { 'r', READ_FILE | READ_DIR, 0 },
  { 'x', READ_FILE | READ_DIR | EXECUTE, 0 },
  { 'w', READ_FILE | WRITE_FILE | TRUNCATE, 0 },
  { 's', MAKE_SOCK | REMOVE_FILE, 0 },
  /* Unpacks a file that is then executed, in a folder that may have to be made. */
  { 'u', READ_FILE | READ_DIR | EXECUTE | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | REMOVE_FILE | REMOVE_DIR, 0 },
  { 'b', 0, BIND_PORT },
  { 'c', 0, CONNECT_PORT }
};

static int kind_of (char kind) {
  for (unsigned n = 0; n < sizeof kinds / sizeof *kinds; n++) if (kinds[n].kind == kind) return (int)n;
  return -1;
}

static uint64_t read_port (const char **text) {
  uint64_t port = 0;
  for (; **text >= '0' && **text <= '9' && port <= UINT16_MAX; (*text)++) port = port * 10 + (uint64_t)(**text - '0');
  return port;
}

static int add_path (int rules, const char *path, uint64_t allowed) {
  int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
  /* statx, because fstat is a GLIBC_2.33 symbol. */
  struct statx facts;
  int result = statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &facts);
  if (result == 0) {
    struct path_rule rule = { S_ISDIR(facts.stx_mode) ? allowed : allowed & OF_FILES, fd };
    result = (int)syscall(NUMBER_add_rule, rules, RULE_PATH, &rule, 0);
  }
  int error = errno;
  close(fd);
  errno = error;
  return result;
}

/* "first-last": the kernel takes them one by one. */
static int add_ports (int rules, const char *text, uint64_t allowed) {
  uint64_t first = read_port(&text);
  if (*text++ != '-') { errno = EINVAL; return -1; }
  for (uint64_t last = read_port(&text), port = first; port <= last; port++) {
    struct port_rule rule = { allowed, port };
    if (syscall(NUMBER_add_rule, rules, RULE_PORT, &rule, 0) != 0) return -1;
  }
  return 0;
}

static int add_rules (int rules, char **pairs, int count, const struct ruleset *handled) {
  for (int n = 0; n < count; n++) {
    int kind = kind_of(pairs[2 * n][0]);
    if (kind < 0) { errno = EINVAL; return -1; }
    uint64_t files = kinds[kind].files & handled->files, ports = kinds[kind].ports & handled->ports;
    if (files != 0 && add_path(rules, pairs[2 * n + 1], files) != 0) return -1;
    if (ports != 0 && add_ports(rules, pairs[2 * n + 1], ports) != 0) return -1;
  }
  return 0;
}

/* What is held at all: every right to files, and those to ports for which there is a rule. A younger kernel's ABI holds no less than we know. */
static struct ruleset what_holds (int abi, char **pairs, int count) {
  struct ruleset handled = { file_rights[abi < ABI_FILES ? abi : ABI_FILES], 0, abi >= ABI_SCOPES ? SCOPES : 0 };
  for (int n = 0; abi >= ABI_PORTS && n < count; n++) {
    int kind = kind_of(pairs[2 * n][0]);
    if (kind >= 0) handled.ports |= kinds[kind].ports;
  }
  return handled;
}

int view_abi (void) {
  return (int)syscall(NUMBER_create_ruleset, NULL, 0, ASK_VERSION);
}

int limit_view (char **pairs, int count) {
  int abi = view_abi();
  if (abi < 1) return -1;
  struct ruleset handled = what_holds(abi, pairs, count);
  /* An older kernel takes a longer structure whose end is zero. */
  int rules = (int)syscall(NUMBER_create_ruleset, &handled, sizeof handled, 0);
  if (rules < 0) return -1;
  int result = add_rules(rules, pairs, count, &handled);
  if (result == 0) result = (int)syscall(NUMBER_restrict_self, rules, 0);
  int error = errno;
  close(rules);
  errno = error;
  return result;
}
