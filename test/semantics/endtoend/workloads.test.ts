/**
 * Everyday programs on a mount made by the packed binary against a real NFS server; the judge is the exported folder
 * itself.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, statSync, writeFileSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { testNeeding } from '../../peers/testing.ts'
import { mountsBelow, run, shell } from './node.ts'
import { standing } from './standing.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

const stand = standing(['root', 'fuse', 'ganesha'])

/**
 * Kind, mode, owner, size, whole-second mtime and link target of everything below, then a checksum of every file: one
 * text. Symbolic links come without their times: nfs-ganesha's VFS back end answers success to setting them and does
 * nothing.
 */
async function manifest (folder: string): Promise<string> {
  const kinds = await shell(
    'find . -mindepth 1 \\( -type d -printf \'%p d %m %U %G\\n\' \\) -o \\( -type l -printf \'%p l %U %G %l\\n\' \\) -o -printf \'%p %y %m %U %G %s %Ts %l\\n\' | LC_ALL=C sort',
    { cwd: folder }
  )
  const sums = await shell('find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum', { cwd: folder })
  return kinds + sums
}

/** The lines that only one of two manifests has: an empty list is equality, and a failure stays readable. */
function differences (left: string, right: string): readonly string[] {
  const [here, there] = [new Set(left.split('\n')), new Set(right.split('\n'))]
  return [
    ...[...here].filter((line) => !there.has(line)).map((line) => `< ${line}`),
    ...[...there].filter((line) => !here.has(line)).map((line) => `> ${line}`)
  ].slice(0, 20)
}

/** A tree made from a fixed seed: many small files, some large, links of both kinds, empty and odd names. */
function makeTree (folder: string, files: number): void {
  let seed = 42
  const next = (): number => (seed = (seed * 1103515245 + 12345) & 0x7fffffff)
  for (let index = 0; index < files; index += 1) {
    const below = path.join(folder, `d${index % 97}`, `e${index % 7}`)
    mkdirSync(below, { recursive: true })
    const bytes = index % 500 === 0 ? 1_500_000 : next() % 9000
    writeFileSync(path.join(below, `file-${index}.txt`), Buffer.alloc(bytes, `${index}:${next()}|`), {
      mode: index % 11 === 0 ? 0o755 : 0o640
    })
  }
}

check('cp -a of a tree of more than 10,000 files arrives whole, with modes, owners, times and links', async (t) => {
  const source = stand.node.makeFolder('tree')
  makeTree(source, 10_200)
  await shell(
    'ln -s d1/e1 link-to-folder; ln -s /nowhere dangling; ln d0/e0/file-0.txt hard-link; mkdir empty; mkfifo fifo',
    { cwd: source }
  )
  await shell(`cp -a ${source} ${stand.mounted}/tree`)
  t.deepEqual(differences(await manifest(path.join(stand.server.folder, 'tree')), await manifest(source)), [])
  t.is(
    statSync(path.join(stand.server.folder, 'tree/hard-link')).ino,
    statSync(path.join(stand.server.folder, 'tree/d0/e0/file-0.txt')).ino
  )
  t.deepEqual(differences(await manifest(path.join(stand.mounted, 'tree')), await manifest(source)), [])
})

check('tar out of the mount and tar into the mount give the same tree', async (t) => {
  await shell(
    `mkdir ${stand.mounted}/untarred && tar -C ${stand.mounted}/tree -cf ${stand.node.folder}/tree.tar . && tar -C ${stand.mounted}/untarred -xpf ${stand.node.folder}/tree.tar`
  )
  t.deepEqual(
    differences(
      await manifest(path.join(stand.server.folder, 'untarred')),
      await manifest(path.join(stand.server.folder, 'tree'))
    ),
    []
  )
})

check('rsync -a --checksum copies, and a second run finds nothing to do', async (t) => {
  await shell(
    `mkdir ${stand.mounted}/synced && rsync -aH --omit-link-times --checksum ${stand.node.folder}/tree/ ${stand.mounted}/synced/`
  )
  t.deepEqual(
    differences(
      await manifest(path.join(stand.server.folder, 'synced')),
      await manifest(path.join(stand.node.folder, 'tree'))
    ),
    []
  )
  t.is(await shell(`rsync -aHi --omit-link-times --checksum ${stand.node.folder}/tree/ ${stand.mounted}/synced/`), '')
  await shell(`rm -r ${stand.mounted}/untarred ${stand.mounted}/synced`)
  t.deepEqual(readdirSync(stand.server.folder), ['tree'])
})

check('git clones, checks and reports a clean work tree on the mount', async (t) => {
  const origin = stand.node.makeFolder('origin')
  await shell(
    `git init -q . && git config user.email a@example.org && git config user.name A && cp -r ../tree/d1 ../tree/d2 ../tree/d3 . && git add . && git commit -qm one && cp -r ../tree/d4 . && git add . && git commit -qm two`,
    { cwd: origin }
  )
  await shell(`git clone -q --no-hardlinks ${origin} ${stand.mounted}/clone`)
  await shell('git fsck --full --strict', { cwd: path.join(stand.mounted, 'clone') })
  t.is(await shell('git status --porcelain', { cwd: path.join(stand.mounted, 'clone') }), '')
  t.is(
    await shell('git rev-parse HEAD', { cwd: path.join(stand.server.folder, 'clone') }),
    await shell('git rev-parse HEAD', { cwd: origin })
  )
  await shell('git fsck --full --strict', { cwd: path.join(stand.server.folder, 'clone') })
})

