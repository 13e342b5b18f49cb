/** `scripts/container-test`: the verdict is the command's, and the container is gone afterwards however it ends. */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { Ganesha } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { runScript } from './script.ts'

const test = testNeeding('root', 'fuse', 'runc')
const testWithGanesha = testNeeding('root', 'fuse', 'runc', 'ganesha')

test('without a command a copy of /etc is written, read back and compared', async (t) => {
  const { code, output, left } = await runScript('container-test', [])
  t.is(code, 0, output)
  t.regex(output, /PASSED/)
  t.deepEqual(left, [])
})

test('a command that fails gives its exit code', async (t) => {
  const { code, output, left } = await runScript('container-test', [
    '--', 'sh', '-c', 'echo seen > /mnt/file; cat /mnt/file; exit 7'
  ])
  t.is(code, 7, output)
  t.regex(output, /^seen$/m)
  t.deepEqual(left, [])
})

test('a command that is not there gives 127', async (t) => {
  const { code, output, left } = await runScript('container-test', ['--', 'no-such-program'])
  t.is(code, 127, output)
  t.deepEqual(left, [])
})

testWithGanesha('on a server of the user\'s, what the command wrote is there', async (t) => {
  const server = await Ganesha.start()
  try {
    const given = [
      '--server', `${server.host}:${server.folder}`, '-o', `port=${server.nfsPort},mountport=${server.mountPort}`
    ]
    const { code, output, left } = await runScript('container-test', [
      ...given, '--', 'sh', '-c', 'echo kept > /mnt/file'
    ])
    t.is(code, 0, output)
    t.is(readFileSync(path.join(server.folder, 'file'), 'utf8'), 'kept\n')
    t.deepEqual(left, [])
    const refused = await runScript('container-test', [
      '--server', `${server.host}:/not-exported`, ...given.slice(2), '--', 'touch', '/mnt/other'
    ])
    t.is(refused.code, 125, refused.output)
    t.regex(refused.output, /not exported/)
    t.false(existsSync(path.join(server.folder, 'other')))
    t.deepEqual(refused.left, [])
  } finally {
    await server.close()
  }
})

test('Ctrl-C while the command runs ends it and removes everything', async (t) => {
  const { code, output, left } = await runScript('container-test', ['--', 'sh', '-c', 'echo running; sleep 300'], {
    when: /^running$/m, signal: 'SIGINT', toGroup: true
  })
  t.deepEqual(left, [], output)
  t.is(code, 130, output)
})

for (const afterMs of [0, 100, 250, 500]) {
  test(`SIGTERM while the container is being made, ${afterMs} ms after its first file, removes everything`, async (t) => {
    const { code, output, left } = await runScript('container-test', ['--', 'sleep', '300'], {
      when: 'first file', signal: 'SIGTERM', toGroup: false, afterMs
    })
    t.deepEqual(left, [], output)
    t.is(code, 143, output)
  })
}
