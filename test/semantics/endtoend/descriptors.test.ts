/**
 * Descriptors that a starter has left open: neither the agent nor its sessions, which outlive everybody, keep them.
 */
import { readdirSync, readlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { testNeeding } from '../../peers/testing.ts'
import { binary, processesOf, shell } from './node.ts'
import { standing } from './standing.ts'

const check = testNeeding('root', 'fuse', 'ganesha')
const stand = standing(['root', 'fuse', 'ganesha'])

/** Node itself marks the first sixteen as not to be handed on. */
const strangeFd = 40

function holds (pid: number, file: string): boolean {
  const folder = `/proc/${pid}/fd`
  return readdirSync(folder).some((fd) => {
    try {
      return readlinkSync(path.join(folder, fd)) === file
    } catch {
      // Closed meanwhile.
      return false
    }
  })
}

check('what the agent’s starter has left open reaches neither the agent nor its sessions', async (t) => {
  const { node, server } = stand
  const strange = path.join(node.folder, 'strange')
  writeFileSync(strange, '')
  await node.unmount(stand.mounted)
  await node.stopAgent()
  const call = [
    binary, 'mount', `${server.host}:${server.folder}`, stand.mounted, '-o', server.mountOptions, ...node.places
  ].join(' ')
  await shell(`exec ${strangeFd}< ${strange}; ${call}`)
  const processes = (await processesOf(node.runtime)).map((line) => ({ line, pid: Number(line.split(' ')[0]) }))
  for (const role of [' agent ', ' session ']) {
    const those = processes.filter(({ line }) => line.includes(role))
    t.is(those.length, 1, role)
    for (const { pid } of those) t.false(holds(pid, strange), role)
  }
  await shell(`exec ${strangeFd}< ${strange}; test -e /proc/$BASHPID/fd/${strangeFd}`)
  t.is((await node.unmount(stand.mounted)).code, 0)
})