check('an sqlite database takes 1,000 transactions and is whole on the server', async (t) => {
  const script = [
    'create table t(id integer primary key, v text);',
    ...Array.from({ length: 1000 }, (_, index) => `begin; insert into t values(${index}, 'value ${index}'); commit;`)
  ].join('\n')
  await shell(`sqlite3 ${stand.mounted}/data.db`, { input: script })
  t.is(
    await shell(`sqlite3 ${stand.server.folder}/data.db 'pragma integrity_check; select count(*), sum(id) from t;'`),
    'ok\n1000|499500\n'
  )
})

check('dd of 1 GiB is byte-identical on the server and when read back', async (t) => {
  const hash = createHash('sha256')
  const block = Buffer.alloc(1024 * 1024)
  for (let index = 0; index < 1024; index += 1) hash.update(block.fill(`${index}-`))
  await shell(
    `node -e 'const b=Buffer.alloc(1048576);for(let i=0;i<1024;i++){b.fill(i+"-");require("fs").writeSync(1,b)}' | dd of=${stand.mounted}/big bs=1M iflag=fullblock conv=fsync status=none`
  )
  const digest = hash.digest('hex')
  t.true((await shell(`sha256sum ${stand.server.folder}/big`)).startsWith(digest))
  t.true((await shell(`sha256sum ${stand.mounted}/big`)).startsWith(digest))
  await shell(`rm ${stand.mounted}/big`)
})

check('mv across folders, hard links and symlinks do what they do on a local disk', async (t) => {
  await shell('mkdir a b && echo one > a/f && mv a/f b/g && ln b/g a/h && ln -s ../b/g a/s && mv b c', {
    cwd: stand.mounted
  })
  t.is(readFileSync(path.join(stand.server.folder, 'a/h'), 'utf8'), 'one\n')
  t.is(statSync(path.join(stand.server.folder, 'c/g')).nlink, 2)
  t.is(await shell('readlink a/s', { cwd: stand.mounted }), '../b/g\n')
  t.is((await run('cat', [path.join(stand.mounted, 'a/s')])).code, 1)
  t.is(await shell('stat -c %h a/h', { cwd: stand.mounted }), '2\n')
})

check('a sparse file of 5 GiB keeps its ends, its size and its holes', async (t) => {
  await shell(
    'truncate -s 5G sparse && printf end | dd of=sparse bs=1 seek=5368709117 conv=notrunc status=none && printf start | dd of=sparse bs=1 conv=notrunc status=none',
    { cwd: stand.mounted }
  )
  const on = path.join(stand.server.folder, 'sparse')
  t.is(statSync(on).size, 5 * 1024 ** 3)
  t.true(statSync(on).blocks * 512 < 1024 * 1024)
  t.is(await shell(`tail -c 3 ${stand.mounted}/sparse; head -c 5 ${stand.mounted}/sparse`), 'endstart')
  t.is(await shell(`tail -c 3 ${on}; head -c 5 ${on}`), 'endstart')
  await shell(`rm ${stand.mounted}/sparse`)
})

check('names with bytes above 0x7f, with newlines and of 255 bytes are kept byte for byte', async (t) => {
  const names = [
    Buffer.from([0x80, 0xff, 0xc3, 0x28]), Buffer.from('grün-日本'), Buffer.from('new\nline'), Buffer.alloc(255, 'n'),
    Buffer.alloc(255, 0xe9)
  ]
  const at = (folder: string, name: Buffer): Buffer => Buffer.concat([Buffer.from(`${folder}/names/`), name])
  mkdirSync(path.join(stand.mounted, 'names'))
  for (const name of names) writeFileSync(at(stand.mounted, name), name)
  const listed = readdirSync(path.join(stand.server.folder, 'names'), { encoding: 'buffer' }).map((name) =>
    name.toString('hex')
  ).sort()
  t.deepEqual(listed, names.map((name) => name.toString('hex')).sort())
  t.deepEqual(
    readdirSync(path.join(stand.mounted, 'names'), { encoding: 'buffer' }).map((name) => name.toString('hex')).sort(),
    listed
  )
  for (const name of names) t.deepEqual(readFileSync(at(stand.server.folder, name)), name)
  t.throws(() => { writeFileSync(at(stand.mounted, Buffer.alloc(256, 'n')), '') }, { code: 'ENAMETOOLONG' })
})

check('unmounting leaves no mount behind', async (t) => {
  t.is((await stand.node.unmount(stand.mounted)).code, 0)
  t.deepEqual(mountsBelow(stand.node.folder), [])
  t.deepEqual(readdirSync(stand.mounted), [])
})
