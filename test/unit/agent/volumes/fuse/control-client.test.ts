/** The control socket against a scripted peer that answers late, wrongly, or not at all. */
import test from 'ava'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { VolumeError } from '../../../../../agent/base/errors.ts'
import { ControlClient } from '../../../../../agent/volumes/fuse/control-client.ts'

const folder = mkdtempSync(join(tmpdir(), 'volbridge-control-'))
test.after.always(() => { rmSync(folder, { recursive: true }) })
let sockets = 0

/** A client and its scripted peer: `script` gets each line and the socket. */
async function pair (
  t: { teardown: (f: () => void) => void },
  script: (line: string, socket: Socket) => void
): Promise<ControlClient> {
  const path = join(folder, `${sockets++}`)
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      for (const line of chunk.toString().split('\n').filter((part) => part !== '')) script(line, socket)
    })
  }).listen(path)
  await once(server, 'listening')
  const client = await ControlClient.connect(path, 1000)
  t.teardown(() => {
    client.close()
    server.close()
  })
  return client
}
const idOf = (line: string): number => (JSON.parse(line) as { id: number }).id

test('answers find their requests in any order and in any pieces', async (t) => {
  const lines: string[] = []
  const client = await pair(t, (line, socket) => {
    lines.push(line)
    if (lines.length < 2) return
    const text = lines.reverse().map((one) => `${JSON.stringify({ id: idOf(one), body: { n: idOf(one) } })}\n`).join('')
    for (const piece of text.match(/.{1,7}|\n/gs) ?? []) socket.write(piece)
  })
  const [one, two] = await Promise.all([client.call('report', {}, 1000), client.call('report', {}, 1000)])
  t.deepEqual([one, two] as unknown, [{ n: 1 }, { n: 2 }])
})

test('an error comes back with code, field and remedy, the remedy once', async (t) => {
  const client = await pair(t, (line, socket) => {
    const error = { code: 'NOT_FOUND', message: 'no export "/x"; export it', field: 'share', remedy: 'export it' }
    socket.write(`${JSON.stringify({ id: idOf(line), error })}\n`)
  })
  const error = await t.throwsAsync(client.call('report', {}, 1000), { instanceOf: VolumeError })
  t.like(error, { code: 'NOT_FOUND', message: 'no export "/x"; export it', field: 'share', remedy: 'export it' })
})

test('an unknown code becomes INTERNAL', async (t) => {
  const client = await pair(t, (line, socket) => {
    socket.write(`${JSON.stringify({ id: idOf(line), error: { code: 'WHAT', message: 'm' } })}\n`)
  })
  await t.throwsAsync(client.call('report', {}, 1000), { code: 'INTERNAL', message: 'm' })
})

test('a session that does not answer is TIMED_OUT, and its late answer harms nobody', async (t) => {
  const client = await pair(t, (line, socket) => {
    setTimeout(() => { socket.write(`${JSON.stringify({ id: idOf(line), body: { n: idOf(line) } })}\n`) }, 60)
  })
  await t.throwsAsync(client.call('report', {}, 20), { code: 'TIMED_OUT', message: /"report" within 20 ms/ })
  t.deepEqual(await client.call('report', {}, 1000) as unknown, { n: 2 })
})

test('a connection that ends fails every waiting call and says why', async (t) => {
  const client = await pair(t, (_, socket) => { socket.destroy() })
  await t.throwsAsync(client.call('report', {}, 1000), { code: 'LOST' })
  t.is(await client.closed, 'the session closed its control socket')
  await t.throwsAsync(client.call('report', {}, 1000), { code: 'CLOSED' })
})

for (const [name, text] of Object.entries({
  'no JSON': 'hello\n', 'no id': '{"body":{}}\n', 'no object': '7\n', 'neither body nor error': '{"id":1}\n',
  'an endless line': 'x'.repeat(1_100_000)
})) {
  test(`a peer that sends ${name} is cut off`, async (t) => {
    const client = await pair(t, (_, socket) => { socket.write(text) })
    await t.throwsAsync(client.call('report', {}, 2000), { code: 'LOST', message: /the session sent/ })
  })
}
