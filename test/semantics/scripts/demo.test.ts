/** `scripts/demo`: it works, it says so, and it leaves nothing behind however it ends. */
import { readdirSync } from 'node:fs'
import { Ganesha } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { runScript } from './script.ts'

const test = testNeeding('root', 'fuse')
const testWithGanesha = testNeeding('root', 'fuse', 'ganesha')

test('the demonstration copies a tree through both doors, compares it, and leaves no mount, no process and no file', async (t) => {
  const { code, output, left } = await runScript('demo', [])
  t.is(code, 0, output)
  t.regex(output, /all \d{4,} files identical/)
  t.regex(output, /normal: healthy/)
  t.deepEqual(left, [])
})

const phases = [
  { title: 'while the agent starts', when: /^1\. /m, signal: 'SIGINT', toGroup: true, code: 130 },
  { title: 'while the volumes are mounted', when: /^2\. /m, signal: 'SIGINT', toGroup: true, code: 130 },
  {
    title: 'by SIGTERM while the tree is copied', when: /^3\. /m, signal: 'SIGTERM', toGroup: false, afterMs: 1000,
    code: 143
  }
] as const

for (const { title, code: expected, ...interruption } of phases) {
  test(`the demonstration leaves nothing when it is interrupted ${title}`, async (t) => {
    const { code, output, left } = await runScript('demo', [], interruption)
    t.deepEqual(left, [], output)
    t.is(code, expected, output)
  })
}

testWithGanesha('on a server of the user\'s, Ctrl-C while a large file is written leaves nothing on the export either', async (t) => {
  const server = await Ganesha.start()
  try {
    const { code, output, left } = await runScript(
      'demo',
      ['--server', `${server.host}:${server.folder}`, '-o', `port=${server.nfsPort},mountport=${server.mountPort}`],
      { when: /^4\. /m, signal: 'SIGINT', toGroup: true, afterMs: 200 }
    )
    t.deepEqual(left, [], output)
    t.is(code, 130, output)
    t.deepEqual(readdirSync(server.folder), [])
  } finally {
    await server.close()
  }
})

test('an option that does not exist is wrong usage, in one line', async (t) => {
  const { code, output, left } = await runScript('demo', ['--serv'])
  t.is(code, 2)
  t.regex(output, /scripts\/demo: .*--serv/)
  t.deepEqual(left, [])
})
