/**
 * Who may see what: the server judges by the caller's own uid, gid and supplementary groups, the kernel by cached
 * modes.
 */
import { chmodSync, chownSync, mkdirSync, writeFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { testNeeding } from '../../peers/testing.ts'
import { run, shell, type Ran } from './node.ts'
import { standing } from './standing.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

const stand = standing(['root', 'fuse', 'ganesha'], { prepare: ({ folder }) => { chmodSync(folder, 0o777) } })

/** Runs a shell command as a user with exactly these groups. */
async function as (user: { uid: number, gid?: number, groups?: readonly number[] }, command: string): Promise<Ran> {
  const gid = user.gid ?? user.uid
  const groups = user.groups === undefined || user.groups.length === 0
    ? ['--clear-groups']
    : ['--groups', user.groups.join(',')]
  return await run('setpriv', [
    '--reuid', String(user.uid), '--regid', String(gid), ...groups, '/bin/sh', '-c', command
  ], { cwd: '/' })
}

check('a file made by a user belongs to that user and group on the server', async (t) => {
  const made = await as(
    { uid: 1234, gid: 2345 },
    `umask 027; echo x > ${stand.mounted}/mine; mkdir ${stand.mounted}/mydir`
  )
  t.is(made.code, 0, made.stderr)
  const stat = statSync(path.join(stand.server.folder, 'mine'))
  t.deepEqual([stat.uid, stat.gid, stat.mode & 0o7777], [1234, 2345, 0o640])
  t.is(statSync(path.join(stand.server.folder, 'mydir')).mode & 0o7777, 0o750)
})

check('a supplementary group opens what only that group may read, and no other group does', async (t) => {
  const folder = path.join(stand.server.folder, 'team')
  mkdirSync(folder)
  writeFileSync(path.join(folder, 'plan'), 'secret plan')
  chownSync(folder, 0, 7001)
  chmodSync(folder, 0o770)
  chownSync(path.join(folder, 'plan'), 0, 7001)
  chmodSync(path.join(folder, 'plan'), 0o660)
  const member = await as(
    { uid: 1300, groups: [9, 7001, 8000] },
    `cat ${stand.mounted}/team/plan && echo more >> ${stand.mounted}/team/plan`
  )
  t.is(member.code, 0, member.stderr)
  t.is(member.stdout, 'secret plan')
  const stranger = await as({ uid: 1300, groups: [9, 8000] }, `cat ${stand.mounted}/team/plan`)
  t.not(stranger.code, 0)
  t.regex(stranger.stderr, /Permission denied/)
})

check('a second user sees nothing below a 0700 folder whose contents the first has cached, not even attributes', async (t) => {
  const owner = await as(
    { uid: 1400 },
    `mkdir -m 700 ${stand.mounted}/private && echo s3cret > ${stand.mounted}/private/file && chmod 666 ${stand.mounted}/private/file && cat ${stand.mounted}/private/file && ls -l ${stand.mounted}/private && stat ${stand.mounted}/private/file`
  )
  t.is(owner.code, 0, owner.stderr)
  for (const command of ['cat', 'stat', 'ls -l', 'readlink', 'test -e']) {
    const other = await as({ uid: 1401 }, `${command} ${stand.mounted}/private/file`)
    t.not(other.code, 0, command)
    t.false(other.stdout.includes('s3cret'))
    t.false(other.stdout.includes('1400'))
  }
  t.not((await as({ uid: 1401 }, `ls ${stand.mounted}/private`)).code, 0)
})

check('an open file stays readable and writable for its opener after the mode was taken away', async (t) => {
  const ran = await as(
    { uid: 1500 },
    `exec 3<>${stand.mounted}/kept-open && chmod 000 ${stand.mounted}/kept-open && echo through >&3 && cat /proc/self/fd/3 2>/dev/null; exec 3>&-; exit 0`
  )
  t.is(ran.code, 0, ran.stderr)
  t.is(await shell(`cat ${stand.server.folder}/kept-open`), 'through\n')
  t.not((await as({ uid: 1500 }, `cat ${stand.mounted}/kept-open`)).code, 0)
})

check('the read of a file opened by root and handed to another user goes on with the right of the opener', async (t) => {
  writeFileSync(path.join(stand.server.folder, 'root-only'), 'for root', { mode: 0o600 })
  const ran = await run('/bin/bash', [
    '-c', `exec 3<${stand.mounted}/root-only; setpriv --reuid 1600 --regid 1600 --clear-groups cat <&3`
  ], { cwd: '/' })
  t.is(ran.stdout, 'for root', ran.stderr)
})
