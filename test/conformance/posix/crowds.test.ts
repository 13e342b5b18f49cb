/**
 * Many at once on a real mount: large folders, removal while listing, several processes on one file, and fio's own
 * checksums. The other side looks into the exported folder itself.
 */
import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { shell, TestNode } from '../../semantics/endtoend/node.ts'
import { CallingUser, compileCaller } from './judge.ts'

const check = testNeeding('root', 'fuse', 'ganesha', 'gcc')

let server: Ganesha
let node: TestNode
let point: string
let program: string

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha', 'gcc') !== undefined) return
  node = new TestNode()
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  point = node.makeFolder('mnt')
  await node.mount(`${server.host}:${server.folder}`, point, server.mountOptions)
  program = await compileCaller(node.folder)
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

async function withUser<T> (work: (user: CallingUser) => Promise<T>): Promise<T> {
  const user = new CallingUser(program, 'root')
  try {
    await user.call(`cd ${point}`)
    return await work(user)
  } finally {
    await user.close()
  }
}

check('100,000 names made behind the mount’s back are listed once each', async (t) => {
  const folder = path.join(server.folder, 'many')
  await shell(`mkdir ${folder} && cd ${folder} && seq -f 'a-name-that-is-not-so-short-%07g' 1 100000 | xargs touch`)
  await withUser(async (user) => {
    t.is(await user.call('count many'), 'ok 100002 repeated 0')
    t.is(await user.call('seekdir many 60000'), 'ok 100002')
  })
})

check('rm -rf of 20,000 files in folders takes all of them', async (t) => {
  const folder = path.join(server.folder, 'tree')
  await shell(
    `mkdir ${folder} && cd ${folder} && for d in 1 2 3 4; do mkdir -p d$d/e; (cd d$d && seq 1 4000 | xargs touch); (cd d$d/e && seq 1 1000 | xargs touch); done`
  )
  await shell(`rm -rf ${point}/tree/d1 & rm -rf ${point}/tree/d2 & wait; rm -r ${point}/tree`)
  t.false(readdirSync(server.folder).includes('tree'))
})

check('names made and removed by four processes at once: what is left is what they left', async (t) => {
  await shell(
    `mkdir ${point}/busy && for p in 1 2 3 4; do (for i in $(seq 1 90); do : > ${point}/busy/$p-$i; mv ${point}/busy/$p-$i ${point}/busy/m$p-$i; [ $((i % 3)) = 0 ] || rm ${point}/busy/m$p-$i; done) & done; wait`
  )
  const seen = readdirSync(path.join(point, 'busy')).sort()
  t.deepEqual(seen, readdirSync(path.join(server.folder, 'busy')).sort())
  t.is(seen.length, 120)
})

check('lines appended by eight processes at once are all there, none torn', async (t) => {
  await withUser(async (user) => { t.is(await user.call('append lines 8 500'), 'ok') })
  const lines = readFileSync(path.join(server.folder, 'lines'), 'latin1').trimEnd().split('\n')
  t.is(lines.length, 4000)
  t.is(new Set(lines).size, 4000)
  t.true(lines.every((line) => /^\d{4} \d{6}\.{8}$/.test(line)))
})

check('truncations while others write: every byte is zero or theirs, and both sides agree', async (t) => {
  await shell(
    `cd ${point} && (for i in $(seq 1 60); do head -c 300000 /dev/zero | tr '\\0' w | dd of=torn bs=64k conv=notrunc status=none; done) &
    cd ${point} && (for i in $(seq 1 200); do truncate -s $((RANDOM * 8)) torn; done) & wait`
  )
  const here = readFileSync(path.join(point, 'torn'))
  t.true(here.equals(readFileSync(path.join(server.folder, 'torn'))))
  t.true(here.every((byte) => byte === 0 || byte === 0x77))
})

const fio = testNeeding('root', 'fuse', 'ganesha', 'gcc', 'fio')
for (const [what, options] of [
  ['buffered random writes', '--rw=randwrite --bsrange=1k-256k --size=48m --numjobs=2'],
  [
    'O_DIRECT random writes, many at once',
    '--rw=randwrite --bs=16k --direct=1 --ioengine=libaio --iodepth=16 --size=32m'
  ],
  ['mixed reads and writes through mmap', '--rw=randrw --bs=4k --ioengine=mmap --size=16m'],
  ['a stream with fsync now and then', '--rw=write --bs=256k --size=128m --fsync=64']
] as const) {
  fio(`fio finds every checksum it wrote: ${what}`, async (t) => {
    await shell(
      `cd ${point} && fio --name=verify --verify=crc32c --verify_fatal=1 --do_verify=1 --group_reporting --output=/dev/null --allrandrepeat=0 ${options} && rm -f verify.*`
    )
    t.pass()
  })
}
