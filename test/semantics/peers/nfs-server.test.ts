// The embedded NFS server, judged by libnfs. Needs neither root nor FUSE, but Debian's libnfs-utils.
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import { startServerProcess } from '../../peers/nfs-server/process.ts'
import { testNeeding } from '../../peers/testing.ts'

const run = promisify(execFile)
const test = testNeeding('libnfs')

function folder (): { path: string } & Disposable {
  const made = mkdtempSync('/var/tmp/volbridge-nfs-server-')
  return { path: made, [Symbol.dispose]: () => { rmSync(made, { recursive: true, force: true }) } }
}

const sum = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

test('libnfs lists kinds, modes, link counts and sizes as they are', async (t) => {
  using root = folder()
  writeFileSync(path.join(root.path, 'plain'), 'x'.repeat(123))
  chmodSync(path.join(root.path, 'plain'), 0o640)
  linkSync(path.join(root.path, 'plain'), path.join(root.path, 'second-name'))
  mkdirSync(path.join(root.path, 'sub'), { mode: 0o751 })
  symlinkSync('plain', path.join(root.path, 'pointer'))
  writeFileSync(path.join(root.path, 'ä'.repeat(100)), '')
  await using server = await NfsServer.start({ folder: root.path })
  const { stdout } = await run('nfs-ls', [server.url()])
  t.regex(stdout, /^-rw-r----- +2 .* 123 plain$/m)
  t.regex(stdout, /^-rw-r----- +2 .* 123 second-name$/m)
  t.regex(stdout, /^drwxr-x--x +2 .* sub$/m)
  t.regex(stdout, /^l.* pointer$/m)
  t.regex(stdout, new RegExp(`${'ä'.repeat(100)}$`, 'm'))
})

test('a file written through libnfs and read back is the same, and lies in the folder', async (t) => {
  using root = folder()
  using outside = folder()
  const bytes = randomBytes(5 * 1024 * 1024 + 17)
  writeFileSync(path.join(outside.path, 'in'), bytes)
  await using server = await NfsServer.start({ folder: root.path })
  await run('nfs-cp', [path.join(outside.path, 'in'), server.url('/copied')])
  await run('nfs-cp', [server.url('/copied'), path.join(outside.path, 'out')])
  t.is(sum(readFileSync(path.join(root.path, 'copied'))), sum(bytes))
  t.is(sum(readFileSync(path.join(outside.path, 'out'))), sum(bytes))
})

test('5,000 entries are listed once each over many pages', async (t) => {
  using root = folder()
  const names = Array.from({ length: 5000 }, (_, index) => `entry-${index}`)
  for (const name of names) writeFileSync(path.join(root.path, name), '')
  await using server = await NfsServer.start({ folder: root.path })
  const { stdout } = await run('nfs-ls', [server.url()], { maxBuffer: 16 * 1024 * 1024 })
  t.deepEqual(
    stdout.split('\n').map((line) => line.split(' ').at(-1)).filter((name) => name?.startsWith('entry-')).sort(),
    names.sort()
  )
  t.true((server.calls['READDIRPLUS'] ?? 0) > 10)
})

test('JUKEBOX, short reads and lost replies are survived by a client that knows NFS', async (t) => {
  using root = folder()
  using outside = folder()
  const bytes = randomBytes(1024 * 1024)
  writeFileSync(path.join(root.path, 'file'), bytes)
  await using server = await NfsServer.start({
    folder: root.path,
    script: ({ procedure, nth }) => {
      if (procedure === 'READ' && nth % 2 === 0) return { bytesMax: 100_000 }
      if (procedure === 'GETATTR') return { copies: 2, fragmentBytes: 7 }
      return undefined
    }
  })
  await run('nfs-cp', [server.url('/file'), path.join(outside.path, 'out')])
  t.is(sum(readFileSync(path.join(outside.path, 'out'))), sum(bytes))
})

test('a scripted status reaches the client', async (t) => {
  using root = folder()
  writeFileSync(path.join(root.path, 'file'), '')
  await using server = await NfsServer.start({
    folder: root.path,
    script: ({ procedure }) => procedure === 'READDIRPLUS' || procedure === 'READDIR' ? { status: 'ACCES' } : undefined
  })
  const error = await t.throwsAsync<Error & { stdout: string, stderr: string }>(run('nfs-ls', [server.url()]))
  t.regex(`${error?.stdout}${error?.stderr}`, /ACCES|Permission/i)
})

test('as a process of its own it ends when it is closed', async (t) => {
  using root = folder()
  writeFileSync(path.join(root.path, 'file'), '')
  const server = await startServerProcess({ folder: root.path })
  t.regex((await run('nfs-ls', [server.url])).stdout, / file$/m)
  await server.close()
  await t.throwsAsync(run('nfs-ls', [server.url]))
})
