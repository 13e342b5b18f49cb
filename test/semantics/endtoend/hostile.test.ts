/**
 * A hostile server and a hostile pod do their worst together against one volume; another volume and what is written
 * meanwhile are the truth. With `scripts/test --long` (VOLBRIDGE_LONG) for a minute.
 */
import { spawn } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { pause } from '../../../agent/base/deadline.ts'
import { XdrWriter } from '../../../proto/xdr/writer.ts'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import type { Script } from '../../peers/nfs-server/script.ts'
import { testNeeding } from '../../peers/testing.ts'
import { processesOf, run, shell, TestNode } from './node.ts'

const check = testNeeding('root', 'fuse')
const seconds = process.env['VOLBRIDGE_LONG'] === '1' ? 60 : 8
const mebibyte = 1024 * 1024
const residentBytesMax = 320 * mebibyte
/** Whose folders have no end. */
const lister = 7_777

/** Threads that list what has no end, from the start and from a place far behind any entry. */
const listing = `
import ctypes, os, sys, threading
os.setgroups([]); os.setgid(${lister}); os.setuid(${lister})
libc = ctypes.CDLL(None)
def work(far):
    fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
    if far: os.lseek(fd, 10**12, os.SEEK_SET)
    buffer = ctypes.create_string_buffer(32768)
    while libc.syscall(217, fd, buffer, 32768) > 0: pass
for n in range(40): threading.Thread(target=work, args=(n % 2 == 0,)).start()
`

/** Processes that live for one open, each with 65,536 groups of its own. */
const groups = `
import os, sys
for n in range(8):
    if os.fork() == 0:
        while True:
            child = os.fork()
            if child == 0:
                first = 1_000_000 + os.getpid() * 10
                os.setgroups(range(first, first + 65536)); os.setgid(5000 + n); os.setuid(6000 + n)
                with open(sys.argv[1] + '/file') as f: f.read()
                os._exit(0)
            os.waitpid(child, 0)
os.wait()
`

/** Threads that hold thousands of files open, and write. */
const flood = `
import os, sys, threading
block = b'x' * 1048576
def work(n):
    held = [os.open(sys.argv[1] + '/file', os.O_RDONLY) for _ in range(20)]
    while True:
        fd = os.open('%s/flood%d' % (sys.argv[1], n), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for _ in range(4): os.write(fd, block)
        os.close(fd)
for n in range(32): threading.Thread(target=work, args=(n,)).start()
`

/** Five hundred new names a page, and more to come. */
function endlessPage (nth: number, isPlus: boolean): Buffer {
  const out = new XdrWriter(64 * 1024)
  // REPLY, MSG_ACCEPTED, AUTH_NONE without a body, SUCCESS; NFS3_OK, no attributes, the verifier.
  for (const word of [1, 0, 0, 0, 0, 0, 0, 0, 0]) out.uint32(word)
  for (let index = 0; index < 500; index++) {
    const number = nth * 500 + index + 1
    out.uint32(1)
    out.uint64(BigInt(number))
    out.latin1(`name-${number}`, 255)
    out.uint64(BigInt(number))
    if (isPlus) for (const word of [0, 0]) out.uint32(word)
  }
  for (const word of [0, 0]) out.uint32(word)
  return Buffer.concat(out.finish())
}

const residentBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

check('a hostile server and a hostile pod together: the session stays small, its work ends with them, and nothing of others is lost', async (t) => {
  t.timeout((seconds + 120) * 1000)
  const node = new TestNode()
  const [folder, quiet] = [node.makeFolder('export'), node.makeFolder('quiet')]
  for (const place of [folder, quiet]) {
    writeFileSync(path.join(place, 'file'), 'hello')
    chmodSync(place, 0o777)
  }
  let pages = 0
  const script: Script = ({ uid, procedure }) =>
    uid === lister && procedure.startsWith('READDIR')
      ? { garbage: endlessPage(pages++, procedure === 'READDIRPLUS') }
      : undefined
  const children: ReturnType<typeof spawn>[] = []
  const kill = (): void => {
    for (const { pid } of children) {
      if (pid !== undefined) try { process.kill(-pid, 'SIGKILL') } catch { /* it has ended by itself */ }
    }
  }
  try {
    await using hostile = await NfsServer.start({ folder, script })
    await using good = await NfsServer.start({ folder: quiet })
    await node.startAgent()
    const [mounted, other] = [node.makeFolder('mnt'), node.makeFolder('other')]
    await node.mount(`${hostile.host}:${hostile.share}`, mounted, `port=${hostile.port},mountport=${hostile.port}`)
    await node.mount(`${good.host}:${good.share}`, other, `port=${good.port},mountport=${good.port}`)
    const pids = (await processesOf(node.runtime)).filter((line) => line.includes(' session '))
      .map((line) => Number(line.split(' ')[0]))
    t.is(pids.length, 2)

    /** The longest of many opens and reads of the other volume, in milliseconds. */
    const neighbour = async (forMs: number): Promise<{ worst: number, count: number, resident: number }> => {
      let [worst, count, resident] = [0, 0, 0]
      for (const until = Date.now() + forMs; Date.now() < until; count++) {
        const ran = await run('sh', [
          '-c', `s=$(date +%s%N); cat ${other}/file; echo " $(( ($(date +%s%N) - s) / 1000000 ))"`
        ])
        const [text, ms] = ran.stdout.trim().split(' ')
        t.is(text, 'hello', ran.stderr)
        worst = Math.max(worst, Number(ms))
        resident = Math.max(resident, ...pids.map(residentBytes))
      }
      return { worst, count, resident }
    }

    const before = await neighbour(2_000)
    for (const program of [listing, groups, flood]) {
      children.push(spawn('python3', ['-c', program, mounted], { detached: true, stdio: 'ignore' }))
    }
    const kept = shell(`cd ${mounted} && for n in $(seq 40); do echo line $n >> kept; sync kept; done`)
    const during = await neighbour(seconds * 1000)
    await kept
    t.log(
      `a neighbour's slowest open and read: ${before.worst} ms of ${before.count} alone, ${during.worst} ms of ${during.count} beside them; ${Math.round(during.resident / mebibyte)} MiB resident at most; ${pages} pages`
    )
    t.true(pages > 20, 'nothing was listed')
    t.true(during.resident <= residentBytesMax, `${during.resident} bytes`)
    kill()
    await pause(5_000)
    const asked = pages
    await pause(2_000)
    t.is(pages, asked, 'nobody waits for it, and it is listed on')
    t.is(
      readFileSync(path.join(folder, 'kept'), 'utf8'),
      Array.from({ length: 40 }, (_, index) => `line ${index + 1}\n`).join('')
    )
    t.deepEqual(
      (await processesOf(node.runtime)).filter((line) => line.includes(' session ')).map((line) =>
        Number(line.split(' ')[0])
      ),
      pids,
      'another session serves a mount now'
    )
  } finally {
    kill()
    await node.close()
  }
})
