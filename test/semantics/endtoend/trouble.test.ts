/**
 * A server that dies, stops and comes back, and callers that are signalled meanwhile.
 */
import { spawn } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { monotonicMs, pause, within } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { run, shell, TestNode } from './node.ts'

const check = testNeeding('root', 'fuse', 'ganesha', 'gcc')

let server: Ganesha
let node: TestNode
let mounted: string

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha', 'gcc') !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  await node.startAgent()
  mounted = node.makeFolder('mnt')
  await node.mount(`${server.host}:${server.folder}`, mounted, `${server.mountOptions},timeo=20`)
})

test.after.always(async () => {
  server?.resume()
  await node?.close()
  await server?.close()
})

check('a copy pauses while the server is dead, goes on when it is back, and is complete', async (t) => {
  const source = node.makeFolder('source')
  await shell('for i in $(seq 1 300); do head -c 300000 /dev/urandom > f$i; done', { cwd: source })
  // In place, because cp makes its files with O_EXCL: a server that dies between making such a file and noting whose it
  // is answers EEXIST to the repeated call, and guessing that it was ours would break every lock file (SEMANTICS.md).
  const copy = shell(`rsync -a --inplace --whole-file ${source}/ ${mounted}/copied/ && sync -f ${mounted}/copied`)
  await pause(700)
  await server.kill9()
  await pause(1500)
  await server.restart()
  await copy
  t.is(
    await shell('sha256sum *', { cwd: path.join(server.folder, 'copied') }),
    await shell('sha256sum *', { cwd: source })
  )
})

check('every byte that fsync acknowledged before kill -9 of the server is there after its restart', async (t) => {
  for (let round = 0; round < 3; round += 1) {
    const name = `fsynced-${round}`
    const writing = shell(
      `for i in $(seq 1 40); do head -c 100000 /dev/zero | tr '\\0' "\\\\$((i % 8 + 60))" | dd of=${mounted}/${name} bs=100000 seek=$i conv=notrunc,fsync status=none; echo $i; done`
    )
    await pause(150 * (round + 1))
    await server.restart()
    const acknowledged = (await writing).trim().split('\n').length
    t.is(acknowledged, 40)
    const bytes = readFileSync(path.join(server.folder, name))
    t.is(bytes.length, 41 * 100_000)
    for (let block = 1; block <= 40; block += 1) {
      const expected = Number.parseInt(String(block % 8 + 60), 8)
      t.true(
        bytes.subarray(block * 100_000, (block + 1) * 100_000).every((byte) => byte === expected),
        `block ${block}`
      )
    }
  }
})

/**
 * A blocked read takes signals only when it is over, and equal ones are one by then.
 * Reads the first byte of a file while a timer sends it a handled signal, and says what read() answered.
 */
const signalled = String.raw`
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
static volatile int seen;
static void on (int number) { (void)number; seen++; }
int main (int argc, char **argv) {
  struct sigaction action = { .sa_handler = on };
  int number = argv[2][0] == 'u' ? SIGURG : SIGALRM;
  sigaction(number, &action, NULL);
  sigaction(SIGALRM, &action, NULL);
  int fd = open(argv[1], O_RDONLY);
  if (fd < 0) { printf("open %s\n", strerror(errno)); return 1; }
  puts("opened"); fflush(stdout);
  getchar();
  struct itimerval every = { { 0, 100000 }, { 0, 100000 } };
  setitimer(ITIMER_REAL, &every, NULL);
  if (number == SIGURG && fork() == 0) { for (int i = 0; i < 30; i++) { usleep(100000); kill(getppid(), SIGURG); } _exit(0); }
  char byte;
  ssize_t got = read(fd, &byte, 1);
  int error = errno;
  if (got < 0) printf("read %s\n", strerror(error)); else printf("read %zd after %s\n", got, seen > 0 ? "signals" : "no signals");
  return argc != 3;
}`

for (const name of ['alarm', 'urgent'] as const) {
  check(`a program that gets SIG${name === 'alarm' ? 'ALRM' : 'URG'} during a slow read does not see EINTR`, async (t) => {
    const source = path.join(node.folder, 'signalled.c')
    writeFileSync(source, signalled)
    await shell(`gcc -O1 -o ${node.folder}/signalled ${source}`)
    // Too large to be read along with its OPEN.
    writeFileSync(path.join(server.folder, `slow-${name}`), 'x'.repeat(100_000))
    const child = spawn(path.join(node.folder, 'signalled'), [
      path.join(mounted, `slow-${name}`), name === 'urgent' ? 'u' : 'a'
    ], { stdio: ['pipe', 'pipe', 'inherit'] })
    const gone = new Promise((resolve) => { child.once('exit', resolve) })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
    while (!output.includes('opened')) await pause(10)
    server.stop()
    await pause(200)
    child.stdin.end('\n')
    await pause(2000)
    server.resume()
    await gone
    t.regex(output, /read 1 after signals/)
  })
}

check('kill -9 of a process blocked on a stopped server ends it within 2 seconds', async (t) => {
  writeFileSync(path.join(server.folder, 'blocked'), 'x'.repeat(100_000))
  server.stop()
  try {
    for (const command of [
      `cat ${mounted}/blocked`, `stat ${mounted}/never-seen-${Date.now()}`, `touch ${mounted}/new-file`,
      `ls ${mounted}/`
    ]) {
      const child = spawn('/bin/sh', ['-c', `exec ${command}`], { stdio: 'ignore' })
      const gone = new Promise<string>((resolve) => { child.once('exit', () => { resolve('gone') }) })
      if (await within(700, gone, () => 'blocked') === 'gone') continue
      const from = monotonicMs()
      child.kill('SIGKILL')
      t.is(await within(2000, gone, () => 'still there'), 'gone', command)
      t.log(`${command}: ${Math.round(monotonicMs() - from)} ms`)
    }
  } finally {
    server.resume()
  }
  t.is((await run('cat', [`${mounted}/blocked`])).stdout.length, 100_000)
})

check('removing an open file keeps it readable until it is closed, and leaves nothing then', async (t) => {
  const ran = await shell(
    `exec 3<>${mounted}/short-lived; echo kept >&3; rm ${mounted}/short-lived; test ! -e ${mounted}/short-lived; ls -A ${mounted} | grep -c nfs || true; cat <(exec 3<&-; true); exec 4</proc/self/fd/3 || true; exec 3<&- 4<&-; sleep 0.5; ls -A ${mounted} | grep -c '^.nfs' || true`
  )
  t.is(ran.trim().split('\n').at(-1), '0')
  const held = await shell(`exec 3<${mounted}/blocked; rm ${mounted}/blocked; wc -c <&3`)
  t.is(held.trim(), '100000')
  t.throws(() => statSync(path.join(server.folder, 'blocked')), { code: 'ENOENT' })
})
