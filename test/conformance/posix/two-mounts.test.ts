/**
 * Close-to-open between two mounts of one share with caches that would last for minutes: what one has closed, the other
 * sees from its next open on, whatever it does first with the descriptor. Both are the packed binary; the server is
 * real.
 */
import path from 'node:path'
import test from 'ava'
import { monotonicMs } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { shell, TestNode } from '../../semantics/endtoend/node.ts'
import { CallingUser, compileCaller } from './judge.ts'

const check = testNeeding('root', 'fuse', 'ganesha', 'gcc')
const rounds = 40

let server: Ganesha
let node: TestNode
let writer: CallingUser
let reader: CallingUser

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha', 'gcc') !== undefined) return
  node = new TestNode()
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  const program = await compileCaller(node.folder)
  const join = async (name: string, options: string): Promise<CallingUser> => {
    const point = node.makeFolder(name)
    await node.mount(`${server.host}:${server.folder}`, point, `${server.mountOptions},${options}`)
    const user = new CallingUser(program, 'root')
    await user.call(`cd ${point}`)
    return user
  }
  // Other options make another session: the two share nothing but the server.
  writer = await join('writer', 'actimeo=600')
  reader = await join('reader', 'actimeo=601')
})

test.after.always(async () => {
  await Promise.all([writer, reader].map(async (user) => { await user?.close() }))
  await node?.close()
  await server?.close()
})

/** The reader's answer as soon as it is the wanted one, or the last one it gave. */
async function soon (wanted: string, call: string): Promise<string> {
  const endMs = monotonicMs() + 10_000
  for (;;) {
    const answer = await reader.call(call)
    if (answer === wanted || monotonicMs() > endMs) return answer
  }
}

const long = (round: number): string => `${'x'.repeat(round % 7 + 1)}-round-${round}${'.'.repeat(round % 5)}`
const sees: readonly { readonly call: string, readonly what: string }[] = [
  { call: 'get', what: 'read' },
  { call: 'sized', what: 'fstat and read of so many bytes' },
  { call: 'mapped', what: 'fstat and mmap' }
]

for (const { call, what } of sees) {
  check(`after another mount’s close, open and ${what} give the new bytes, longer or shorter`, async (t) => {
    await writer.call('put f-first first')
    for (let round = 0; round < rounds; round++) {
      t.is(await writer.call(`put f-${call} ${long(round)}`), `ok ${long(round).length}`)
      t.is(await reader.call(`${call} f-${call}`), `ok ${long(round)}`, `round ${round}`)
    }
  })
}

check('appending in turns from two mounts loses nothing', async (t) => {
  t.is(await writer.call('put log -'), 'ok 0')
  let whole = ''
  for (let round = 0; round < rounds; round++) {
    for (const [name, user] of [['w', writer], ['r', reader]] as const) {
      const line = `${name}${round},`
      whole += line
      t.is(await user.call(`add log ${line}`), `ok ${line.length}`)
    }
  }
  t.is(await reader.call('get log'), `ok ${whole}`)
  t.is(await writer.call('get log'), `ok ${whole}`)
  const { readFileSync } = await import('node:fs')
  t.is(readFileSync(path.join(server.folder, 'log'), 'utf8'), whole)
})

check('lseek to the end after another mount’s append', async (t) => {
  await writer.call('put seek 12345')
  await reader.call('get seek')
  for (let round = 0; round < rounds; round++) {
    await writer.call('add seek x')
    const opened = await reader.call('open seek RDWR')
    const fd = opened.slice(3)
    t.is(await reader.call(`lseek ${fd} 0 end`), `ok ${6 + round}`)
    await reader.call(`close ${fd}`)
  }
})

check('a file replaced by rename is the new one at the next open', async (t) => {
  for (let round = 0; round < rounds; round++) {
    await writer.call(`put new ${long(round)}`)
    t.is(await writer.call('rename new replaced'), 'ok')
    // The name itself is believed for as long as its folder is: opening the folder asks.
    await reader.call('list .')
    t.is(await reader.call('sized replaced'), `ok ${long(round)}`, `round ${round}`)
  }
})

check('bytes of a descriptor that stays open: written here, changed there, read at the next open', async (t) => {
  await writer.call('put shared {10000*a}')
  const fd = (await reader.call('open shared RDWR')).slice(3)
  t.is(await reader.call(`pread ${fd} 10000 0`), 'ok {10000*a}')
  await writer.call('put shared {5000*b}')
  t.is(await reader.call('sized shared'), 'ok {5000*b}')
  t.is(await reader.call(`pread ${fd} 10000 0`), 'ok {5000*b}')
  t.is(await reader.call(`pwrite ${fd} c 4999`), 'ok 1')
  t.is(await reader.call(`fsync ${fd}`), 'ok')
  t.is(await writer.call('sized shared'), 'ok {4999*b}c')
  await reader.call(`close ${fd}`)
})

