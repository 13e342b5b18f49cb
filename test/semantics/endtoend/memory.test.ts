/**
 * Memory of a session: idle, and with as many large requests under way as the kernel hands over, in a cgroup that
 * allows 256 MiB.
 */
import { createHash } from 'node:crypto'
import { createReadStream, readFileSync } from 'node:fs'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { MemoryGroup } from '../../peers/memory-group.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { processesOf, run, shell, TestNode } from './node.ts'

const needs = ['root', 'fuse', 'ganesha', 'fio'] as const
const check = testNeeding(...needs)
const mebibyte = 1024 * 1024
const limitBytes = 256 * mebibyte
const idleBytes = 90 * mebibyte

let server: Ganesha
let node: TestNode
let mounted: string

test.before(async () => {
  if (missing(...needs) !== undefined) return
  node = new TestNode()
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  mounted = node.makeFolder('mnt')
  await node.mount(`${server.host}:${server.folder}`, mounted, server.mountOptions)
})

test.after.always(async () => {
  server?.resume()
  await node?.close()
  await server?.close()
})

async function sessionPid (): Promise<number> {
  return Number((await processesOf(node.runtime)).find((line) => line.includes(' session '))?.split(' ')[0])
}

const bytesOf = (pid: number, field: 'VmRSS' | 'VmHWM' | 'RssAnon'): number =>
  Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

/**
 * What the process has already is on its former group's account: that much less is allowed here. Pages that it gives
 * back and takes again count twice then, so this is stricter than a session born in the group.
 */
function confine (t: ExecutionContext, pid: number): MemoryGroup | undefined {
  const group = MemoryGroup.make(limitBytes - bytesOf(pid, 'RssAnon'))
  if (typeof group === 'string') {
    t.log(group)
    return undefined
  }
  group.enter(pid)
  return group
}

async function digestOf (file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

check('128 requests of 1 MiB under way, readers’ and writers’, fit into 256 MiB, and nothing of them is lost', async (t) => {
  t.timeout(300_000)
  const pid = await sessionPid()
  // Direct writes go side by side only into a file that is there (kernel fs/fuse/file.c, fuse_direct_IO).
  await shell(`cd ${server.folder}; head -c 256M /dev/urandom > large; head -c 256M /dev/zero > written`)
  const group = confine(t, pid)
  try {
    const fio = (rw: string): Promise<{ code: number, stdout: string, stderr: string }> =>
      run('fio', [
        '--name=x', `--rw=${rw}`, '--ioengine=libaio', '--direct=1', '--bs=1m', '--iodepth=64',
        '--size=256m', `--filename=${mounted}/${rw === 'read' ? 'large' : 'written'}`,
        ...rw === 'write' ? ['--verify=md5', '--verify_state_save=0', '--end_fsync=1', '--overwrite=1'] : []
      ])
    const both = [fio('read'), fio('write')]
    // Everything that can be under way is, when the server does not answer for a while.
    for (let round = 0; round < 3; round++) {
      server.stop()
      await pause(700)
      server.resume()
      await pause(150)
    }
    for (const ran of await Promise.all(both)) t.is(ran.code, 0, ran.stdout + ran.stderr)
    t.log(`at most ${Math.round(bytesOf(pid, 'VmHWM') / mebibyte)} MiB resident`)
    t.is(await sessionPid(), pid, 'another session serves the mount now')
    if (group !== undefined) t.is(group.kills, 0)
    t.true(bytesOf(pid, 'VmHWM') <= limitBytes, `${bytesOf(pid, 'VmHWM')} bytes`)
    const digest = (await shell(`sha256sum < ${mounted}/written`)).split(' ')[0]
    t.is(digest, await digestOf(path.join(server.folder, 'written')))
  } finally {
    group?.remove(pid)
    await run('rm', ['-f', `${server.folder}/large`, `${server.folder}/written`])
  }
})

check('a session that has become idle gives memory back', async (t) => {
  t.timeout(120_000)
  const pid = await sessionPid()
  await shell(`head -c 64M /dev/zero > ${mounted}/some; cat ${mounted}/some > /dev/null; rm ${mounted}/some`)
  let bytes = Infinity
  for (let tries = 0; tries < 80 && bytes > idleBytes; tries++) {
    await pause(1000)
    bytes = bytesOf(pid, 'VmRSS')
  }
  t.log(`${Math.round(bytes / mebibyte)} MiB resident`)
  t.true(bytes <= idleBytes, `${bytes} bytes`)
})
