/**
 * A mount that has 256 MiB, enforced by the kernel (cgroup v1 or v2), and programs that keep 128 requests of 1 MiB under way.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, shell, TestNode } from './node.ts'

const mebibyte = 1024 * 1024
/** Where memory is limited here, and by which file. */
const hierarchies = [['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'], ['/sys/fs/cgroup', 'memory.max']] as const

function makeGroup (bytes: number): string | undefined {
  const found = hierarchies.find(([root]) => existsSync(path.join(root, 'memory.stat')))
  if (found === undefined) return undefined
  const [root, limit] = found
  const group = mkdtempSync(path.join(root, 'volbridge-test-memory-'))
  if (!existsSync(path.join(group, limit))) {
    // The controller is not handed down.
    rmdirSync(group)
    return undefined
  }
  writeFileSync(path.join(group, limit), `${bytes}`)
  return group
}

testNeeding('root', 'fuse', 'ganesha', 'fio')('a mount that has 256 MiB lives through 128 requests of 1 MiB under way, and loses nothing', async (t) => {
  const group = makeGroup(256 * mebibyte)
  if (group === undefined) {
    t.log('memory cannot be limited here')
    t.pass()
    return
  }
  const node = new TestNode()
  const server = await Ganesha.start({ folder: node.makeFolder('export') })
  const point = node.makeFolder('mnt')
  const mount = spawn('/bin/sh', ['-c', `echo $$ > ${group}/cgroup.procs; exec "$@"`, 'sh', binary, 'mount', '--foreground', `${server.host}:${server.folder}`, point, '-o', server.mountOptions, ...node.places],
    { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  mount.stderr.setEncoding('utf8').on('data', (text: string) => { said += text })
  try {
    for (const endMs = monotonicMs() + 30_000; mountsBelow(point).length === 0; await pause(50)) {
      if (mount.exitCode !== null || monotonicMs() > endMs) throw new Error(`no mount: ${said}`)
    }
    const common = '--directory=. --size=384m --bs=1m --output=/dev/null --verify=crc32c --verify_fatal=1'
    for (const how of [
      '--name=direct --rw=write --direct=1 --ioengine=libaio --iodepth=128 --do_verify=1',
      '--name=buffered --rw=write --ioengine=psync --numjobs=4 --size=96m --do_verify=1',
      '--name=direct --rw=read --direct=1 --ioengine=libaio --iodepth=128'
    ]) await shell(`cd ${point} && fio ${common} ${how}`)
    const used = ['memory.max_usage_in_bytes', 'memory.peak'].map((name) => path.join(group, name)).find(existsSync)
    if (used !== undefined) t.log(`${Math.round(Number(readFileSync(used, 'utf8')) / mebibyte)} MiB at most`)
    t.is(mount.exitCode, null, said)
    t.is(mount.signalCode, null, said)
  } finally {
    await shell(`umount -l ${point} || true`)
    const ended = new Promise((resolve) => { mount.once('exit', resolve) })
    mount.kill('SIGTERM')
    if (mount.exitCode === null && mount.signalCode === null) await ended
    await node.close()
    await server.close()
    // A group can be removed a moment after its last process has ended.
    for (let tries = 0; existsSync(group) && tries < 100; tries++) {
      try { rmdirSync(group) } catch { await pause(50) }
    }
  }
})
