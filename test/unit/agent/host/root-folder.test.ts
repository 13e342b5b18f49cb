/** Where root may act: folders on a real file system, some of them another user's. */
import {
  chmodSync, chownSync, existsSync,
  lchownSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, renameSync, rmSync, symlinkSync,
  writeFileSync
} from 'node:fs'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { VolumeError } from '../../../../agent/base/errors.ts'
import { RootFolder, readRootFile, withRootFolder } from '../../../../agent/host/root-folder.ts'
import { testNeeding } from '../../../peers/testing.ts'

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'volbridge-root-')))
test.after.always(() => { rmSync(folder, { recursive: true, force: true }) })

const asRoot = testNeeding('root')
const nobody = 65534
const make = (...names: readonly string[]): string => {
  const made = join(folder, ...names)
  mkdirSync(made, { recursive: true })
  return made
}
const refusal = (words: RegExp): { instanceOf: typeof VolumeError, code: string, message: RegExp } => ({
  instanceOf: VolumeError, code: 'DENIED', message: words
})

test('missing folders are made below the last that is there, through links that are ours, inside the base', (t) => {
  const base = make('base')
  make('base', 'data')
  symlinkSync('/data', join(base, 'var'))
  symlinkSync('../../../../data', join(base, 'up'))
  withRootFolder(RootFolder.openBase(base), (root) => {
    withRootFolder(RootFolder.open('/var/a/b', { base: root, make: 0o755 }), (made) => {
      t.is(made.path, join(base, 'data/a/b'))
    })
    withRootFolder(RootFolder.open('/up/a/../a', { base: root }), (found) => { t.is(found.path, join(base, 'data/a')) })
    t.is(RootFolder.openIfThere('/var/none', { base: root }), undefined)
  })
  symlinkSync('/loop', join(base, 'loop'))
  withRootFolder(RootFolder.openBase(base), (root) => {
    t.throws(() => RootFolder.open('/loop', { base: root }), { message: /too many symbolic links/ })
  })
})

test('a folder that others can write to is refused, itself and what is below it; a sticky one only itself', (t) => {
  const open = make('open', 'below')
  chmodSync(join(folder, 'open'), 0o775)
  t.throws(() => RootFolder.open(open), refusal(/open can be written by others \(mode 0775\).*chmod go-w/))
  t.throws(() => RootFolder.open(join(open, 'new'), { make: 0o755 }), refusal(/open can be written/))
  t.false(existsSync(join(open, 'new')))
  chmodSync(join(folder, 'open'), 0o1777)
  t.notThrows(() => { RootFolder.open(open).close() })
  t.throws(() => RootFolder.open(join(folder, 'open')), refusal(/mode 1777/))
})

/** acl(5) as the kernel keeps it: the owner, uid 65534 and the mask have everything, the others may look. */
const accessList = '02000000' + '01000700ffffffff' + '02000700feff0000' + '04000500ffffffff' + '10000700ffffffff' +
  '20000500ffffffff'

asRoot('an access list that lets others write counts', (t) => {
  const listed = make('listed')
  const program = 'import os, sys; os.setxattr(sys.argv[1], "system.posix_acl_access", bytes.fromhex(sys.argv[2]))'
  execFileSync('python3', ['-c', program, listed, accessList])
  t.throws(() => RootFolder.open(listed), refusal(/written by others/))
})

asRoot('another user’s folder or link on the way is refused, whatever it leads to', (t) => {
  const theirs = make('theirs')
  chownSync(theirs, nobody, nobody)
  t.throws(() => RootFolder.open(theirs), refusal(/belongs to uid 65534/))
  const shared = make('shared')
  chmodSync(shared, 0o1777)
  const link = join(shared, 'link')
  symlinkSync(make('target'), link)
  t.notThrows(() => { RootFolder.open(link).close() })
  lchownSync(link, nobody, nobody)
  t.throws(() => RootFolder.open(link), refusal(/the link .*shared\/link belongs to uid 65534.*remove it/))
})

test('what is done in an open folder is done there, wherever its name leads by now', (t) => {
  const [first, other] = [make('first'), make('other')]
  withRootFolder(RootFolder.open(first), (opened) => {
    renameSync(first, `${first}-moved`)
    symlinkSync(other, first)
    opened.makeChild('made', 0o755).close()
    writeFileSync(opened.openFile('file', 0o1 | 0o100, 0o600), 'x')
    opened.rename('file', 'renamed')
  })
  t.deepEqual([existsSync(join(other, 'made')), existsSync(join(`${first}-moved`, 'made'))], [false, true])
  t.is(readFileSync(join(`${first}-moved`, 'renamed'), 'utf8'), 'x')
})

test('names that lead out of a folder are none; a link is not opened as a file', (t) => {
  const own = make('names')
  symlinkSync('/etc/passwd', join(own, 'link'))
  withRootFolder(RootFolder.open(own), (opened) => {
    for (const name of ['', '..', 'a/b']) t.throws(() => opened.at(name), { instanceOf: VolumeError }, name)
    t.throws(() => opened.openFile('link', 0), { code: 'ELOOP' })
    t.throws(() => opened.child('link'), { code: 'ENOTDIR', message: /names\/link/ })
    t.true(opened.look('link')?.isSymbolicLink())
    t.is(opened.look('none'), undefined)
  })
})

test('a file is read to its end, if it is one, ours, and short enough', (t) => {
  const own = make('files')
  const file = join(own, 'f')
  writeFileSync(file, 'text')
  symlinkSync('f', join(own, 'l'))
  t.is(readRootFile(join(own, 'l'), 4), 'text')
  t.is(readRootFile(join(own, 'none'), 4), undefined)
  t.throws(() => readRootFile(file, 3), { message: /longer than 3 bytes/ })
  t.throws(() => readRootFile(own, 3), { message: /not a regular file/ })
  t.throws(() => readRootFile('/', 3), { message: /not a file/ })
  execFileSync('mkfifo', [join(own, 'p')])
  t.throws(() => readRootFile(join(own, 'p'), 3), { message: /not a regular file/ })
})
