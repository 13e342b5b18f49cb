/**
 * A volume that has to go while its server is dead: what could not be saved is counted and told everywhere, and nothing
 * of it is sent later.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, mountsBelow, processesOf, shell } from '../endtoend/node.ts'

const check = testNeeding('root', 'fuse')
const driver = 'csi.volbridge.io'
/** The promise; a hang is ten times as long. */
const unstageMs = 10_000

async function metricsOf (node: TestNode): Promise<string> {
  const { address, port } = JSON.parse(
    node.agentLog.split('\n').findLast((line) => line.includes('"op":"listen"')) ?? '{}'
  ) as { address: string, port: number }
  return await (await fetch(`http://${address}:${port}/metrics`)).text()
}

check('unstage with a dead server drops what it cannot save, says so in log, metric, status and health, and sends nothing afterwards', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'vb-loss-'))
  const server = await NfsServer.start({ folder })
  const node = new TestNode()
  t.teardown(async () => {
    await node.close()
    await server.stop()
    rmSync(folder, { recursive: true })
  })
  await node.startAgent(['--csi-health', '--listen', '127.0.0.1:0'])
  const kubelet = new Kubelet(node.kubelet)
  const volume = {
    handle: 'pv', attributes: { server: server.host, share: server.share, mountOptions: server.mountOptions }
  }
  const socket = node.csiSocket
  await kubelet.stage(socket, driver, volume)
  const target = await kubelet.publish(socket, driver, volume, 'pod', 'pv')
  // The server lives in this process, so a pod's program has to be another one.
  const program = `
    const fs = require('fs'); const fd = fs.openSync('file', 'w')
    const write = (bytes) => { try { fs.writeSync(fd, Buffer.alloc(bytes, 'x')); console.log('written') } catch (error) { console.log(error.code) } }
    write(1000000); process.stdin.on('data', () => write(1000000))`
  // close(2) and fsync(2) would wait for the server, as they promise; the program does neither.
  // It goes there by itself: this process would wait for its chdir(2), which asks the server, and that is this process.
  const pod = spawn('/bin/sh', ['-c', 'cd "$1" && exec "$2" -e "$3"', 'sh', target, process.execPath, program], {
    stdio: ['pipe', 'pipe', 'inherit']
  })
  t.teardown(() => { pod.kill('SIGKILL') })
  let said = ''
  pod.stdout.setEncoding('utf8').on('data', (text: string) => { said += text })
  const until = async (words: string): Promise<void> => {
    for (const endMs = monotonicMs() + 60_000; !said.includes(words);) {
      if (monotonicMs() > endMs) throw new Error(`the program said only ${JSON.stringify(said)}`)
      await pause(20)
    }
  }
  await until('written\n')

  // It takes everything and answers nothing, as a server behind a broken switch does.
  server.script = () => ({ loseRequest: true })
  pod.stdin.write('\n')
  await until('written\nwritten\n')
  await kubelet.unpublish(socket, 'pv', target)
  const from = monotonicMs()
  await kubelet.unstage(socket, driver, 'pv')
  const ms = monotonicMs() - from
  t.log(`unstage took ${Math.round(ms)} ms`)
  t.true(ms < unstageMs)
  t.deepEqual(mountsBelow(node.folder), [])
  t.deepEqual((await processesOf(node.runtime)).filter((line) => line.includes(' session ')), [])

  const calls = (): number => Object.values(server.calls).reduce((sum, count) => sum + count, 0)
  const before = calls()
  server.script = undefined
  pod.stdin.write('\n')
  await until('ENOTCONN\n')
  await pause(3000)
  t.is(calls(), before, 'nothing is sent once unstage has answered')
  t.is(server.connectionCount, 0)
  const saved = statSync(path.join(folder, 'file')).size

  const lost = node.agentLog.split('\n').find((line) => line.includes('data-lost')) ?? ''
  t.regex(lost, /"level":"error"/)
  const { lostBytes } = JSON.parse(lost) as { lostBytes: number }
  t.true(lostBytes >= 1_000_000 && lostBytes + saved >= 2_000_000, `${lostBytes} lost, ${saved} saved`)
  t.true(
    new RegExp(`^volbridge_lost_bytes\\{session="[0-9a-f]{16}"\\} ${lostBytes}$`, 'm').test(await metricsOf(node))
  )
  t.regex(
    (await node.command(['status', ...node.places])).stdout,
    /data loss\n.* were lost when it was unmounted at 20/
  )

  // The next agent and the next mount of the share know it as well, until the share has been unmounted without a loss.
  await node.stopAgent()
  await node.startAgent(['--csi-health', '--listen', '127.0.0.1:0'])
  await kubelet.stage(socket, driver, volume)
  const again = await kubelet.publish(socket, driver, volume, 'pod', 'pv')
  const health = await kubelet.call(socket, 'NodeGetVolumeHealth', { volumeId: 'pv' })
  t.like(health.volumeHealth?.healthStatuses, [{ status: 'DATA_LOSS', reason: 'UnsavedDataDropped' }])
  const { volumeCondition } = await kubelet.stats(socket, 'pv', again)
  t.true(volumeCondition?.abnormal)
  t.regex(volumeCondition?.message ?? '', new RegExp(`^data loss: ${lostBytes} bytes`))
  t.is((await shell(`wc -c < ${again}/file`)).trim(), `${saved}`)
  await kubelet.unpublish(socket, 'pv', again)
  await kubelet.unstage(socket, driver, 'pv')
  await kubelet.stage(socket, driver, volume)
  t.deepEqual((await kubelet.call(socket, 'NodeGetVolumeHealth', { volumeId: 'pv' })).volumeHealth?.healthStatuses, [])
  t.false((await metricsOf(node)).includes('volbridge_lost_bytes{'))
  await kubelet.unstage(socket, driver, 'pv')
})
