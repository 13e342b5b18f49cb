/*
 * Four users on one mount: reads a program of calls, hands each to its user's caller (../posix/caller.c) and prints the answers.
 *
 * Owns the callers, and the descriptors that a program gives names to. Knows no right answer.
 *
 *   conductor mount SOURCE FOLDER TYPE OPTIONS     mount(2), nosuid and nodev: the guest has no mount.nfs
 *   conductor run CALLER FOLDER < PROGRAM          a line is `in NAME` or `USER CALL ARGUMENT… [-> NAME]`; $NAME is a descriptor
 *
 * `in` begins a case: new callers, in FOLDER/NAME. It prints what cd(2) said to the first user; every other line prints its answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define USERS 4
#define NAMES_MAX 32
#define LINE_MAX_BYTES 65536

/* As in ../posix/judge.ts. */
static const struct { const char *name; const char *identity[5]; } users[USERS] = {
  { "root", { "0", "0" } }, { "owner", { "2001", "2001", "3000" } }, { "member", { "2002", "2002", "2500", "3000" } }, { "other", { "2003", "2003" } }
};
static struct { pid_t pid; FILE *to; FILE *from; } callers[USERS];
static struct { char name[32]; char fd[16]; } kept[NAMES_MAX];
static int keptCount;
static char *answer;
static size_t answerRoom;

static void die (const char *what) {
  fprintf(stderr, "conductor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void start (int user, const char *caller) {
  int to[2], from[2];
  if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0) die("pipe");
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    const char *arguments[7] = { caller };
    for (int index = 0; index < 5; index++) arguments[index + 1] = users[user].identity[index];
    if (dup2(to[0], 0) < 0 || dup2(from[1], 1) < 0) _exit(126);
    execv(caller, (char *const *)arguments);
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  callers[user].pid = pid;
  callers[user].to = fdopen(to[1], "w");
  callers[user].from = fdopen(from[0], "r");
}

static void end (int user) {
  if (callers[user].pid == 0) return;
  fclose(callers[user].to);
  fclose(callers[user].from);
  waitpid(callers[user].pid, NULL, 0);
  callers[user].pid = 0;
}

/* The answer without its newline. */
static const char *ask (int user, const char *line) {
  fprintf(callers[user].to, "%s\n", line);
  fflush(callers[user].to);
  ssize_t length = getline(&answer, &answerRoom, callers[user].from);
  if (length <= 0) return "the caller ended";
  answer[length - 1] = 0;
  return answer;
}

static void begin (const char *caller, const char *folder, const char *name) {
  char line[4096];
  snprintf(line, sizeof line, "cd %s/%s", folder, name);
  keptCount = 0;
  for (int user = USERS - 1; user >= 0; user--) {
    end(user);
    start(user, caller);
    const char *said = ask(user, line);
    if (user == 0) puts(said);
  }
}

static const char *descriptor (const char *name) {
  for (int index = keptCount - 1; index >= 0; index--) if (strcmp(kept[index].name, name) == 0) return kept[index].fd;
  return "-1";
}

/* "owner read $f 10 -> g": who, the call with numbers for names, and the name that a new descriptor gets. */
static void step (char *line) {
  static char call[LINE_MAX_BYTES];
  char *keepAs = strstr(line, " -> "), *rest = line;
  if (keepAs != NULL) { *keepAs = 0; keepAs += 4; }
  const char *who = strsep(&rest, " ");
  int user = 0;
  while (user < USERS && strcmp(users[user].name, who) != 0) user++;
  if (user == USERS || rest == NULL) { puts("nobody"); return; }
  call[0] = 0;
  for (char *word; (word = strsep(&rest, " ")) != NULL;) {
    strcat(call, *word == '$' ? descriptor(word + 1) : word);
    strcat(call, " ");
  }
  const char *said = ask(user, call);
  if (keepAs != NULL && strncmp(said, "ok ", 3) == 0 && keptCount < NAMES_MAX) {
    snprintf(kept[keptCount].name, sizeof kept->name, "%s", keepAs);
    snprintf(kept[keptCount++].fd, sizeof kept->fd, "%s", said + 3);
  }
  puts(said);
}

int main (int count, char **given) {
  if (count == 6 && strcmp(given[1], "mount") == 0) {
    if (mount(given[2], given[3], given[4], MS_NOSUID | MS_NODEV, given[5]) < 0) die("mount");
    return 0;
  }
  if (count != 4 || strcmp(given[1], "run") != 0) return 2;
  char *line = NULL;
  size_t room = 0;
  for (ssize_t length; (length = getline(&line, &room, stdin)) > 0;) {
    if (line[length - 1] == '\n') line[length - 1] = 0;
    if (length >= LINE_MAX_BYTES) { errno = E2BIG; die("line"); }
    if (strncmp(line, "in ", 3) == 0) begin(given[2], given[3], line + 3); else step(line);
    fflush(stdout);
  }
  for (int user = 0; user < USERS; user++) end(user);
  return 0;
}
