/**
 * Who may see what: the server judges by the caller's own uid, gid and supplementary groups, the kernel by cached modes.
 */
import { chmodSync, chownSync, mkdirSync, writeFileSync, statSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { run, shell, TestNode, type Ran } from './node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

let server: Ganesha
let node: TestNode
let mounted: string

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha') !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  await node.startAgent()
  mounted = node.makeFolder('mnt')
  chmodSync(server.folder, 0o777)
  await node.mount(`${server.host}:${server.folder}`, mounted, server.mountOptions)
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

/** Runs a shell command as a user with exactly these groups. */
async function as (user: { uid: number, gid?: number, groups?: readonly number[] }, command: string): Promise<Ran> {
  const gid = user.gid ?? user.uid
  const groups = user.groups === undefined || user.groups.length === 0 ? ['--clear-groups'] : ['--groups', user.groups.join(',')]
  return await run('setpriv', ['--reuid', String(user.uid), '--regid', String(gid), ...groups, '/bin/sh', '-c', command], { cwd: '/' })
}

check('a file made by a user belongs to that user and group on the server', async (t) => {
  const made = await as({ uid: 1234, gid: 2345 }, `umask 027; echo x > ${mounted}/mine; mkdir ${mounted}/mydir`)
  t.is(made.code, 0, made.stderr)
  const stat = statSync(path.join(server.folder, 'mine'))
  t.deepEqual([stat.uid, stat.gid, stat.mode & 0o7777], [1234, 2345, 0o640])
  t.is(statSync(path.join(server.folder, 'mydir')).mode & 0o7777, 0o750)
})

check('a supplementary group opens what only that group may read, and no other group does', async (t) => {
  const folder = path.join(server.folder, 'team')
  mkdirSync(folder)
  writeFileSync(path.join(folder, 'plan'), 'secret plan')
  chownSync(folder, 0, 7001); chmodSync(folder, 0o770)
  chownSync(path.join(folder, 'plan'), 0, 7001); chmodSync(path.join(folder, 'plan'), 0o660)
  const member = await as({ uid: 1300, groups: [9, 7001, 8000] }, `cat ${mounted}/team/plan && echo more >> ${mounted}/team/plan`)
  t.is(member.code, 0, member.stderr)
  t.is(member.stdout, 'secret plan')
  const stranger = await as({ uid: 1300, groups: [9, 8000] }, `cat ${mounted}/team/plan`)
  t.not(stranger.code, 0)
  t.regex(stranger.stderr, /Permission denied/)
})

check('a second user sees nothing below a 0700 folder whose contents the first has cached, not even attributes', async (t) => {
  const owner = await as({ uid: 1400 }, `mkdir -m 700 ${mounted}/private && echo s3cret > ${mounted}/private/file && chmod 666 ${mounted}/private/file && cat ${mounted}/private/file && ls -l ${mounted}/private && stat ${mounted}/private/file`)
  t.is(owner.code, 0, owner.stderr)
  for (const command of ['cat', 'stat', 'ls -l', 'readlink', 'test -e']) {
    const other = await as({ uid: 1401 }, `${command} ${mounted}/private/file`)
    t.not(other.code, 0, command)
    t.false(other.stdout.includes('s3cret'))
    t.false(other.stdout.includes('1400'))
  }
  t.not((await as({ uid: 1401 }, `ls ${mounted}/private`)).code, 0)
})

check('an open file stays readable and writable for its opener after the mode was taken away', async (t) => {
  const ran = await as({ uid: 1500 }, `exec 3<>${mounted}/kept-open && chmod 000 ${mounted}/kept-open && echo through >&3 && cat /proc/self/fd/3 2>/dev/null; exec 3>&-; exit 0`)
  t.is(ran.code, 0, ran.stderr)
  t.is(await shell(`cat ${server.folder}/kept-open`), 'through\n')
  t.not((await as({ uid: 1500 }, `cat ${mounted}/kept-open`)).code, 0)
})

check('the read of a file opened by root and handed to another user goes on with the right of the opener', async (t) => {
  writeFileSync(path.join(server.folder, 'root-only'), 'for root', { mode: 0o600 })
  const ran = await run('/bin/bash', ['-c', `exec 3<${mounted}/root-only; setpriv --reuid 1600 --regid 1600 --clear-groups cat <&3`], { cwd: '/' })
  t.is(ran.stdout, 'for root', ran.stderr)
})
