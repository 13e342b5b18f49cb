/**
 * An export that shows a second file system of its server below the first (crossmnt, child data sets): both number
 * their objects from the start. Two tmpfs do; the truth is the exported folder itself.
 */
import { mkdirSync, writeFileSync, linkSync, lstatSync, statfsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import { testNeeding } from '../../peers/testing.ts'
import { run, shell, TestNode } from './node.ts'

const check = testNeeding('root', 'fuse')

async function withTwoFilesystems (work: (folder: string, mounted: string, node: TestNode) => Promise<void>): Promise<
  void
> {
  const node = new TestNode()
  const folder = node.makeFolder('export')
  const child = path.join(folder, 'a/child')
  const mountedHere: string[] = []
  const mountAt = async (point: string, size: string): Promise<void> => {
    mkdirSync(point, { recursive: true })
    await shell(`mount -t tmpfs -o size=${size} vbfs ${point}`)
    mountedHere.unshift(point)
  }
  try {
    await mountAt(folder, '64m')
    await mountAt(child, '16m')
    for (const [index, place] of [folder, child].entries()) {
      for (const name of ['one', 'two', 'three']) {
        mkdirSync(path.join(place, name))
        writeFileSync(path.join(place, name, 'file'), `${index} ${name} ${'x'.repeat(1000 * index + name.length)}`)
        linkSync(path.join(place, name, 'file'), path.join(place, name, 'link'))
      }
    }
    await using server = await NfsServer.start({ folder })
    await node.startAgent()
    const mounted = node.makeFolder('mnt')
    await node.mount(`${server.host}:${server.share}`, mounted, `port=${server.port},mountport=${server.port}`)
    await work(folder, mounted, node)
    const ended = await node.unmount(mounted)
    if (ended.code !== 0) throw new Error(ended.stderr)
  } finally {
    for (const point of mountedHere) await run('umount', ['-l', point])
    await node.close()
  }
}

check('two file systems in one export: programs that tell objects by st_dev and st_ino copy every one of them as it is', async (t) => {
  await withTwoFilesystems(async (folder, mounted, node) => {
    // What makes them alike: without it this test shows nothing.
    const numbers = (place: string): string[] =>
      ['one', 'two', 'three'].map((name) => `${lstatSync(path.join(place, name), { bigint: true }).ino}`)
    t.true(numbers(folder).some((number) => numbers(path.join(folder, 'a/child')).includes(number)))
    const found = await run('find', [mounted, '-printf', '%i %n %y %P\\n'])
    t.is(found.stderr, '')
    const lines = found.stdout.trim().split('\n').map((line) => line.split(' '))
    t.is(lines.length, Number((await shell(`find ${folder} | wc -l`)).trim()))
    const byNumber = new Map<string, string[]>()
    for (const [number = '', , , name = ''] of lines) byNumber.set(number, [...byNumber.get(number) ?? [], name])
    for (const names of byNumber.values()) {
      t.is(new Set(names.map((name) => path.dirname(name))).size, 1, names.join(' '))
    }
    t.is(await shell(`ls -R ${mounted} 2>&1 >/dev/null; du -s ${mounted} > /dev/null`), '')
    const copies = { cp: 'cp -a $S/. $D', tar: 'tar -C $S -c . | tar -C $D -x', rsync: 'rsync -aH $S/ $D/' }
    for (const [name, command] of Object.entries(copies)) {
      const copy = node.makeFolder(`copy-${name}`)
      const ran = await run('bash', ['-c', `set -eo pipefail; S=${mounted} D=${copy}; ${command}`])
      t.is(ran.code, 0, ran.stderr)
      t.is(await shell(`diff -r --no-dereference ${folder} ${copy} 2>&1; true`), '', name)
      t.is(lstatSync(path.join(copy, 'a/child/two/link')).nlink, 2, name)
    }
  })
})

check('two file systems in one export: links and moves do not cross, and each has its own size', async (t) => {
  await withTwoFilesystems(async (folder, mounted) => {
    t.regex((await run('ln', [`${mounted}/one/file`, `${mounted}/a/child/here`])).stderr, /[Cc]ross-device/)
    const rename = await run('python3', [
      '-c', `import os; os.rename('${mounted}/one/file', '${mounted}/a/child/here')`
    ])
    t.regex(rename.stderr, /OSError: \[Errno 18\]/)
    t.is((await run('mv', [`${mounted}/one/file`, `${mounted}/a/child/here`])).code, 0)
    t.regex(readFileSync(path.join(folder, 'a/child/here'), 'latin1'), /^0 one/)
    const blocks = async (place: string): Promise<number> =>
      Number((await shell(`stat -f -c '%b %S' ${place}`)).split(' ').reduce((a, b) => `${Number(a) * Number(b)}`))
    for (const below of ['', '/a/child', '/a/child/two/file']) {
      const { blocks: count, bsize } = statfsSync(`${folder}${below}`)
      t.is(await blocks(`${mounted}${below}`), count * bsize, below)
    }
  })
})