check('a descriptor reopened through /proc after another mount’s change is let in', async (t) => {
  await writer.call('put proc old')
  const fd = (await reader.call('open proc RDONLY')).slice(3)
  await writer.call('put proc newer')
  const again = await reader.call(`reopen ${fd} RDONLY`)
  t.regex(again, /^ok \d+$/)
  // No name is looked up on this way, so the size comes by a notice that runs beside the open.
  t.is(await soon('ok newer', `pread ${again.slice(3)} 10 0`), 'ok newer')
})

check('fstat right after open shows the other mount’s chmod, and truncate its size', async (t) => {
  await writer.call('put meta 12345')
  await reader.call('sized meta')
  await writer.call('chmod meta 0600')
  const first = (await reader.call('open meta RDWR')).slice(3)
  t.regex(await reader.call(`fstat ${first}`), / mode=0600 .* size=5 /)
  await writer.call('truncate meta 2')
  const second = (await reader.call('open meta RDWR')).slice(3)
  t.regex(await reader.call(`fstat ${second}`), / size=2 /)
  t.is(await reader.call(`pread ${first} 10 0`), 'ok 12')
})

check('a file removed by the other mount while it is open here is ESTALE, and its name ENOENT', async (t) => {
  await writer.call('put gone here')
  const fd = (await reader.call('open gone RDWR')).slice(3)
  await writer.call('unlink gone')
  t.is(await reader.call(`pwrite ${fd} x 0`), 'ok 1')
  t.is(await reader.call(`fsync ${fd}`), 'ESTALE')
  t.is(await reader.call('open gone RDONLY'), 'ENOENT')
  t.is(await reader.call(`close ${fd}`), 'ok')
})

check('a folder listed again shows what the other mount made, moved and removed, and its names open', async (t) => {
  await writer.call('mkdir listed 0755')
  t.is(await reader.call('list listed'), 'ok')
  for (let round = 0; round < rounds; round++) {
    t.is(await reader.call(`open listed/n${round} RDONLY`), 'ENOENT')
    t.is(await writer.call(`put listed/n${round} ${round}`), `ok ${String(round).length}`)
    t.is(await reader.call('list listed'), `ok n${round}`, `round ${round}`)
    t.is(await reader.call(`sized listed/n${round}`), `ok ${round}`, `round ${round}`)
    t.is(await writer.call(`rename listed/n${round} listed/m${round}`), 'ok')
    t.is(await reader.call('list listed'), `ok m${round}`)
    // The kernel's old name goes by a notice that runs beside the listing's answer.
    t.is(await soon('ENOENT', `get listed/n${round}`), 'ENOENT', `round ${round}`)
    t.is(await writer.call(`unlink listed/m${round}`), 'ok')
    t.is(await reader.call('list listed'), 'ok')
  }
})

check('renames over a file that is held open never let another mount find its name missing', async (t) => {
  const [mine, theirs] = [path.join(node.folder, 'writer'), path.join(node.folder, 'names')]
  node.makeFolder('names')
  await node.mount(`${server.host}:${server.folder}`, theirs, `${server.mountOptions},noac,lookupcache=none`)
  // Each round opens what the round before has put there, replaces it, and reads what it still holds.
  const writing = shell(
    `cd ${mine} && echo 0 > held && for i in $(seq 150); do exec 3< held; echo $i > next; mv next held; read old <&3; [ $old = $((i - 1)) ]; exec 3<&-; done; echo done`
  )
  // Between the kernel's LOOKUP and its GETATTR the file may be gone for good, twice in a row: that is ESTALE, of a
  // name that is there.
  const looking = shell(
    `cd ${theirs} && n=0; while [ ! -e ${node.folder}/stop-looking ]; do said=$(LC_ALL=C stat held 2>&1 > /dev/null) || case $said in *'No such file'*) echo missing; exit 1;; esac; n=$((n + 1)); done; echo $n`
  )
  t.is((await writing).trim(), 'done')
  await shell(`touch ${node.folder}/stop-looking`)
  t.true(Number(await looking) > 10)
  t.is((await node.unmount(theirs)).code, 0)
})

check('a file that another mount changes all the time can always be opened', async (t) => {
  t.timeout(110_000)
  t.is(await writer.call('put busy x'), 'ok 1')
  let isOver = false
  const changing = (async (): Promise<void> => {
    const fd = /^ok (\d+)/.exec(await writer.call('open busy WRONLY|SYNC 0644'))?.[1]
    for (let round = 0; !isOver; round++) {
      t.regex(await writer.call(`pwrite ${fd} ${'y'.repeat(round % 9 + 1)} ${round % 50}`), /^ok/)
    }
    await writer.call(`close ${fd}`)
  })()
  const refused: string[] = []
  for (let round = 0; round < 400; round++) {
    const answer = await reader.call('get busy')
    if (!answer.startsWith('ok ')) refused.push(`${round}: ${answer}`)
  }
  isOver = true
  await changing
  t.deepEqual(refused, [])
})
