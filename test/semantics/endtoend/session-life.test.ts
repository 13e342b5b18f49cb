/**
 * What becomes of a session's process: small when idle, and saving what it has when it is told to go.
 */
import { closeSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import path from 'node:path'
import { pause } from '../../../agent/base/deadline.ts'
import { testNeeding } from '../../peers/testing.ts'
import { processesOf, shell } from './node.ts'
import { standing } from './standing.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

const stand = standing(['root', 'fuse', 'ganesha'])

async function sessionPid (): Promise<number> {
  const line = (await processesOf(stand.node.runtime)).find((text) => text.includes(' session '))
  return Number(line?.split(' ')[0])
}

const anonymousKibibytes = (pid: number): number =>
  Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])

check('a session that has moved much data is small again when it is idle', async (t) => {
  await shell(
    `dd if=/dev/zero of=${stand.mounted}/big bs=1M count=256 conv=fsync status=none; echo 1 > /proc/sys/vm/drop_caches; dd if=${stand.mounted}/big of=/dev/null bs=1M status=none`
  )
  const pid = await sessionPid()
  const before = anonymousKibibytes(pid)
  for (let tries = 0; anonymousKibibytes(pid) > 40 * 1024 && tries < 300; tries += 1) await pause(100)
  t.log(`anonymous memory: ${before} kB under load, ${anonymousKibibytes(pid)} kB idle`)
  t.true(anonymousKibibytes(pid) <= 40 * 1024)
  t.is(statSync(path.join(stand.server.folder, 'big')).size, 256 * 1024 * 1024)
})

check('a session that is told to go saves what programs had written and not yet synced', async (t) => {
  const fd = openSync(path.join(stand.mounted, 'unsynced'), 'w')
  try {
    for (let index = 0; index < 50; index += 1) writeSync(fd, Buffer.alloc(10_000, index))
    const pid = await sessionPid()
    process.kill(pid, 'SIGTERM')
    for (let tries = 0; Number.isInteger(await sessionPid()) && tries < 300; tries += 1) await pause(50)
    const there = readFileSync(path.join(stand.server.folder, 'unsynced'))
    t.is(there.length, 500_000)
    for (let index = 0; index < 50; index += 1) {
      t.true(there.subarray(index * 10_000, (index + 1) * 10_000).every((byte) => byte === index))
    }
  } finally {
    try { closeSync(fd) } catch { /* ENOTCONN: its mount is gone, which is the point */ }
  }
})
